"""Examples of a recipe's corpus as the device would capture them: a face edge to edge, a recording.

In: examples for training or scoring. Out: `ExampleSet`, which `evaluate_examples` scores.
"""

from __future__ import annotations

from functools import partial

from ..data import FaceExamples, VoiceExamples
from .material import Example, ExampleMedia, whole_face
from .selection import ExampleSet

PROTOCOLS = {
    "face": "faces, edge to edge, each by itself",
    "voice": "windows four times a second, averaged over each recording",
}


def list_face_examples(faces: FaceExamples, split: str) -> ExampleSet:
    """Return the faces of a split that have a label."""
    chosen = [i for i, label in enumerate(faces.labels) if faces.splits[i] == split and label >= 0]
    examples = [
        Example(
            f"face {i}",
            int(faces.labels[i]),
            _subject(faces.people[i]),
            partial(_load_face, faces, i),
            person=faces.people[i],
        )
        for i in chosen
    ]
    return _make_set(examples, "face", split, faces.splits.count(split) - len(chosen))


def list_voice_examples(voices: VoiceExamples, split: str) -> ExampleSet:
    """Return the recordings of a split."""
    examples = [
        Example(
            f"voice {i}",
            int(voices.labels[i]),
            _subject(voices.people[i]),
            partial(_load_voice, voices, i),
            person=voices.people[i],
        )
        for i, each in enumerate(voices.splits)
        if each == split
    ]
    return _make_set(examples, "voice", split, 0)


def _load_face(faces: FaceExamples, index: int) -> ExampleMedia:
    return ExampleMedia(faces=(whole_face(0.0, faces.images[index]),))


def _load_voice(voices: VoiceExamples, index: int) -> ExampleMedia:
    return ExampleMedia(audio=voices.audio_clips[index])


def _subject(person: str) -> str:
    return person.partition(":")[2]


def _make_set(examples: list[Example], modality: str, split: str, skipped: int) -> ExampleSet:
    people = {example.person for example in examples if example.person}
    who = f"{len(people)} people" if people else "people without names"
    protocol = f"{split} split of the recipe's data, {who}: {PROTOCOLS[modality]}"
    return ExampleSet(examples, modality, {"split": split}, protocol, skipped)
