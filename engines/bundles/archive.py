"""Untrusted bundles: the index of a tar archive or a folder, before anything is copied.

In: an archive or a folder. Out: a `BundleArchive`, whose files have plain names and are those that
its `bundle.json` lists, at the sizes listed there; or a one-line BundleError. Nothing is written
here. Hashes are checked after copying (`load_bundle`).

`tarfile` decodes each header, but its own iteration cannot read untrusted archives. It reads a pax
header or a GNU long name of any size into memory. A chain of pax headers ends in a RecursionError,
a malformed sparse map in a ValueError. A damaged header after the first counts as the end of the
archive. So the headers are walked here: 512 bytes each, at most `MAX_HEADERS`.
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

from .manifest import MAX_MANIFEST_BYTES, parse_manifest
from .schema import MANIFEST, MAX_FILE_BYTES, SIGNATURE, BundleError, Manifest
from .signature import SIGNATURE_BYTES

BLOCK = tarfile.BLOCKSIZE
CHUNK_BYTES = 1 << 20
MAX_HEADERS = 512
FILE_TYPES = (tarfile.REGTYPE, tarfile.AREGTYPE)
SKIPPED_TYPES = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
"""Extended headers, such as exact times. They can also hold a long name: its short form in the
plain header is then not in the manifest."""


@dataclass(frozen=True, slots=True)
class FileExtent:
    """The place of one file: `num_bytes` from `offset` in the open file `handle`."""

    handle: int
    offset: int
    num_bytes: int


@dataclass(frozen=True, slots=True)
class BundleArchive:
    """An indexed bundle with unverified content. Usable inside `open_archive` only."""

    origin: Path
    sha256: str
    """Of its `bundle.json`."""
    extents: Mapping[str, FileExtent]
    """By file name."""

    @property
    def num_bytes(self) -> int:
        return sum(extent.num_bytes for extent in self.extents.values())

    def read_file(self, name: str) -> Iterator[bytes]:
        """Yield the content in pieces. Raises BundleError."""
        extent = self.extents[name]
        for at in range(0, extent.num_bytes, CHUNK_BYTES):
            count = min(CHUNK_BYTES, extent.num_bytes - at)
            yield _read_exactly(extent.handle, count, extent.offset + at, f"{self.origin}: {name}")


@contextmanager
def open_bundle_source(path: Path) -> Iterator[int]:
    """Open a file or folder for `open_archive`, which may run as a user that cannot open it."""
    handle = _open(path, str(path))
    try:
        yield handle
    finally:
        os.close(handle)


@contextmanager
def open_archive(handle: int, origin: Path) -> Iterator[BundleArchive]:
    """Index the open file or folder `handle`. `origin` is its path for messages. Raises
    BundleError."""
    kind = os.fstat(handle).st_mode
    with ExitStack() as stack:
        if stat.S_ISDIR(kind):
            find, members = _find_in_folder(handle, origin, stack), None
        elif stat.S_ISREG(kind):
            members = _list_archive(handle, origin)
            find = members.get
        else:
            raise BundleError(f"{origin}: neither a folder nor an uncompressed tar archive")
        yield _index_files(origin, find, members)


def _index_files(
    origin: Path, find: Callable[[str], FileExtent | None], members: Mapping[str, FileExtent] | None
) -> BundleArchive:
    """Find every file of the manifest. An archive has no other `members`; a folder may."""

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
    for name in members or ():
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
    """Open for reading. Inside `folder`, links are refused and a missing file raises
    FileNotFoundError."""
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
    """Return every file by name. Raises BundleError for any other kind of entry."""
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
            pass  # the first entry of "tar -C FOLDER -cf FILE ."
        elif header.type not in SKIPPED_TYPES:
            raise BundleError(
                f"{origin}: {header.name!r} is no plain file: a folder, a link or a device"
            )
        offset += -(-header.size // BLOCK) * BLOCK
    raise BundleError(f"{origin}: over {MAX_HEADERS} entries, that is no bundle")


def _read_header(handle: int, offset: int, origin: Path) -> tarfile.TarInfo | None:
    """Decode one header; None for the block of zeros that ends the archive."""
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
