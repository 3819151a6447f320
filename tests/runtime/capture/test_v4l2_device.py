"""The device's file on a FIFO, the kernel's numbers, and which raw format is good enough."""

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

from .v4l2_stand_in import StandIn


@pytest.fixture
def fifo(tmp_path: Path) -> str:
    path = tmp_path / "video0"
    os.mkfifo(path)
    return str(path)


def test_waiting(fifo: str) -> None:
    """A time-out, something to read, and a wake that outlasts both."""
    handle = Handle(fifo)
    assert handle.wait(0) == "late"
    with open(fifo, "wb", buffering=0) as other:  # noqa: PTH123 - a FIFO
        other.write(b"x")
    assert handle.wait(5) == "ready"
    handle.wake()
    assert handle.wait(5) == "woken"
    assert handle.wait(0) == "woken"
    handle.close()


def test_wake_ends_a_wait_in_another_thread(fifo: str) -> None:
    """The reader sits in poll when it is woken, or comes to it after."""
    handle = Handle(fifo)
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append(handle.wait(20)))
    reader.start()
    handle.wake()
    reader.join()
    assert got == ["woken"]
    handle.close()


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    """One line with the system's reason, for a file that is no device too."""
    with pytest.raises(SourceError, match=r"camera .*video9 cannot be opened: No such file"):
        Handle(str(tmp_path / "video9"))
    (tmp_path / "video1").touch()
    with pytest.raises(SourceError, match=r"camera .*video1 is no V4L2 device: "):
        V4l2Camera(str(tmp_path / "video1"), FakeClock(), CameraSettings())


def test_numbers_are_the_kernels() -> None:
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
    """Best format first, each with its fastest rate at the size: 0 where it has no such size."""
    driver = StandIn(FakeClock())
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
    """A range has the sizes on its steps; without a list of rates any is hoped for."""

    class Stepwise(StandIn):
        def _enum_framesizes(self, entry: abi.FrameSize) -> None:
            self._nth([1], entry.index)
            entry.type = 3
            entry.sides[:] = sides

        def _enum_frameintervals(self, entry: abi.FrameInterval) -> None:
            raise OSError(25, "Inappropriate ioctl for device")

    (raw, *_) = list_raw_formats(Stepwise(FakeClock()), 640, 480)  # type: ignore[arg-type]
    assert raw.fastest_fps == (float("inf") if offered else 0.0)


def test_shortfalls() -> None:
    """None when one format reaches the rate, else the reason with its figures."""
    slow, missing = RawFormat("YUYV", 10.0), RawFormat("NV12", 0.0)
    assert explain_shortfall([missing, RawFormat("YUYV", 29.97)], 640, 480, 30) == ""
    assert explain_shortfall([missing, slow], 1280, 720, 30) == (
        "raw pictures of 1280x720 come at 10 of 30 a second"
    )
    assert explain_shortfall([missing], 1280, 720, 30) == "it offers no raw pictures of 1280x720"
    assert explain_shortfall([], 1280, 720, 30) == "it offers none of NV12, YUYV, RGB3, BGR3"
