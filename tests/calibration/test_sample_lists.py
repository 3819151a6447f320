"""Lists of samples: spread evenly, the same for the same seed, and of people that may be shown."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from emotion_edge.calibration.errors import CalibrationError
from emotion_edge.calibration.sample_lists import (
    BLANKS,
    FACE_CONDITIONS,
    LISTS,
    NUM_NOISES,
    NUM_PER_ACTOR,
    NUM_PER_LABEL,
    NUM_SILENCES,
    VOICE_CONDITIONS,
    SampleEntry,
    name_face,
    name_voice,
    read_list,
    select_faces,
    select_voices,
    write_list,
)
from emotion_edge.training.data.ferplus import FaceSet
from emotion_edge.training.data.ravdess import TEST_FOLDS
from emotion_edge.training.data.voices import VoiceSet

ACTORS = sorted(actor for fold in TEST_FOLDS for actor in fold)


@pytest.fixture(scope="module")
def faces() -> FaceSet:
    """Of label i 150 + 100 i faces, and 50 that nobody agreed on."""
    labels = np.repeat([-1, *range(7)], [50, *(150 + 100 * i for i in range(7))])
    images = np.random.default_rng(0).integers(0, 256, (len(labels), 48, 48), dtype=np.uint8)
    votes = np.full((len(labels), 7), 1 / 7, np.float32)
    return FaceSet(images, votes, labels.astype(np.int64), 0)


@pytest.fixture(scope="module")
def voices() -> VoiceSet:
    """Sixty recordings of each actor as in RAVDESS: eight of each emotion, four that are neutral,
    without a sound in them."""
    rows = [
        (actor, emotion, take)
        for actor in ACTORS
        for emotion in range(8)
        for take in range(4 if emotion == 0 else 8)
    ]
    actors, emotions, _ = np.array(rows).T
    names = [f"03-01-{emotion + 1:02}-{take}-{actor:02}" for actor, emotion, take in rows]
    silent = [np.zeros(1, np.float32)] * len(rows)
    return VoiceSet(silent, emotions, emotions, actors, names)


def count_conditions(entries: list[SampleEntry], conditions: tuple[str, ...]) -> dict[str, float]:
    """How often each is met, for once that it is named."""
    counts = Counter(entry.condition for entry in entries)
    assert set(counts) == set(conditions)
    return {name: counts[name] / conditions.count(name) for name in counts}


def test_faces_are_spread(faces: FaceSet) -> None:
    """As many of each label, none without; each condition equally often, in every label; each
    blank; nobody twice."""
    entries = select_faces(faces, 0)
    known = {name_face(image): int(faces.labels[i]) for i, image in enumerate(faces.images)}
    seen = [entry for entry in entries if not entry.id.startswith("blank/")]
    assert Counter(known[entry.id] for entry in seen) == dict.fromkeys(range(7), NUM_PER_LABEL)
    assert len({entry.id for entry in entries}) == len(entries) == len(seen) + len(BLANKS)
    assert entries[-len(BLANKS) :] == [SampleEntry(f"blank/{name}", "plain") for name in BLANKS]
    counts = count_conditions(seen, FACE_CONDITIONS)
    assert max(counts.values()) - min(counts.values()) <= 1
    for label in range(7):
        own = [entry for entry in seen if known[entry.id] == label]
        counts = count_conditions(own, FACE_CONDITIONS)
        assert max(counts.values()) - min(counts.values()) <= 1


def test_rare_label_gives_what_it_has(faces: FaceSet) -> None:
    """A label with fewer faces than wanted gives all of them."""
    index = np.concatenate([np.flatnonzero(faces.labels == label)[:30] for label in range(3)])
    few = FaceSet(faces.images[index], faces.votes[index], faces.labels[index], 0)
    assert len(select_faces(few, 0)) == 90 + len(BLANKS)


def test_voices_are_spread(voices: VoiceSet) -> None:
    """Of every actor as many, and of every emotion; each condition as often as any other, with
    every actor and with every emotion; noise and silence; no recording twice."""
    entries = select_voices(voices, 0)
    spoken = [entry for entry in entries if entry.id.startswith("ravdess/")]
    parts = [(int(entry.id.split("/")[1]), entry.id.split("-")[2], entry) for entry in spoken]
    assert Counter(actor for actor, _, _ in parts) == dict.fromkeys(ACTORS, NUM_PER_ACTOR)
    assert set(Counter(emotion for _, emotion, _ in parts).values()) == {len(spoken) // 8}
    assert len({entry.id for entry in entries}) == len(entries)
    rest = [entry.id for entry in entries if entry not in spoken]
    assert sum(name.startswith("noise/") for name in rest) == NUM_NOISES
    assert sum(name.startswith("silence/") for name in rest) == NUM_SILENCES
    counts = count_conditions(spoken, VOICE_CONDITIONS)
    assert max(counts.values()) - min(counts.values()) <= 1
    for actor in ACTORS:
        own = [entry for who, _, entry in parts if who == actor]
        counts = count_conditions(own, VOICE_CONDITIONS)
        assert max(counts.values()) - min(counts.values()) <= 1
    for code in (f"{emotion:02}" for emotion in range(1, 9)):
        count_conditions([entry for _, said, entry in parts if said == code], VOICE_CONDITIONS)


def test_the_first_few_are_as_spread(faces: FaceSet, voices: VoiceSet) -> None:
    """What is tried on the first 256 alone is tried on all labels, people and conditions."""
    known = {name_face(image): int(faces.labels[i]) for i, image in enumerate(faces.images)}
    some = select_faces(faces, 0)[:256]
    assert min(Counter(known[entry.id] for entry in some).values()) > 256 / 7 / 2
    spoken = select_voices(voices, 0)[:256]
    assert {int(entry.id.split("/")[1]) for entry in spoken} == set(ACTORS)
    assert {entry.condition for entry in some} == set(FACE_CONDITIONS)
    assert {entry.condition for entry in spoken} == set(VOICE_CONDITIONS)


def test_same_seed_same_list(faces: FaceSet, voices: VoiceSet) -> None:
    """And another seed another one."""
    assert select_faces(faces, 5) == select_faces(faces, 5) != select_faces(faces, 6)
    assert select_voices(voices, 5) == select_voices(voices, 5) != select_voices(voices, 6)


def test_names() -> None:
    """A face is called by its pixels, whatever file it came from; a voice by actor and file."""
    image = np.arange(48 * 48, dtype=np.uint32).astype(np.uint8).reshape(48, 48)
    assert name_face(image) == name_face(image.copy())
    assert name_face(image) != name_face(image.T.copy())
    assert len(name_face(image)) == len("ferplus/") + 16
    assert name_voice(2, "03-01") == "ravdess/02/03-01"


def test_list_round_trip(tmp_path: Path) -> None:
    """A line each, plain text."""
    entries = [SampleEntry("ferplus/0", "plain"), SampleEntry("blank/black", "dark2")]
    write_list(tmp_path / "list.txt", entries)
    assert (tmp_path / "list.txt").read_bytes() == b"ferplus/0 plain\nblank/black dark2\n"
    assert read_list(tmp_path / "list.txt") == entries


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "names no sample"),
        (b"a plain\nb\n", "line 2: 'b', wanted: ID CONDITION"),
        (b"a plain\n\n", "line 2: '', wanted: ID CONDITION"),
        (b"a plain\nb dark2 3\n", "line 2: 'b dark2 3', wanted"),
        (b"a  plain\n", "line 1: 'a  plain', wanted"),
        (b" plain\n", "line 1: ' plain', wanted"),
        (b"a \n", "line 1: 'a ', wanted"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_broken_list(tmp_path: Path, text: bytes, said: str) -> None:
    """The line is named by its number."""
    file = tmp_path / "list.txt"
    file.write_bytes(text)
    with pytest.raises(CalibrationError) as caught:
        read_list(file)
    assert str(caught.value).startswith(str(file))
    assert said in str(caught.value)


def test_list_that_is_not_there(tmp_path: Path) -> None:
    """Nor can one be written into a folder that is not there."""
    with pytest.raises(CalibrationError, match=r"none\.txt: cannot be read"):
        read_list(tmp_path / "none.txt")
    with pytest.raises(CalibrationError, match=r"list\.txt: cannot be written: No such file"):
        write_list(tmp_path / "none" / "list.txt", [SampleEntry("a", "plain")])


def test_committed_faces() -> None:
    """512 to 1024 samples, none twice: faces of FER+ and every blank, each condition equally."""
    entries = read_list(LISTS / "face.txt")
    names = [entry.id for entry in entries]
    assert 512 <= len(names) <= 1024
    assert len(set(names)) == len(names)
    blanks = [name for name in names if not name.startswith("ferplus/")]
    assert sorted(blanks) == sorted(f"blank/{name}" for name in BLANKS)
    hashes = [name.removeprefix("ferplus/") for name in names if name.startswith("ferplus/")]
    assert all(len(one) == 16 and int(one, 16) >= 0 for one in hashes)
    counts = count_conditions([e for e in entries if e.id not in blanks], FACE_CONDITIONS)
    assert max(counts.values()) - min(counts.values()) <= 1


def test_committed_voices() -> None:
    """512 to 1024 samples, none twice: as many of each actor of the folds and of nobody else,
    each condition equally, noise and silence."""
    entries = read_list(LISTS / "voice.txt")
    names = [entry.id for entry in entries]
    assert 512 <= len(names) <= 1024
    assert len(set(names)) == len(names)
    spoken = [entry for entry in entries if entry.id.startswith("ravdess/")]
    by_actor = Counter(int(entry.id.split("/")[1]) for entry in spoken)
    assert by_actor == dict.fromkeys(ACTORS, NUM_PER_ACTOR)
    assert 1 not in by_actor
    for entry in spoken:
        _, actor, file = entry.id.split("/")
        assert file.startswith("03-01-")
        assert file.endswith(f"-{actor}")
    rest = {name.split("/")[0]: 0 for name in names} | Counter(n.split("/")[0] for n in names)
    assert rest == {"ravdess": len(spoken), "noise": NUM_NOISES, "silence": NUM_SILENCES}
    counts = count_conditions(spoken, VOICE_CONDITIONS)
    assert max(counts.values()) - min(counts.values()) <= 1
