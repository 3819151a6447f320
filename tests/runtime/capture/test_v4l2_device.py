"""The device file on a FIFO, the kernel's numbers, and the formats that a device offers."""

from __future__ import annotations

import ctypes
import os
import threading
from pathlib import Path

import pytest

from emotion_edge.runtime.capture import v4l2_uapi as abi
from emotion_edge.runtime.capture.camera import CameraSettings
from emotion_edge.runtime.capture.v4l2_camera import V4l2Camera
from emotion_edge.runtime.capture.v4l2_device import (
    Handle,
    RawFormat,
    explain_shortfall,
    list_formats,
    list_raw_formats,
)
from emotion_edge.runtime.clock import FakeClock
from emotion_edge.runtime.messages import SourceError

from .v4l2_fake import FakeDriver


@pytest.fixture
def fifo(tmp_path: Path) -> str:
    path = tmp_path / "video0"
    os.mkfifo(path)
    return str(path)


def test_waiting(fifo: str) -> None:
    """A timeout, a readable file, and a wake that outlasts both."""
    handle = Handle(fifo)
    assert handle.wait(0) == "late"
    with open(fifo, "wb", buffering=0) as writer:  # noqa: PTH123 - a FIFO
        writer.write(b"x")
    assert handle.wait(5) == "ready"
    handle.wake()
    assert handle.wait(5) == "woken"
    assert handle.wait(0) == "woken"
    handle.close()


def test_wake_ends_a_wait_in_another_thread(fifo: str) -> None:
    """Whether the reader is in poll already or not."""
    handle = Handle(fifo)
    results: list[str] = []
    reader = threading.Thread(target=lambda: results.append(handle.wait(600)))
    reader.start()
    handle.wake()
    reader.join()
    assert results == ["woken"]
    handle.close()


def test_missing_device_and_ordinary_file(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"video9.*No such file"):
        Handle(str(tmp_path / "video9"))
    (tmp_path / "video1").touch()
    with pytest.raises(SourceError, match=r"video1 is no V4L2 device"):
        V4l2Camera(str(tmp_path / "video1"), FakeClock(), CameraSettings())


def test_numbers_equal_the_kernels() -> None:
    """As a C program prints them with linux/videodev2.h on x86-64: numbers and offsets."""
    numbers = {
        "QUERYCAP": 0x80685600,
        "ENUM_FMT": 0xC0405602,
        "S_FMT": 0xC0D05605,
        "REQBUFS": 0xC0145608,
        "QUERYBUF": 0xC0585609,
        "QBUF": 0xC058560F,
        "DQBUF": 0xC0585611,
        "STREAMON": 0x40045612,
        "STREAMOFF": 0x40045613,
        "S_PARM": 0xC0CC5616,
        "ENUM_FRAMESIZES": 0xC02C564A,
        "ENUM_FRAMEINTERVALS": 0xC034564B,
    }
    assert {name: getattr(abi, name) for name in numbers} == numbers
    buffer = abi.Buffer
    offsets = [buffer.timestamp, buffer.sequence, buffer.m, buffer.length, abi.Format.fmt]
    assert [field.offset for field in offsets] == [24, 56, 64, 72, 8]
    assert abi.FrameInterval.shortest.offset == 20
    assert abi.FrameSize.sides.offset == 12
    assert abi.StreamParm.parm.offset + abi.CaptureParm.timeperframe.offset == 12
    assert ctypes.sizeof(abi.Buffer) == 88
    assert (abi.fourcc("NV12"), abi.fourcc_name(0x3231564E)) == (0x3231564E, "NV12")


def test_formats_and_rates() -> None:
    """Best format first, each with its fastest rate at the size; 0 without that size."""
    driver = FakeDriver(FakeClock())
    driver.formats = {
        "BGR3": {(640, 480): 15.0},
        "MJPG": {(640, 480): 30.0},
        "NV12": {(320, 240): 30.0},
        "YUYV": {(640, 480): 30.0},
    }
    assert list_formats(driver) == {"BGR3", "MJPG", "NV12", "YUYV"}  # type: ignore[arg-type]
    assert list_raw_formats(driver, 640, 480) == [  # type: ignore[arg-type]
        RawFormat("NV12", 0.0),
        RawFormat("YUYV", 30.0),
        RawFormat("BGR3", 15.0),
    ]


@pytest.mark.parametrize(
    ("sides", "offered"),
    [
        ([320, 1280, 16, 240, 960, 16], True),
        ([320, 1280, 0, 240, 960, 0], True),
        ([320, 600, 1, 240, 960, 1], False),
        ([328, 1280, 16, 240, 960, 16], False),
    ],
)
def test_sizes_in_steps(sides: list[int], offered: bool) -> None:
    """A range offers the sizes on its steps. Without a list of rates any rate is assumed."""

    class Stepwise(FakeDriver):
        def _enum_framesizes(self, entry: abi.FrameSize) -> None:
            self._nth([1], entry.index)
            entry.type = 3
            entry.sides[:] = sides

        def _enum_frameintervals(self, entry: abi.FrameInterval) -> None:
            raise OSError(25, "Inappropriate ioctl for device")

    (raw, *_) = list_raw_formats(Stepwise(FakeClock()), 640, 480)  # type: ignore[arg-type]
    assert raw.fastest_fps == (float("inf") if offered else 0.0)


def test_shortfalls() -> None:
    """Empty if one format reaches the rate, else with the size, the rates or the formats."""
    slow, missing = RawFormat("YUYV", 10.0), RawFormat("NV12", 0.0)
    assert explain_shortfall([missing, RawFormat("YUYV", 29.97)], 640, 480, 30) == ""
    assert "10 of 30" in explain_shortfall([missing, slow], 1280, 720, 30)
    assert "1280x720" in explain_shortfall([missing], 1280, 720, 30)
    assert "NV12, YUYV, RGB3, BGR3" in explain_shortfall([], 1280, 720, 30)
