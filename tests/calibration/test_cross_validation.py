"""The fold networks at INT8, on speakers that neither training nor calibration has used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from emotion_edge.calibration import cross_validation
from emotion_edge.calibration.cross_validation import ALL, compare_folds
from emotion_edge.calibration.errors import CalibrationError
from emotion_edge.calibration.options import CalibrationOptions
from emotion_edge.calibration.recipe import calibrate
from emotion_edge.calibration.samples import Samples
from emotion_edge.engines.bundles.manifest import Bundle, Manifest
from emotion_edge.training.data.ravdess import (
    EMOTION_GROUPS,
    EMOTIONS8,
    TEST_FOLDS,
    split_actors,
)
from emotion_edge.training.stored_network import (
    NetworkDescription,
    build_network,
    save_network,
)

NETWORK = {"num_members": 1, "channels": (4, 4, 8), "lstm_size": 8}
ACTORS = sorted(actor for fold in TEST_FOLDS for actor in fold)
OPTIONS = CalibrationOptions("minmax", 0.0)


@pytest.fixture
def manifest(shared_bundle: Bundle) -> Manifest:
    return shared_bundle.manifest


@pytest.fixture
def work(manifest: Manifest, tmp_path: Path) -> Path:
    """The output of `emotion-train all` for two folds, the first with two seeds."""
    rows = []
    for fold, seed in ((0, 0), (0, 1), (2, 0)):
        torch.manual_seed(10 * fold + seed)
        description = NetworkDescription(
            "voice", tuple(manifest.labels), EMOTIONS8, EMOTION_GROUPS, NETWORK, mel=manifest.mel
        )
        name = f"voice-{fold}{seed}/voice.pt"
        save_network(tmp_path / name, build_network(description), description)
        row = {"fold": fold, "seed": seed, "weights": name, "temperature": 1.3 + seed}
        rows.append(row)
    (tmp_path / "folds.json").write_text(json.dumps({"voice": rows}))
    return tmp_path


@pytest.fixture
def samples(make_samples: Callable[..., Samples]) -> Samples:
    """Two of each actor, eight noises and four silences."""
    drawn = make_samples("voice", 2 * len(ACTORS) + 12)
    ids = [f"ravdess/{actor:02}/{i}" for actor in ACTORS for i in range(2)]
    ids += [f"noise/{i}" for i in range(8)] + [f"silence/{i}" for i in range(4)]
    return Samples(tuple(ids), drawn.inputs)


def test_rows(
    work: Path,
    samples: Samples,
    manifest: Manifest,
    ravdess_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two rows for each fold, of its first seed, and two for all folds together.

    Calibrated on the fold's training speakers and the noises only, evaluated on all validation
    speakers.
    """
    speakers: dict[str, set[int]] = {}
    real = calibrate

    def record(data: bytes, name: str, given: Samples, *rest: Any) -> Any:
        spoken = [id_ for id_ in given.ids if id_.startswith("ravdess/")]
        speakers[name] = {int(id_.split("/")[1]) for id_ in spoken}
        assert len(given.ids) == len(spoken) + 12
        assert rest[0] == 1.3
        return real(data, name, given, *rest)

    monkeypatch.setattr(cross_validation, "calibrate", record)
    rows = compare_folds(ravdess_root, work, samples, manifest, OPTIONS)
    names = ["voice-fold0", "voice-fold2"]
    assert speakers == {name: set(split_actors(int(name[10]))[0]) for name in names}
    assert [(row.network, row.precision) for row in rows] == [
        (name, precision) for name in (*names, ALL) for precision in ("fp32", "int8")
    ]
    assert [row.n for row in rows] == [16] * 4 + [32] * 2
    assert [row.agreement for row in rows[::2]] == [1.0] * 3
    assert all(row.agreement > 0.6 for row in rows)
    assert all(row.bytes > 0 for row in rows)
    both = [np.mean([rows[i].accuracy, rows[i + 2].accuracy]) for i in (0, 1)]
    assert [row.accuracy for row in rows[4:]] == pytest.approx(both, abs=1e-6)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"voice": []}', '{"voice": [{"fold": 0, "seed": 0}]}', None]
)
def test_no_fold(
    samples: Samples, manifest: Manifest, ravdess_root: Path, tmp_path: Path, text: str | None
) -> None:
    """The file that must list them is named."""
    if text is not None:
        (tmp_path / "folds.json").write_text(text)
    with pytest.raises(CalibrationError, match=r"folds\.json"):
        compare_folds(ravdess_root, tmp_path, samples, manifest, OPTIONS)


def test_samples_without_training_speakers(
    work: Path, samples: Samples, manifest: Manifest, ravdess_root: Path
) -> None:
    """A fold cannot be calibrated on samples of its validation speakers only."""
    others = samples.select([f"ravdess/{actor:02}/" for actor in split_actors(0)[1]])
    with pytest.raises(CalibrationError, match=r"^voice-fold0: 0 voice"):
        compare_folds(ravdess_root, work, others, manifest, OPTIONS)
