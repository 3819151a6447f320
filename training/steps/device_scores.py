"""Scores of a bundle on the test people, by the code that the device runs.

In: a bundle and the material. Out: the figures of `evaluation.score_examples` for each modality and
size of the face.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from ...engines.bundles import FUSION, Bundle
from ..evaluation import Example, ExampleMedia, ExampleSet, score_examples, whole_face
from .material import Indices, Material, Parts

FACE_EVERY_S = 0.1
"""Time between two faces of a film without a known sound."""
PROTOCOLS = {
    "face": "faces edge to edge, averaged over each film",
    "voice": "windows four times a second, averaged over each recording",
    FUSION: "the faces of a film and its sound through the device's estimator, averaged over each"
    " film",
}
KEPT = (
    "accuracy",
    "accuracy_ci95",
    "uar",
    "macro_f1",
    "weighted_f1",
    "ece",
    "n",
    "confusion",
    "labels",
    "per_class",
    "subject_accuracy",
    "protocol",
)
"""Figures for the bundle's metrics; the report shows all."""


def score_bundle(
    bundle: Bundle, material: Material, faces: Parts | None, voices: Parts | None
) -> dict[str, dict[str, Any]]:
    """Score the bundle on the `test` parts. Return the figures by name: face_NNpx, voice, fusion,
    without what nobody can be tested on."""
    models = bundle.manifest.models
    sets = {
        name: each
        for name, each in (
            ("face", list_faces(material, faces.test) if faces else []),
            ("voice", list_voices(material, voices.test) if voices else []),
            (FUSION, list_films(material, faces.test, voices.test) if faces and voices else []),
        )
        if each and (name in models or (name == FUSION and len(models) > 1))
    }
    figures = {}
    for name, examples in sets.items():
        chosen = _describe(examples, name)
        if name != "face":
            figures[name] = _score(bundle, chosen)
            continue
        for level in {level.face_px: level for level in reversed(bundle.manifest.levels)}.values():
            figures[f"face_{level.face_px}px"] = _score(bundle, chosen, level.name)
    return dict(sorted(figures.items()))


def select_metrics(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return what goes into the bundle, rounded."""
    return {
        name: round(figures[name], 4) if isinstance(figures[name], float) else figures[name]
        for name in KEPT
        if figures[name] is not None
    }


def list_faces(material: Material, index: Indices) -> list[Example]:
    """Return an example for each picture and each film with a label."""
    faces = material.faces
    groups: dict[str, list[int]] = {}
    for i in index.tolist():
        if faces.labels[i] >= 0:
            groups.setdefault(faces.recordings[i] or f"picture {i}", []).append(i)
    return [
        Example(
            name,
            int(faces.labels[own[0]]),
            faces.people[own[0]],
            partial(_load_faces, material, own),
            person=faces.people[own[0]],
        )
        for name, own in groups.items()
    ]


def list_voices(material: Material, index: Indices) -> list[Example]:
    """Return an example for each recording."""
    voices = material.voices
    return [
        Example(
            voices.recordings[i],
            int(voices.labels[i]),
            voices.people[i],
            partial(ExampleMedia, audio=voices.audio_clips[i]),
            person=voices.people[i],
        )
        for i in index.tolist()
    ]


def list_films(material: Material, faces: Indices, voices: Indices) -> list[Example]:
    """Return an example for each recording with faces and a sound. Its faces are spread evenly over
    the sound."""
    known, heard = material.faces, material.voices
    frames: dict[str, list[int]] = {}
    for i in faces.tolist():
        frames.setdefault(known.recordings[i], []).append(i)
    return [
        Example(
            heard.recordings[i],
            int(heard.labels[i]),
            heard.people[i],
            partial(_load_film, material, frames[heard.recordings[i]], i),
            person=heard.people[i],
        )
        for i in voices.tolist()
        if heard.recordings[i] in frames
    ]


def _load_faces(material: Material, own: Iterable[int]) -> ExampleMedia:
    images = (material.faces.images[i] for i in own)
    faces = tuple(whole_face(n * FACE_EVERY_S, image) for n, image in enumerate(images))
    return ExampleMedia(faces=faces)


def _load_film(material: Material, own: list[int], voice: int) -> ExampleMedia:
    audio = material.voices.audio_clips[voice]
    seconds = len(audio) / material.recipe.mel.sample_rate_hz
    times_s = tuple((n + 1) * seconds / len(own) for n in range(len(own)))
    faces = tuple(
        whole_face(t_s, material.faces.images[i]) for t_s, i in zip(times_s, own, strict=True)
    )
    return ExampleMedia(faces, audio, 0.0, times_s)


def _describe(examples: list[Example], modality: str) -> ExampleSet:
    people = {example.subject for example in examples}
    who = f"{len(people)} people who are in no training"
    if len(people) == 1:
        who = "one person who is in no training, which shows only that it works"
    if "" in people:
        who = "faces of people whom nobody knows: not subject-independent"
    protocol = f"test split of the recipe's data, {who}; {PROTOCOLS[modality]}"
    return ExampleSet(examples, modality, {"split": "test"}, protocol)


def _score(bundle: Bundle, chosen: ExampleSet, level: str = "") -> dict[str, Any]:
    figures = score_examples(bundle, chosen, level, "onnx", precision="fp32")
    return {**figures, "dataset": "test people"}
