"""The cache of built engines: one folder.

In: a prefix, a key and a serialized engine. Out: the same bytes, verified, or None. A JSON file
beside each `<bundle>-<network>-<precision>-<key>.engine` has its key parts and its hash. A damaged,
foreign or incomplete file is never returned. A read-only folder only costs a build at each start.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import msgspec

from ..base import EngineError
from ..storage import atomic_write, hold_lock, make_folder

log = logging.getLogger(__name__)

MAX_PREVIOUS_ENGINES = 1
"""Engines of the same network and precision kept beside the newest: a rollback to the previous
bundle or JetPack needs no build."""
LOCK_WAIT_S = 1800.0
SYSTEM_CACHE = Path("/var/cache/emotion-edge")
"""Cache of the service, which commands share."""
_HASH_LENGTH = 64


class EngineEntry(msgspec.Struct, frozen=True):
    """The JSON file beside an engine."""

    key: str
    built_of: dict[str, str]
    sha256: str
    bytes: int


def find_cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return systemd's cache directory, else EMOTION_EDGE_CACHE, else an existing service folder,
    else the user's. Raises EngineError."""
    directory = environment.get("CACHE_DIRECTORY", "").split(":")[0]
    if directory:
        return Path(directory) / "engines"
    if chosen := environment.get("EMOTION_EDGE_CACHE"):
        return Path(chosen)
    if SYSTEM_CACHE.is_dir():
        return SYSTEM_CACHE / "engines"
    home = environment.get("XDG_CACHE_HOME")
    try:
        return (Path(home) if home else Path.home() / ".cache") / "emotion-edge" / "engines"
    except RuntimeError as error:
        raise EngineError("no home folder: set EMOTION_EDGE_CACHE to a folder") from error


def hash_key(parts: Mapping[str, str]) -> str:
    """Hash everything that an engine depends on."""
    return hashlib.sha256(msgspec.json.encode(dict(sorted(parts.items())))).hexdigest()


class EngineCache:
    """One folder. Nothing stays open between calls."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find_file(self, prefix: str, key: str) -> Path:
        """Return the engine's file; `prefix` is bundle, network and precision."""
        return self.folder / f"{clean_name(prefix)}-{key[:16]}.engine"

    def load(self, prefix: str, key: str) -> bytes | None:
        """Return a verified engine, or None; a damaged file is logged."""
        file = self.find_file(prefix, key)
        try:
            entry = msgspec.json.decode(_metadata_file(file).read_bytes(), type=EngineEntry)
            data = file.read_bytes()
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.warning("%s: cannot be read, building again: %s", file, error)
            return None
        if entry.key != key:
            log.warning("%s: has another key, building again", file)
        elif len(data) != entry.bytes:
            log.warning("%s: %d bytes, not %d: building again", file, len(data), entry.bytes)
        elif hashlib.sha256(data).hexdigest() != entry.sha256:
            log.warning("%s: its hash has changed, building again", file)
        else:
            return data
        return None

    def store(self, prefix: str, key: str, parts: Mapping[str, str], data: bytes) -> Path | None:
        """Store an engine and delete old ones; None, with a warning, where that fails."""
        file = self.find_file(prefix, key)
        entry = EngineEntry(key, dict(parts), hashlib.sha256(data).hexdigest(), len(data))
        try:
            make_folder(self.folder, 0o700)
            atomic_write(file, data)
            metadata = msgspec.json.format(msgspec.json.encode(entry), indent=2)
            atomic_write(_metadata_file(file), metadata)
        except OSError as error:
            log.warning("%s", _explain_write(self.folder, error))
            return None
        with suppress(OSError):
            self._prune(prefix, file)
        return file

    def load_timing(self, name: str) -> bytes:
        """Return the builder's timing cache; b"" where there is none."""
        try:
            content = (self.folder / name).read_bytes()
        except OSError:
            return b""
        digest, data = content[:_HASH_LENGTH], content[_HASH_LENGTH:]
        if hashlib.sha256(data).hexdigest().encode() != digest:
            log.warning("%s: damaged, the builder measures again", self.folder / name)
            return b""
        return data

    def store_timing(self, name: str, data: bytes) -> None:
        """Store the timing cache; without it the next build only takes longer."""
        with suppress(OSError):
            make_folder(self.folder, 0o700)
            atomic_write(self.folder / name, hashlib.sha256(data).hexdigest().encode() + data)

    def lock(
        self,
        report: Callable[[str], None],
        wait_s: float = LOCK_WAIT_S,
        sleep: Callable[[float], None] = time.sleep,
    ) -> AbstractContextManager[None]:
        """Allow one build at a time: two would disturb each other's measurements, and a small board
        lacks the memory. Entering raises EngineError after `wait_s`. A read-only folder locks
        nobody out.
        """
        with suppress(OSError):
            make_folder(self.folder, 0o700)
        timeout_error = EngineError(
            f"{self.folder}: another process has been building for over"
            f" {wait_s / 60:.0f} minutes; end it and try again"
        )
        return hold_lock(
            self.folder / "build.lock",
            wait_s,
            timeout_error,
            lambda: report("waiting for another process that builds an engine"),
            sleep,
        )

    def _prune(self, prefix: str, newest: Path) -> None:
        pattern = re.compile(re.escape(clean_name(prefix)) + r"-[0-9a-f]{16}\.engine")
        others = [
            (file.stat().st_mtime_ns, file)
            for file in self.folder.iterdir()
            if pattern.fullmatch(file.name) and file != newest
        ]
        for _, file in sorted(others, reverse=True)[MAX_PREVIOUS_ENGINES:]:
            file.unlink(missing_ok=True)
            _metadata_file(file).unlink(missing_ok=True)


def clean_name(text: str) -> str:
    """Make a bundle's name, which may hold anything, a file name."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", text).lstrip(".")


def _metadata_file(file: Path) -> Path:
    return file.with_suffix(".json")


def _explain_write(folder: Path, error: OSError) -> str:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    remedy = "make room there" if full else "set EMOTION_EDGE_CACHE to a writable folder"
    return (
        f"{folder}: the engine is not stored ({error.strerror}), it will be built again at the"
        f" next start: {remedy}"
    )
