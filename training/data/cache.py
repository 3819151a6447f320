"""Decoded features on disk, so that a data set is decoded once.

In: source files and what is wanted of them. Out: named arrays, from the cache or built anew.
The folder holds nothing else and may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...engines.storage import atomic_write
from ..errors import DatasetError

log = logging.getLogger(__name__)

Arrays = Mapping[str, NDArray[Any]]

FORMAT = 1
"""Raise it when a decoder changes what it makes of the same file."""
_DIGEST_BYTES = 16


class FeatureCache:
    """One folder of arrays, a file each; counts what it had and what it had to build.

    A file's name is a hash of the sources (path, size, time of change) and of the spec, so a
    changed source or spec is simply another file. A file is a digest of the rest, then an `.npz`
    without pickles.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hits = 0
        self.built = 0
        self.write_error = ""
        """Why nothing more can be written; empty while all is well."""

    def load(
        self,
        kind: str,
        sources: Sequence[Path],
        spec: Mapping[str, float | str],
        build: Callable[[], Arrays],
    ) -> Arrays:
        """What `build` makes of `sources`. A damaged file is built anew; a folder that cannot be
        written is one warning. Raises DatasetError for a missing source, and what `build` does."""
        key = _hash_key(kind, sources, spec)
        path = self.folder / kind / f"{key.hex()}.npz"
        arrays = _read(path, key)
        if arrays is not None:
            self.hits += 1
            return arrays
        arrays = build()
        self.built += 1
        if not self.write_error:
            try:
                _write(path, key, arrays)
            except OSError as error:
                self.write_error = f"cache {self.folder}: cannot be written: {error.strerror}"
                log.warning("%s; going on without", self.write_error)
        return arrays


def _hash_key(kind: str, sources: Sequence[Path], spec: Mapping[str, float | str]) -> bytes:
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    digest.update(repr((FORMAT, kind, sorted(spec.items()))).encode())
    for source in sources:
        try:
            state = source.stat()
            # The whole path: two data sets may well have files of one name, size and time.
            name = os.fsencode(source.resolve())
        except OSError as error:
            raise DatasetError(f"{source}: cannot be read: {error.strerror}") from error
        digest.update(repr((name, state.st_size, state.st_mtime_ns)).encode())
    return digest.digest()


def _digest(payload: bytes, key: bytes) -> bytes:
    return hashlib.blake2b(payload, digest_size=_DIGEST_BYTES, key=key).digest()


def _read(path: Path, key: bytes) -> Arrays | None:
    """None when there is no such file or it is not what was written."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    payload = data[_DIGEST_BYTES:]
    if data[:_DIGEST_BYTES] != _digest(payload, key):
        log.warning("%s: damaged, is built anew", path)
        return None
    with np.load(io.BytesIO(payload), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _write(path: Path, key: bytes, arrays: Arrays) -> None:
    """Write `path` in one step, also when two programs write it at once."""
    payload = io.BytesIO()
    np.savez(payload, **arrays)  # type: ignore[arg-type]  # no array is called allow_pickle
    content = (_digest(payload.getvalue(), key), payload.getvalue())
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, content, durable=False, draft=draft)
