"""The doctor's check of the configured source."""

from __future__ import annotations

import os
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from emotion_edge.runtime.config import Indicator, Source
from emotion_edge.runtime.doctor.source import check_source
from emotion_edge.runtime.messages import SourceError

URL = "rtsp://me:secret@camera/live?token=secret"


@contextmanager
def open_stream(_: str) -> Iterator[object]:
    yield types.SimpleNamespace(streams=types.SimpleNamespace(video=[1], audio=[]))


def refuse(_: str) -> object:
    raise SourceError("source rtsp://***: no answer")


@pytest.mark.parametrize("name", ["auto", "camera", "/dev/video0", "demo", "none", "-"])
def test_nothing_is_opened(name: str) -> None:
    assert check_source(Source(name), Indicator(), True, open_url=refuse).state == "ok"


def test_files(tmp_path: Path) -> None:
    """A missing file is a failure, whatever its name; a FIFO is not opened."""
    missing = check_source(Source(str(tmp_path / "new\nline")), Indicator(), True)
    assert missing.state == "fail"
    assert missing.message.isprintable()
    (tmp_path / "film.mp4").touch()
    assert check_source(Source(str(tmp_path / "film.mp4")), Indicator(), True).state == "ok"
    os.mkfifo(tmp_path / "fifo")
    assert check_source(Source(str(tmp_path / "fifo")), Indicator(), True).state == "ok"


@pytest.mark.parametrize(
    ("indicator", "may_connect", "opener", "state"),
    [
        (Indicator(), True, open_stream, "ok"),
        (Indicator(), True, refuse, "fail"),
        (Indicator(), False, refuse, "ok"),
        (Indicator(kind="screen"), True, refuse, "ok"),
        (Indicator(kind="file", file="/sys/class/leds/none/x"), True, refuse, "warn"),
    ],
)
def test_stream(
    tmp_path: Path, indicator: Indicator, may_connect: bool, opener: object, state: str
) -> None:
    """It is connected to where a run may, with the indicator on; its secrets are not shown."""
    check = check_source(Source(URL), indicator, may_connect, tmp_path, opener)  # type: ignore[arg-type]
    assert check.state == state
    assert "secret" not in check.message
