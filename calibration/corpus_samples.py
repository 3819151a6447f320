"""The calibration samples of any data: labelled faces and voices in, network input out.

Only the training split is used. The choice and all randomness depend on the ids of the examples,
not on the order in which the data lists them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..training.data import FaceExamples, VoiceExamples
from .errors import CalibrationError
from .render import Audio, InputSpecs, render_faces, render_voices
from .sample_lists import (
    BLANKS,
    FACE_CONDITIONS,
    NUM_NOISES,
    NUM_SILENCES,
    VOICE_CONDITIONS,
    SampleEntry,
    interleave,
    shuffle,
)
from .samples import MIN_SAMPLES, Samples

NUM_FACES = 770
NUM_VOICES = 640
"""As many as the lists of the bundle that ships have."""
TRAIN = "train"


def make_samples(
    faces: FaceExamples | None,
    voices: VoiceExamples | None,
    noises: Sequence[Audio],
    specs: InputSpecs,
    seed: int = 0,
) -> dict[str, Samples]:
    """Return the samples of each network that has examples.

    `noises` are the noise recordings of the training split. Raises CalibrationError when a
    modality has too few training examples.
    """
    samples = {}
    if faces is not None:
        samples["face"] = make_face_samples(faces, specs, seed)
    if voices is not None:
        samples["voice"] = make_voice_samples(voices, noises, specs, seed)
    return samples


def make_face_samples(faces: FaceExamples, specs: InputSpecs, seed: int = 0) -> Samples:
    """Render faces of each label, and blanks."""
    chosen = [
        i
        for i, (label, split) in enumerate(zip(faces.labels, faces.splits, strict=True))
        if split == TRAIN and label >= 0
    ]
    people = [faces.people[i] for i in chosen]
    ids = [_name_example(faces.images[i], faces.people[i], "face") for i in chosen]
    _check_count(ids, "face")
    entries = select_examples(ids, faces.labels[chosen], people, FACE_CONDITIONS, NUM_FACES, seed)
    blanks = [SampleEntry(f"blank/{name}", "plain") for name in BLANKS]
    images = {name: faces.images[i] for name, i in zip(ids, chosen, strict=True)}
    return render_faces([*entries, *blanks], images, specs)


def make_voice_samples(
    voices: VoiceExamples, noises: Sequence[Audio], specs: InputSpecs, seed: int = 0
) -> Samples:
    """Render recordings of each label, and a share of noise without speech and silence."""
    chosen = [i for i, split in enumerate(voices.splits) if split == TRAIN]
    people = [voices.people[i] for i in chosen]
    ids = [_name_example(voices.audio_clips[i], voices.people[i], "voice") for i in chosen]
    _check_count(ids, "voice")
    labels = voices.fine_labels[chosen]
    entries = select_examples(ids, labels, people, VOICE_CONDITIONS, NUM_VOICES, seed)
    for kind, most in (("noise", NUM_NOISES), ("silence", NUM_SILENCES)):
        num = -(-len(entries) * most // NUM_VOICES)
        entries += [SampleEntry(f"{kind}/{n}", "plain") for n in range(min(num, most))]
    clips = {name: voices.audio_clips[i] for name, i in zip(ids, chosen, strict=True)}
    return render_voices(entries, clips, noises, specs)


def select_examples(
    ids: Sequence[str],
    labels: NDArray[np.int64],
    people: Sequence[str],
    conditions: Sequence[str],
    num: int,
    seed: int,
) -> list[SampleEntry]:
    """Select up to `num` examples: equally many of each label, and of each label equally many of
    each person. Each condition is equally frequent within a label. Of a rare label all are used.
    """
    label_of = dict(zip(ids, labels.tolist(), strict=True))
    person_of = dict(zip(ids, people, strict=True))
    order = sorted(label_of, key=lambda name: _hash(f"{seed} {name}".encode()))
    known = sorted(set(label_of.values()))
    entries: list[SampleEntry] = []
    for label in known:
        by_person: dict[str, list[int]] = {}
        for place, name in enumerate(order):
            if label_of[name] == label:
                by_person.setdefault(person_of[name], []).append(place)
        spread = [place for row in interleave(list(by_person.values())) for place in row]
        for place in spread[: max(1, num // len(known))]:
            condition = conditions[len(entries) % len(conditions)]
            entries.append(SampleEntry(order[place], condition, person_of[order[place]]))
    return shuffle(entries, np.random.default_rng(seed))


def _name_example(content: NDArray[np.generic], person: str, kind: str) -> str:
    return f"{person or kind}/{_hash(np.ascontiguousarray(content).tobytes())}"


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _check_count(ids: Sequence[str], network: str) -> None:
    num = len(set(ids))
    if num < MIN_SAMPLES:
        raise CalibrationError(
            f"{network}: {num} different training examples, calibration needs {MIN_SAMPLES}"
        )
