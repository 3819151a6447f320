"""Cache of decoded features on disk, so that a data set is decoded once.

In: source files and the settings of their decoder. Out: named arrays, read or built. The folder
holds nothing else and may be deleted at any time.
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
"""Increase it when a decoder changes its result for the same file."""
_DIGEST_BYTES = 16


class FeatureCache:
    """Folder of cached arrays that counts hits and misses.

    The name of a cache file is a hash of the sources (path, size, modification time) and the spec,
    so a changed source or spec is another file. The content is a digest, then an `.npz` without
    pickles.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hits = 0
        self.built = 0
        self.write_error = ""
        """Reason why the folder cannot be written, or empty."""

    def load(
        self,
        kind: str,
        sources: Sequence[Path],
        spec: Mapping[str, float | str],
        build: Callable[[], Arrays],
    ) -> Arrays:
        """Return the arrays of `sources`: from the cache, or from `build`, which replaces a damaged
        file as well. A folder that cannot be written is logged once. Raises DatasetError for a
        missing source, and whatever `build` raises."""
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
                log.warning("%s; continuing without", self.write_error)
        return arrays


def _hash_key(kind: str, sources: Sequence[Path], spec: Mapping[str, float | str]) -> bytes:
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    digest.update(repr((FORMAT, kind, sorted(spec.items()))).encode())
    for source in sources:
        try:
            state = source.stat()
            # The whole path: files of two data sets can share name, size and time.
            name = os.fsencode(source.resolve())
        except OSError as error:
            raise DatasetError(f"{source}: cannot be read: {error.strerror}") from error
        digest.update(repr((name, state.st_size, state.st_mtime_ns)).encode())
    return digest.digest()


def _digest(payload: bytes, key: bytes) -> bytes:
    return hashlib.blake2b(payload, digest_size=_DIGEST_BYTES, key=key).digest()


def _read(path: Path, key: bytes) -> Arrays | None:
    """Return the arrays of a cache file, None if it is missing or damaged."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    payload = data[_DIGEST_BYTES:]
    if data[:_DIGEST_BYTES] != _digest(payload, key):
        log.warning("%s: damaged, decoding again", path)
        return None
    with np.load(io.BytesIO(payload), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _write(path: Path, key: bytes, arrays: Arrays) -> None:
    """Write the file atomically, also when two programs write at once."""
    payload = io.BytesIO()
    np.savez(payload, **arrays)  # type: ignore[arg-type]  # no array has the name allow_pickle
    content = (_digest(payload.getvalue(), key), payload.getvalue())
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, content, durable=False, draft=draft)
