"""Runs a decoder over the files of a data set: cached, one bad file at a time.

In: what to decode and who is in it. Out: arrays one by one, and a tally of what went wrong.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from tqdm import tqdm

from ...engines.bundles import LABELS
from ..errors import DatasetError
from .cache import FeatureCache
from .folder import FolderItem
from .ravdess import EMOTIONS8, Clip

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Source:
    """One file to decode."""

    path: Path
    name: str
    label: int
    """Index in the product's `LABELS`."""
    emotion: int
    """Index in `EMOTIONS8`; -1 for other data sets."""
    actor: int
    """Who is in it: the number of the RAVDESS actor, or one made of the subject's name."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a file becomes one array."""

    kind: str
    """What the arrays are, for the progress bar and the cache."""
    spec: Mapping[str, float | str]
    """All that the arrays depend on besides the file."""
    decode: Callable[[Path], NDArray[Any]]
    """Raises DatasetError for a file that cannot be used."""


@dataclass(slots=True)
class Tally:
    """What happened so far."""

    num_read: int = 0
    """Arrays that were given out."""
    problems: list[str] = field(default_factory=list)
    """A line per file that was skipped: its path and the reason."""
    duplicates: list[str] = field(default_factory=list)
    """A line per file that holds what another one with the same label holds."""


def clip_sources(clips: Sequence[Clip]) -> list[Source]:
    return [
        Source(
            clip.path,
            clip.path.stem,
            LABELS.index(clip.label),
            EMOTIONS8.index(clip.emotion),
            clip.actor,
        )
        for clip in clips
    ]


def folder_sources(items: Sequence[FolderItem], root: Path) -> list[Source]:
    return [
        Source(
            item.path,
            item.path.relative_to(root).as_posix(),
            LABELS.index(item.label),
            -1,
            hash_subject(item.subject),
        )
        for item in items
    ]


def hash_subject(subject: str) -> int:
    """The same 63-bit number for the same name in every split and run."""
    digest = hashlib.blake2b(subject.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def decode_each(
    sources: Sequence[Source], recipe: Recipe, cache: FeatureCache | None, tally: Tally
) -> Iterator[tuple[Source, NDArray[Any]]]:
    """Each source with its array; a file that cannot be decoded is noted in `tally` and left out,
    and so is the second of two files with equal arrays and labels."""
    seen: dict[tuple[int, int, bytes], Source] = {}
    for source in tqdm(sources, recipe.kind, leave=False, disable=None):
        try:
            array = _decode(source.path, recipe, cache)
        except DatasetError as error:
            tally.problems.append(str(error))
            continue
        digest = hashlib.blake2b(array.tobytes()).digest()
        first = seen.setdefault((source.label, source.emotion, digest), source)
        if first is not source:
            tally.duplicates.append(f"{source.path}: holds the same as {first.path}")
            continue
        tally.num_read += 1
        yield source, array


def decode_all(
    sources: Sequence[Source], recipe: Recipe, cache: FeatureCache | None, what: str
) -> tuple[list[tuple[Source, NDArray[Any]]], Tally]:
    """All of `decode_each`; what was left out is logged. Raises DatasetError, naming `what` was
    wanted, when nothing can be read."""
    tally = Tally()
    pairs = list(decode_each(sources, recipe, cache, tally))
    for line in tally.problems + tally.duplicates:
        log.warning("left out: %s", line)
    if not pairs:
        reason = f": {tally.problems[0]}" if tally.problems else ""
        raise DatasetError(f"none of {len(sources)} {what} can be read{reason}")
    return pairs, tally


def _decode(path: Path, recipe: Recipe, cache: FeatureCache | None) -> NDArray[Any]:
    if cache is None:
        return recipe.decode(path)
    arrays = cache.load(recipe.kind, [path], recipe.spec, lambda: {"a": recipe.decode(path)})
    return arrays["a"]
