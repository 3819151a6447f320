"""What the name of a source means, and how it is shown."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from emotion_edge.runtime.capture.source_name import find_kind, find_path, is_camera, show_source


@pytest.fixture
def shared_memory() -> Iterator[Path]:
    """A file in /dev/shm."""
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("no /dev/shm")
    with tempfile.NamedTemporaryFile(dir="/dev/shm", suffix=".mp4") as file:
        yield Path(file.name)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("auto", "auto"),
        ("none", "none"),
        ("demo", "demo"),
        ("camera", "camera"),
        ("csi://0", "camera"),
        ("/dev/video97", "camera"),
        ("/dev/null", "camera"),
        ("/dev/shm/missing.mp4", "file"),
        ("rtsp://host/live", "stream"),
        ("HTTPS://host/live", "stream"),
        ("udp://@:5000", "stream"),
        ("ftp://host/film.mp4", "file"),
        ("talk.mp4", "file"),
        ("./none", "file"),
        ("a:b", "file"),
        ("nul\0.mp4", "file"),
        ("x" * 5000, "file"),
    ],
)
def test_kind_of_a_name(name: str, kind: str) -> None:
    """A missing device may come; a missing file is a file."""
    assert find_kind(name) == kind


def test_file_in_dev_is_a_file(shared_memory: Path) -> None:
    assert not is_camera(str(shared_memory))
    assert find_kind(str(shared_memory)) == "file"


def test_fifo_is_a_pipe(tmp_path: Path) -> None:
    """By whatever name, also the one that a shell gives for <(command)."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert find_kind(str(fifo)) == "pipe"
    reader, writer = os.pipe()
    try:
        assert find_kind(f"/dev/fd/{reader}") == "pipe"
    finally:
        os.close(reader)
        os.close(writer)


def test_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell leaves `--source=~/x` as it is. A file of that very name comes first."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert find_path("~/talk.mp4") == tmp_path / "home" / "talk.mp4"
    Path("~").mkdir()
    Path("~/talk.mp4").touch()
    assert find_path("~/talk.mp4") == Path("~/talk.mp4")
    assert find_path("~nobody-of-this-name/x") == Path("~nobody-of-this-name/x")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("talk  one.mp4", "talk  one.mp4"),
        (os.fsdecode(b"caf\xe9\n.mp4"), r"caf\xe9\n.mp4"),
        ("tab\t\x1b[31m\u2028\u202e.mp4", r"tab\t\x1b[31m\u2028\u202e.mp4"),
        ("gespr\u00e4ch.mp4", "gespr\u00e4ch.mp4"),
        ("rtsp://host:554/live", "rtsp://host:554/live"),
        ("rtsp://me:secret@host/live", "rtsp://***@host/live"),
        ("rtsp://secret@host/live", "rtsp://***@host/live"),
        ("rtsp://me:sec@ret@host/live", "rtsp://***@host/live"),
        ("rtsp://me:sec/ret@host/live", "rtsp://***@host/live"),
        ("rtsp://me:sec?ret@host/live", "rtsp://***"),
        ("http://me:sec#ret@host/live", "http://***"),
        ("http://host/live?token=secret", "http://host/live?***"),
        ("http://host/live?mail=a@secret", "http://***"),
        ("http://host/live#secret", "http://host/live#***"),
        ("http://me:secret@host/live?token=secret", "http://***@host/live?***"),
        ("HTTP://me:secret@host/new\nline", "HTTP://***@host/new\\nline"),
    ],
)
def test_shown_name_is_one_line_without_secrets(name: str, shown: str) -> None:
    """Whatever a password holds."""
    assert show_source(name) == shown
    assert "sec" not in show_source(name)
