"""The results of steps in the work folder: each is made once, and made again when what it depends
on has changed.

In: everything that a result depends on. Out: a folder of its own for the result, named by a hash
of that, so that a changed recipe never finds the result of another one.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ...engines.storage import atomic_write
from ..errors import TrainingError

log = logging.getLogger(__name__)

KEY_LETTERS = 16


def hash_content(*content: Any) -> str:
    """Hash arrays, sections, texts and numbers, and lists and mappings of them -> hex digits."""
    digest = hashlib.blake2b(digest_size=KEY_LETTERS // 2)
    for item in content:
        _update(digest, item)
    return digest.hexdigest()


def _update(digest: Any, item: Any) -> None:
    digest.update(type(item).__name__.encode())
    if isinstance(item, np.ndarray):
        digest.update(repr((item.dtype.str, item.shape)).encode())
        digest.update(np.ascontiguousarray(item).data)
    elif isinstance(item, msgspec.Struct):
        _update(digest, msgspec.to_builtins(item))
    elif isinstance(item, Mapping):
        for name in sorted(item):
            _update(digest, name)
            _update(digest, item[name])
    elif isinstance(item, Iterable) and not isinstance(item, str | bytes):
        for each in item:
            _update(digest, each)
        digest.update(b"end")
    else:
        digest.update(repr(item).encode())


def hash_file(path: str) -> str:
    """Hash the content of a file, "" for no name. Raises TrainingError."""
    if not path:
        return ""
    try:
        return hashlib.blake2b(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise TrainingError(f"{path}: cannot be read: {error.strerror}") from error


def name_result(work: Path, name: str, key: str) -> Path:
    """Return the folder of a result."""
    return work / f"{name}-{key}"


RESULT = "result.json"
"""Written last: a folder without it is not complete."""


def keep_result(folder: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the stored facts of a result, or make them and store them. `make` may leave other
    files in the folder, which exists. Raises TrainingError, and what `make` raises."""
    file = folder / RESULT
    if file.is_file():
        return _read(file)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"{folder}: cannot be written: {error.strerror}") from error
    content = json.dumps(make(), indent=1).encode()
    try:
        atomic_write(file, content)
    except OSError as error:
        raise TrainingError(f"{file}: cannot be written: {error.strerror}") from error
    return _read(file)  # as a later call reads it, with lists for tuples


def _read(file: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise TrainingError(f"{file}: damaged; delete the folder {file.parent}") from error
    return facts
