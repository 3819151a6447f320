"""Search spaces of the networks, and trials that are independent runs."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from emotion_edge.engines.config_file import ConfigError
from emotion_edge.training.config import list_presets, load_config
from emotion_edge.training.errors import TrainingError
from emotion_edge.training.launch import (
    TrainingResult,
    VoiceData,
    make_network,
    train_network,
)
from emotion_edge.training.recipes.voice import HeldOutSpeech, Speech
from emotion_edge.training.search import tune
from emotion_edge.training.search.study import Report
from emotion_edge.training.search.tune import REFERENCE_SPACE, choose_space, tune_network


@pytest.mark.parametrize("preset", [p for p in list_presets() if not p.startswith("fusion")])
def test_spaces_hold_their_presets(preset: str) -> None:
    """The keys exist, and the values of the preset are within the ranges."""
    config = load_config(preset)
    tree = msgspec.to_builtins(config)
    for r in choose_space(config):
        section, key = r.key.split(".")
        assert r.low <= tree[section][key] <= r.high, r
    assert (choose_space(config) == REFERENCE_SPACE) == (preset == "reference")


def test_no_space_for_fusion() -> None:
    """Fusion has no validation data."""
    with pytest.raises(ConfigError, match="task is 'fusion'"):
        choose_space(load_config("fusion-channel"))


def test_reference_space() -> None:
    """The search space of the reference system."""
    assert {(r.key, r.low, r.high, r.log) for r in REFERENCE_SPACE} == {
        ("learning.peak_lr", 1e-5, 1e-3, True),
        ("learning.weight_decay", 1e-6, 1e-3, True),
        ("network.dropout", 0.1, 0.5, False),
    }


def test_tune_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each trial trains in a folder of its own, on the first fold by default; the best one is
    returned as a configuration."""
    config = load_config("toy-voice", None, ["root=data", "out=results"])
    trained = []

    def train_trial(changed: object, speakers: object, on_epoch: Report) -> TrainingResult:
        assert speakers == "the data"
        assert changed.fold == 0  # type: ignore[attr-defined]
        assert Path(changed.out).is_dir()  # type: ignore[attr-defined]
        trained.append(changed)
        on_epoch(1, 0.5)
        return TrainingResult(make_network(config)[0], 1 - changed.network.dropout, 1)  # type: ignore[attr-defined]

    monkeypatch.setattr(tune, "prepare_data", lambda config: "the data")
    monkeypatch.setattr(tune, "train_network", train_trial)
    found, best = tune_network(config, 4, f"sqlite:///{tmp_path}/study.db", "s")
    first = msgspec.structs.replace(config, fold=0)
    assert msgspec.structs.replace(trained[0], out="results") == first
    assert len({changed.out for changed in trained}) == 4
    assert not any(Path(changed.out).exists() for changed in trained)
    assert best.out == "results"
    assert best.network.dropout == min(changed.network.dropout for changed in trained)
    assert found.score == 1 - best.network.dropout
    elsewhere = msgspec.structs.replace(config, root="/mnt/data", out="there")
    assert tune_network(elsewhere, 4, f"sqlite:///{tmp_path}/study.db", "s")[0] == found
    other = msgspec.structs.replace(config, seed=1)
    with pytest.raises(TrainingError, match=r"study 's' .*toy-voice"):
        tune_network(other, 4, f"sqlite:///{tmp_path}/study.db", "s")


def test_score_is_that_of_the_best_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training it gives the score that the search has reported."""
    rng = np.random.default_rng(2)
    targets = np.arange(16) % 2
    mels = [[rng.normal(target, 1, (64, 120)).astype(np.float16)] for target in targets]
    clips = [rng.normal(0, 0.1 ** (1 + i % 2), 20_000).astype(np.float32) for i in range(10)]
    held_out = HeldOutSpeech(clips, np.arange(10) % 2)
    data = VoiceData(Speech(mels, np.eye(8, dtype=np.float32)[targets], []), held_out)
    monkeypatch.setattr(tune, "prepare_data", lambda config: data)
    config = load_config("toy-voice", None, ["num_epochs=1", "root=r", f"out={tmp_path / 'out'}"])
    found, best = tune_network(config, 2, f"sqlite:///{tmp_path}/study.db", "s")
    assert train_network(best, data).score == found.score


def test_not_under_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused: its processes would wait for each other in different trials."""
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match="torchrun"):
        tune_network(load_config("toy-face"), 1, "sqlite://", "s")
