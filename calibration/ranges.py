"""Quantization ranges: a network and samples in, for each tensor a histogram and a range -t..t out.

The tensors are the inputs of the weighted operators; a range has 255 steps. A range that holds
everything wastes steps on a few outliers, and a range that clips too much distorts. Which error is
larger depends on the tensor, by orders of magnitude in networks with SiLU and squeeze-excitation,
and no statistic of the tensor alone predicts it. So the method "answer" measures the network's
output for each range; `sensitivity` implements it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from .divergence import Feeds, open_session, run_session
from .errors import CalibrationError
from .options import PLAIN_METHODS

WEIGHTED = ("Conv", "Gemm", "MatMul")
NUM_BINS = 4096
NUM_STEPS = 127
PERCENTILE = 99.99
ANSWER_PERCENTILES = (99.8, 99.95, 99.99, 99.5, 99.9, 99.0)


@dataclass(frozen=True, slots=True)
class Histogram:
    """Histogram of a tensor's magnitudes: `counts` (NUM_BINS,) over 0..`top`."""

    counts: NDArray[np.float64]
    top: float


def find_weighted(model: onnx.ModelProto) -> dict[str, str]:
    """Return the operators with constant weights: name -> input tensor."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return {
        node.name: node.input[0]
        for node in model.graph.node
        if node.op_type in WEIGHTED and node.input[1] in constants
    }


def count_weights(model: onnx.ModelProto) -> dict[str, int]:
    """Count the weights of each operator of `find_weighted`."""
    sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in model.graph.initializer}
    weighted = find_weighted(model)
    return {node.name: sizes[node.input[1]] for node in model.graph.node if node.name in weighted}


def collect_histograms(
    model: onnx.ModelProto, tensors: Sequence[str], feeds: Feeds
) -> dict[str, Histogram]:
    """Compute the histograms of `tensors` in two passes over the samples: maxima, then counts.

    Raises CalibrationError for a tensor that is all zeros or not finite.
    """
    extended = onnx.ModelProto()
    extended.CopyFrom(model)
    inputs = {value.name for value in model.graph.input}
    computed = [name for name in tensors if name not in inputs]
    present = {value.name for value in model.graph.output}
    for name in computed:
        if name not in present:
            extended.graph.output.append(
                onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
            )
    session = open_session(extended.SerializeToString(), "network")
    tops = dict.fromkeys(tensors, 0.0)
    counts = {name: np.zeros(NUM_BINS) for name in tensors}
    for find_top in (True, False):
        for feed in feeds:
            outputs = run_session(session, computed, feed, "network")
            values = {**feed, **dict(zip(computed, outputs, strict=True))}
            for name in tensors:
                magnitudes = np.abs(values[name])
                if find_top:
                    tops[name] = float(np.maximum(tops[name], magnitudes.max()))  # keeps a NaN
                else:
                    counts[name] += np.histogram(magnitudes, NUM_BINS, (0, tops[name]))[0]
        dead = [name for name, top in tops.items() if not (np.isfinite(top) and top > 0)]
        if dead:
            raise CalibrationError(f"tensor {dead[0]}: all values are 0, or some are not finite")
    return {name: Histogram(counts[name], tops[name]) for name in tensors}


def choose_range(histogram: Histogram, method: str) -> float:
    """Choose t of the range -t..t by one of `PLAIN_METHODS`."""
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
    """Return the ranges that "answer" tries, all different, the most promising first."""
    percentiles = [percentile_threshold(histogram, percent) for percent in ANSWER_PERCENTILES]
    thresholds = kl_threshold(histogram), mse_threshold(histogram), *percentiles, histogram.top
    return list(dict.fromkeys(thresholds))


def percentile_threshold(histogram: Histogram, percent: float) -> float:
    """Return the upper edge of the bin up to which `percent` of all values lie."""
    share = histogram.counts.cumsum() / histogram.counts.sum()
    place = int(np.searchsorted(share, percent / 100)) + 1
    return histogram.top * min(place, NUM_BINS) / NUM_BINS


def mse_threshold(histogram: Histogram) -> float:
    """Return the threshold with the least mean squared error of rounding and clipping."""
    centres = (np.arange(NUM_BINS) + 0.5) * (histogram.top / NUM_BINS)
    best, chosen = np.inf, histogram.top
    for threshold in np.linspace(histogram.top / 40, histogram.top, 160):
        step = threshold / NUM_STEPS
        rounded = np.minimum(np.rint(centres / step), NUM_STEPS) * step
        error = float((histogram.counts * (centres - rounded) ** 2).sum())
        if error < best:
            best, chosen = error, float(threshold)
    return chosen


def kl_threshold(histogram: Histogram) -> float:
    """Return the threshold with the least KL divergence of the quantized distribution.

    S. Migacz, 8-bit Inference with TensorRT, GTC 2017.
    """
    counts = histogram.counts
    best, chosen = np.inf, histogram.top
    for size in range(NUM_STEPS + 1, NUM_BINS + 1, 32):
        clipped = counts[:size].copy()
        clipped[-1] += counts[size:].sum()
        step_of = np.arange(size) * (NUM_STEPS + 1) // size
        filled = counts[:size] > 0
        sums = np.bincount(step_of, counts[:size] * filled)
        number = np.maximum(np.bincount(step_of, filled), 1)
        spread = np.where(filled, (sums / number)[step_of], 0.0)
        p, q = clipped / clipped.sum(), spread / max(spread.sum(), 1e-12)
        seen = p > 0
        if (q[seen] == 0).any():  # all clipped values are in an empty bin
            continue
        divergence = float((p[seen] * np.log(p[seen] / q[seen])).sum())
        if divergence < best:
            best, chosen = divergence, histogram.top * size / NUM_BINS
    return chosen
