"""Which layers 8 bits suit, and which not: each is asked alone, then the worst are spared.

In: a network, ranges and samples. Out: layers ranked by how much the answers change when that
layer alone is quantised; the ranges that change them least; the layers to spare.
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
"""Nats: a hundred tensors of so little each change one answer in a hundred."""


@dataclass(frozen=True, slots=True)
class SensitivityProbe:
    """A network, and what it is asked."""

    model: onnx.ModelProto
    feeds: Feeds
    temperature: float
    original: NDArray[np.float64]
    """Its own logits."""

    def measure(self, ranges: Mapping[str, float], layers: Collection[str]) -> LogitDifference:
        """With only `layers` quantised."""
        changed = quantize(self.model, ranges, layers)
        answers = compute_logits(changed.SerializeToString(), self.feeds)
        return compare_logits(self.original, answers, self.temperature)


@dataclass(frozen=True, slots=True)
class LayerSensitivity:
    """One weighted operator, quantised alone."""

    name: str
    divergence: float
    num_weights: int

    @property
    def loss_per_weight(self) -> float:
        """What sparing it saves, by what it costs: another byte for each weight."""
        return self.divergence / self.num_weights


def open_probe(model: onnx.ModelProto, feeds: Feeds, temperature: float) -> SensitivityProbe:
    return SensitivityProbe(
        model, feeds, temperature, compute_logits(model.SerializeToString(), feeds)
    )


def search_ranges(probe: SensitivityProbe, histograms: Mapping[str, Histogram]) -> dict[str, float]:
    """For each tensor the candidate with which its layers change the answers least, or the first
    with which they change them next to nothing."""
    readers: dict[str, list[str]] = {}
    for layer, tensor in find_weighted(probe.model).items():
        readers.setdefault(tensor, []).append(layer)
    found = {}
    for tensor, layers in tqdm(readers.items(), "ranges", leave=False, disable=None):
        tried = []
        for cut in candidate_thresholds(histograms[tensor]):
            tried.append((probe.measure({tensor: cut}, layers).divergence, cut))
            if tried[-1][0] < NEGLIGIBLE_DIVERGENCE:
                break
        found[tensor] = min(tried)[1]
    return found


def rank_layers(probe: SensitivityProbe, ranges: Mapping[str, float]) -> list[LayerSensitivity]:
    """Those first that lose most by each of their weights."""
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
    """Take as few of the first layers as it needs out of the quantised ones, until the answers
    agree -> the layers spared, and what difference is left.

    `measure` says how much the answers change with only those layers quantised. Raises
    CalibrationError when even the best layer alone changes too much.
    """
    low, high = 0, len(ranked)
    measured: dict[int, LogitDifference] = {}

    def look(excluded: int) -> LogitDifference:
        if excluded not in measured:
            measured[excluded] = measure([layer.name for layer in ranked[excluded:]])
            log.info(
                "%d of %d layers spared: agreement %.4f, divergence %.5f",
                excluded,
                len(ranked),
                measured[excluded].agreement,
                measured[excluded].divergence,
            )
        return measured[excluded]

    # Sparing more of a ranking all but always helps, so half of what is left is tried each time.
    while low < high:
        middle = (low + high) // 2
        if look(middle).agreement >= min_agreement:
            high = middle
        else:
            low = middle + 1
    if low >= len(ranked):
        raise CalibrationError(
            f"no layer can be quantised: agreement stays under {min_agreement}; fine-tune the"
            " network with quantisation in the loop, or allow more"
        )
    return sorted(layer.name for layer in ranked[:low]), look(low)
