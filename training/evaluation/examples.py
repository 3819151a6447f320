"""What there is to judge in a data set: faces, recordings and films, found by their names.

In: a selection and the bundle to be judged. Out: examples, each of which knows how to load itself,
so that one bad file is one example less.
"""

from __future__ import annotations

from collections import defaultdict
from functools import partial

import numpy as np

from ...engines.bundles import FUSION, LABELS, Bundle
from ...engines.face_detector import Detector, open_detector
from ..data import FaceSet, FolderItem, load_ferplus, load_folder
from ..errors import DatasetError
from .loading import load_audio, load_image, load_pair, load_video
from .material import Example, ExampleMedia, whole_face
from .ravdess_examples import find_recordings
from .selection import ExampleSet, Selection, choose_modality

MODALITIES_OF_KIND = {
    "picture": ("face",),
    "sound": ("voice",),
    "video": (FUSION, "voice", "face"),
}


def find_examples(selection: Selection, bundle: Bundle) -> ExampleSet:
    """Raises DatasetError when there is nothing that the bundle can judge, EngineError when the
    face detector cannot be opened, ValueError for an unknown data set."""
    if selection.dataset != "ravdess" and selection.actors is not None:
        raise DatasetError(f"--actors: only ravdess has them, not {selection.dataset}")
    if selection.dataset == "ferplus":
        return find_faces(selection, bundle)
    if selection.dataset == "ravdess":
        return find_recordings(selection, bundle)
    if selection.dataset == "folder":
        return find_files(selection, bundle)
    raise ValueError(f"data set {selection.dataset!r} is not one of ferplus, ravdess, folder")


def find_faces(selection: Selection, bundle: Bundle) -> ExampleSet:
    """FER+: the faces whose voters agreed; the picture is the face, edge to edge."""
    faces = load_ferplus(selection.root, selection.split)
    agreed = np.flatnonzero(faces.labels >= 0)
    if not len(agreed):
        raise DatasetError(f"{selection.root}: voters agreed on no face of {selection.split}")
    examples = [
        Example(f"face {i}", int(faces.labels[i]), "", partial(_take_face, faces, int(i)))
        for i in agreed
    ]
    return ExampleSet(
        examples,
        choose_modality(selection, bundle, {"face": examples}),
        {"split": selection.split},
        f"FER+ {selection.split}, faces on whose label most voters agreed (Barsoum et al. 2016)."
        " The data set does not say who is who: people of the training pictures may be among"
        " these, so this is no measure of strangers.",
        faces.skipped + len(faces.labels) - len(agreed),
    )


def _take_face(faces: FaceSet, index: int) -> ExampleMedia:
    return ExampleMedia(faces=(whole_face(0.0, faces.images[index]),))


def find_files(selection: Selection, bundle: Bundle) -> ExampleSet:
    """A folder with a manifest: pictures show a face, recordings a voice, films both."""
    items = load_folder(selection.root, selection.split)
    shown: dict[str, list[FolderItem]] = defaultdict(list)
    for item in items:
        for modality in MODALITIES_OF_KIND[item.kind]:
            shown[modality].append(item)
    modality = choose_modality(selection, bundle, shown)
    detector = None if modality == "voice" else open_detector(selection.yunet)
    examples = [
        Example(
            str(item.path),
            LABELS.index(item.label),
            item.subject,
            partial(_load_item, item, modality, detector, bundle),
        )
        for item in shown[modality]
    ]
    return ExampleSet(
        examples,
        modality,
        {"split": selection.split},
        f"{selection.split} split of a folder with a manifest. Nobody is in two of its splits.",
    )


def _load_item(
    item: FolderItem, modality: str, detector: Detector | None, bundle: Bundle
) -> ExampleMedia:
    if detector is None:
        return load_audio(item.path, bundle.manifest.mel.sample_rate_hz)
    if item.kind == "picture":
        return load_image(item.path, detector)
    if modality == "face":
        return load_video(item.path, detector)
    return load_pair(item.path, item.path, detector, bundle)
