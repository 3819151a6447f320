"""Bundles on their way in: a tar archive or a folder, opened and looked through, but not believed.

In: an archive or a folder. Out: a `BundleArchive`, whose files have plain names, are those that its
`bundle.json` lists and are as long as it says; or a BundleError of one line. Nothing is written
here. What is in the files is checked when they have been copied (`bundle.load_bundle`).

The archive is read block by block instead of by tarfile's own walk: a name, a kind of file or a
size that a bundle has no use for is refused before anything of it is believed, and no header makes
it take memory.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from .manifest import (
    MANIFEST,
    MAX_FILE_BYTES,
    MAX_MANIFEST_BYTES,
    SIGNATURE,
    BundleError,
    Manifest,
    parse_manifest,
)
from .signature import SIGNATURE_BYTES

BLOCK = tarfile.BLOCKSIZE
CHUNK_BYTES = 1 << 20
MAX_HEADERS = 512
FILE_TYPES = (tarfile.REGTYPE, tarfile.AREGTYPE)
SKIPPED_TYPES = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
"""Extended headers: exact times and the like. A name so long that it stands there is refused
anyway, by its shortened form."""


@dataclass(frozen=True, slots=True)
class FileExtent:
    """Where the bytes of one file are."""

    handle: int
    offset: int
    num_bytes: int


@dataclass(frozen=True, slots=True)
class BundleArchive:
    """A bundle that nobody has checked yet. Usable while `open_archive` is open."""

    origin: Path
    sha256: str
    """Of its `bundle.json`."""
    extents: Mapping[str, FileExtent]
    """By file name."""

    @property
    def num_bytes(self) -> int:
        return sum(extent.num_bytes for extent in self.extents.values())

    def read_file(self, name: str) -> Iterator[bytes]:
        """In pieces. Raises BundleError."""
        extent = self.extents[name]
        for at in range(0, extent.num_bytes, CHUNK_BYTES):
            count = min(CHUNK_BYTES, extent.num_bytes - at)
            yield _read_exactly(extent.handle, count, extent.offset + at, f"{self.origin}: {name}")


@contextmanager
def open_bundle_source(path: Path) -> Iterator[int]:
    """Hold a file or folder open for `open_archive`, whose user may not be able to open it."""
    handle = _open(path, str(path))
    try:
        yield handle
    finally:
        os.close(handle)


@contextmanager
def open_archive(handle: int, origin: Path) -> Iterator[BundleArchive]:
    """`origin` is what is called by name when a BundleError is raised."""
    kind = os.fstat(handle).st_mode
    with ExitStack() as stack:
        if stat.S_ISDIR(kind):
            find, listed = _find_in_folder(handle, origin, stack), None
        elif stat.S_ISREG(kind):
            listed = _list_archive(handle, origin)
            find = listed.get
        else:
            raise BundleError(f"{origin}: neither a folder nor an uncompressed tar archive")
        yield _index_files(origin, find, listed)


def _index_files(
    origin: Path, find: Callable[[str], FileExtent | None], listed: Mapping[str, FileExtent] | None
) -> BundleArchive:
    """`listed` is all that there is, where there must be nothing else."""

    def require_file(name: str, at_most: int) -> FileExtent:
        extent = find(name)
        if extent is None:
            raise BundleError(f"{origin}: {name} is missing")
        if extent.num_bytes > at_most:
            raise BundleError(
                f"{origin}: {name} has {extent.num_bytes} bytes, at most {at_most} allowed"
            )
        return extent

    extent = require_file(MANIFEST, MAX_MANIFEST_BYTES)
    data = _read_exactly(extent.handle, extent.num_bytes, extent.offset, f"{origin}: {MANIFEST}")
    manifest = parse_manifest(data, origin / MANIFEST)
    for name in listed or ():
        if name not in (MANIFEST, SIGNATURE, *manifest.files):
            raise BundleError(f"{origin}: holds {name!r}, which {MANIFEST} does not list")
    extents = {MANIFEST: extent, **_find_listed_files(origin, manifest, require_file)}
    if find(SIGNATURE) is not None:
        extents[SIGNATURE] = require_file(SIGNATURE, SIGNATURE_BYTES)
    return BundleArchive(origin, hashlib.sha256(data).hexdigest(), extents)


def _find_listed_files(
    origin: Path, manifest: Manifest, require_file: Callable[[str, int], FileExtent]
) -> dict[str, FileExtent]:
    extents = {}
    for name, entry in manifest.files.items():
        extents[name] = require_file(name, MAX_FILE_BYTES)
        if extents[name].num_bytes != entry.bytes:
            raise BundleError(
                f"{origin}: {name} has {extents[name].num_bytes} bytes, {MANIFEST} says"
                f" {entry.bytes} (files.{name}.bytes)"
            )
    return extents


def _find_in_folder(
    folder: int, origin: Path, stack: ExitStack
) -> Callable[[str], FileExtent | None]:
    def find(name: str) -> FileExtent | None:
        try:
            handle = _open(name, f"{origin}: {name}", folder)
        except FileNotFoundError:
            return None
        stack.callback(os.close, handle)
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise BundleError(f"{origin}: {name} is not a plain file")
        return FileExtent(handle, 0, status.st_size)

    return find


def _open(path: Path | str, called: str, folder: int | None = None) -> int:
    """Inside `folder` links are not followed, and what is missing is a FileNotFoundError."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe must not block
    try:
        return os.open(path, flags | (os.O_NOFOLLOW if folder is not None else 0), dir_fd=folder)
    except OSError as error:
        if folder is not None and isinstance(error, FileNotFoundError):
            raise
        is_link = folder is not None and error.errno == errno.ELOOP
        why = "it is a symbolic link" if is_link else error.strerror
        raise BundleError(f"{called}: cannot be read: {why}") from error


def _list_archive(handle: int, origin: Path) -> dict[str, FileExtent]:
    """Every file in the archive. Raises BundleError for anything that is none."""
    end = os.fstat(handle).st_size
    extents: dict[str, FileExtent] = {}
    offset = 0
    for _ in range(MAX_HEADERS):
        header = _read_header(handle, offset, origin)
        if header is None:
            return extents
        offset += BLOCK
        name = header.name.removeprefix("./")
        if not 0 <= header.size <= end - offset:
            raise BundleError(f"{origin}: cut short in {name!r}")
        if header.type in FILE_TYPES:
            if "/" in name or "\\" in name or name in ("", ".", ".."):
                raise BundleError(
                    f"{origin}: holds {header.name!r}, allowed: plain file names, no folders"
                )
            if name in extents:
                raise BundleError(f"{origin}: holds {name!r} twice")
            extents[name] = FileExtent(handle, offset, header.size)
        elif header.type == tarfile.DIRTYPE and name in (".", ""):
            pass  # "tar -C FOLDER -cf FILE ." says first where it begins
        elif header.type not in SKIPPED_TYPES:
            raise BundleError(
                f"{origin}: {header.name!r} is no plain file: a folder, a link or a device"
            )
        offset += -(-header.size // BLOCK) * BLOCK
    raise BundleError(f"{origin}: over {MAX_HEADERS} entries, that is no bundle")


def _read_header(handle: int, offset: int, origin: Path) -> tarfile.TarInfo | None:
    """None for the block of zeros at the end."""
    block = _read(handle, BLOCK, offset, str(origin))
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        if block == bytes(BLOCK):
            return None
        if offset and len(block) < BLOCK:
            raise BundleError(f"{origin}: cut short after {offset} bytes") from error
        raise BundleError(f"{origin}: not an uncompressed tar archive: {error}") from error


def _read_exactly(handle: int, count: int, offset: int, called: str) -> bytes:
    data = bytearray()
    while len(data) < count:
        piece = _read(handle, count - len(data), offset + len(data), called)
        if not piece:
            raise BundleError(f"{called}: cut short")
        data += piece
    return bytes(data)


def _read(handle: int, count: int, offset: int, called: str) -> bytes:
    try:
        return os.pread(handle, count, offset)
    except OSError as error:
        raise BundleError(f"{called}: cannot be read: {error.strerror}") from error
