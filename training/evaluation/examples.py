"""The examples of a data set: faces, recordings and videos, found by their names.

In: a selection and the bundle to score. Out: examples that load themselves one by one, so that a
bad file costs one example. Their labels are found by name; those of RAVDESS and FER+ that the
bundle lacks are left out and counted.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from functools import partial

import numpy as np

from ...engines.bundles import FUSION, Bundle
from ...engines.face_detector import Detector, open_detector
from ..data import (
    OPTIONAL_VOTES,
    VOTES,
    FaceSet,
    FolderItem,
    LabelNames,
    load_ferplus,
    load_folder,
    name_subject,
)
from ..errors import DatasetError
from .loading import load_audio, load_image, load_pair, load_video
from .material import Example, ExampleMedia, whole_face
from .ravdess_examples import find_recordings
from .selection import ExampleSet, Selection, choose_modality

log = logging.getLogger(__name__)

MODALITIES_OF_KIND = {
    "picture": ("face",),
    "sound": ("voice",),
    "video": (FUSION, "voice", "face"),
}


def find_examples(selection: Selection, bundle: Bundle) -> ExampleSet:
    """Return the examples of the selected data set.

    Raises DatasetError when there is none that the bundle has a network for, EngineError when the
    face detector cannot be opened, ValueError for an unknown data set.
    """
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
    """Return the faces of FER+ on whose label most voters agreed. The image is the face, edge to
    edge."""
    names = selection.names(bundle)
    without = [vote for vote in VOTES if names.find(vote) is None]
    names = LabelNames(names.labels, {**names.map, **dict.fromkeys(without, "")})
    faces = load_ferplus(selection.root, selection.split, names=names)
    agreed = np.flatnonzero(faces.labels >= 0)
    if set(without) - set(OPTIONAL_VOTES):
        log.warning(
            "%s: faces of %s are left out: the bundle's labels are %s",
            selection.root,
            ", ".join(without),
            ", ".join(names.labels),
        )
    if not len(agreed):
        raise DatasetError(f"{selection.root}: voters agreed on no face of {selection.split}")
    examples = [
        Example(f"face {i}", int(faces.labels[i]), "", partial(_load_face, faces, int(i)))
        for i in agreed
    ]
    return ExampleSet(
        examples,
        choose_modality(selection, bundle, {"face": examples}),
        {"split": selection.split},
        f"FER+ {selection.split}, faces on whose label most voters agreed (Barsoum et al. 2016)."
        " The data set has no identities: people of the training images may be among these, so this"
        " is not subject-independent.",
        faces.skipped + len(faces.labels) - len(agreed),
    )


def _load_face(faces: FaceSet, index: int) -> ExampleMedia:
    return ExampleMedia(faces=(whole_face(0.0, faces.images[index]),))


def find_files(selection: Selection, bundle: Bundle) -> ExampleSet:
    """Return the examples of a folder with a manifest: images have a face, recordings a voice,
    videos both."""
    names = selection.names(bundle)
    items = load_folder(selection.root, selection.split, names)
    by_modality: dict[str, list[FolderItem]] = defaultdict(list)
    for item in items:
        for modality in MODALITIES_OF_KIND[item.kind]:
            by_modality[modality].append(item)
    modality = choose_modality(selection, bundle, by_modality)
    detector = None if modality == "voice" else open_detector(selection.yunet, bundle)
    examples = [
        Example(
            str(item.path),
            names.labels.index(item.label),
            item.subject,
            partial(_load_item, item, modality, detector, bundle),
            person=name_subject(selection.root, item.subject),
        )
        for item in by_modality[modality]
    ]
    return ExampleSet(
        examples,
        modality,
        {"split": selection.split},
        f"{selection.split} split of a folder with a manifest. No person is in two of its splits.",
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
