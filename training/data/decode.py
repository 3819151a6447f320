"""Runs a decoder over the files of a data set, with a cache, and skips files that fail.

In: the files with their labels, and a decoder. Out: arrays one by one, and a tally of the skipped
files.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

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
    """Number of the RAVDESS actor, or a hash of the subject's name."""
    copies: tuple[Path, ...] = ()
    """Files to decode where `path` cannot be."""

    @property
    def category(self) -> tuple[int, int]:
        """Label and emotion."""
        return self.label, self.emotion


class Decodable(Protocol):
    """What a decoder needs to know of a file."""

    @property
    def path(self) -> Path: ...
    @property
    def copies(self) -> tuple[Path, ...]: ...
    @property
    def category(self) -> Hashable:
        """Of two files with one content and category the second is skipped."""


S = TypeVar("S", bound=Decodable)


@dataclass(frozen=True, slots=True)
class Recipe:
    """Decoder of a file into one array."""

    kind: str
    """Kind of the arrays, as the cache names it."""
    noun: str
    """What messages and the progress bar call the files."""
    spec: Mapping[str, float | str]
    """Settings that the arrays depend on, besides the file."""
    decode: Callable[[Path], NDArray[Any]]
    """Raises DatasetError for a file that cannot be used."""


@dataclass(slots=True)
class Tally:
    """Counts and messages of a pass over a data set."""

    num_read: int = 0
    """Arrays that were yielded."""
    problems: list[str] = field(default_factory=list)
    """Path and reason of each file that failed, one line each."""
    duplicates: list[str] = field(default_factory=list)
    """A line for each file with the same array and label as an earlier one."""


def clip_sources(clips: Sequence[Clip]) -> list[Source]:
    """Sources of RAVDESS clips."""
    return [
        Source(
            clip.path,
            clip.path.stem,
            LABELS.index(clip.label),
            EMOTIONS8.index(clip.emotion),
            clip.actor,
            clip.copies,
        )
        for clip in clips
    ]


def folder_sources(items: Sequence[FolderItem], root: Path) -> list[Source]:
    """Sources of items of the folder `root`."""
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
    """Return a 63-bit number that is the same for a name in every split and run."""
    digest = hashlib.blake2b(subject.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def decode_each(
    sources: Sequence[S],
    recipe: Recipe,
    cache: FeatureCache | None,
    tally: Tally,
    progress: Any = None,
) -> Iterator[tuple[S, NDArray[Any]]]:
    """Yield each source with its array. Files that cannot be decoded, and the second of two files
    with equal arrays and category, are noted in `tally` and skipped.

    `progress` is a bar of tqdm that several calls share.
    """
    seen: dict[tuple[Hashable, bytes], S] = {}
    for source in sources if progress else tqdm(sources, recipe.noun, leave=False, disable=None):
        if progress is not None:
            progress.set_description(recipe.noun, refresh=False)
            progress.update()
        try:
            array = _decode_source(source, recipe, cache)
        except DatasetError as error:
            tally.problems.append(str(error))
            continue
        digest = hashlib.blake2b(array.tobytes()).digest()
        first = seen.setdefault((source.category, digest), source)
        if first is not source:
            tally.duplicates.append(f"{source.path}: same content as {first.path}")
            continue
        tally.num_read += 1
        yield source, array


def decode_all(
    sources: Sequence[Source], recipe: Recipe, cache: FeatureCache | None
) -> tuple[list[tuple[Source, NDArray[Any]]], Tally]:
    """Collect `decode_each` and log the skipped files. Raises DatasetError when none can be
    decoded."""
    tally = Tally()
    pairs = list(decode_each(sources, recipe, cache, tally))
    for line in tally.problems + tally.duplicates:
        log.warning("skipped: %s", line)
    if not pairs:
        reason = f": {tally.problems[0]}" if tally.problems else ""
        raise DatasetError(f"none of {len(sources)} {recipe.noun} can be decoded{reason}")
    return pairs, tally


def _decode_source(source: Decodable, recipe: Recipe, cache: FeatureCache | None) -> NDArray[Any]:
    """Decode the file, else the first of its copies that can be decoded. Raises the DatasetError of
    the file."""
    try:
        return _decode(source.path, recipe, cache)
    except DatasetError as error:
        for copy in source.copies:
            try:
                array = _decode(copy, recipe, cache)
            except DatasetError:
                continue
            log.warning("%s; its copy %s is used", error, copy)
            return array
        raise


def _decode(path: Path, recipe: Recipe, cache: FeatureCache | None) -> NDArray[Any]:
    if cache is None:
        return recipe.decode(path)
    arrays = cache.load(recipe.kind, [path], recipe.spec, lambda: {"a": recipe.decode(path)})
    return arrays["a"]
