"""How far each tensor reaches: what the calibration samples make of the inputs of every weighted
operator, and what range -t..t each method takes for its 255 steps.

A range that holds everything wastes its steps on a few outliers; one that cuts too much distorts.
Which is better differs from tensor to tensor, by orders of magnitude in networks with SiLU and
squeeze-excitation, and no figure of the tensor itself tells: "answer" asks the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from .divergence import Feeds, open_session, run_session
from .errors import CalibrationError

WEIGHTED = ("Conv", "Gemm", "MatMul")
PLAIN_METHODS = ("mse", "percentile", "entropy", "minmax")
"""Those that look at a tensor alone."""
METHODS = ("auto", *PLAIN_METHODS, "answer")
NUM_BINS = 4096
NUM_STEPS = 127
PERCENTILE = 99.99
ANSWER_PERCENTILES = (99.8, 99.95, 99.99, 99.5, 99.9, 99.0)


@dataclass(frozen=True, slots=True)
class Histogram:
    """Of the magnitudes of one tensor: `counts` (NUM_BINS,) over 0..`top`."""

    counts: NDArray[np.float64]
    top: float


def find_weighted(model: onnx.ModelProto) -> dict[str, str]:
    """Operators with constant weights, by name -> the tensor they read."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return {
        node.name: node.input[0]
        for node in model.graph.node
        if node.op_type in WEIGHTED and node.input[1] in constants
    }


def count_weights(model: onnx.ModelProto) -> dict[str, int]:
    """Of each operator of `find_weighted`."""
    sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in model.graph.initializer}
    weighted = find_weighted(model)
    return {node.name: sizes[node.input[1]] for node in model.graph.node if node.name in weighted}


def collect_histograms(
    model: onnx.ModelProto, tensors: Sequence[str], feeds: Feeds
) -> dict[str, Histogram]:
    """Two passes over the samples: how far each tensor reaches, then how often it is where."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    inputs = {value.name for value in model.graph.input}
    inside = [name for name in tensors if name not in inputs]
    present = {value.name for value in model.graph.output}
    for name in inside:
        if name not in present:
            shown.graph.output.append(
                onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
            )
    session = open_session(shown.SerializeToString(), "network")
    tops = dict.fromkeys(tensors, 0.0)
    counts = {name: np.zeros(NUM_BINS) for name in tensors}
    for find_top in (True, False):
        for feed in feeds:
            shown_values = run_session(session, inside, feed, "network")
            values = {**feed, **dict(zip(inside, shown_values, strict=True))}
            for name in tensors:
                magnitudes = np.abs(values[name])
                if find_top:
                    tops[name] = float(np.maximum(tops[name], magnitudes.max()))  # keeps a NaN
                else:
                    counts[name] += np.histogram(magnitudes, NUM_BINS, (0, tops[name]))[0]
        dead = [name for name, top in tops.items() if not (np.isfinite(top) and top > 0)]
        if dead:
            raise CalibrationError(f"tensor {dead[0]}: nothing but zeros, or no numbers, in it")
    return {name: Histogram(counts[name], tops[name]) for name in tensors}


def choose_range(histogram: Histogram, method: str) -> float:
    """By one of `PLAIN_METHODS`."""
    if method == "minmax":
        return histogram.top
    if method == "percentile":
        return percentile_threshold(histogram, PERCENTILE)
    if method == "entropy":
        return kl_threshold(histogram)
    if method == "mse":
        return mse_threshold(histogram)
    raise ValueError(f"method {method!r} is not one of {', '.join(PLAIN_METHODS)}")


def candidate_thresholds(histogram: Histogram) -> list[float]:
    """Ranges that "answer" tries, all different, the likeliest first."""
    cuts = [percentile_threshold(histogram, percent) for percent in ANSWER_PERCENTILES]
    return list(
        dict.fromkeys((kl_threshold(histogram), mse_threshold(histogram), *cuts, histogram.top))
    )


def percentile_threshold(histogram: Histogram, percent: float) -> float:
    """The upper edge of the bin up to which `percent` of all values lie."""
    share = histogram.counts.cumsum() / histogram.counts.sum()
    place = int(np.searchsorted(share, percent / 100)) + 1
    return histogram.top * min(place, NUM_BINS) / NUM_BINS


def mse_threshold(histogram: Histogram) -> float:
    """Least mean square error of rounding and clipping."""
    centres = (np.arange(NUM_BINS) + 0.5) * (histogram.top / NUM_BINS)
    best, chosen = np.inf, histogram.top
    for cut in np.linspace(histogram.top / 40, histogram.top, 160):
        step = cut / NUM_STEPS
        rounded = np.minimum(np.rint(centres / step), NUM_STEPS) * step
        error = float((histogram.counts * (centres - rounded) ** 2).sum())
        if error < best:
            best, chosen = error, float(cut)
    return chosen


def kl_threshold(histogram: Histogram) -> float:
    """Least divergence between the distribution and what is left of it (Migacz, GTC 2017)."""
    counts = histogram.counts
    best, chosen = np.inf, histogram.top
    for size in range(NUM_STEPS + 1, NUM_BINS + 1, 32):
        kept = counts[:size].copy()
        kept[-1] += counts[size:].sum()
        step_of = np.arange(size) * (NUM_STEPS + 1) // size
        filled = counts[:size] > 0
        sums = np.bincount(step_of, counts[:size] * filled)
        number = np.maximum(np.bincount(step_of, filled), 1)
        spread = np.where(filled, (sums / number)[step_of], 0.0)
        p, q = kept / kept.sum(), spread / max(spread.sum(), 1e-12)
        seen = p > 0
        if (q[seen] == 0).any():  # all that was cut off fell into an empty bin
            continue
        divergence = float((p[seen] * np.log(p[seen] / q[seen])).sum())
        if divergence < best:
            best, chosen = divergence, histogram.top * size / NUM_BINS
    return chosen
