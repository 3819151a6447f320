"""The folder of built engines.

Beside each `<bundle>-<network>-<precision>-<key>.engine` lies a JSON file that says what it was
built of and what its bytes must hash to. A file that is damaged, foreign or half written is never
handed out; a folder that cannot be written costs a build at each start and nothing else.
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
"""Engines of the same network and precision that stay beside the newest: a step back to the
bundle or the JetPack of before needs no build."""
LOCK_WAIT_S = 1800.0
SYSTEM_CACHE = Path("/var/cache/emotion-edge")
"""Of the service; whoever works on its device shares it."""
_HASH_LENGTH = 64


class EngineEntry(msgspec.Struct, frozen=True):
    """What stands in the JSON file beside an engine."""

    key: str
    built_of: dict[str, str]
    sha256: str
    bytes: int


def find_cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """systemd's cache directory, else EMOTION_EDGE_CACHE, else the service's where there is one,
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
    """One text for all that an engine depends on."""
    return hashlib.sha256(msgspec.json.encode(dict(sorted(parts.items())))).hexdigest()


class EngineCache:
    """One folder. Nothing is held open between calls."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find_file(self, prefix: str, key: str) -> Path:
        """`prefix` is bundle, network and precision."""
        return self.folder / f"{clean_name(prefix)}-{key[:16]}.engine"

    def load(self, prefix: str, key: str) -> bytes | None:
        """The engine, or None where there is none that can be trusted; the log says why."""
        file = self.find_file(prefix, key)
        try:
            entry = msgspec.json.decode(_metadata_file(file).read_bytes(), type=EngineEntry)
            data = file.read_bytes()
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.warning("%s: cannot be read, it is built again: %s", file, error)
            return None
        if entry.key != key:
            log.warning("%s: was built of something else, it is built again", file)
        elif len(data) != entry.bytes:
            log.warning("%s: %d bytes, not %d: it is built again", file, len(data), entry.bytes)
        elif hashlib.sha256(data).hexdigest() != entry.sha256:
            log.warning("%s: was changed after it was built: it is built again", file)
        else:
            return data
        return None

    def store(self, prefix: str, key: str, parts: Mapping[str, str], data: bytes) -> Path | None:
        """Write it in one step and drop what is too old. None where that fails; the log says
        why."""
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
        """What the builder has measured on this GPU, b"" where there is none."""
        try:
            content = (self.folder / name).read_bytes()
        except OSError:
            return b""
        digest, data = content[:_HASH_LENGTH], content[_HASH_LENGTH:]
        if hashlib.sha256(data).hexdigest().encode() != digest:
            log.warning("%s: damaged, the builder measures anew", self.folder / name)
            return b""
        return data

    def store_timing(self, name: str, data: bytes) -> None:
        """Without it the next build only takes longer."""
        with suppress(OSError):
            make_folder(self.folder, 0o700)
            atomic_write(self.folder / name, hashlib.sha256(data).hexdigest().encode() + data)

    def lock(
        self,
        report: Callable[[str], None],
        wait_s: float = LOCK_WAIT_S,
        sleep: Callable[[float], None] = time.sleep,
    ) -> AbstractContextManager[None]:
        """One build at a time: two would measure each other, and a small board has no memory for
        both. Entering raises EngineError after `wait_s`.

        A folder that cannot be written locks nobody out.
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
    """A bundle may have any name; a file may not."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", text).lstrip(".")


def _metadata_file(file: Path) -> Path:
    return file.with_suffix(".json")


def _explain_write(folder: Path, error: OSError) -> str:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    way_on = "make room there" if full else "set EMOTION_EDGE_CACHE to a folder that can be written"
    return (
        f"{folder}: the engine is not stored ({error.strerror}), it will be built again at the"
        f" next start: {way_on}"
    )
