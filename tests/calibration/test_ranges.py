"""Histograms of tensors, and the range that each method chooses from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from emotion_edge.calibration.divergence import compute_logits
from emotion_edge.calibration.errors import CalibrationError
from emotion_edge.calibration.options import METHODS, PLAIN_METHODS
from emotion_edge.calibration.quantize import read_network
from emotion_edge.calibration.ranges import (
    NUM_BINS,
    Histogram,
    candidate_thresholds,
    choose_range,
    collect_histograms,
    find_weighted,
    percentile_threshold,
)
from emotion_edge.calibration.samples import Samples


def histogram(values: Any) -> Histogram:
    """Return the histogram of known values."""
    magnitudes = np.abs(np.asarray(values, np.float64))
    top = float(magnitudes.max())
    return Histogram(np.histogram(magnitudes, NUM_BINS, (0, top))[0].astype(np.float64), top)


@pytest.fixture
def spiky() -> Histogram:
    """A million values of magnitude 1, and ten of 100."""
    rng = np.random.default_rng(0)
    return histogram(np.concatenate([rng.normal(0, 1, 1_000_000), np.full(10, 100.0)]))


def multiply(factor: float) -> onnx.ModelProto:
    """Build x -> middle = factor x -> MatMul."""
    weight = onnx.numpy_helper.from_array(np.ones((4, 7), np.float32), "w")
    scale = onnx.numpy_helper.from_array(np.array(factor, np.float32), "factor")
    nodes = [
        helper.make_node("Mul", ["x", "factor"], ["middle"]),
        helper.make_node("MatMul", ["middle", "w"], ["logits"], name="head"),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 7])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [weight, scale])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_weighted_operators(make_network: Callable[..., bytes]) -> None:
    """By name, with their input tensor; a product of two tensors has no weights."""
    model = read_network(make_network(), "face")
    model.graph.node.append(
        helper.make_node("MatMul", ["embedding", "embedding"], ["x"], name="square")
    )
    assert find_weighted(model) == {
        "stem": "image",
        "mix": "stretched",
        "side": "seen",
        "embed": "flat",
        "head": "embedding",
    }


def test_histograms_of_known_data() -> None:
    """Every magnitude is counted in its bin, over all batches, up to the tensor's own maximum."""
    rng = np.random.default_rng(0)
    batches = [rng.normal(0, size, (num, 4)).astype(np.float32) for num, size in ((64, 1), (9, 3))]
    feeds = [{"x": batch} for batch in batches]
    found = collect_histograms(multiply(10.0), ["x", "middle"], feeds)
    whole = np.abs(np.concatenate(batches))
    assert found["x"].top == pytest.approx(whole.max())
    assert found["middle"].top == pytest.approx(10 * whole.max(), rel=1e-6)
    for each in found.values():
        assert each.counts.sum() == whole.size
    expected = np.histogram(whole, NUM_BINS, (0, whole.max()))[0]
    np.testing.assert_array_equal(found["x"].counts, expected)
    assert np.abs(found["middle"].counts - expected).sum() <= 2, "but for rounding at an edge"


def test_histograms_leave_the_network_alone(
    make_network: Callable[..., bytes], make_samples: Callable[..., Samples]
) -> None:
    """No output is added to it; a tensor that is an output is measured too."""
    model = read_network(make_network(), "face")
    before = model.SerializeToString(deterministic=True)
    tensors = sorted(set(find_weighted(model).values()))
    assert "embedding" in tensors
    feeds = make_samples("face").batches(16)
    found = collect_histograms(model, tensors, feeds)
    assert set(found) == set(tensors)
    assert model.SerializeToString(deterministic=True) == before
    assert found["image"].top == 3.0


@pytest.mark.parametrize("corrupted", [0.0, np.nan, np.inf])
@pytest.mark.parametrize("place", ["everywhere", "once"])
def test_dead_tensors(corrupted: float, place: str) -> None:
    """All zeros, or a value that is not finite, even once in the first batch."""
    x = np.ones((8, 4), np.float32)
    if place == "everywhere":
        x[:] = corrupted
    else:
        x[0, 0] = corrupted
    feeds = [{"x": x}, {"x": x if place == "everywhere" else np.ones_like(x)}]
    if place == "once" and corrupted == 0:
        assert collect_histograms(multiply(1.0), ["x", "middle"], feeds)["x"].counts[0] == 1
        return
    with pytest.raises(CalibrationError, match=r"^tensor x:"):
        collect_histograms(multiply(1.0), ["x", "middle"], feeds)


def test_dead_tensor_inside() -> None:
    """The samples are good, but a layer's output is all zeros."""
    feeds = [{"x": np.ones((8, 4), np.float32)}]
    with pytest.raises(CalibrationError, match=r"^tensor middle:"):
        collect_histograms(multiply(0.0), ["x", "middle"], feeds)


@pytest.mark.parametrize(
    "feed", [{"x": np.ones((8, 5), np.float32)}, {"y": np.ones((8, 4), np.float32)}]
)
def test_samples_that_do_not_fit(feed: dict[str, Any]) -> None:
    """Another shape or another input: one line with the shape."""
    for run in (
        lambda: collect_histograms(multiply(1.0), ["middle"], [feed]),
        lambda: compute_logits(multiply(1.0).SerializeToString(), [feed]),
    ):
        with pytest.raises(CalibrationError, match=r"^network: .*\[8, [45]\]") as caught:
            run()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", PLAIN_METHODS)
def test_uniform_distribution_is_not_clipped(method: str) -> None:
    """All methods cover (nearly) the whole range of a uniform distribution."""
    even = histogram(np.linspace(-5, 5, 1_000_001))
    assert choose_range(even, method) == pytest.approx(5, rel=0.03)
    assert choose_range(even, method) <= 5


def test_outliers_are_clipped(spiky: Histogram) -> None:
    """Ten outliers, a hundred times as large as a million values: only minmax covers them."""
    assert choose_range(spiky, "minmax") == 100.0
    assert choose_range(spiky, "percentile") == pytest.approx(3.9, abs=0.2)
    for method in ("entropy", "mse"):
        assert 2.0 < choose_range(spiky, method) < 70.0


def test_mse_is_minimal(spiky: Histogram) -> None:
    """No range of a fine grid has less rounding and clipping error."""
    rng = np.random.default_rng(1)
    values = np.abs(rng.laplace(0, 1, 200_000))
    threshold = choose_range(histogram(values), "mse")

    def error(at: float) -> float:
        step = at / 127
        return float(((values - np.clip(np.rint(values / step), 0, 127) * step) ** 2).mean())

    best = min(error(at) for at in np.linspace(0.5, values.max(), 400))
    assert error(threshold) <= 1.02 * best
    assert error(threshold) < error(float(values.max()))
    assert choose_range(spiky, "mse") < 100.0


def test_percentile_is_of_all_values() -> None:
    """This share lies below the threshold, to within a bin."""
    values = np.arange(1, 100_001) / 1000
    of_values = histogram(values)
    for percent in (50.0, 99.0, 99.99, 100.0):
        share = np.mean(values <= percentile_threshold(of_values, percent))
        assert share == pytest.approx(percent / 100, abs=1e-3)
    assert percentile_threshold(of_values, 100.0) == of_values.top


def test_candidates(spiky: Histogram) -> None:
    """All different and positive; the whole range is one of them."""
    found = candidate_thresholds(spiky)
    assert len(found) == len(set(found))
    assert min(found) > 0
    assert max(found) == spiky.top
    assert percentile_threshold(spiky, 99.0) in found
    assert choose_range(spiky, "percentile") in found
    assert len(candidate_thresholds(Histogram(np.eye(1, NUM_BINS, NUM_BINS - 1)[0], 2.0))) == 1


@pytest.mark.parametrize("method", PLAIN_METHODS)
def test_ranges_are_positive_and_inside(method: str) -> None:
    """For any histogram, even with a single bin in use."""
    rng = np.random.default_rng(2)
    ends = [np.eye(1, NUM_BINS, place)[0] for place in (0, 1, 77, NUM_BINS - 1)]
    both = ends[0] * 1e6 + ends[-1]
    for counts in (*ends, both, rng.integers(0, 9, NUM_BINS).astype(np.float64)):
        assert 0 < choose_range(Histogram(counts, 3.0), method) <= 3.0


def test_unknown_method(spiky: Histogram) -> None:
    """A programming error: ValueError."""
    with pytest.raises(ValueError, match="guess"):
        choose_range(spiky, "guess")
    assert set(METHODS) == {"auto", *PLAIN_METHODS, "answer"}
