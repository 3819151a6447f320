"""The recordings of RAVDESS for a recipe: films give faces, speech recordings or films voices.

In: one or more roots, such as those of the archives with the films and with the sound. Out: a
`Listing`, in which a recording has the same name in both modalities.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path

from ..errors import DatasetError
from .folds import RAVDESS, split_of_actor
from .label_names import LabelNames
from .media_files import Listing, MediaFile
from .people import name_actor
from .ravdess import EMOTIONS8, Clip, find_video_clips, find_voice_clips


def list_ravdess(roots: Sequence[tuple[Path, LabelNames]], by_fold: bool) -> Listing:
    """List all recordings under the roots.

    A film with audio (01-) gives a face and, where there is no speech recording (03-) of it, a
    voice; a film without (02-) gives a face. With `by_fold` the people of all folds are trained
    on; otherwise those of the first fold are divided. Actors in no fold are for tests.

    Raises DatasetError for a root without recordings, and for an emotion without a label.
    """
    splits = split_of_actor(0)
    if by_fold:
        splits = dict.fromkeys(splits, "train")
    faces: dict[str, MediaFile] = {}
    voices: dict[str, MediaFile] = {}
    from_films: dict[str, MediaFile] = {}
    for root, names in roots:
        labels = _find_labels(root, names)
        recordings = _find(find_voice_clips, root)
        films = _find(find_video_clips, root)
        if not recordings and not films:
            raise DatasetError(
                f"{root}: no RAVDESS speech (03-01-....wav or .flac, 01-01-....mp4 or"
                " 02-01-....mp4)"
            )
        for clip in films:
            _add(faces, clip, labels, splits)
            heard = [path for path in (clip.path, *clip.copies) if path.stem.startswith("01")]
            if heard:
                sound = replace(clip, path=heard[0], copies=tuple(heard[1:]))
                _add(from_films, sound, labels, splits)
        for clip in recordings:
            _add(voices, clip, labels, splits)
    for recording, film in from_films.items():
        first = voices.setdefault(recording, film)
        if first is not film:
            copies = (*first.copies, film.path, *film.copies)
            voices[recording] = replace(first, copies=copies)
    listing = Listing(list(faces.values()), list(voices.values()))
    listing.notes = _describe_actors({file.person for file in listing.faces + listing.voices})
    return listing


def _find_labels(root: Path, names: LabelNames) -> dict[str, int]:
    """Return the index of the label of each emotion that is not left out."""
    found = {emotion: names.find(emotion) for emotion in EMOTIONS8}
    unknown = [emotion for emotion, label in found.items() if label is None]
    if unknown:
        raise DatasetError(
            f"{root}: RAVDESS has the labels {', '.join(unknown)}, allowed: {names.describe()};"
            " map others to a label, or to '' to leave them out"
        )
    return {emotion: names.labels.index(label) for emotion, label in found.items() if label}


def _find(find: Callable[[Path], list[Clip]], root: Path) -> list[Clip]:
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder")
    try:
        return find(root)
    except DatasetError:  # none of this kind; there may be some of the other
        return []


def _add(
    files: dict[str, MediaFile], clip: Clip, labels: dict[str, int], splits: dict[str, str]
) -> None:
    """Add a recording, or copies of it."""
    if clip.emotion not in labels:
        return
    person, recording = name_actor(clip.actor), RAVDESS + clip.recording_id
    file = MediaFile(
        clip.path,
        "sound" if clip.modality == "voice" else "video",
        labels[clip.emotion],
        clip.emotion,
        person,
        splits.get(person, "test"),
        recording,
        clip.copies,
    )
    first = files.setdefault(recording, file)
    if first is not file:
        files[recording] = replace(first, copies=(*first.copies, clip.path, *clip.copies))


def _describe_actors(found: Collection[str]) -> list[str]:
    """Say which actors are missing, and which are in no fold."""
    in_folds = split_of_actor(0)
    missing, outside = set(in_folds) - set(found), set(found) - set(in_folds)
    lines = []
    if missing:
        lines.append(f"no recording of {', '.join(sorted(missing))}")
    if outside:
        lines.append(f"tested, never trained on: {', '.join(sorted(outside))}")
    return lines
