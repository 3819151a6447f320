"""What the name of a source means, and how it is shown.

In: `source.name`. Out: its kind, and one line of printable text without secrets. A name that exists
is a file, whatever it looks like; only one with a scheme of `SCHEMES` is a URL.
"""

from __future__ import annotations

import contextlib
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from ...engines.plain_text import escape

STDIN_PATH = Path("/dev/stdin")
SCHEMES = ("rtsp", "rtsps", "http", "https", "udp")
"""Schemes of the streams that a run reads when they are named."""

Kind = Literal["auto", "none", "demo", "camera", "stream", "pipe", "file"]

_STDIN_NAMES = ("-", str(STDIN_PATH), "/dev/fd/0", "/proc/self/fd/0")
_NEVER_CAMERAS = ("/dev/shm/", "/dev/fd/", "/dev/std")
_HIDDEN = "***"


def find_kind(name: str) -> Kind:
    """Return what `name` is. "pipe" can be read once, from its begin to its end."""
    keywords: dict[str, Kind] = {"auto": "auto", "none": "none", "demo": "demo"}
    if name in keywords:
        return keywords[name]
    if is_camera(name):
        return "camera"
    if is_url(name):
        return "stream"
    path = find_path(name)
    if path == STDIN_PATH:
        # Where it is closed, another file may have its number.
        is_open = sys.__stdin__ is not None
        return "file" if is_open and _is_mode(path, stat.S_ISREG) else "pipe"
    return "pipe" if _is_mode(path, stat.S_ISFIFO) else "file"


def is_camera(name: str) -> bool:
    """Whether the source `name` is a device, which has no end and only its own speed.

    A file in /dev, such as /dev/shm/talk.mp4, is a file.
    """
    if name == "camera" or name.startswith("csi://"):
        return True
    if not name.startswith("/dev/") or name.startswith(_NEVER_CAMERAS):
        return False
    try:
        return stat.S_ISCHR(Path(name).stat().st_mode)
    except (OSError, ValueError):
        return True  # it may be plugged in later


def is_url(name: str) -> bool:
    scheme, colon, _ = name.partition("://")
    return bool(colon) and scheme.lower() in SCHEMES


def find_path(name: str) -> Path:
    """Return the path of a file: "~" is the home folder where no file has that very name."""
    if name in _STDIN_NAMES:
        return STDIN_PATH
    path = Path(name)
    if name.startswith("~") and not path_exists(path):
        with contextlib.suppress(RuntimeError):  # no such user
            return path.expanduser()
    return path


def show_source(name: str) -> str:
    """Return `name` in one line: what cannot be printed is escaped, and of a URL neither user,
    password nor query is shown."""
    if is_url(name):
        name = _mask_url(name)
    return escape(name)


def _mask_url(url: str) -> str:
    scheme, _, rest = url.partition("://")
    address, mark, _ = rest.partition("?")
    address, hash_mark, _ = address.partition("#")
    mark = mark or hash_mark
    if "@" in rest[len(address) :]:  # a "?" inside a password, or an "@" in the query
        return f"{scheme}://{_HIDDEN}"
    *users, address = address.rsplit("@", 1)
    hidden_user = f"{_HIDDEN}@" if users else ""
    hidden_query = mark + _HIDDEN if mark else ""
    return f"{scheme}://{hidden_user}{address}{hidden_query}"


def path_exists(path: Path) -> bool:
    """Whether there is anything of this name; False too for a name that none can have."""
    try:
        path.lstat()
    except (OSError, ValueError):
        return False
    return True


def _is_mode(path: Path, is_kind: Callable[[int], bool]) -> bool:
    try:
        return is_kind(path.stat().st_mode)
    except (OSError, ValueError):
        return False
