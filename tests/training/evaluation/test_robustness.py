"""Corruptions: what they change, and what they do not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_edge.engines.bundles.manifest import Bundle
from emotion_edge.training.augment.corruptions import make_noise
from emotion_edge.training.evaluation.acoustics import (
    AcousticConditions,
    load_acoustic_conditions,
)
from emotion_edge.training.evaluation.material import ExampleMedia, Face
from emotion_edge.training.evaluation.networks import Networks
from emotion_edge.training.evaluation.robustness import (
    CLEAN,
    evaluate_noise,
    list_conditions,
)

RATE_HZ = 16_000
FACES = {"low light": 3, "blur": 3, "JPEG": 3, "occlusion": 3}
AUDIO = {"white noise": 6, "pink noise": 6, "reverberation": 3}
MISSING = {"face missing": 1, "voice missing": 1}


@pytest.fixture
def made() -> AcousticConditions:
    return load_acoustic_conditions(None, None, RATE_HZ, seed=0)


@pytest.fixture
def media(voice: NDArray[np.float32]) -> ExampleMedia:
    """Two images with detail, and a voice."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (60, 60, 3), dtype=np.uint8) for _ in range(2)]
    return ExampleMedia(
        tuple(Face(t / 10, p, (6.0, 6.0, 48.0, 0.0)) for t, p in enumerate(images)), voice
    )


@pytest.mark.parametrize(
    ("modality", "expected"),
    [("face", FACES), ("voice", AUDIO), ("fusion", {**AUDIO, **FACES, **MISSING})],
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
    media: ExampleMedia, made: AcousticConditions
) -> None:
    """Faces or audio, never both, never in place; more at more strength."""
    assert media.audio is not None
    audio, images = media.audio.copy(), [face.image.copy() for face in media.faces]
    errors_by_name: dict[str, list[float]] = {}
    for condition in list_conditions("fusion", made, RATE_HZ):
        corrupted = condition.corrupt(media, np.random.default_rng(1))
        if condition.name in FACES:
            assert corrupted.audio is media.audio
            pairs = zip(corrupted.faces, images, strict=True)
            error = [np.abs(face.image.astype(int) - whole).mean() for face, whole in pairs]
            errors_by_name.setdefault(condition.name, []).append(float(np.mean(error)))
        elif condition.name in AUDIO:
            assert corrupted.faces is media.faces
            assert corrupted.audio is not None
            error = [1 - np.corrcoef(corrupted.audio, audio)[0, 1]]
            errors_by_name.setdefault(condition.name, []).append(error[0])
        else:
            assert (corrupted.faces == (), corrupted.audio is None) == (
                condition.name == "face missing",
                condition.name == "voice missing",
            )
    for name, errors in errors_by_name.items():
        assert min(errors) > 0
        if name != "reverberation":  # which may hit a tone harder in a smaller room
            assert errors == sorted(errors)
    np.testing.assert_array_equal(media.audio, audio)
    for face, image in zip(media.faces, images, strict=True):
        np.testing.assert_array_equal(face.image, image)


def test_clean_changes_nothing(media: ExampleMedia) -> None:
    assert CLEAN.corrupt(media, np.random.default_rng(0)) is media


def test_corruptions_use_the_given_generator(media: ExampleMedia, made: AcousticConditions) -> None:
    """The same generator state gives the same result; one place of the face is covered in all
    frames."""
    occlusion = list_conditions("face", made, RATE_HZ)[-1]
    first, again, other = (
        occlusion.corrupt(media, np.random.default_rng(seed)).faces for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(first[0].image, again[0].image)
    assert (first[0].image != other[0].image).any()
    covered = [(face.image == 128).all(axis=2) for face in first]
    assert (covered[0] == covered[1]).mean() > 0.99


def test_noise_alone(
    write_bundle: Callable[..., Bundle], open_null: Callable[[Bundle, str], Networks]
) -> None:
    """Mean confidence and entropy, and how often the bundle would abstain."""
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
