"""Decodes a whole data set into the cache, and says what is in it.

In: the root of a data set. Out: one `Part` per kind of file in it. Started again after a stop, it
goes on where it was, as all that was decoded is in the cache.
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
from .action_units import load_action_units
from .cache import FeatureCache
from .crops import image_recipe, video_recipe
from .decode import Recipe, Source, Tally, clip_sources, decode_each, folder_sources
from .ferplus import load_ferplus
from .ferplus_files import SPLITS, has_split
from .folder import MANIFEST, drop_copies, read_manifest
from .ravdess import Clip, find_video_clips, find_voice_clips
from .voices import audio_recipe

ACTION_UNIT_TABLE = "openface_au_mean.csv"


@dataclass(frozen=True, slots=True)
class Part:
    """What one kind of file of a data set came to."""

    name: str
    num_files: int
    num_cached: int
    """How many of them had been decoded before."""
    num_usable: int
    num_skipped: int
    num_duplicates: int
    labels: dict[str, int]
    """Usable ones of each of the product's seven labels; 0 where there is none."""
    notes: list[str] = field(default_factory=list)
    """A line for each file that was skipped or left out, with the reason."""


def prepare_ravdess(
    root: Path, actors: Sequence[int] | None, cache: FeatureCache
) -> Iterable[Part]:
    """Sound and face crops of all clips under `root`. Raises DatasetError when there is none."""
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder")
    recordings = _find(find_voice_clips, root, actors)
    videos = _find(find_video_clips, root, actors)
    if not recordings and not videos:
        whom = "all" if actors is None else sorted(actors)
        raise DatasetError(
            f"{root}: no RAVDESS speech (03-01-....wav or .flac, 01-01-....mp4 or 02-01-....mp4)"
            f" of actors {whom}"
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
    except DatasetError:  # none of this kind: the other may be there
        return []


def prepare_folder(root: Path, split: str | None, cache: FeatureCache) -> Iterable[Part]:
    """All that the manifest of `root` names. Raises DatasetError."""
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
        recipe.kind,
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
    """One split, or all that are there. Raises DatasetError."""
    there = [split] if split else [other for other in SPLITS if has_split(root, other)]
    # From the last to the first, as each needs the later ones. With none, the error says what is
    # missing.
    for name in reversed(there or SPLITS[:1]):
        built = cache.built
        faces = load_ferplus(root, name, cache)
        num_usable = len(faces.labels)
        decided = faces.labels[faces.labels >= 0]
        voteless = faces.skipped - len(faces.unreadable)
        yield Part(
            name,
            num_usable + faces.skipped + faces.duplicates,
            num_usable if cache.built == built else 0,
            num_usable,
            faces.skipped,
            faces.duplicates,
            _count_labels(decided),
            [
                f"{num_usable - len(decided)} usable faces without a majority",
                f"{voteless} faces skipped that hardly anybody gave one of the seven labels",
                *(f"{root} {name}: {face}: cannot be read" for face in faces.unreadable),
            ],
        )


def prepare_action_units(root: Path) -> Iterable[Part]:
    """Checks the table, a file or `openface_au_mean.csv` in a folder; it needs no cache. Raises
    DatasetError."""
    units = load_action_units(root / ACTION_UNIT_TABLE if root.is_dir() else root)
    num = len(units.recording_ids)
    yield Part("action units", num, 0, num, 0, 0, _count_labels(units.labels))
