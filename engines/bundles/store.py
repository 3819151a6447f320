"""The installed bundles of a device, and the selected one.

    STATE/bundles/
        0123456789abcdef/    an immutable bundle: the first digits of its bundle.json's SHA-256
        selection.json       `Selection`, replaced atomically
        install.lock         held for minutes by an installation or a rollback
        selection.lock       held for moments by a change of the selection
        .incoming-…          being copied; .removed-…: being deleted

A power cut at any moment leaves a bundle that starts. A bundle gets its name only when all of it is
on the disk and verified. It is selected only when it has that name. The bundle that ships with the
program is always there; its name is "".
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import msgspec

from ..base import EngineError, Report, null_reporter
from ..storage import (
    atomic_write,
    hold_lock,
    make_folder,
    move_folder,
    remove_folder,
    sync_folder,
    write_new_file,
)
from .archive import BundleArchive
from .manifest import DEFAULT_BUNDLE, Bundle, load_bundle
from .schema import MANIFEST, BundleError
from .selection import SHIPPED, Selection, read_selection
from .signature import PublicKey

RESERVED_BYTES = 4 << 20
"""Left free beside a bundle, for the selection and for the file system."""
INSTALL_WAIT_S = 3600.0
SELECTION_WAIT_S = 5.0
_NAME = re.compile(r"[0-9a-f]{16}")
_LEFTOVER = re.compile(r"\.(incoming|removed)-[0-9a-f]{16}")

Verify = Callable[[Bundle], None]
"""Build a bundle's engines on this machine and check them. Raises EngineError and others."""


class BundleStore:
    """The folder `STATE/bundles`. Nothing stays open between calls."""

    def __init__(self, state: Path, sleep: Callable[[float], None] = time.sleep) -> None:
        self.folder = state / "bundles"
        self._file = self.folder / "selection.json"
        self._sleep = sleep

    def find_folder(self, name: str) -> Path:
        return self.folder / name if name else DEFAULT_BUNDLE

    def list_names(self) -> list[str]:
        """Name all installed bundles. Raises OSError."""
        try:
            names = [folder.name for folder in self.folder.iterdir()]
        except FileNotFoundError:
            return []
        return sorted(filter(_NAME.fullmatch, names))

    def load(self, name: str, public_key: PublicKey | None) -> Bundle:
        """Load and verify a bundle. The shipped one is part of the program and not signed. Raises
        BundleError."""
        if name == SHIPPED:
            return load_bundle(DEFAULT_BUNDLE)
        bundle = load_bundle(self.find_folder(name), public_key)
        if not bundle.sha256.startswith(name):
            raise BundleError(
                f"{bundle.path}: changed: {MANIFEST} is not the one that was installed"
            )
        return bundle

    def read_selection(self) -> Selection:
        """Return the selection. Raises BundleError."""
        return read_selection(self._file)

    def write_selection(self, selection: Selection) -> None:
        """Replace the selection atomically. Raises OSError."""
        atomic_write(self._file, msgspec.json.encode(selection) + b"\n")

    def lock_selection(self) -> AbstractContextManager[None]:
        """Lock the selection. Entering raises BundleError after `SELECTION_WAIT_S`."""
        timeout_error = BundleError(f"{self.folder}: another process holds selection.lock")
        return hold_lock(
            self.folder / "selection.lock",
            SELECTION_WAIT_S,
            timeout_error,
            lambda: None,
            self._sleep,
        )

    def install(
        self,
        archive: BundleArchive,
        public_key: PublicKey | None,
        verify: Verify,
        report: Report,
        *,
        allow_downgrade: bool = False,
    ) -> bool:
        """Install and select the bundle in `archive`; False when it is the current one already.

        With a key, a bundle of a lower version than one that was installed before needs
        `allow_downgrade`: somebody may offer an old one, whose signature is as good as ever. Raises
        BundleError and what `verify` raises; then the selection is unchanged.
        """
        name = archive.sha256[:16]
        version: int | None = None

        def verify_newer(bundle: Bundle) -> None:
            nonlocal version
            if public_key is not None:
                version = bundle.manifest.version
                if version < selection.version and not allow_downgrade:
                    raise BundleError(
                        f"{bundle.path}: version is {version}, and version {selection.version} was"
                        " installed before: not installed without --allow-downgrade"
                    )
            verify(bundle)

        with self._hold_install_lock(report):
            self._make_folder()
            self._remove_leftovers()
            selection = self._read_or_reset(report, public_key).abandon_failed()
            if selection.current == SHIPPED and archive.sha256 == _hash_shipped():
                return False
            try:
                installed = self.load(name, public_key)
            except BundleError:
                self._copy_in(archive, name, public_key, verify_newer)
            else:
                if selection.current == name:
                    return False
                verify_newer(installed)
            self._select(lambda before: before.switch(name, version), public_key)
        return True

    def roll_back(self, public_key: PublicKey | None, verify: Verify, report: Report) -> str:
        """Select the previous bundle, which makes this one the previous, and return its name. Its
        version may be lower: this is the way back. Raises as `install` does."""
        with self._hold_install_lock(report):
            selection = self.read_selection()
            target = selection.previous
            if target == selection.current:
                raise BundleError(f"{self.folder}: there is no previous bundle")
            verify(self.load(target, public_key))

            def choose(before: Selection) -> Selection:
                """A start may have rolled back to it meanwhile."""
                return before.step_back() if before.previous == target else before

            return self._select(choose, public_key).current

    def _copy_in(
        self, archive: BundleArchive, name: str, public_key: PublicKey | None, verify: Verify
    ) -> None:
        incoming = self.folder / f".incoming-{name}"
        self._check_free_space(archive.num_bytes)
        try:
            os.mkdir(incoming, 0o755)  # noqa: PTH102 - power_cuts.py watches it
            for file in archive.extents:
                write_new_file(incoming / file, archive.read_file(file))
            sync_folder(incoming)
            try:
                bundle = load_bundle(incoming, public_key)
                if bundle.sha256 != archive.sha256:
                    raise BundleError(f"{archive.origin}: changed while it was read")
                verify(bundle)
            except (BundleError, EngineError) as error:  # name the archive, not the copy
                raise type(error)(str(error).replace(str(incoming), str(archive.origin))) from error
            if self.find_folder(name).exists():
                self._remove(name)  # it is damaged, or not signed with this key
            move_folder(incoming, self.find_folder(name))
        finally:
            shutil.rmtree(incoming, ignore_errors=True)

    def _make_folder(self) -> None:
        """Make the folder. A state folder that systemd has not made is the user's own."""
        make_folder(self.folder.parent, 0o700)
        make_folder(self.folder)

    def _check_free_space(self, num_bytes: int) -> None:
        disk = os.statvfs(self.folder)
        free = disk.f_bavail * disk.f_frsize
        if free < num_bytes + RESERVED_BYTES:
            raise BundleError(
                f"{self.folder}: the disk is full: {free / 1e6:.0f} MB free,"
                f" {(num_bytes + RESERVED_BYTES) / 1e6:.0f} MB wanted"
            )

    def _select(
        self, choose: Callable[[Selection], Selection], public_key: PublicKey | None
    ) -> Selection:
        """Store a new selection and delete every bundle that neither the old nor the new one names:
        a running process may use one of the old."""
        with self.lock_selection():
            before = self._read_or_reset(null_reporter, public_key)
            after = choose(before)
            self.write_selection(after)
        for other in self.list_names():
            if other not in before.in_use | after.in_use:
                with suppress(OSError):
                    self._remove(other)
        return after

    def _read_or_reset(self, report: Report, public_key: PublicKey | None) -> Selection:
        """Return the selection; of a damaged one only the version, as far as bundles tell it."""
        try:
            return self.read_selection()
        except BundleError as error:
            report(f"{error}; it is reset")
        versions = [0]
        for name in self.list_names() if public_key is not None else ():
            with suppress(BundleError):
                versions.append(self.load(name, public_key).manifest.version)
        return Selection(version=max(versions))

    def _remove(self, name: str) -> None:
        remove_folder(self.find_folder(name), self.folder / f".removed-{name}")

    def _remove_leftovers(self) -> None:
        """Delete what a power cut has left half-copied or half-deleted."""
        for folder in self.folder.iterdir():
            if _LEFTOVER.fullmatch(folder.name):
                shutil.rmtree(folder)

    @contextmanager
    def _hold_install_lock(self, report: Report) -> Iterator[None]:
        """Install one bundle at a time; an OSError inside becomes a BundleError."""
        timeout_error = BundleError(
            f"{self.folder}: another process has been installing for an hour"
        )
        waiting = "waiting for another process that installs a bundle"
        try:
            with suppress(OSError):
                self._make_folder()
            with hold_lock(
                self.folder / "install.lock",
                INSTALL_WAIT_S,
                timeout_error,
                lambda: report(waiting),
                self._sleep,
            ):
                yield
        except OSError as error:
            raise BundleError(_explain(self.folder, error)) from error


def _hash_shipped() -> str:
    return hashlib.sha256((DEFAULT_BUNDLE / MANIFEST).read_bytes()).hexdigest()


def _explain(folder: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{folder}: the disk is full; nothing was changed"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{folder}: cannot be written: {error.strerror}; is it another user's? try sudo"
    return f"{folder}: cannot be written: {error.strerror}"
