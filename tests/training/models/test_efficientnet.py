"""EfficientNet-B0 against the published architecture, derived here independently."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from emotion_edge.training.errors import CheckpointError
from emotion_edge.training.loop.checkpoint import load_initial_weights
from emotion_edge.training.models.efficientnet import MBConv, efficientnet_b0_features
from emotion_edge.training.models.face import FaceNet

# Table 1 of Tan & Le 2019, as torchvision counts it:
# (expand, kernel, input channels, output channels, layers) of stages 1-7.
STAGES = [
    (1, 3, 32, 16, 1),
    (6, 3, 16, 24, 2),
    (6, 5, 24, 40, 2),
    (6, 3, 40, 80, 3),
    (6, 5, 80, 112, 3),
    (6, 5, 112, 192, 4),
    (6, 3, 192, 320, 1),
]
Shapes = dict[str, tuple[int, ...]]


def list_conv_norm(prefix: str, *weight: int) -> Shapes:
    """A convolution without bias at `prefix`.0 and its batch norm at `prefix`.1."""
    norm = ("weight", "bias", "running_mean", "running_var")
    return {
        f"{prefix}.0.weight": weight,
        **{f"{prefix}.1.{name}": weight[:1] for name in norm},
        f"{prefix}.1.num_batches_tracked": (),
    }


def list_published_shapes() -> Shapes:
    """Shapes of every tensor of `torchvision.models.efficientnet_b0().features`."""
    shapes = list_conv_norm("0", 32, 3, 3, 3)
    for stage, (expand, kernel, first_in, num_out, num_layers) in enumerate(STAGES, start=1):
        for layer in range(num_layers):
            num_in = num_out if layer else first_in
            middle, squeezed = num_in * expand, num_in // 4
            block, at = f"{stage}.{layer}.block", 0
            if expand > 1:
                shapes |= list_conv_norm(f"{block}.0", middle, num_in, 1, 1)
                at = 1
            shapes |= list_conv_norm(f"{block}.{at}", middle, 1, kernel, kernel)
            shapes[f"{block}.{at + 1}.fc1.weight"] = (squeezed, middle, 1, 1)
            shapes[f"{block}.{at + 1}.fc1.bias"] = (squeezed,)
            shapes[f"{block}.{at + 1}.fc2.weight"] = (middle, squeezed, 1, 1)
            shapes[f"{block}.{at + 1}.fc2.bias"] = (middle,)
            shapes |= list_conv_norm(f"{block}.{at + 2}", num_out, middle, 1, 1)
    return shapes | list_conv_norm("8", 1280, 320, 1, 1)


def test_names_and_shapes_are_torchvisions() -> None:
    """Published ImageNet weights load. There are 4,007,548 parameters as published (5,288,548 with
    the classifier of 1,000 classes, 1,281,000)."""
    features = efficientnet_b0_features()
    shapes = {name: tuple(tensor.shape) for name, tensor in features.state_dict().items()}
    assert shapes == list_published_shapes()
    assert len(shapes) == 358
    assert shapes["1.0.block.0.0.weight"] == (32, 1, 3, 3)
    assert sum(p.numel() for p in features.parameters()) == 4_007_548


@pytest.mark.parametrize("size_px", [32, 48, 96, 100])
def test_downsamples_by_32(size_px: int) -> None:
    """Stages 0, 2, 3, 4 and 6 halve the image, rounding up."""
    out = efficientnet_b0_features().eval()(torch.zeros(1, 3, size_px, size_px))
    side = -(-size_px // 32)
    assert out.shape == (1, 1280, side, side)


def test_stochastic_depth() -> None:
    """In training a residual branch is dropped for whole images and unbiased on average; in eval
    mode it is never dropped."""
    block = MBConv(1, 3, 1, 8, 8, drop=0.5)
    for norm in block.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.eval()
    x = torch.randn(64, 8, 4, 4)
    with torch.no_grad():
        block.training = True
        change = (block(x) - x).abs().amax(dim=(1, 2, 3))
        branch = block.block(x)
        dropped = change == 0
        assert 15 < int(dropped.sum()) < 49
        residual = (block(x) - x)[0]
        assert torch.allclose(residual, 2 * branch[0], atol=1e-6) or not residual.any()
        block.eval()
        assert torch.allclose(block(x), x + branch, atol=1e-6)


def make_published_weights() -> dict[str, torch.Tensor]:
    """A file like torchvision's, with made-up values: all of its names and shapes."""
    shapes = {f"features.{name}": shape for name, shape in list_published_shapes().items()}
    shapes |= {"classifier.1.weight": (1000, 1280), "classifier.1.bias": (1000,)}
    return {name: torch.rand(shape) for name, shape in shapes.items()}


def test_published_weights_start_a_face_network(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The features are loaded. What is left out, and what starts at random, is said once."""
    weights = make_published_weights()
    torch.save(weights, tmp_path / "efficientnet_b0.pth")
    model = FaceNet()
    before = model.classifier.weight.clone()
    with caplog.at_level(logging.WARNING):
        load_initial_weights(tmp_path / "efficientnet_b0.pth", model)
    for name, value in model.features.state_dict().items():
        torch.testing.assert_close(value, weights[f"features.{name}"].to(value.dtype))
    assert torch.equal(model.classifier.weight, before)
    (record,) = caplog.records
    for name in ("classifier.1.weight", "classifier.1.bias", "embedding.weight"):
        assert name in record.getMessage()


@pytest.mark.parametrize("spoilt", ["features.8.0.weight", "features.0.1.running_mean"])
def test_features_of_another_network_are_refused(tmp_path: Path, spoilt: str) -> None:
    """One wrong shape is enough, and no weight is changed."""
    weights = make_published_weights()
    weights[spoilt] = torch.zeros(3)
    torch.save(weights, tmp_path / "other.pth")
    model = FaceNet()
    before = model.features[0][0].weight.clone()
    with pytest.raises(CheckpointError, match=spoilt):
        load_initial_weights(tmp_path / "other.pth", model)
    assert torch.equal(model.features[0][0].weight, before)


def test_other_labels_keep_the_embedding(tmp_path: Path) -> None:
    """A face network of eight labels starts one of seven."""
    given, model = FaceNet(8), FaceNet(7)
    torch.save(given.state_dict(), tmp_path / "face8.pt")
    load_initial_weights(tmp_path / "face8.pt", model)
    assert torch.equal(model.embedding.weight, given.embedding.weight)
