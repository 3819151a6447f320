"""The lists of the calibration set: data sets in, list entries out, read from and written to files.

There is a committed list for each network of the bundle that ships; `corpus_samples` chooses those
of other data. A face's id is a hash of its pixels, so both layouts of
FER+ give the same id. A recording's id is its file name.

| list | id | condition |
| --- | --- | --- |
| face.txt | ferplus/HASH, or blank/NAME | plain, or a corruption |
| voice.txt | ravdess/ACTOR/FILE, or noise/N, silence/N | plain, or a corruption |
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..training.data import FaceSet, VoiceSet
from .errors import CalibrationError
from .samples import name_person

LISTS = Path(__file__).parent / "lists"
FACE_CONDITIONS = ("plain", "dark2", "dark4", "blur2", "jpeg20", "covered25", "half", "plain")
VOICE_CONDITIONS = ("plain", "snr20", "snr10", "snr0", "room", "quiet", "short", "plain")
BLANKS = ("black", "grey", "white", "noise", "slope", "dark-noise")
NUM_PER_LABEL = 110
NUM_PER_ACTOR = 32
NUM_NOISES = 40
NUM_SILENCES = 8


@dataclass(frozen=True, slots=True)
class SampleEntry:
    """One line of a list."""

    id: str
    condition: str
    person: str = ""
    """Who the example shows, "" where nobody knows."""


def name_face(pixels: NDArray[np.uint8]) -> str:
    """Return the id of a FER+ face."""
    return f"ferplus/{hashlib.sha256(pixels.tobytes()).hexdigest()[:16]}"


def name_voice(actor: int, name: str) -> str:
    """Return the id of a RAVDESS recording."""
    return f"ravdess/{actor:02d}/{name}"


def index_faces(faces: FaceSet) -> dict[str, NDArray[np.uint8]]:
    """Return the images by id."""
    return {name_face(image): image for image in faces.images}


def index_voices(voices: VoiceSet) -> dict[str, NDArray[np.float32]]:
    """Return the recordings by id."""
    return {
        name_voice(int(actor), name): audio
        for actor, name, audio in zip(voices.actors, voices.names, voices.audio_clips, strict=True)
    }


def read_list(file: Path) -> list[SampleEntry]:
    """Read a list. Raises CalibrationError with the number of a malformed line."""
    try:
        lines = file.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CalibrationError(f"{file}: cannot be read: {error}") from error
    entries = []
    for number, line in enumerate(lines, 1):
        parts = line.split(" ")
        if len(parts) != 2 or not all(parts):
            raise CalibrationError(f"{file} line {number}: {line!r} must be: ID CONDITION")
        sample_id, condition = parts
        entries.append(SampleEntry(sample_id, condition, name_person(sample_id)))
    if not entries:
        raise CalibrationError(f"{file}: is empty")
    return entries


def write_list(file: Path, entries: Iterable[SampleEntry]) -> None:
    """Write a list. Raises CalibrationError."""
    lines = (f"{entry.id} {entry.condition}" for entry in entries)
    try:
        file.write_text("\n".join(lines) + "\n", encoding="ascii")
    except OSError as error:
        raise CalibrationError(f"{file}: cannot be written: {error.strerror}") from error


def select_faces(faces: FaceSet, seed: int) -> list[SampleEntry]:
    """Select equally many faces of each label, each condition equally often, then the blanks."""
    rng = np.random.default_rng(seed)
    indices = [
        index
        for label in range(faces.votes.shape[1])
        for index in rng.permutation(np.flatnonzero(faces.labels == label))[:NUM_PER_LABEL]
    ]
    names = [name_face(faces.images[index]) for index in indices]
    blanks = [SampleEntry(f"blank/{name}", "plain") for name in BLANKS]
    return [*shuffle(_assign_conditions(names, FACE_CONDITIONS), rng), *blanks]


def select_voices(voices: VoiceSet, seed: int) -> list[SampleEntry]:
    """Select equally many recordings of each actor, spread over the emotions.

    Each condition is equally frequent. Noise without speech and silence follow.
    """
    rng = np.random.default_rng(seed)
    names = []
    for actor in sorted(set(voices.actors.tolist())):
        own = rng.permutation(np.flatnonzero(voices.actors == actor))
        by_emotion = [own[voices.emotions[own] == e] for e in range(8)]
        spread = [i for row in interleave(by_emotion) for i in row][:NUM_PER_ACTOR]
        # Shuffled, so that no condition goes to one emotion only.
        names += [name_voice(actor, voices.names[i]) for i in rng.permutation(spread)]
    quiet = [SampleEntry(f"noise/{n}", "plain") for n in range(NUM_NOISES)]
    quiet += [SampleEntry(f"silence/{n}", "plain") for n in range(NUM_SILENCES)]
    return [*shuffle(_assign_conditions(names, VOICE_CONDITIONS), rng), *quiet]


def interleave(groups: Sequence[Sequence[int] | NDArray[np.intp]]) -> Iterator[list[int]]:
    """Yield the first element of each group, then the second of each, …"""
    for place in range(max(map(len, groups), default=0)):
        yield [int(group[place]) for group in groups if place < len(group)]


def _assign_conditions(names: Sequence[str], conditions: Sequence[str]) -> list[SampleEntry]:
    return [
        SampleEntry(name, conditions[i % len(conditions)], name_person(name))
        for i, name in enumerate(names)
    ]


def shuffle(entries: list[SampleEntry], rng: np.random.Generator) -> list[SampleEntry]:
    """Shuffle, so that any first part is spread over labels and conditions too."""
    return [entries[i] for i in rng.permutation(len(entries))]
