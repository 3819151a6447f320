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

from .answers import Difference, Feeds, ask, compare_answers
from .errors import CalibrationError
from .quantize import quantize
from .ranges import Histogram, candidates, count_weights, find_weighted

log = logging.getLogger(__name__)

NEXT_TO_NOTHING = 2e-5
"""Nats: a hundred tensors of so little each change one answer in a hundred."""


@dataclass(frozen=True, slots=True)
class Bench:
    """A network, and what it is asked."""

    model: onnx.ModelProto
    feeds: Feeds
    temperature: float
    original: NDArray[np.float64]
    """Its own logits."""

    def judge(self, ranges: Mapping[str, float], layers: Collection[str]) -> Difference:
        """With only `layers` quantised."""
        changed = quantize(self.model, ranges, layers)
        answers = ask(changed.SerializeToString(), self.feeds)
        return compare_answers(self.original, answers, self.temperature)


@dataclass(frozen=True, slots=True)
class Layer:
    """One weighted operator, quantised alone."""

    name: str
    divergence: float
    num_weights: int

    @property
    def loss_per_weight(self) -> float:
        """What sparing it saves, by what it costs: another byte for each weight."""
        return self.divergence / self.num_weights


def open_bench(model: onnx.ModelProto, feeds: Feeds, temperature: float) -> Bench:
    return Bench(model, feeds, temperature, ask(model.SerializeToString(), feeds))


def search_ranges(bench: Bench, histograms: Mapping[str, Histogram]) -> dict[str, float]:
    """For each tensor the candidate with which its layers change the answers least, or the first
    with which they change them next to nothing."""
    readers: dict[str, list[str]] = {}
    for layer, tensor in find_weighted(bench.model).items():
        readers.setdefault(tensor, []).append(layer)
    found = {}
    for tensor, layers in tqdm(readers.items(), "ranges", leave=False, disable=None):
        tried = []
        for cut in candidates(histograms[tensor]):
            tried.append((bench.judge({tensor: cut}, layers).divergence, cut))
            if tried[-1][0] < NEXT_TO_NOTHING:
                break
        found[tensor] = min(tried)[1]
    return found


def rank_layers(bench: Bench, ranges: Mapping[str, float]) -> list[Layer]:
    """Those first that lose most by each of their weights."""
    sizes = count_weights(bench.model)
    ranked = [
        Layer(name, bench.judge(ranges, [name]).divergence, sizes[name])
        for name in tqdm(sizes, "layers", leave=False, disable=None)
    ]
    return sorted(ranked, key=lambda layer: (-layer.loss_per_weight, layer.name))


def spare_worst(
    ranked: Sequence[Layer],
    judge: Callable[[Collection[str]], Difference],
    min_agreement: float,
) -> tuple[list[str], Difference]:
    """Take as few of the first layers as it needs out of the quantised ones, until the answers
    agree -> the layers spared, and what difference is left.

    `judge` says how much the answers change with only those layers quantised. Raises
    CalibrationError when even the best layer alone changes too much.
    """
    low, high = 0, len(ranked)
    judged: dict[int, Difference] = {}

    def look(spared: int) -> Difference:
        if spared not in judged:
            judged[spared] = judge([layer.name for layer in ranked[spared:]])
            log.info(
                "%d of %d layers spared: agreement %.4f, divergence %.5f",
                spared,
                len(ranked),
                judged[spared].agreement,
                judged[spared].divergence,
            )
        return judged[spared]

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
