"""Calibration samples of any data: training people only, evenly spread, the same every time."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from emotion_edge.calibration import corpus_samples
from emotion_edge.calibration.corpus_samples import make_samples
from emotion_edge.calibration.errors import CalibrationError
from emotion_edge.calibration.render import InputSpecs
from emotion_edge.calibration.sample_lists import BLANKS, FACE_CONDITIONS
from emotion_edge.kernels.spec import ImageSpec, MelSpec
from emotion_edge.training.data import FaceExamples, VoiceExamples

SPECS = InputSpecs(ImageSpec(), MelSpec(), 48)
PEOPLE = {"ann": "train", "bob": "train", "cid": "valid", "dan": "test"}


def draw_faces(num_per_person: int = 12, people: bool = True) -> FaceExamples:
    """Three labels; the first person has twice as many faces. The last face has no label."""
    rng = np.random.default_rng(0)
    owners = ["ann"] * num_per_person + [name for name in PEOPLE for _ in range(num_per_person)]
    num = len(owners)
    labels = np.arange(num) % 3
    labels[num_per_person - 1] = -1
    images = rng.integers(0, 256, (num, 60, 60), dtype=np.uint8)
    names = tuple(f"mine:{name}" if people else "" for name in owners)
    splits = tuple(PEOPLE[name] for name in owners)
    votes = np.full((num, 3), 1 / 3, np.float32)
    return FaceExamples(images, votes, labels, names, splits, ("",) * num)


def draw_voices(num_per_person: int = 12) -> VoiceExamples:
    """Two labels, three names for them, a second of noise each."""
    rng = np.random.default_rng(1)
    owners = [name for name in PEOPLE for _ in range(num_per_person)]
    clips = [rng.normal(0, 0.1, 16_000).astype(np.float32) for _ in owners]
    fine = np.arange(len(owners)) % 3
    people = tuple(f"mine:{name}" for name in owners)
    splits = tuple(PEOPLE[name] for name in owners)
    recordings = tuple(f"mine:{i}.wav" for i in range(len(owners)))
    groups = (0, 0, 1)
    labels = np.array(groups)[fine]
    return VoiceExamples(
        clips, labels, people, splits, recordings, fine, ("calm", "neutral", "sad"), groups
    )


def test_training_people_evenly() -> None:
    """Nobody of validation and test; every condition; blanks, noise and silence beside."""
    samples = make_samples(draw_faces(), draw_voices(), [], SPECS)
    for of_network in samples.values():
        assert len(of_network.people) == len(of_network.ids) == len(set(of_network.ids))
        assert set(of_network.people) == {"mine:ann", "mine:bob", ""}
        assert all(
            name.startswith(person)
            for name, person in zip(of_network.ids, of_network.people, strict=True)
        )
    face, voice = samples["face"], samples["voice"]
    assert face.inputs["image"].shape == (35 + len(BLANKS), 3, 48, 48)
    assert sum(name.startswith("blank/") for name in face.ids) == len(BLANKS)
    assert voice.inputs["mel"].shape == (24 + 2 + 1, 64, 300)


def test_labels_and_people_are_balanced(monkeypatch: pytest.MonkeyPatch) -> None:
    """With fewer samples than examples each label and each of its people has the same share."""
    monkeypatch.setattr(corpus_samples, "NUM_FACES", 18)
    faces = draw_faces()
    samples = make_samples(faces, None, [], SPECS)["face"]
    people = Counter(person for person in samples.people if person)
    assert people == {"mine:ann": 9, "mine:bob": 9}
    chosen = corpus_samples.select_examples(
        [f"{i}" for i in range(90)], np.arange(90) % 5 % 3, ["a", "b"] * 45, FACE_CONDITIONS, 48, 0
    )
    labels = Counter(int(entry.id) % 5 % 3 for entry in chosen)
    assert labels == dict.fromkeys(range(3), 16)
    assert Counter(entry.person for entry in chosen) == {"a": 24, "b": 24}
    conditions = Counter(entry.condition for entry in chosen)
    assert conditions == {name: 6 * FACE_CONDITIONS.count(name) for name in FACE_CONDITIONS}


def test_order_of_the_data_changes_nothing() -> None:
    """The same files in another order give the same bytes; another seed gives others."""
    faces, voices = draw_faces(people=False), draw_voices()
    reverse = np.arange(len(faces.labels))[::-1]
    turned = FaceExamples(
        faces.images[reverse],
        faces.votes[reverse],
        faces.labels[reverse],
        faces.people[::-1],
        faces.splits[::-1],
        faces.recordings[::-1],
    )
    first = make_samples(faces, voices, [], SPECS)
    again = make_samples(turned, voices, [], SPECS)
    assert {name: each.sha256 for name, each in first.items()} == {
        name: each.sha256 for name, each in again.items()
    }
    other = make_samples(faces, None, [], SPECS, seed=1)
    assert other["face"].sha256 != first["face"].sha256
    assert set(first["face"].people) == {""}


@pytest.mark.parametrize("network", ["face", "voice"])
def test_too_few_examples(network: str) -> None:
    """The network, and how many different training examples it has: a copy does not count."""
    faces, voices = draw_faces(5), draw_voices(7)
    faces = replace(faces, images=np.repeat(faces.images[:1], len(faces.labels), axis=0))
    given = (faces, None) if network == "face" else (None, voices)
    num = 2 if network == "face" else 14  # the copies are of two people
    with pytest.raises(CalibrationError, match=rf"{network}: {num} .* 16"):
        make_samples(*given, [], SPECS)
