"""Untrusted bundles: valid archives and folders are indexed, all others raise one line."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emotion_edge.engines.base import null_reporter
from emotion_edge.engines.bundles.archive import (
    BLOCK,
    MAX_HEADERS,
    open_archive,
    open_bundle_source,
)
from emotion_edge.engines.bundles.manifest import (
    MANIFEST,
    SIGNATURE,
    Bundle,
    BundleError,
)
from emotion_edge.engines.bundles.store import BundleStore

from ..power_cuts import write_bundle

Change = Callable[[tarfile.TarInfo], object]


def read(path: Path) -> dict[str, bytes]:
    """Return every file of the bundle at `path` by name."""
    with open_bundle_source(path) as handle, open_archive(handle, path) as archive:
        return {name: b"".join(archive.read_file(name)) for name in archive.extents}


def pack(folder: Path, **options: Any) -> Path:
    file = folder.with_suffix(".tar")
    with tarfile.open(file, "w", **options) as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, path.name)
    return file


def add(file: Path, name: str, data: bytes = b"", change: Change | None = None) -> Path:
    """Append an entry to the archive `file`."""
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    if change is not None:
        change(entry)
    with tarfile.open(file, "a") as archive:
        archive.addfile(entry, io.BytesIO(data))
    return file


def assert_refused(path: Path, *words: str) -> str:
    with pytest.raises(BundleError) as caught:
        read(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    for word in words:
        assert word in message
    return message


def contents(bundle: Bundle) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in bundle.path.iterdir()}


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_archive(bundle: Bundle, kind: int) -> None:
    """Every tar format is read; pax has extended headers for the exact time."""
    file = pack(bundle.path, format=kind)
    if kind == tarfile.PAX_FORMAT:
        assert b"mtime=" in file.read_bytes()
    assert read(file) == contents(bundle)


@pytest.mark.parametrize("order", [["."], ["face.onnx", "./bundle.json", "voice.onnx"]])
def test_archive_of_the_command(bundle: Bundle, order: list[str]) -> None:
    """The help's tar command puts "./" before each name and adds the folder; any order is read."""
    if shutil.which("tar") is None:
        pytest.skip("no tar")
    file = bundle.path.with_suffix(".tar")
    subprocess.run(["tar", "-cf", file, "-C", bundle.path, *order], check=True, timeout=500)
    assert read(file) == contents(bundle)


def test_folder(bundle: Bundle) -> None:
    """Files that the manifest does not list are ignored."""
    good = contents(bundle)
    (bundle.path / "notes.txt").write_text("mine")
    (bundle.path / "link").symlink_to("/etc/passwd")
    (bundle.path / SIGNATURE).write_bytes(b"s" * 64)
    assert read(bundle.path) == {**good, SIGNATURE: b"s" * 64}


def test_signature_is_included(bundle: Bundle) -> None:
    """No manifest lists it."""
    (bundle.path / SIGNATURE).write_bytes(b"s" * 64)
    assert read(pack(bundle.path))[SIGNATURE] == b"s" * 64


def test_source_is_opened_once(bundle: Bundle) -> None:
    """A source opened as root is read by the open file after privileges are dropped."""
    file = pack(bundle.path)
    with open_bundle_source(file) as handle:
        file.unlink()
        with open_archive(handle, file) as archive:
            assert b"".join(archive.read_file(MANIFEST)) == (bundle.path / MANIFEST).read_bytes()


@pytest.mark.parametrize(
    "name",
    [
        "../face.onnx",
        "/etc/passwd",
        "sub/face.onnx",
        "..",
        "a\\b",
        "./../x",
        ".//x",
        "x" * 200,
        "/" + "x" * 150 + "/y",
    ],
)
@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_path_that_leaves_the_folder(bundle: Bundle, name: str, kind: int) -> None:
    """Such a name, and one too long for a bundle, is refused."""
    file = pack(bundle.path)
    entry = tarfile.TarInfo(name)
    with tarfile.open(file, "a", format=kind) as archive:
        archive.addfile(entry, io.BytesIO())
    assert_refused(file)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda e: setattr(e, "type", tarfile.SYMTYPE) or setattr(e, "linkname", "/etc"), "face"),
        (lambda e: setattr(e, "type", tarfile.LNKTYPE) or setattr(e, "linkname", "x"), "face"),
        (lambda e: setattr(e, "type", tarfile.CHRTYPE), "face"),
        (lambda e: setattr(e, "type", tarfile.BLKTYPE), "face"),
        (lambda e: setattr(e, "type", tarfile.FIFOTYPE), "face"),
        (lambda e: setattr(e, "type", tarfile.DIRTYPE), "sub"),
        (lambda e: setattr(e, "type", tarfile.CONTTYPE), "face"),
        (lambda e: setattr(e, "type", tarfile.GNUTYPE_SPARSE), "face"),
    ],
)
def test_other_kinds_of_entries(bundle: Bundle, change: Change, name: str) -> None:
    """Links, devices, pipes, folders and sparse files are refused by name."""
    assert_refused(add(pack(bundle.path), name, b"", change), repr(name))


def test_unlisted_entry(bundle: Bundle) -> None:
    """An archive holds only files of its manifest."""
    assert_refused(add(pack(bundle.path), "more.onnx", b"more"), "'more.onnx'")


def test_duplicate_entry(bundle: Bundle) -> None:
    """Two entries of one name are refused."""
    assert_refused(add(pack(bundle.path), "./face.onnx", b"other"), "'face.onnx'")


def test_missing_file(bundle: Bundle) -> None:
    """The missing file is named, of an archive and a folder."""
    for name in ("voice.onnx", MANIFEST):
        (bundle.path / name).unlink()
        assert_refused(pack(bundle.path), name)
        assert_refused(bundle.path, name)


def test_wrong_size(bundle: Bundle) -> None:
    """A size that differs from the manifest is refused before copying."""
    with (bundle.path / "face.onnx").open("ab") as stream:
        stream.write(b"?")
    for path in (pack(bundle.path), bundle.path):
        assert_refused(path, "files.face.onnx.bytes")


def test_huge_files(bundle: Bundle) -> None:
    """They are refused by their size."""
    (bundle.path / SIGNATURE).write_bytes(b"s" * 65)
    assert_refused(pack(bundle.path), f"{SIGNATURE} has 65 bytes")
    with (bundle.path / MANIFEST).open("ab") as stream:
        stream.truncate(2 << 20)
    for path in (bundle.path, pack(bundle.path)):
        assert_refused(path, f"{MANIFEST} has 2097152 bytes")


@pytest.mark.parametrize("length", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 5000, -BLOCK * 25, -1])
def test_cut_short(bundle: Bundle, length: int) -> None:
    """An incomplete copy, cut anywhere before the zeros at the end."""
    file = pack(bundle.path)
    data = file.read_bytes()
    end = len(data.rstrip(b"\0"))
    file.write_bytes(data[: length if length >= 0 else end + length])
    assert_refused(file)


def test_other_archives(bundle: Bundle, tmp_path: Path) -> None:
    """Compressed archives, text, and an empty archive."""
    for mode in ("gz", "xz", "bz2"):
        file = tmp_path / f"tiny.tar.{mode}"
        with tarfile.open(file, f"w:{mode}") as archive:  # type: ignore[call-overload]
            archive.add(bundle.path / MANIFEST, MANIFEST)
        assert_refused(file)
    (tmp_path / "text").write_text("no archive" * 100)
    assert_refused(tmp_path / "text")
    empty = tmp_path / "empty.tar"
    tarfile.open(empty, "w").close()
    assert_refused(empty, MANIFEST)


@pytest.mark.parametrize("kind", [tarfile.DIRTYPE, tarfile.XHDTYPE])
def test_too_many_entries(tmp_path: Path, kind: bytes) -> None:
    """Folders, or a chain of pax headers, which ends in a RecursionError in tarfile."""
    file = tmp_path / "endless.tar"
    entry = tarfile.TarInfo(".")
    entry.type = kind
    file.write_bytes(entry.tobuf() * (MAX_HEADERS + 1))
    assert_refused(file, str(MAX_HEADERS))


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_huge_extended_header(bundle: Bundle, kind: bytes) -> None:
    """Extended headers are never read into memory, as tarfile does."""
    file = bundle.path.with_suffix(".huge.tar")
    entry = tarfile.TarInfo("x")
    entry.type, entry.size = kind, 1 << 30
    with file.open("wb") as stream:
        stream.write(entry.tobuf())
        stream.seek(entry.size, os.SEEK_CUR)
        stream.write(pack(bundle.path).read_bytes())
    tracemalloc.start()
    try:
        if kind == tarfile.XHDTYPE:
            assert read(file) == contents(bundle)
        else:
            assert_refused(file, "'x'")
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_damaged_header(bundle: Bundle) -> None:
    """A header with a wrong checksum is refused, also after the last listed file."""
    file = add(pack(bundle.path), "more", b"")
    data = bytearray(file.read_bytes())
    data[data.index(b"more\0") + 150] ^= 1
    file.write_bytes(data)
    assert_refused(file)


def test_negative_size(bundle: Bundle) -> None:
    """A negative size would make the walk endless."""
    file = add(pack(bundle.path), "more", b"", lambda entry: setattr(entry, "size", 0))
    data = bytearray(file.read_bytes())
    at = data.index(b"more\0")
    data[at + 124 : at + 136] = b"\xff" * 12  # base 256, -1
    total = sum(data[at : at + 148]) + 8 * 32 + sum(data[at + 156 : at + BLOCK])
    data[at + 148 : at + 156] = b"%06o\0 " % total
    file.write_bytes(data)
    assert_refused(file, "'more'")


def test_link_in_a_folder(bundle: Bundle, tmp_path: Path) -> None:
    """A link is refused: its target can change later."""
    for name in ("face.onnx", MANIFEST):
        (bundle.path / name).rename(tmp_path / name)
        (bundle.path / name).symlink_to(tmp_path / name)
        assert_refused(bundle.path, name)


def test_pipes_and_folders_in_a_folder(bundle: Bundle) -> None:
    """They are refused, and a pipe does not block."""
    (bundle.path / "face.onnx").unlink()
    os.mkfifo(bundle.path / "face.onnx")
    assert_refused(bundle.path, "face.onnx")
    (bundle.path / MANIFEST).unlink()
    (bundle.path / MANIFEST).mkdir()
    assert_refused(bundle.path, MANIFEST)


def test_neither_archive_nor_folder(tmp_path: Path) -> None:
    """A pipe, a device, a missing file."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/null"), tmp_path / "none"):
        assert_refused(path)


def test_file_that_shrinks(bundle: Bundle) -> None:
    """An archive that shrinks after it was indexed raises BundleError."""
    file = pack(bundle.path)
    with open_bundle_source(file) as handle, open_archive(handle, file) as archive:
        os.truncate(file, BLOCK)
        with pytest.raises(BundleError, match=r"voice\.onnx"):
            list(archive.read_file("voice.onnx"))


@pytest.fixture(scope="module")
def good() -> Iterator[Path]:
    """An archive of a bundle with placeholder networks."""
    with tempfile.TemporaryDirectory() as folder:
        yield pack(write_bundle(Path(folder) / "null", "null"))


def install(data: bytes) -> None:
    """Install an archive of any content: it succeeds or raises one line, and nothing is written
    outside."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "x.tar"
        file.write_bytes(data)
        message = ""
        try:
            with open_bundle_source(file) as handle, open_archive(handle, file) as archive:
                BundleStore(folder / "state").install(archive, None, lambda _: None, null_reporter)
        except BundleError as error:
            message = str(error)
        assert message.isprintable()  # one line without terminal escapes
        outside = {path.name for path in folder.iterdir()} - {"x.tar", "state"}
        inside = {path.name for path in folder.glob("state/bundles/*")}
        assert outside == set()
        assert all(len(name) == 16 or name.endswith((".lock", ".json")) for name in inside), inside


FUZZ = settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
names = st.one_of(
    st.sampled_from(["face.onnx", "./face.onnx", MANIFEST, SIGNATURE, "..", "../x", "/x", ".", ""]),
    st.text(max_size=30),
)
kinds = st.sampled_from([bytes([n]) for n in b"0123456789LKSgxDMNV\0"])


@FUZZ
@given(at=st.integers(0, 1 << 16), new=st.binary(max_size=16), cut=st.integers(0, 1 << 16))
def test_damaged_archives(good: Path, at: int, new: bytes, cut: int) -> None:
    """A valid archive with bytes overwritten and the end cut off, anywhere."""
    data = bytearray(good.read_bytes())
    at %= len(data)
    data[at : at + len(new)] = new
    install(bytes(data[: len(data) - cut % len(data)] if cut % 3 == 0 else data))


@FUZZ
@given(st.lists(st.tuples(names, kinds, st.integers(-5, 1 << 40), st.binary(max_size=600))))
def test_entries_of_any_kind(good: Path, entries: list[tuple[str, bytes, int, bytes]]) -> None:
    """Valid headers with any name, type and size before a valid bundle."""
    head = bytearray()
    for name, kind, size, data in entries:
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = kind, "/etc/passwd"
        entry.size = len(data) if size % 2 else size
        with_headers = entry.tobuf(tarfile.GNU_FORMAT, errors="surrogateescape")
        head += with_headers + data + bytes(-len(data) % BLOCK)
    install(bytes(head) + good.read_bytes())


@FUZZ
@given(
    st.dictionaries(st.text(max_size=110), st.tuples(st.text(max_size=70), st.integers())),
    st.one_of(st.integers(-1, 1), st.none(), st.text(max_size=3)),
    st.dictionaries(st.text(max_size=20), st.integers(), max_size=1),
    st.text(max_size=20),
)
def test_manifests_of_any_kind(
    good: Path,
    files: dict[str, tuple[str, int]],
    version: int | str | None,
    more: dict[str, int],
    level: str,
) -> None:
    """Any names, hashes, sizes, format, keys and levels in the manifest."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "null"
        folder.mkdir()
        with tarfile.open(good) as archive:
            for member in archive:
                stream = archive.extractfile(member)
                assert stream is not None
                (folder / member.name).write_bytes(stream.read())
        fields = json.loads((folder / MANIFEST).read_text())
        fields["files"].update({n: {"sha256": h, "bytes": b} for n, (h, b) in files.items()})
        fields["format"] = fields["format"] if version == 0 else version
        fields["levels"][0]["name"] = level
        fields["levels"][0]["face_px"] = len(level)
        fields.update(more)
        (folder / MANIFEST).write_text(json.dumps(fields))
        install(pack(folder).read_bytes())
