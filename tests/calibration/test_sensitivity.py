"""Quantization sensitivity finds the layer that INT8 ruins, and excludes no more than needed."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
import pytest

from emotion_edge.calibration.divergence import LogitDifference, compare_logits, open_session
from emotion_edge.calibration.errors import CalibrationError
from emotion_edge.calibration.quantize import read_network
from emotion_edge.calibration.ranges import choose_range, collect_histograms, find_weighted
from emotion_edge.calibration.samples import Samples
from emotion_edge.calibration.sensitivity import (
    LayerSensitivity,
    SensitivityProbe,
    exclude_sensitive_layers,
    open_probe,
    rank_layers,
    search_ranges,
)

Open = Callable[[str], tuple[SensitivityProbe, dict[str, float]]]
RANKED = [LayerSensitivity(f"layer{i}", 1.0 / (1 + i), 100) for i in range(9)]


@pytest.fixture
def open_toy(make_network: Callable[..., bytes], make_samples: Callable[..., Samples]) -> Open:
    """A function (trap) -> the probe of a face network with it, and its minmax ranges."""

    def run(trap: str) -> tuple[SensitivityProbe, dict[str, float]]:
        model = read_network(make_network("face", trap), "face")
        feeds = make_samples("face").batches(16)
        tensors = sorted(set(find_weighted(model).values()))
        histograms = collect_histograms(model, tensors, feeds)
        ranges = {name: choose_range(each, "minmax") for name, each in histograms.items()}
        return open_probe(model, feeds, 1.5), ranges

    return run


@pytest.mark.parametrize("trap", ["rare", "always"])
def test_sensitive_layer_ranks_first(open_toy: Open, trap: str) -> None:
    """By a wide margin, the others in order behind it; without the trap it does not."""
    probe, ranges = open_toy(trap)
    ranked = rank_layers(probe, ranges)
    assert ranked[0].name == "mix"
    assert ranked[0].divergence > 100 * max(layer.divergence for layer in ranked[1:])
    assert {layer.name for layer in ranked} == set(find_weighted(probe.model))
    losses = [layer.loss_per_weight for layer in ranked]
    assert losses == sorted(losses, reverse=True)
    for layer in ranked:
        assert layer.divergence == probe.measure(ranges, [layer.name]).divergence
    probe, ranges = open_toy("")
    others = {layer.name: layer for layer in rank_layers(probe, ranges)}
    assert others["mix"].divergence < ranked[0].divergence / 100


def test_loss_is_divided_by_size(open_toy: Open) -> None:
    """An excluded layer costs a byte for each weight."""
    probe, ranges = open_toy("")
    sizes = {layer.name: layer.num_weights for layer in rank_layers(probe, ranges)}
    assert sizes == {"stem": 216, "mix": 64, "side": 64, "embed": 2048, "head": 1792}
    assert LayerSensitivity("a", 0.1, 50).loss_per_weight == pytest.approx(0.002)


def test_answer_finds_a_range_that_minmax_misses(
    open_toy: Open, make_samples: Callable[..., Samples]
) -> None:
    """Rare outliers that change no output: clipped, the network agrees with the original."""
    probe, ranges = open_toy("rare")
    layers = find_weighted(probe.model)
    assert probe.measure(ranges, layers).agreement < 0.6
    histograms = collect_histograms(probe.model, sorted(set(layers.values())), probe.feeds)
    searched = search_ranges(probe, histograms)
    assert searched["stretched"] < 10
    assert ranges["stretched"] > 500
    assert set(searched) == set(ranges)
    assert probe.measure(searched, layers).agreement > 0.9


@pytest.mark.parametrize("needed", range(9))
def test_as_few_as_needed(needed: int) -> None:
    """The most sensitive ones, by at most four measurements of nine layers, each only once."""
    measured = []

    def measure(layers: Collection[str]) -> LogitDifference:
        measured.append(len(layers))
        return LogitDifference(0.1, 1.0 if len(layers) <= 9 - needed else 0.5, 0.0)

    excluded, difference = exclude_sensitive_layers(RANKED, measure, 0.99)
    assert excluded == [f"layer{i}" for i in range(needed)]
    assert difference.agreement == 1.0
    assert len(measured) == len(set(measured)) <= 4


def test_exactly_enough_is_enough() -> None:
    """The limit itself is allowed."""
    excluded, _ = exclude_sensitive_layers(RANKED, lambda _: LogitDifference(0.0, 0.99, 0.0), 0.99)
    assert excluded == []


def test_unreachable_agreement() -> None:
    """Not even with the least sensitive layer alone, or without layers."""
    for ranked in (RANKED, RANKED[:1], []):
        with pytest.raises(CalibrationError, match=r"0\.99"):
            exclude_sensitive_layers(ranked, lambda _: LogitDifference(1.0, 0.98, 0.0), 0.99)


def test_difference() -> None:
    """Divergence in nats by hand, agreement, and the largest difference of a logit."""
    original = np.array([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0], [0.0, 4.0]])
    changed = np.array([[2.0, 0.0], [0.5, 0.0], [3.0, 0.0], [0.0, 4.0]])
    difference = compare_logits(original, changed, 0.5)
    p = np.exp([0.0, 2.0]) / np.exp([0.0, 2.0]).sum()
    q = np.exp([1.0, 0.0]) / np.exp([1.0, 0.0]).sum()
    assert difference.divergence == pytest.approx((p * np.log(p / q)).sum() / 4)
    assert (difference.agreement, difference.largest) == (0.75, 1.0)
    same = compare_logits(original, original, 2.0)
    assert same == LogitDifference(0.0, 1.0, 0.0)


def test_network_that_does_not_open() -> None:
    """One line that names it."""
    with pytest.raises(CalibrationError, match=r"^mine: ") as caught:
        open_session(b"no network", "mine")
    assert "\n" not in str(caught.value)
