"""Scenes of speech and sounds."""

from __future__ import annotations

import numpy as np
import pytest

from emotion_edge.kernels.spec import MelSpec
from emotion_edge.training.augment import SceneMaterial, SceneSettings, make_scenes
from emotion_edge.training.augment.speech_scenes import make_scene
from emotion_edge.training.data import SpeechClip

from ..speech_files import make_recording

RATE_HZ = 16_000


@pytest.fixture
def material() -> SceneMaterial:
    """A tone of a second between 0.3 s of silence, and noise."""
    audio = make_recording(0.3, 1.0, 0.3)
    marks = np.zeros(160, bool)
    marks[30:130] = True
    noise = np.random.default_rng(0).standard_normal(RATE_HZ).astype(np.float32)
    return SceneMaterial([[SpeechClip(audio, marks)]], [[noise]])


CLEAN = SceneSettings(
    seconds=4.0,
    without_speech=0.0,
    clean=1.0,
    peak_db=(-6.0, -6.0),
    reverberant=0.0,
    band_limited=0.0,
)


def test_marks_are_where_the_speech_is(material: SceneMaterial) -> None:
    """In clean scenes, the marked hops are loud and the others are not."""
    spoken = 0
    for seed in range(12):
        audio, marks = make_scene(material, CLEAN, RATE_HZ, np.random.default_rng(seed))
        power = np.square(audio.reshape(-1, 160)).mean(axis=1)
        loud = power > 0.1 * power.max()
        spoken += int(marks.sum())
        assert (loud == marks).mean() > 0.95
    assert spoken > 12 * 50


def test_scene_without_speech_has_no_marks(material: SceneMaterial) -> None:
    settings = SceneSettings(seconds=2.0, without_speech=1.0)
    for seed in range(5):
        audio, marks = make_scene(material, settings, RATE_HZ, np.random.default_rng(seed))
        assert not marks.any()
        assert audio.any()


@pytest.mark.parametrize("seed", range(20))
def test_any_scene_is_finite_and_in_range(material: SceneMaterial, seed: int) -> None:
    """With all filters, rooms and levels, also without recorded sounds."""
    for sounds in (material.sounds, []):
        scene = SceneMaterial(material.speech, sounds)
        settings = SceneSettings(seconds=1.5, reverberant=0.7, band_limited=0.7)
        audio, marks = make_scene(scene, settings, RATE_HZ, np.random.default_rng(seed))
        assert audio.shape == (24_000,)
        assert marks.shape == (150,)
        assert np.abs(audio).max() <= 1.0
        assert np.isfinite(audio).all()


def test_columns_depend_on_the_seed_alone(material: SceneMaterial) -> None:
    first, second = (make_scenes(material, 2, MelSpec(), 1, SceneSettings(1.5)) for _ in range(2))
    assert first[0].shape == (2, 64, 148)
    assert first[1].shape == (2, 148)
    assert np.array_equal(first[0], second[0])
    assert np.array_equal(first[1], second[1])
    assert not np.array_equal(first[0][0], first[0][1])
