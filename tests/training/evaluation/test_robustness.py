"""Conditions: what they spoil, and what they leave alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_edge.engines.bundles.manifest import Bundle
from emotion_edge.training.augment.corruptions import make_noise
from emotion_edge.training.evaluation.material import ExampleMedia, Face
from emotion_edge.training.evaluation.networks import Networks
from emotion_edge.training.evaluation.robustness import (
    CLEAN,
    evaluate_noise,
    list_conditions,
)
from emotion_edge.training.evaluation.surroundings import (
    AcousticConditions,
    load_acoustic_conditions,
)

RATE_HZ = 16_000
SIGHT = {"low light": 3, "blur": 3, "JPEG": 3, "occlusion": 3}
AUDIO = {"white noise": 6, "pink noise": 6, "reverberation": 3}
MISSING = {"face missing": 1, "voice missing": 1}


@pytest.fixture
def made() -> AcousticConditions:
    return load_acoustic_conditions(None, None, RATE_HZ, seed=0)


@pytest.fixture
def material(voice: NDArray[np.float32]) -> ExampleMedia:
    """Two pictures with detail, and a voice."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (60, 60, 3), dtype=np.uint8) for _ in range(2)]
    return ExampleMedia(
        tuple(Face(t / 10, p, (6.0, 6.0, 48.0)) for t, p in enumerate(images)), voice
    )


@pytest.mark.parametrize(
    ("modality", "expected"),
    [("face", SIGHT), ("voice", AUDIO), ("fusion", {**AUDIO, **SIGHT, **MISSING})],
)
def test_conditions_of_each_modality(
    modality: str, expected: dict[str, int], made: AcousticConditions
) -> None:
    found = list_conditions(modality, made, RATE_HZ)
    assert Counter(condition.name for condition in found) == expected
    assert [c.strength for c in found if c.name == "white noise"] == (
        [] if modality == "face" else [20, 15, 10, 5, 0, -5]
    )


def test_each_corruption_changes_its_modality_only(
    material: ExampleMedia, made: AcousticConditions
) -> None:
    """Pictures or sound, never both, and nothing in place; more at more strength."""
    assert material.audio is not None
    audio, images = material.audio.copy(), [face.image.copy() for face in material.faces]
    harm: dict[str, list[float]] = {}
    for condition in list_conditions("fusion", made, RATE_HZ):
        spoilt = condition.corrupt(material, np.random.default_rng(1))
        if condition.name in SIGHT:
            assert spoilt.audio is material.audio
            pairs = zip(spoilt.faces, images, strict=True)
            error = [np.abs(face.image.astype(int) - whole).mean() for face, whole in pairs]
            harm.setdefault(condition.name, []).append(float(np.mean(error)))
        elif condition.name in AUDIO:
            assert spoilt.faces is material.faces
            assert spoilt.audio is not None
            error = [1 - np.corrcoef(spoilt.audio, audio)[0, 1]]
            harm.setdefault(condition.name, []).append(error[0])
        else:
            assert (spoilt.faces == (), spoilt.audio is None) == (
                condition.name == "face missing",
                condition.name == "voice missing",
            )
    for name, errors in harm.items():
        assert min(errors) > 0
        if name != "reverberation":  # which may hit a tone harder in a smaller room
            assert errors == sorted(errors)
    np.testing.assert_array_equal(material.audio, audio)
    for face, image in zip(material.faces, images, strict=True):
        np.testing.assert_array_equal(face.image, image)


def test_clean_changes_nothing(material: ExampleMedia) -> None:
    assert CLEAN.corrupt(material, np.random.default_rng(0)) is material


def test_chance_is_the_generators(material: ExampleMedia, made: AcousticConditions) -> None:
    """The same generator state, the same result; one place of the face is covered in all
    pictures."""
    occlusion = list_conditions("face", made, RATE_HZ)[-1]
    first, again, other = (
        occlusion.corrupt(material, np.random.default_rng(seed)).faces for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(first[0].image, again[0].image)
    assert (first[0].image != other[0].image).any()
    covered = [(face.image == 128).all(axis=2) for face in first]
    assert (covered[0] == covered[1]).mean() > 0.99


def test_noise_alone(
    write_bundle: Callable[..., Bundle], open_null: Callable[[Bundle, str], Networks]
) -> None:
    """Mean confidence and entropy, and how often the bundle would not answer."""
    bundle = write_bundle()
    noise = make_noise("white", 4 * RATE_HZ, np.random.default_rng(0)) * np.float32(0.03)
    short = np.ones(100, np.float32)
    networks = open_null(bundle, "voice")
    (row,) = evaluate_noise(
        networks, AcousticConditions({"hum": [noise, noise], "click": [short]}, {})
    )
    assert row["noise"] == "hum"
    assert row["n"] == 8, "windows of both"
    assert 1 / 7 < row["max_probability"] < 1
    assert 0 < row["entropy_nats"] <= np.log(7)
    assert row["abstained"] == (row["max_probability"] < bundle.manifest.abstain_below)
