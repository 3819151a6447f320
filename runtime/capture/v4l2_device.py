"""An open V4L2 device, and the formats and rates that it offers."""

from __future__ import annotations

import math
import mmap
import os
import select
from collections.abc import Callable, Iterator
from ctypes import Structure
from dataclasses import dataclass
from typing import Literal, TypeVar

from ..ioctl import call_driver
from ..messages import SourceError
from . import v4l2_uapi as abi

RAW_FORMATS = {"NV12": "nv12", "YUYV": "yuyv", "RGB3": "rgb8", "BGR3": "bgr8"}
"""V4L2's names for the layouts of `kernels.pixels`, best first: fewer bytes are better."""

_FPS_TOLERANCE = 0.95
"""Fraction of the wanted rate that counts as reaching it: 29.97 is 30."""
_MAX_ENTRIES = 256

Entry = TypeVar("Entry", bound=Structure)


class Handle:
    """The device's file: ioctl, poll and mmap. `wake` may be called from another thread."""

    def __init__(self, device: str) -> None:
        """Raises SourceError if the device cannot be opened."""
        try:
            self._fd = os.open(device, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise SourceError(f"camera {device} cannot be opened: {error.strerror}") from error
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)
        self._poll.register(self._wake, select.POLLIN)

    def ioctl(self, number: int, argument: Structure | bytes) -> None:
        """Call ioctl(2). Changes a structure in place. Raises OSError."""
        call_driver(self._fd, number, argument)

    def map(self, length: int, offset: int) -> mmap.mmap:
        return mmap.mmap(self._fd, length, prot=mmap.PROT_READ, offset=offset)

    def wait(self, timeout_s: float) -> Literal["ready", "late", "woken"]:
        """Wait for a frame or an error ("ready"), the time limit ("late") or `wake` ("woken")."""
        files = [file for file, _ in self._poll.poll(timeout_s * 1000)]
        if self._wake in files:
            return "woken"
        return "ready" if files else "late"

    def wake(self) -> None:
        """End this wait and all later ones at once."""
        os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Close the file. Called once, by the thread that waits."""
        os.close(self._fd)
        os.close(self._wake)


@dataclass(frozen=True, slots=True)
class RawFormat:
    """One of the `RAW_FORMATS`, as the device offers it at the wanted size."""

    name: str
    """V4L2's name, such as "YUYV"."""
    fastest_fps: float
    """0 if the size is not offered, infinite if the device does not state a rate."""

    def reaches(self, fps: float) -> bool:
        return self.fastest_fps >= _FPS_TOLERANCE * fps


def check_captures(handle: Handle, device: str) -> None:
    """Raise SourceError for anything but a camera that can stream."""
    answer = abi.Capability()
    try:
        handle.ioctl(abi.QUERYCAP, answer)
    except OSError as error:
        raise SourceError(f"camera {device} is no V4L2 device: {error.strerror}") from error
    own = answer.capabilities & abi.CAP_DEVICE_CAPS
    caps = answer.device_caps if own else answer.capabilities
    if not caps & abi.CAP_CAPTURE:
        kind = "has only multi-planar formats" if caps & abi.CAP_CAPTURE_MPLANE else "is no camera"
        raise SourceError(f"camera {device} {kind}")
    if not caps & abi.CAP_STREAMING:
        raise SourceError(f"camera {device} cannot stream")


def list_formats(handle: Handle) -> set[str]:
    """Return V4L2's names of all formats that the device has, compressed ones too."""

    def describe(index: int) -> abi.FormatDescription:
        return abi.FormatDescription(index=index, type=abi.CAPTURE)

    entries = _enumerate(handle, abi.ENUM_FMT, describe)
    return {abi.fourcc_name(entry.pixelformat) for entry in entries}


def list_raw_formats(handle: Handle, width: int, height: int) -> list[RawFormat]:
    """Return those of `RAW_FORMATS` that the device has, best first."""
    names = list_formats(handle)
    return [
        RawFormat(name, _fastest_fps(handle, abi.fourcc(name), width, height))
        for name in RAW_FORMATS
        if name in names
    ]


@dataclass(frozen=True, slots=True)
class Mode:
    """A format at a size, and its fastest rate."""

    name: str
    """V4L2's name, such as "MJPG"."""
    width: int
    height: int
    """The largest, where the device offers a range."""
    fastest_fps: float
    """Infinite if the device does not state a rate."""


def list_modes(handle: Handle) -> list[Mode]:
    """Return what the device offers, sorted by format, largest first."""
    modes = []
    for name in sorted(list_formats(handle)):
        code = abi.fourcc(name)

        def size(index: int, code: int = code) -> abi.FrameSize:
            return abi.FrameSize(index=index, pixel_format=code)

        sides = {
            (entry.sides[0], entry.sides[1])
            if entry.type == abi.DISCRETE
            else (entry.sides[1], entry.sides[4])
            for entry in _enumerate(handle, abi.ENUM_FRAMESIZES, size)
        }
        modes += [
            Mode(name, width, height, _fastest_fps(handle, code, width, height))
            for width, height in sorted(sides, reverse=True)
        ]
    return modes


def read_card(handle: Handle) -> str:
    """Return the name that the driver gives the device; "" if it gives none."""
    answer = abi.Capability()
    try:
        handle.ioctl(abi.QUERYCAP, answer)
    except OSError:
        return ""
    return bytes(answer.card).split(b"\0", 1)[0].decode(errors="replace")


def explain_shortfall(formats: list[RawFormat], width: int, height: int, fps: float) -> str:
    """Return why none of `formats` reaches the size and rate, or "" if one does."""
    if any(entry.reaches(fps) for entry in formats):
        return ""
    if not formats:
        return f"it offers none of {', '.join(RAW_FORMATS)}"
    best = max(formats, key=lambda entry: entry.fastest_fps)
    if not best.fastest_fps:
        return f"it offers no raw format at {width}x{height}"
    return (
        f"raw formats at {width}x{height} reach {best.fastest_fps:.3g} of {fps:.3g} frames a second"
    )


def _enumerate(handle: Handle, number: int, make: Callable[[int], Entry]) -> Iterator[Entry]:
    for index in range(_MAX_ENTRIES):
        entry = make(index)
        try:
            handle.ioctl(number, entry)
        except OSError:  # after the last entry, or the driver has no such list
            return
        yield entry


def _fastest_fps(handle: Handle, code: int, width: int, height: int) -> float:
    def size(index: int) -> abi.FrameSize:
        return abi.FrameSize(index=index, pixel_format=code)

    def interval(index: int) -> abi.FrameInterval:
        return abi.FrameInterval(index=index, pixel_format=code, width=width, height=height)

    sizes = list(_enumerate(handle, abi.ENUM_FRAMESIZES, size))
    if sizes and not any(_has_size(entry, width, height) for entry in sizes):
        return 0.0
    shortest = [entry.shortest for entry in _enumerate(handle, abi.ENUM_FRAMEINTERVALS, interval)]
    return max((i.denominator / i.numerator for i in shortest if i.numerator), default=math.inf)


def _has_size(entry: abi.FrameSize, width: int, height: int) -> bool:
    sides = list(entry.sides)
    if entry.type == abi.DISCRETE:
        return sides[:2] == [width, height]
    return all(
        least <= side <= most and (side - least) % max(step, 1) == 0
        for side, (least, most, step) in ((width, sides[:3]), (height, sides[3:]))
    )
