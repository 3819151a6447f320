"""How far tensors reach, and where each method cuts what it knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from emotion_edge.calibration.divergence import compute_logits
from emotion_edge.calibration.errors import CalibrationError
from emotion_edge.calibration.quantize import read_network
from emotion_edge.calibration.ranges import (
    METHODS,
    NUM_BINS,
    PLAIN_METHODS,
    Histogram,
    candidate_thresholds,
    choose_range,
    collect_histograms,
    find_weighted,
    percentile_threshold,
)
from emotion_edge.calibration.samples import Samples


def histogram(values: Any) -> Histogram:
    magnitudes = np.abs(np.asarray(values, np.float64))
    top = float(magnitudes.max())
    return Histogram(np.histogram(magnitudes, NUM_BINS, (0, top))[0].astype(np.float64), top)


@pytest.fixture
def spiky() -> Histogram:
    """A million numbers of the size of 1, and ten of 100."""
    rng = np.random.default_rng(0)
    return histogram(np.concatenate([rng.normal(0, 1, 1_000_000), np.full(10, 100.0)]))


def multiply(factor: float) -> onnx.ModelProto:
    """x -> middle = factor x -> MatMul."""
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
    """By name, with what they read; a product of two tensors has no weights."""
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
    """Every magnitude is counted in its bin, in the tensor's own measure, over all batches."""
    rng = np.random.default_rng(0)
    batches = [rng.normal(0, size, (num, 4)).astype(np.float32) for num, size in ((64, 1), (9, 3))]
    feeds = [{"x": batch} for batch in batches]
    found = collect_histograms(multiply(10.0), ["x", "middle"], feeds)
    whole = np.abs(np.concatenate(batches))
    assert found["x"].top == pytest.approx(whole.max())
    assert found["middle"].top == pytest.approx(10 * whole.max(), rel=1e-6)
    for one in found.values():
        assert one.counts.sum() == whole.size
    expected = np.histogram(whole, NUM_BINS, (0, whole.max()))[0]
    np.testing.assert_array_equal(found["x"].counts, expected)
    assert np.abs(found["middle"].counts - expected).sum() <= 2, "but for rounding at an edge"


def test_histograms_leave_the_network_alone(
    make_network: Callable[..., bytes], make_samples: Callable[..., Samples]
) -> None:
    """No output more than before; a tensor that is an output already is looked at as well."""
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
    """Nothing but zeros, or what is no number, even if only once and in the first batch."""
    x = np.ones((8, 4), np.float32)
    if place == "everywhere":
        x[:] = corrupted
    else:
        x[0, 0] = corrupted
    feeds = [{"x": x}, {"x": x if place == "everywhere" else np.ones_like(x)}]
    if place == "once" and corrupted == 0:
        assert collect_histograms(multiply(1.0), ["x", "middle"], feeds)["x"].counts[0] == 1
        return
    with pytest.raises(CalibrationError, match=r"^tensor x: nothing but zeros, or no numbers"):
        collect_histograms(multiply(1.0), ["x", "middle"], feeds)


def test_dead_tensor_inside() -> None:
    """The samples are alive, what a layer makes of them is not."""
    feeds = [{"x": np.ones((8, 4), np.float32)}]
    with pytest.raises(CalibrationError, match=r"^tensor middle: nothing but zeros"):
        collect_histograms(multiply(0.0), ["x", "middle"], feeds)


@pytest.mark.parametrize(
    "feed", [{"x": np.ones((8, 5), np.float32)}, {"y": np.ones((8, 4), np.float32)}]
)
def test_samples_that_do_not_fit(feed: dict[str, Any]) -> None:
    """Of another shape, or for another input: one line with the shape."""
    for run in (
        lambda: collect_histograms(multiply(1.0), ["middle"], [feed]),
        lambda: compute_logits(multiply(1.0).SerializeToString(), [feed]),
    ):
        with pytest.raises(
            CalibrationError, match=r"^network: cannot be shown the samples \("
        ) as e:
            run()
        assert "\n" not in str(e.value)


@pytest.mark.parametrize("method", PLAIN_METHODS)
def test_uniform_is_kept(method: str) -> None:
    """Where every size is as frequent, all methods keep (all but) all."""
    even = histogram(np.linspace(-5, 5, 1_000_001))
    assert choose_range(even, method) == pytest.approx(5, rel=0.03)
    assert choose_range(even, method) <= 5


def test_spikes_are_cut(spiky: Histogram) -> None:
    """Ten numbers a hundred times as large as a million others: who looks at how many cuts
    them; who looks at the largest keeps it."""
    assert choose_range(spiky, "minmax") == 100.0
    assert choose_range(spiky, "percentile") == pytest.approx(3.9, abs=0.2)
    for method in ("entropy", "mse"):
        assert 2.0 < choose_range(spiky, method) < 70.0


def test_mse_is_the_least(spiky: Histogram) -> None:
    """No other range of a fine grid rounds and clips better, by a count of our own."""
    rng = np.random.default_rng(1)
    values = np.abs(rng.laplace(0, 1, 200_000))
    cut = choose_range(histogram(values), "mse")

    def error(at: float) -> float:
        step = at / 127
        return float(((values - np.clip(np.rint(values / step), 0, 127) * step) ** 2).mean())

    best = min(error(at) for at in np.linspace(0.5, values.max(), 400))
    assert error(cut) <= 1.02 * best
    assert error(cut) < error(float(values.max()))
    assert choose_range(spiky, "mse") < 100.0


def test_percentile_is_of_all_numbers() -> None:
    """So many lie under the cut, and no more than one bin's more."""
    values = np.arange(1, 100_001) / 1000
    one = histogram(values)
    for percent in (50.0, 99.0, 99.99, 100.0):
        assert np.mean(values <= percentile_threshold(one, percent)) == pytest.approx(
            percent / 100, abs=1e-3
        )
    assert percentile_threshold(one, 100.0) == one.top


def test_candidates(spiky: Histogram) -> None:
    """All different, positive, the whole range among them."""
    found = candidate_thresholds(spiky)
    assert len(found) == len(set(found))
    assert min(found) > 0
    assert max(found) == spiky.top
    assert percentile_threshold(spiky, 99.0) in found
    assert choose_range(spiky, "percentile") in found
    assert len(candidate_thresholds(Histogram(np.eye(1, NUM_BINS, NUM_BINS - 1)[0], 2.0))) == 1


@pytest.mark.parametrize("method", PLAIN_METHODS)
def test_ranges_are_positive_and_inside(method: str) -> None:
    """Of any histogram, even one with a single bin in use."""
    rng = np.random.default_rng(2)
    ends = [np.eye(1, NUM_BINS, place)[0] for place in (0, 1, 77, NUM_BINS - 1)]
    both = ends[0] * 1e6 + ends[-1]
    for counts in (*ends, both, rng.integers(0, 9, NUM_BINS).astype(np.float64)):
        assert 0 < choose_range(Histogram(counts, 3.0), method) <= 3.0


def test_unknown_method(spiky: Histogram) -> None:
    """A slip of the caller's."""
    with pytest.raises(ValueError, match="method 'guess' is not one of mse, percentile"):
        choose_range(spiky, "guess")
    assert set(METHODS) == {"auto", *PLAIN_METHODS, "answer"}
