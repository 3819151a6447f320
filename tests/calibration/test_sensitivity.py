"""The layer that 8 bits ruin is found, and no more than needed is spared."""

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
    """A function (trap) -> a face network with it, and the ranges that "minmax" gives."""

    def run(trap: str) -> tuple[SensitivityProbe, dict[str, float]]:
        model = read_network(make_network("face", trap), "face")
        feeds = make_samples("face").batches(16)
        tensors = sorted(set(find_weighted(model).values()))
        found = collect_histograms(model, tensors, feeds)
        ranges = {name: choose_range(one, "minmax") for name, one in found.items()}
        return open_probe(model, feeds, 1.5), ranges

    return run


@pytest.mark.parametrize("trap", ["rare", "always"])
def test_bad_layer_ranks_first(open_toy: Open, trap: str) -> None:
    """By a wide margin, the others behind it in their order; without the trap it does not."""
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


def test_loss_is_held_against_size(open_toy: Open) -> None:
    """What is spared costs a byte for each weight."""
    probe, ranges = open_toy("")
    sizes = {layer.name: layer.num_weights for layer in rank_layers(probe, ranges)}
    assert sizes == {"stem": 216, "mix": 64, "side": 64, "embed": 2048, "head": 1792}
    assert LayerSensitivity("a", 0.1, 50).loss_per_weight == pytest.approx(0.002)


def test_answer_finds_the_range_that_minmax_misses(
    open_toy: Open, make_samples: Callable[..., Samples]
) -> None:
    """Rare spikes that change no answer: cut, the whole is as good as the original."""
    probe, ranges = open_toy("rare")
    layers = find_weighted(probe.model)
    assert probe.measure(ranges, layers).agreement < 0.6
    found = collect_histograms(probe.model, sorted(set(layers.values())), probe.feeds)
    searched = search_ranges(probe, found)
    assert searched["stretched"] < 10
    assert ranges["stretched"] > 500
    assert set(searched) == set(ranges)
    assert probe.measure(searched, layers).agreement > 0.9


def test_excluding_a_layer_restores_agreement(open_toy: Open) -> None:
    """One layer of five stays, and it is the one."""
    probe, ranges = open_toy("always")
    excluded, found = exclude_sensitive_layers(
        rank_layers(probe, ranges), lambda names: probe.measure(ranges, names), 0.9
    )
    assert excluded == ["mix"]
    assert found.agreement >= 0.9
    assert probe.measure(ranges, find_weighted(probe.model)).agreement < 0.6


@pytest.mark.parametrize("needed", range(9))
def test_as_few_as_needed(needed: int) -> None:
    """The worst ones, by at most four looks at nine layers, each number looked at once."""
    looks = []

    def measure(layers: Collection[str]) -> LogitDifference:
        looks.append(len(layers))
        return LogitDifference(0.1, 1.0 if len(layers) <= 9 - needed else 0.5, 0.0)

    excluded, found = exclude_sensitive_layers(RANKED, measure, 0.99)
    assert excluded == [f"layer{i}" for i in range(needed)]
    assert found.agreement == 1.0
    assert len(looks) == len(set(looks)) <= 4


def test_exactly_enough_is_enough() -> None:
    """The limit itself is allowed."""
    excluded, _ = exclude_sensitive_layers(RANKED, lambda _: LogitDifference(0.0, 0.99, 0.0), 0.99)
    assert excluded == []


def test_nothing_helps() -> None:
    """Not even the best layer alone, or no layer at all."""
    for ranked in (RANKED, RANKED[:1], []):
        with pytest.raises(CalibrationError, match=r"no layer can be quantised: .* under 0\.99"):
            exclude_sensitive_layers(ranked, lambda _: LogitDifference(1.0, 0.98, 0.0), 0.99)


def test_difference() -> None:
    """Divergence in nats by a formula of our own; agreement and the largest logit apart."""
    original = np.array([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0], [0.0, 4.0]])
    changed = np.array([[2.0, 0.0], [0.5, 0.0], [3.0, 0.0], [0.0, 4.0]])
    found = compare_logits(original, changed, 0.5)
    p = np.exp([0.0, 2.0]) / np.exp([0.0, 2.0]).sum()
    q = np.exp([1.0, 0.0]) / np.exp([1.0, 0.0]).sum()
    assert found.divergence == pytest.approx((p * np.log(p / q)).sum() / 4)
    assert (found.agreement, found.largest) == (0.75, 1.0)
    same = compare_logits(original, original, 2.0)
    assert same == LogitDifference(0.0, 1.0, 0.0)


def test_network_that_does_not_open() -> None:
    """One line with its name."""
    with pytest.raises(CalibrationError, match=r"^mine: ONNX Runtime cannot open it: ") as caught:
        open_session(b"no network", "mine")
    assert "\n" not in str(caught.value)
