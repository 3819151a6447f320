"""A small face detector: one pass over a grey picture of any size, without anchors.

In: luma 0 to 255 (B, 1, H, W), sides divisible by 32. Out: for each cell of three grids (strides 8,
16, 32) whether a face is centred there, its square and five landmarks. The light is normalized in
the network, so the device does nothing but resize. The shape follows YuNet (Wu et al. 2023):
depthwise-separable blocks, a feature pyramid, one prediction per cell.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

STRIDES = (8, 16, 32)
NUM_LANDMARKS = 5
NUM_OUTPUTS = 1 + 3 + 2 * NUM_LANDMARKS
NUM_VOTES, MAX_VOTERS, MIN_VOTE_OVERLAP = 6, 128, 0.45
MAX_LOG_SIDE = 4.0
"""No face is wider than e⁴ strides."""


class Predictions(NamedTuple):
    """Of B pictures and N cells, in pixels of the picture."""

    logits: Tensor
    """(B, N): log-odds of a face."""
    boxes: Tensor
    """(B, N, 3): centre x, centre y, side."""
    landmarks: Tensor
    """(B, N, 10): x, y of the eye left in the picture, the other, nose, mouth corners."""
    size_px: tuple[int, int]
    """Height and width of the pictures."""


class LightNorm(nn.Module):
    """Luma to three maps: logarithm normalized over the picture and over two neighbourhoods.

    A factor of light is an offset of the logarithm; the local maps see a face against the light.
    """

    OFFSET = 3.0
    """Levels added before the logarithm, or the noise of black would fill the picture."""
    CELL_PX = 8
    WINDOWS = (5, 15)
    """Sides of the neighbourhoods in cells."""
    FLOOR, LOCAL_FLOOR = 0.01, 0.02
    """Least standard deviation, so that flat areas stay flat."""

    def forward(self, luma: Tensor) -> Tensor:
        light = torch.log(luma + self.OFFSET)
        light = light - light.mean((2, 3), keepdim=True)
        spread = torch.sqrt((light * light).mean((2, 3), keepdim=True) + self.FLOOR**2)
        maps = [light / spread]
        moments = torch.cat([light, light * light], 1)
        cells = functional.avg_pool2d(moments, self.CELL_PX)
        for window in self.WINDOWS:
            means = functional.avg_pool2d(cells, window, 1, window // 2, count_include_pad=False)
            mean, square = means[:, :1], means[:, 1:]
            deviation = torch.sqrt((square - mean * mean).clamp(min=0) + self.LOCAL_FLOOR**2)
            inverse = 1 / deviation
            grid = torch.cat([mean, inverse], 1)
            grid = functional.interpolate(
                grid, scale_factor=float(self.CELL_PX), mode="bilinear", align_corners=False
            )
            maps.append(((light - grid[:, :1]) * grid[:, 1:]).clamp(-4, 4))
        return torch.cat(maps, 1)


def _conv(inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    )


class Separable(nn.Module):
    """Depthwise 5 × 5 and pointwise convolution; residual where the shape stays."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.depthwise = _conv(inputs, inputs, 5, stride, inputs)
        self.pointwise = _conv(inputs, outputs, 1)
        self.is_residual = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        y = self.pointwise(self.depthwise(x))
        return functional.relu(x + y if self.is_residual else y)


class FaceDetectorNet(nn.Module):
    """The network. `forward` gives what training needs, `FaceDetectorGraph` what is exported."""

    def __init__(
        self, stem: int = 16, widths: tuple[int, int, int, int] = (32, 64, 80, 80), neck: int = 64
    ) -> None:
        super().__init__()
        first, *others = widths
        self.light = LightNorm()
        self.stem = nn.Sequential(
            _conv(3, stem, 3, 2),
            nn.ReLU(),
            _conv(stem, first, 3, 2),
            nn.ReLU(),
            Separable(first, first),
            Separable(first, first),
        )
        self.stages = nn.ModuleList()
        for inputs, outputs, depth in zip(widths, others, (3, 3, 3), strict=False):
            blocks = [Separable(outputs, outputs) for _ in range(depth - 1)]
            self.stages.append(nn.Sequential(Separable(inputs, outputs, 2), *blocks))
        self.laterals = nn.ModuleList(_conv(width, neck, 1) for width in others)
        self.mixers = nn.ModuleList(Separable(neck, neck) for _ in others)
        self.heads = nn.ModuleList(nn.Conv2d(neck, NUM_OUTPUTS, 1) for _ in others)
        for head in self.heads:
            assert isinstance(head, nn.Conv2d)
            assert head.bias is not None
            nn.init.normal_(head.weight, std=0.01)
            nn.init.zeros_(head.bias)
            with torch.no_grad():
                head.bias[0] = -4.0  # faces are rare
                head.bias[3] = 1.0

    def forward(self, luma: Tensor) -> Predictions:
        x = self.stem(self.light(luma))
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        neck: list[Tensor] = []
        for feature, lateral in zip(reversed(features), reversed(self.laterals), strict=True):
            y = lateral(feature)
            if neck:
                y = y + functional.interpolate(neck[-1], scale_factor=2.0, mode="nearest")
            neck.append(y)
        neck.reverse()
        levels = [
            _decode(head(mixer(y)), stride)
            for y, mixer, head, stride in zip(neck, self.mixers, self.heads, STRIDES, strict=True)
        ]
        logits, boxes, landmarks = (torch.cat(parts, 1) for parts in zip(*levels, strict=True))
        return Predictions(logits, boxes, landmarks, (luma.shape[2], luma.shape[3]))


class FaceDetectorGraph(nn.Module):
    """The exported graph: one picture (1, 1, H, W) -> scores (N,), boxes (N, 3), landmarks
    (N, 10).

    A face is seen from several cells, a thing that only resembles one from few: a score is the mean
    over the `NUM_VOTES` surest cells whose squares overlap that of the cell, box and landmarks are
    their weighted means.
    """

    def __init__(self, net: FaceDetectorNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = self.net(image)
        single, boxes = torch.sigmoid(found.logits[0]), found.boxes[0]
        ranked, order = torch.sort(single, descending=True)
        ranked, order = ranked[:MAX_VOTERS], order[:MAX_VOTERS]
        squares = boxes[order]
        low, high = squares[:, :2] - squares[:, 2:] / 2, squares[:, :2] + squares[:, 2:] / 2
        edges = torch.minimum(high[:, None], high[None]) - torch.maximum(low[:, None], low[None])
        edges = edges.clamp(min=0)
        shared = edges[..., 0] * edges[..., 1]
        areas = squares[:, 2] * squares[:, 2]
        agree = shared >= MIN_VOTE_OVERLAP * (areas[:, None] + areas[None] - shared)
        votes = torch.where(agree, ranked[None], torch.zeros_like(shared))
        values, voters = torch.topk(votes, NUM_VOTES, dim=1)
        scores = (single / NUM_VOTES).scatter(0, order, values.mean(1))
        weights = (values / values.sum(1, keepdim=True))[..., None]
        outputs = [scores]
        for each in (boxes, found.landmarks[0]):
            mean = (each[order][voters] * weights).sum(1)
            outputs.append(each.scatter(0, order[:, None].expand(-1, each.shape[1]), mean))
        return outputs[0], outputs[1], outputs[2]


def cell_centres(height: int, width: int, stride: int, device: torch.device) -> Tensor:
    """Return x, y of the centres of a grid's cells in pixels (height * width, 2)."""
    x = (torch.arange(width, device=device) + 0.5) * stride
    y = (torch.arange(height, device=device) + 0.5) * stride
    return torch.stack(
        [x[None, :].expand(height, width), y[:, None].expand(height, width)], -1
    ).reshape(-1, 2)


def _decode(output: Tensor, stride: int) -> tuple[Tensor, Tensor, Tensor]:
    """Convert the output of a head (B, 14, H, W) to logits, boxes and landmarks in pixels."""
    height, width = output.shape[2:]
    rows = output.flatten(2).transpose(1, 2)
    centres = cell_centres(height, width, stride, output.device)
    side = torch.exp(rows[..., 3:4].clamp(-MAX_LOG_SIDE, MAX_LOG_SIDE)) * stride
    centre = centres + rows[..., 1:3] * stride
    # Landmarks are offsets from the cell in units of the side, so that one loss fits all sizes.
    offsets = rows[..., 4:] * side.detach()
    landmarks = offsets + centres.repeat(1, NUM_LANDMARKS)
    return rows[..., 0], torch.cat([centre, side], -1), landmarks
