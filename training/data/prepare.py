"""Decodes a whole data set into the cache and counts what is in it.

In: the root of a data set. Out: one `Part` per kind of file. A repeated run decodes only what the
cache lacks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...engines.bundles import LABELS
from ...engines.face_detector import open_detector
from ...kernels.spec import MelSpec
from ..errors import DatasetError
from .action_units import find_unit_table, load_action_units
from .cache import FeatureCache
from .crops import image_recipe, video_recipe
from .decode import Recipe, Source, Tally, clip_sources, decode_each, folder_sources
from .ferplus import load_ferplus
from .ferplus_files import SPLITS, has_split
from .folder import MANIFEST, drop_copies, read_manifest
from .ravdess import Clip, find_video_clips, find_voice_clips
from .voices import audio_recipe


@dataclass(frozen=True, slots=True)
class Part:
    """Counts of one kind of file of a data set."""

    name: str
    num_files: int
    num_cached: int
    """Files that were in the cache."""
    num_usable: int
    num_skipped: int
    num_duplicates: int
    labels: dict[str, int]
    """Usable files of each of the product's seven labels."""
    notes: list[str] = field(default_factory=list)
    """A line for each skipped file, with the reason."""


def prepare_ravdess(
    root: Path, actors: Sequence[int] | None, cache: FeatureCache
) -> Iterable[Part]:
    """Decode audio and face crops of all clips under `root`. Raises DatasetError without a clip."""
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder")
    recordings = _find(find_voice_clips, root, actors)
    videos = _find(find_video_clips, root, actors)
    if not recordings and not videos:
        wanted = "all" if actors is None else sorted(actors)
        raise DatasetError(
            f"{root}: no RAVDESS speech (03-01-....wav or .flac, 01-01-....mp4 or 02-01-....mp4)"
            f" of actors {wanted}"
        )
    if recordings:
        yield _decode(clip_sources(recordings), audio_recipe(MelSpec()), cache)
    if videos:
        yield _decode(clip_sources(videos), video_recipe(open_detector()), cache)


def _find(
    find: Callable[[Path, Sequence[int] | None], list[Clip]],
    root: Path,
    actors: Sequence[int] | None,
) -> list[Clip]:
    try:
        return find(root, actors)
    except DatasetError:  # none of this kind; there may be some of the other
        return []


def prepare_folder(root: Path, split: str | None, cache: FeatureCache) -> Iterable[Part]:
    """Decode all files of the manifest of `root`. Raises DatasetError."""
    items, copies = drop_copies(read_manifest(root))
    items = [item for item in items if split in (None, item.split)]
    if not items:
        raise DatasetError(f"{root / MANIFEST}: no file in {split}")
    if copies:
        yield Part("copies", len(copies), 0, 0, 0, len(copies), {}, copies)
    detector = open_detector()
    for kind, recipe in (
        ("sound", audio_recipe(MelSpec())),
        ("video", video_recipe(detector)),
        ("picture", image_recipe(detector)),
    ):
        chosen = [item for item in items if item.kind == kind]
        if chosen:
            yield _decode(folder_sources(chosen, root), recipe, cache)


def _decode(sources: Sequence[Source], recipe: Recipe, cache: FeatureCache) -> Part:
    tally, hits = Tally(), cache.hits
    labels = [source.label for source, _ in decode_each(sources, recipe, cache, tally)]
    return Part(
        recipe.noun,
        len(sources),
        cache.hits - hits,
        len(labels),
        len(tally.problems),
        len(tally.duplicates),
        _count_labels(labels),
        tally.problems + tally.duplicates,
    )


def _count_labels(labels: Iterable[int]) -> dict[str, int]:
    counts = np.bincount(np.fromiter(labels, np.int64), minlength=len(LABELS))
    return {label: int(count) for label, count in zip(LABELS, counts, strict=True)}


def prepare_ferplus(root: Path, split: str | None, cache: FeatureCache) -> Iterable[Part]:
    """Decode one split, or all that are present. Raises DatasetError."""
    splits = [split] if split else [other for other in SPLITS if has_split(root, other)]
    # From the last to the first, because each needs the later ones. Without any, loading the first
    # raises the error that names the missing file.
    for name in reversed(splits or SPLITS[:1]):
        built = cache.built
        faces = load_ferplus(root, name, cache)
        num_usable = len(faces.labels)
        majority_labels = faces.labels[faces.labels >= 0]
        voteless = faces.skipped - len(faces.unreadable)
        yield Part(
            name,
            num_usable + faces.skipped + faces.duplicates,
            num_usable if cache.built == built else 0,
            num_usable,
            faces.skipped,
            faces.duplicates,
            _count_labels(majority_labels),
            [
                f"{num_usable - len(majority_labels)} usable faces without a majority",
                f"{voteless} faces skipped without votes for one of the seven labels",
                *(f"{root} {name}: {face}: cannot be read" for face in faces.unreadable),
            ],
        )


def prepare_action_units(root: Path) -> Iterable[Part]:
    """Check the table, a file or `openface_au_mean.csv` in a folder; it is not cached. Raises
    DatasetError."""
    units = load_action_units(find_unit_table(root))
    num = len(units.recording_ids)
    yield Part("action units", num, 0, num, 0, 0, _count_labels(units.labels))
