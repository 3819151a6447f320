"""Sample lists: evenly spread, reproducible, and of training people only."""

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
    """150 + 100 i faces of label i, and 50 without a majority label."""
    labels = np.repeat([-1, *range(7)], [50, *(150 + 100 * i for i in range(7))])
    images = np.random.default_rng(0).integers(0, 256, (len(labels), 48, 48), dtype=np.uint8)
    votes = np.full((len(labels), 7), 1 / 7, np.float32)
    return FaceSet(images, votes, labels.astype(np.int64), 0)


@pytest.fixture(scope="module")
def voices() -> VoiceSet:
    """60 silent recordings of each actor as in RAVDESS: eight of each emotion, four neutral."""
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


def check_conditions(entries: list[SampleEntry], conditions: tuple[str, ...]) -> None:
    """Assert that all conditions are equally frequent, by their number in `conditions`."""
    counts = Counter(entry.condition for entry in entries)
    assert set(counts) == set(conditions)
    shares = [counts[name] / conditions.count(name) for name in counts]
    assert max(shares) - min(shares) <= 1


def test_faces_are_spread(faces: FaceSet) -> None:
    """Equally many faces of each label and condition, also within a label; all blanks; no face
    twice."""
    entries = select_faces(faces, 0)
    known = {name_face(image): int(faces.labels[i]) for i, image in enumerate(faces.images)}
    seen = [entry for entry in entries if not entry.id.startswith("blank/")]
    assert Counter(known[entry.id] for entry in seen) == dict.fromkeys(range(7), NUM_PER_LABEL)
    assert len({entry.id for entry in entries}) == len(entries) == len(seen) + len(BLANKS)
    assert entries[-len(BLANKS) :] == [SampleEntry(f"blank/{name}", "plain") for name in BLANKS]
    check_conditions(seen, FACE_CONDITIONS)
    for label in range(7):
        own = [entry for entry in seen if known[entry.id] == label]
        check_conditions(own, FACE_CONDITIONS)


def test_rare_label_gives_what_it_has(faces: FaceSet) -> None:
    """Of a label with too few faces, all are selected."""
    index = np.concatenate([np.flatnonzero(faces.labels == label)[:30] for label in range(3)])
    few = FaceSet(faces.images[index], faces.votes[index], faces.labels[index], 0)
    assert len(select_faces(few, 0)) == 90 + len(BLANKS)


def test_voices_are_spread(voices: VoiceSet) -> None:
    """Equally many recordings of each actor, emotion and condition, conditions also within each
    actor; noise and silence; no recording twice."""
    entries = select_voices(voices, 0)
    spoken = [entry for entry in entries if entry.id.startswith("ravdess/")]
    parts = [(int(entry.id.split("/")[1]), entry.id.split("-")[2], entry) for entry in spoken]
    assert Counter(actor for actor, _, _ in parts) == dict.fromkeys(ACTORS, NUM_PER_ACTOR)
    assert set(Counter(emotion for _, emotion, _ in parts).values()) == {len(spoken) // 8}
    assert len({entry.id for entry in entries}) == len(entries)
    rest = [entry.id for entry in entries if entry not in spoken]
    assert sum(name.startswith("noise/") for name in rest) == NUM_NOISES
    assert sum(name.startswith("silence/") for name in rest) == NUM_SILENCES
    check_conditions(spoken, VOICE_CONDITIONS)
    for actor in ACTORS:
        own = [entry for of_actor, _, entry in parts if of_actor == actor]
        check_conditions(own, VOICE_CONDITIONS)
    for code in (f"{emotion:02}" for emotion in range(1, 9)):
        conditions = {entry.condition for _, emotion, entry in parts if emotion == code}
        assert conditions == set(VOICE_CONDITIONS)


def test_the_first_few_are_as_spread(faces: FaceSet, voices: VoiceSet) -> None:
    """The first 256 samples have all labels, actors and conditions."""
    known = {name_face(image): int(faces.labels[i]) for i, image in enumerate(faces.images)}
    some = select_faces(faces, 0)[:256]
    assert min(Counter(known[entry.id] for entry in some).values()) > 256 / 7 / 2
    spoken = select_voices(voices, 0)[:256]
    assert {int(entry.id.split("/")[1]) for entry in spoken} == set(ACTORS)
    assert {entry.condition for entry in some} == set(FACE_CONDITIONS)
    assert {entry.condition for entry in spoken} == set(VOICE_CONDITIONS)


def test_same_seed_same_list(faces: FaceSet, voices: VoiceSet) -> None:
    """Another seed gives another list."""
    assert select_faces(faces, 5) == select_faces(faces, 5) != select_faces(faces, 6)
    assert select_voices(voices, 5) == select_voices(voices, 5) != select_voices(voices, 6)


def test_names() -> None:
    """A face's id comes from its pixels, a recording's from actor and file name."""
    image = np.arange(48 * 48, dtype=np.uint32).astype(np.uint8).reshape(48, 48)
    assert name_face(image) == name_face(image.copy())
    assert name_face(image) != name_face(image.T.copy())
    assert len(name_face(image)) == len("ferplus/") + 16
    assert name_voice(2, "03-01") == "ravdess/02/03-01"


def test_list_round_trip(tmp_path: Path) -> None:
    """Plain text, one line for each entry."""
    entries = [SampleEntry("ferplus/0", "plain"), SampleEntry("blank/black", "dark2")]
    write_list(tmp_path / "list.txt", entries)
    assert (tmp_path / "list.txt").read_bytes() == b"ferplus/0 plain\nblank/black dark2\n"
    assert read_list(tmp_path / "list.txt") == entries


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (b"", ""),
        (b"a plain\nb\n", "line 2: 'b'"),
        (b"a plain\n\n", "line 2: ''"),
        (b"a plain\nb dark2 3\n", "line 2: 'b dark2 3'"),
        (b"a  plain\n", "line 1: 'a  plain'"),
        (b" plain\n", "line 1: ' plain'"),
        (b"a \n", "line 1: 'a '"),
        (b"\xff\xfe", ""),
    ],
)
def test_malformed_list(tmp_path: Path, text: bytes, named: str) -> None:
    """The file and the line are named."""
    file = tmp_path / "list.txt"
    file.write_bytes(text)
    with pytest.raises(CalibrationError, match=rf"list\.txt.*{named}"):
        read_list(file)


def test_missing_list(tmp_path: Path) -> None:
    """A list is neither read from nor written to a missing folder."""
    with pytest.raises(CalibrationError, match=r"list\.txt"):
        read_list(tmp_path / "none" / "list.txt")
    with pytest.raises(CalibrationError, match=r"list\.txt"):
        write_list(tmp_path / "none" / "list.txt", [SampleEntry("a", "plain")])


def test_committed_faces() -> None:
    """512 to 1024 different faces of FER+ and all blanks, each condition equally often."""
    entries = read_list(LISTS / "face.txt")
    names = [entry.id for entry in entries]
    assert 512 <= len(names) <= 1024
    assert len(set(names)) == len(names)
    blanks = [name for name in names if not name.startswith("ferplus/")]
    assert sorted(blanks) == sorted(f"blank/{name}" for name in BLANKS)
    hashes = [name.removeprefix("ferplus/") for name in names if name.startswith("ferplus/")]
    assert all(len(digits) == 16 and int(digits, 16) >= 0 for digits in hashes)
    check_conditions([e for e in entries if e.id not in blanks], FACE_CONDITIONS)


def test_committed_voices() -> None:
    """512 to 1024 different samples: equally many of each actor of the folds and of no other, each
    condition equally often, noise and silence."""
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
    check_conditions(spoken, VOICE_CONDITIONS)
