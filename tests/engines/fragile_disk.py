"""A disk whose power is cut at a chosen moment, and what may then be found on it.

POSIX promises little: what was written to a file is safe after fsync of the file, and a name, new,
changed or gone, after fsync of its folder. `FragileDisk` records the calls of a process that change
a folder and what is durable of each file and folder. It writes an image of the disk with only that,
only names, or a random part of the rest.
"""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Names = Mapping[str, int]
"""Inode numbers by file name."""


class FragileDisk:
    """Watches `root` from now on; `on_cut` is called in the middle of the `cut_at`-th change."""

    CALLS = ("open", "write", "fsync", "replace", "rename", "mkdir", "unlink", "rmdir")

    def __init__(self, root: Path, cut_at: int, on_cut: Callable[[FragileDisk], None]) -> None:
        self.num_steps = 0
        self._cut_at = cut_at
        self._on_cut = on_cut
        self._real: dict[str, Any] = {name: getattr(os, name) for name in self.CALLS}
        self._safe_bytes: dict[int, bytes] = {}
        self._safe_names: dict[int, Names] = {}
        self._held: dict[int, int] = {}
        """A handle for each inode, by which its number stays its own."""
        self._root = self._meet(root)
        for folder, folders, files in os.walk(root):
            for name in [*folders, *files]:
                self._meet(Path(folder) / name)
        for inode in self._held:
            self._keep(inode)
        for name in self.CALLS:
            setattr(os, name, self._watch(name))

    def write_image(self, folder: Path, kept: str, seed: int = 0) -> None:
        """What is found after the cut. `kept`: "promised": what was synced, and no more; "names":
        all names, but of contents what was synced; "files": the same, but of folders' names too
        only what was synced; "chance": of each name and each content either
        what was synced or what it is now."""
        chance = random.Random(seed)

        def choose(what: str, safe: Any, now: Any) -> Any:
            if kept == "chance":
                return chance.choice((safe, now))
            is_kept = what in {"names": ("file", "folder"), "files": ("file",)}.get(kept, ())
            return now if is_kept else safe

        def put(inode: int, place: Path) -> None:
            if inode not in self._safe_names:
                place.write_bytes(choose("content", self._safe_bytes[inode], self._read(inode)))
                return
            place.mkdir()
            safe, now = self._safe_names[inode], self._list(inode)
            for name in sorted({*safe, *now}):
                what = "folder" if (safe.get(name) or now[name]) in self._safe_names else "file"
                child = choose(what, safe.get(name), now.get(name))
                if child is not None:
                    put(child, place / name)

        for name, call in self._real.items():
            setattr(os, name, call)
        put(self._root, folder)

    def _watch(self, name: str) -> Callable[..., Any]:
        real = self._real[name]

        def call(*args: Any, **options: Any) -> Any:
            if name == "open" and not args[1] & (os.O_CREAT | os.O_TRUNC):
                return real(*args, **options)
            self.num_steps += 1
            if self.num_steps == self._cut_at:
                if name == "write":
                    real(args[0], args[1][: len(args[1]) // 2])
                self._on_cut(self)
            result = real(*args, **options)
            if name == "open":
                inode = self._hold(self._real["open"](f"/proc/self/fd/{result}", os.O_RDONLY))
                if args[1] & os.O_TRUNC:
                    self._safe_bytes[inode] = b""
            elif name == "mkdir":
                self._meet(Path(args[0]))
            elif name == "fsync":
                self._keep(os.fstat(args[0]).st_ino)
            return result

        return call

    def _meet(self, path: Path) -> int:
        return self._hold(self._real["open"](path, os.O_RDONLY))

    def _hold(self, handle: int) -> int:
        status = os.fstat(handle)
        inode = status.st_ino
        if inode in self._held:
            os.close(handle)
            return inode
        self._held[inode] = handle
        if stat.S_ISDIR(status.st_mode):
            self._safe_names[inode] = {}
        else:
            self._safe_bytes[inode] = b""
        return inode

    def _keep(self, inode: int) -> None:
        if inode in self._safe_names:
            self._safe_names[inode] = self._list(inode)
        else:
            self._safe_bytes[inode] = self._read(inode)

    def _read(self, inode: int) -> bytes:
        return os.pread(self._held[inode], os.fstat(self._held[inode]).st_size, 0)

    def _list(self, inode: int) -> Names:
        with os.scandir(self._held[inode]) as entries:
            return {entry.name: entry.inode() for entry in entries}
