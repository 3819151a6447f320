"""Quantization sensitivity: a network, its ranges and samples in, ranked layers out.

The sensitivity of a layer is the divergence of the output when that layer alone is quantized. From
the same measurement come the ranges with the least divergence and the layers to keep in FP16.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from tqdm import tqdm

from .divergence import Feeds, LogitDifference, compare_logits, compute_logits
from .errors import CalibrationError
from .quantize import quantize
from .ranges import Histogram, candidate_thresholds, count_weights, find_weighted

log = logging.getLogger(__name__)

NEGLIGIBLE_DIVERGENCE = 2e-5
"""In nats. A hundred tensors of this divergence change one prediction in a hundred."""


@dataclass(frozen=True, slots=True)
class SensitivityProbe:
    """A network with the samples that it is measured on."""

    model: onnx.ModelProto
    feeds: Feeds
    temperature: float
    original: NDArray[np.float64]
    """Logits of the network itself."""

    def measure(self, ranges: Mapping[str, float], layers: Collection[str]) -> LogitDifference:
        """Measure the difference that quantizing only `layers` makes. Raises CalibrationError."""
        quantized = quantize(self.model, ranges, layers)
        logits = compute_logits(quantized.SerializeToString(), self.feeds)
        return compare_logits(self.original, logits, self.temperature)


@dataclass(frozen=True, slots=True)
class LayerSensitivity:
    """The divergence that quantizing one weighted operator alone causes, in nats."""

    name: str
    divergence: float
    num_weights: int

    @property
    def loss_per_weight(self) -> float:
        """Benefit of excluding the layer by its cost, which is one more byte for each weight."""
        return self.divergence / self.num_weights


def open_probe(model: onnx.ModelProto, feeds: Feeds, temperature: float) -> SensitivityProbe:
    """Run the network once and return its probe. Raises CalibrationError."""
    return SensitivityProbe(
        model, feeds, temperature, compute_logits(model.SerializeToString(), feeds)
    )


def search_ranges(probe: SensitivityProbe, histograms: Mapping[str, Histogram]) -> dict[str, float]:
    """Search each tensor's range for the least divergence when only its layers are quantized.

    The search stops at the first candidate below `NEGLIGIBLE_DIVERGENCE`.
    """
    readers: dict[str, list[str]] = {}
    for layer, tensor in find_weighted(probe.model).items():
        readers.setdefault(tensor, []).append(layer)
    ranges = {}
    for tensor, layers in tqdm(readers.items(), "ranges", leave=False, disable=None):
        tried = []
        for threshold in candidate_thresholds(histograms[tensor]):
            tried.append((probe.measure({tensor: threshold}, layers).divergence, threshold))
            if tried[-1][0] < NEGLIGIBLE_DIVERGENCE:
                break
        ranges[tensor] = min(tried)[1]
    return ranges


def rank_layers(probe: SensitivityProbe, ranges: Mapping[str, float]) -> list[LayerSensitivity]:
    """Rank the layers by `loss_per_weight`, the most sensitive first."""
    sizes = count_weights(probe.model)
    ranked = [
        LayerSensitivity(name, probe.measure(ranges, [name]).divergence, sizes[name])
        for name in tqdm(sizes, "layers", leave=False, disable=None)
    ]
    return sorted(ranked, key=lambda layer: (-layer.loss_per_weight, layer.name))


def exclude_sensitive_layers(
    ranked: Sequence[LayerSensitivity],
    measure: Callable[[Collection[str]], LogitDifference],
    min_agreement: float,
) -> tuple[list[str], LogitDifference]:
    """Exclude as few of the first `ranked` layers as needed -> their names, the difference left.

    `measure` returns the difference when only the given layers are quantized. Raises
    CalibrationError when even the least sensitive layer alone agrees too little.
    """
    low, high = 0, len(ranked)
    measured: dict[int, LogitDifference] = {}

    def measure_without(excluded: int) -> LogitDifference:
        if excluded not in measured:
            measured[excluded] = measure([layer.name for layer in ranked[excluded:]])
            log.info(
                "%d of %d layers kept in FP16: agreement %.4f, divergence %.5f",
                excluded,
                len(ranked),
                measured[excluded].agreement,
                measured[excluded].divergence,
            )
        return measured[excluded]

    # Binary search: excluding more layers of the ranking nearly always raises the agreement.
    while low < high:
        middle = (low + high) // 2
        if measure_without(middle).agreement >= min_agreement:
            high = middle
        else:
            low = middle + 1
    if low >= len(ranked):
        raise CalibrationError(
            f"no layer can be quantized with an agreement of {min_agreement}: fine-tune the network"
            " with quantization-aware training, or lower --min-agreement"
        )
    return sorted(layer.name for layer in ranked[:low]), measure_without(low)
