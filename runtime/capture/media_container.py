"""Opens a media file with PyAV (FFmpeg), or says in one line why it cannot be played.

In: a path. Out: a PyAV container, or SourceError.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import av

from ..messages import SourceError
from .source_name import show_source

MAX_PIXELS = 100_000_000
"""Larger frames are refused before they are decoded: one would take 300 MB."""

_BOX_HEADER = 8
_MAX_BOXES = 10_000


def check_file(path: Path) -> None:
    """Raise SourceError for what is no readable file."""
    name = show_source(str(path))
    try:
        if not path.exists():
            raise SourceError(f"{name}: no such file")
        if path.is_dir():
            raise SourceError(f"{name} is a folder, not a file")
        if path.stat().st_size == 0 and path.is_file():
            raise SourceError(f"{name} is empty")
        with path.open("rb"):
            pass
    except SourceError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise SourceError(
            f"{name} cannot be read: {error.strerror if isinstance(error, OSError) else error}"
        ) from error


def open_container(path: Path) -> Any:
    """Open a file for reading. Raises SourceError."""
    try:
        container = av.open(
            # The absolute path, because in "a:b.mp4" FFmpeg sees a protocol.
            str(path.absolute()),
            # Only files, because a playlist must not open a connection. The limit of pixels is
            # for the codecs that find out what the tracks are.
            options={"protocol_whitelist": "file", "max_pixels": str(MAX_PIXELS)},
            metadata_errors="replace",  # titles may be in any encoding
        )
    except (av.FFmpegError, OSError, ValueError) as error:
        raise explain_unreadable(path, error) from error
    if container.format.name == "tty":  # FFmpeg renders a text file as video
        container.close()
        raise explain_unreadable(path, "a text file")
    return container


def read_duration_s(path: Path) -> float | None:
    """Return the duration that a file states; None if it states none or cannot be read."""
    try:
        with open_container(path) as container:
            return container.duration / av.time_base if container.duration else None
    except SourceError:
        return None


def explain_unreadable(path: Path, reason: object) -> SourceError:
    """Return an error that says what is wrong with a file that FFmpeg does not read."""
    name = show_source(str(path))
    try:
        with path.open("rb") as file:
            if _lacks_index(file):
                return SourceError(
                    f"{name} is an unfinished recording (no index): the recorder was stopped before"
                    " it wrote the end; untrunc repairs it with a finished recording of the same"
                    " device"
                )
            if _is_animated_webp(file):
                return SourceError(
                    f"{name} is an animated WebP, which FFmpeg cannot read; convert it to GIF, for"
                    " instance with ImageMagick"
                )
    except OSError:
        pass
    reason = getattr(reason, "strerror", None) or reason
    return SourceError(f"{name} is not an audio or video file PyAV can read: {reason}")


def _lacks_index(file: BinaryIO) -> bool:
    """Return whether this is an MP4 or MOV file without the box "moov"."""
    file.seek(0)
    at = 0
    seen: set[bytes] = set()
    for _ in range(_MAX_BOXES):
        file.seek(at)
        header = file.read(2 * _BOX_HEADER)
        if len(header) < _BOX_HEADER:
            break
        size, kind = int.from_bytes(header[:4], "big"), header[4:8]
        if at == 0 and kind not in {b"ftyp", b"wide", b"mdat", b"skip", b"free"}:
            return False
        seen.add(kind)
        if size == 1:  # the size is in the next 8 bytes
            size = int.from_bytes(header[8:16], "big")
        if size < _BOX_HEADER:  # 0: up to the end of the file
            break
        at += size
    complete = b"moov" in seen and file.seek(0, 2) >= at
    return not complete and bool(seen & {b"ftyp", b"mdat"})


def _is_animated_webp(file: BinaryIO) -> bool:
    file.seek(0)
    head = file.read(64)
    return head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and bool(head[20] & 0x02)
