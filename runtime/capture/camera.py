"""What all cameras share: settings, reading and closing, and the list of devices."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ..ioctl import call_driver
from ..messages import CapturePath, SourceError, VideoFrame
from . import v4l2_uapi as abi

CAPTURE_BACKENDS = ("auto", "v4l2", "opencv", "jetson")

CameraT = TypeVar("CameraT", bound="Camera")


@dataclass(frozen=True, slots=True)
class CameraSettings:
    """What a camera is asked for. It delivers the nearest size and rate that it supports."""

    width_px: int = 1280
    height_px: int = 720
    fps: float = 30.0
    backend: str = "auto"
    """One of `CAPTURE_BACKENDS`. "auto" uses the first that works, any other must work."""
    for_gpu: bool = False
    """Whether the GPU reads the frames: then they go to memory that it can access, if possible."""


class Camera(ABC):
    """A VideoSource over a device that must not be closed while it is read.

    `close` returns at once. A read that waits in the driver closes the device when it ends.
    """

    def __init__(self) -> None:
        self._closed = threading.Event()
        self._device_lock = threading.Lock()  # held to read or release the device

    @property
    @abstractmethod
    def path(self) -> CapturePath:
        """The path of the newest frame; before the first one, what is expected."""

    def read(self) -> VideoFrame | None:
        """Wait for the next frame. Returns None when closed. Raises SourceError."""
        try:
            with self._device_lock:
                return self._read()
        finally:
            if self._closed.is_set():
                self._release_unless_reading()

    def close(self) -> None:
        self._closed.set()
        self._release_unless_reading()

    def __enter__(self: CameraT) -> CameraT:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _release_unless_reading(self) -> None:
        if self._device_lock.acquire(blocking=False):
            try:
                self._release()
            finally:
                self._device_lock.release()

    @abstractmethod
    def _read(self) -> VideoFrame | None:
        """Wait for the next frame, or for `_closed`."""

    @abstractmethod
    def _release(self) -> None:
        """Release the device. May be called again."""


def list_cameras(folder: str = "/dev") -> list[str]:
    """Return the video devices that can capture, in the order of their numbers.

    A device without permission is listed too: opening it gives the better message.
    """
    nodes = [path for path in Path(folder).glob("video*") if path.name[5:].isdigit()]
    return [str(path) for path in sorted(nodes, key=_number) if _can_capture(path)]


def check_device(device: str) -> None:
    """Raise SourceError if the device does not exist or may not be opened."""
    path = Path(device)
    if not path.exists():
        cameras = ", ".join(list_cameras()) or "there is none"
        raise SourceError(f"camera {device}: no such device (found: {cameras})")
    if not os.access(path, os.R_OK | os.W_OK):
        raise SourceError(
            f"camera {device}: no permission; join its group: sudo usermod -aG video $USER"
        )


def _number(node: Path) -> int:
    return int(node.name[5:])


def _can_capture(node: Path) -> bool:
    try:
        file = os.open(node, os.O_RDWR | os.O_NONBLOCK)
    except PermissionError:
        return True
    except OSError:
        return False
    capability = abi.Capability()
    try:
        call_driver(file, abi.QUERYCAP, capability)
    except OSError:
        return False
    finally:
        os.close(file)
    return bool(capability.device_caps & (abi.CAP_CAPTURE | abi.CAP_CAPTURE_MPLANE))
