"""The training of the voice-activity network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from emotion_edge.kernels.spec import MelSpec
from emotion_edge.training.data import TEST_FOLDS
from emotion_edge.training.errors import DatasetError
from emotion_edge.training.models import NUM_COLUMNS
from emotion_edge.training.recipes import voice_activity_data
from emotion_edge.training.recipes.voice_activity import (
    Scenes,
    VoiceActivityRecipe,
    balanced_accuracy,
    draw_batch,
    make_target,
    train_voice_activity,
)
from emotion_edge.training.recipes.voice_activity_data import VoiceActivitySources, prepare_scenes

from ..speech_files import make_recording, write_recording, write_teacher

TINY = VoiceActivityRecipe(
    batch_size=8,
    num_epochs=6,
    num_scenes=24,
    num_validation=4,
    num_synthetic_clips=0,
    channels=(4, 4, 4),
    width=8,
)


def make_loud_scenes(num_scenes: int, seed: int) -> Scenes:
    """Scenes in which speech is a louder part."""
    rng = np.random.default_rng(seed)
    columns = rng.standard_normal((num_scenes, 64, 200))
    marks = np.zeros((num_scenes, 200), bool)
    for row, mark in zip(columns, marks, strict=True):
        start = int(rng.integers(40, 160))
        row[:, start : start + 60] += 4.0
        mark[start : start + 60] = True
    return Scenes(columns.astype(np.float16), marks)


def test_target_is_the_share_of_the_last_tenth_of_a_second() -> None:
    """Value k is about the columns up to 120 + 4 k."""
    marks = np.zeros((1, 140), bool)
    marks[0, NUM_COLUMNS + 3] = True
    assert make_target(marks)[0] == pytest.approx([0.0, 0.1, 0.1, 0.1, 0.0, 0.0])
    marks[0, : NUM_COLUMNS - 5] = True
    assert make_target(marks)[0] == pytest.approx([0.5, 0.2, 0.1, 0.1, 0.0, 0.0])


def test_learns(tmp_path: Path) -> None:
    """On other scenes than those of training."""
    validation = make_loud_scenes(8, 1)
    model = train_voice_activity(
        make_loud_scenes(48, 0), TINY, tmp_path / "network.ckpt", validation
    )
    assert balanced_accuracy(model, validation) > 0.85


def test_depends_on_the_seed_alone() -> None:
    scenes, short = make_loud_scenes(8, 0), replace(TINY, num_epochs=1)
    first, second = (list(train_voice_activity(scenes, short).parameters()) for _ in range(2))
    assert all(map(torch.equal, first, second))


def test_some_scenes_start_late() -> None:
    """As on the device, columns from before the start of the audio are 0."""
    columns = np.ones((200, 64, 200), np.float16)
    recipe = replace(TINY, late_start=0.5)
    (mel,), _ = draw_batch(
        columns, np.zeros((200, 21), np.float32), recipe, np.random.default_rng(0)
    )
    starts = (mel[:, 0] == 0).sum(dim=1)
    assert 0.3 < (starts > 0).float().mean() < 0.6
    assert starts.max() < NUM_COLUMNS


@pytest.fixture
def sources(tmp_path: Path) -> VoiceActivitySources:
    """Two recordings of each actor, sounds of ESC's folds, and a folder of speech."""
    for fold in TEST_FOLDS:
        for actor in fold:
            audio = make_recording(0.5, 0.5, 0.5, 200 + actor)
            for statement in (1, 2):
                name = f"03-01-03-01-{statement:02}-01-{actor:02}.wav"
                write_recording(tmp_path / "ravdess" / name, audio)
    rng = np.random.default_rng(0)
    for fold_number in range(1, 6):
        noise = rng.uniform(-0.1, 0.1, 16_000).astype(np.float32)
        write_recording(tmp_path / "noise" / "dog" / f"{fold_number}-100-A.wav", noise)
    write_recording(tmp_path / "speech" / "a.wav", make_recording(hertz=700))
    return VoiceActivitySources(
        write_teacher(tmp_path / "teacher.onnx"),
        tmp_path / "ravdess",
        tmp_path / "noise",
        (tmp_path / "speech",),
    )


def test_evaluation_s_people_and_sounds_stay_out(
    sources: VoiceActivitySources, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file of the held-out actors and folds is opened."""
    opened: list[Path] = []
    load = voice_activity_data.load_audio

    def note(files: list[Path], max_s: float) -> list[np.ndarray]:
        opened.extend(files)
        return load(files, max_s)

    monkeypatch.setattr(voice_activity_data, "load_audio", note)
    training, validation = voice_activity_data.load_material(sources, TINY, 16_000)
    actors = {int(path.stem[-2:]) for path in opened if path.parent.name == "ravdess"}
    assert actors == {actor for fold in TEST_FOLDS[1:] for actor in fold}
    assert {path.name[0] for path in opened if path.parent.name == "dog"} == {"1", "2", "3"}
    assert [len(group) for group in training.speech] == [27, 1]
    assert [len(group) for group in validation.speech] == [3, 1]


def test_scenes_are_made_once(
    sources: VoiceActivitySources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second start loads them."""
    work = tmp_path / "work"
    first = prepare_scenes(sources, TINY, MelSpec(), work)
    assert [len(scenes.columns) for scenes in first] == [24, 4]
    assert first[0].marks.any()
    monkeypatch.setattr(voice_activity_data, "load_material", None)
    second = prepare_scenes(sources, TINY, MelSpec(), work)
    for a, b in zip(first, second, strict=True):
        assert np.array_equal(a.columns, b.columns)
        assert np.array_equal(a.marks, b.marks)


def test_noise_without_training_folds_is_an_error(
    sources: VoiceActivitySources, tmp_path: Path
) -> None:
    for path in (tmp_path / "noise" / "dog").iterdir():
        path.rename(path.with_name(f"x{path.name}"))
    with pytest.raises(DatasetError, match="noise"):
        prepare_scenes(sources, TINY, MelSpec(), tmp_path / "work")
