"""EfficientNet-B0 (Tan & Le 2019, arXiv:1905.11946, table 1).

Parameter names follow torchvision's `efficientnet_b0`, so that published ImageNet weights load
into `features` unchanged.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

# Expand ratio, kernel, stride, input channels, output channels, layers.
B0_STAGES = (
    (1, 3, 1, 32, 16, 1),
    (6, 3, 2, 16, 24, 2),
    (6, 5, 2, 24, 40, 2),
    (6, 3, 2, 40, 80, 3),
    (6, 5, 1, 80, 112, 3),
    (6, 5, 2, 112, 192, 4),
    (6, 3, 1, 192, 320, 1),
)
B0_HEAD_CHANNELS = 1280


def conv_norm(
    num_in: int, num_out: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True
) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(num_in, num_out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(num_out),
    ]
    if act:
        layers.append(nn.SiLU(inplace=True))
    return nn.Sequential(*layers)


class SqueezeExcitation(nn.Module):
    """Channel gate from the global mean (Hu et al. 2018)."""

    def __init__(self, num_channels: int, num_squeezed: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(num_channels, num_squeezed, 1)
        self.fc2 = nn.Conv2d(num_squeezed, num_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = F.adaptive_avg_pool2d(x, 1)
        gate = self.fc2(F.silu(self.fc1(gate)))
        return x * gate.sigmoid()


class MBConv(nn.Module):
    """Inverted bottleneck with squeeze-excitation and stochastic depth."""

    def __init__(
        self, expand: int, kernel: int, stride: int, num_in: int, num_out: int, drop: float
    ) -> None:
        super().__init__()
        num_mid = num_in * expand
        layers: list[nn.Module] = []
        if expand != 1:
            layers.append(conv_norm(num_in, num_mid, 1))
        layers += [
            conv_norm(num_mid, num_mid, kernel, stride, groups=num_mid),
            SqueezeExcitation(num_mid, max(1, num_in // 4)),
            conv_norm(num_mid, num_out, 1, act=False),
        ]
        self.block = nn.Sequential(*layers)
        self.residual = stride == 1 and num_in == num_out
        self.drop = drop

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.block(x)
        if not self.residual:
            return y
        if self.training and self.drop > 0.0:
            keep = 1.0 - self.drop
            y = y * (y.new_empty(y.shape[0], 1, 1, 1).bernoulli_(keep) / keep)
        return x + y


def efficientnet_b0_features(max_drop: float = 0.2) -> nn.Sequential:
    """Make the convolutional part: (N, 3, H, W) -> (N, 1280, H/32, W/32)."""
    num_blocks = sum(stage[-1] for stage in B0_STAGES)
    stages: list[nn.Module] = [conv_norm(3, 32, 3, stride=2)]
    index = 0
    for expand, kernel, stride, num_in, num_out, num_layers in B0_STAGES:
        blocks: list[nn.Module] = []
        for layer in range(num_layers):
            first = layer == 0
            blocks.append(
                MBConv(
                    expand,
                    kernel,
                    stride if first else 1,
                    num_in if first else num_out,
                    num_out,
                    max_drop * index / num_blocks,
                )
            )
            index += 1
        stages.append(nn.Sequential(*blocks))
    stages.append(conv_norm(320, B0_HEAD_CHANNELS, 1))
    return nn.Sequential(*stages)
