"""A V4L2 camera spoken to directly: raw pictures, in memory that the GPU can read in place.

In: a device that offers NV12, YUYV, RGB24 or BGR24. Out: the newest picture with the driver's own
time and number. Where the driver takes it, it fills our page-locked memory and nothing is copied.
Cameras that give only MJPEG are for `camera.py`.
"""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Callable

from ...kernels.mapped import MapError, Pin
from ..clock import Clock
from ..messages import CapturePath, SourceError, VideoFrame
from . import v4l2_abi as abi
from .stamps import DriverStamps
from .v4l2_buffers import DriverBuffers, OurBuffers
from .v4l2_device import Handle, check_captures
from .v4l2_format import agree_on_format

_LOG = logging.getLogger(__name__)

_WAIT_S = 2.0
"""The slowest rate that can be asked for is one picture a second."""
_MOST_BAD_IN_A_ROW = 30
_PERHAPS_MONOTONIC = (abi.FLAG_TIMESTAMP_MONOTONIC, abi.FLAG_TIMESTAMP_UNKNOWN)
"""Drivers that do not say which clock it is may use another; `DriverStamps` would find out."""


class V4l2Camera:
    """A VideoSource over one device. Raises SourceError when it cannot be opened or fails."""

    def __init__(
        self,
        device: str,
        clock: Clock,
        *,
        width: int = 1280,
        height: int = 720,
        fps: float = 30,
        pin: Pin | None = None,
        open_handle: Callable[[str], Handle] = Handle,
    ) -> None:
        """The size and the rate are wishes: the driver takes the nearest it can do.

        `pin`: `kernels.mapped.find_pin()`, when a GPU is to read the pictures.
        """
        self.device = device
        self.bad_pictures = 0
        """Passed over: the driver marked them as broken or they came too short."""
        self.stale_pictures = 0
        """Passed over: there was a newer one already."""
        self._clock = clock
        self._pin = pin
        self._stamps = DriverStamps(device)
        self._index = -1
        self._sequence = 0
        self._warm = False
        self._closed = threading.Event()
        self._busy = threading.Lock()  # the device must not be closed while it is read
        self._ending = threading.Lock()  # nor be woken while or after it is closed
        self._released = False
        self._handle = open_handle(device)
        try:
            check_captures(self._handle, device)
            self._layout = agree_on_format(self._handle, device, width, height, fps)
            self._buffers = self._start()
        except OSError as error:
            self._handle.close()
            if isinstance(error, SourceError):
                raise
            raise self._failed(error) from error

    @property
    def path(self) -> CapturePath:
        """Of the newest picture: a driver that did not take our memory costs a copy, and so does
        a reader that keeps too many pictures."""
        return CapturePath(
            copies_per_frame=self._buffers.copies,
            clock_domain=self._stamps.clock_domain,
            zero_copy="pinned" if self._buffers.in_gpu else "none",
        )

    def read(self) -> VideoFrame | None:
        """The newest picture. Waits for two seconds at most; None when closed."""
        try:
            with self._busy:
                return self._read()
        except BlockingIOError as error:  # poll promised something, and it was no picture
            raise SourceError(f"camera {self.device} has stopped") from error
        except SourceError:
            raise
        except OSError as error:
            raise self._failed(error) from error
        finally:
            if self._closed.is_set():
                self._release()

    def close(self) -> None:
        """Returns at once; a read that waits is woken and closes the device."""
        with self._ending:
            if not self._closed.is_set():
                self._closed.set()
                self._handle.wake()
        self._release()

    def __enter__(self) -> V4l2Camera:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _release(self) -> None:
        if self._busy.acquire(blocking=False):
            try:
                with self._ending:
                    if not self._released:
                        self._released = True
                        self._buffers.close()
                        self._handle.close()
            finally:
                self._busy.release()

    def _failed(self, error: OSError) -> SourceError:
        if error.errno == errno.ENODEV:
            return SourceError(f"camera {self.device} is gone")
        return SourceError(f"camera {self.device} failed: {error.strerror or error}")

    def _start(self) -> OurBuffers | DriverBuffers:
        if self._pin is not None:
            try:
                return self._fill_ours()
            except MapError as error:
                _LOG.warning("camera %s: the GPU gets copies: %s", self.device, error)
                self._pin = None
        return self._fill_ours()

    def _fill_ours(self) -> OurBuffers | DriverBuffers:
        try:
            return OurBuffers(self._handle, self._layout.buffer_bytes, self._pin)
        except MapError:
            raise
        except OSError as error:
            return self._copy_from_driver(error.strerror or str(error))

    def _copy_from_driver(self, why: str) -> DriverBuffers:
        _LOG.info(
            "camera %s: its driver does not fill our memory (%s): each picture is copied once",
            self.device,
            why,
        )
        return DriverBuffers(self._handle, self._layout.buffer_bytes, self._pin)

    def _read(self) -> VideoFrame | None:
        bad = 0
        while not self._closed.is_set():
            self._buffers.reclaim()
            event = self._handle.wait(_WAIT_S)
            if event == "woken":
                return None
            if event == "late":
                self._restart_or_raise("gives no pictures")
                continue
            newest, taken, spoilt = self._take_newest()
            if newest is not None and not self._warm:
                # Often the first one is dark, cut off or left from the time before.
                self._warm = True
                self._buffers.queue(newest.index)
                continue
            if newest is not None:
                return self._hand_out(newest, taken)
            bad += spoilt
            if bad >= _MOST_BAD_IN_A_ROW:
                self._restart_or_raise(f"gave {bad} broken pictures in a row")
                bad = 0
        return None

    def _restart_or_raise(self, problem: str) -> None:
        """A driver that took our memory and never filled it gets a chance with its own."""
        if self._warm or isinstance(self._buffers, DriverBuffers):
            raise SourceError(f"camera {self.device} {problem}")
        self._buffers.close()
        self._buffers = self._copy_from_driver(problem)

    def _take_newest(self) -> tuple[abi.Buffer | None, int, int]:
        """(the newest good picture, pictures taken for it, broken ones among them).

        Raises BlockingIOError when there was nothing to take.
        """
        newest: abi.Buffer | None = None
        taken = bad = 0
        while True:
            try:
                buffer = self._buffers.take()
            except BlockingIOError:
                if not taken:
                    raise
                return newest, taken, bad
            taken += 1
            if buffer.flags & abi.FLAG_ERROR or buffer.bytesused < self._layout.picture_bytes:
                bad += 1
                self.bad_pictures += 1
                self._buffers.queue(buffer.index)
                continue
            if newest is not None:
                self.stale_pictures += 1
                self._buffers.queue(newest.index)
            newest = buffer

    def _hand_out(self, buffer: abi.Buffer, taken: int) -> VideoFrame:
        now_ns = self._clock.now_ns()
        t_ns = buffer.timestamp.tv_sec * 1_000_000_000 + buffer.timestamp.tv_usec * 1000
        if buffer.flags & abi.FLAG_TIMESTAMP_MASK not in _PERHAPS_MONOTONIC:
            t_ns = -1  # copied from another device
        t_ns = self._stamps.capture_ns(t_ns, now_ns)
        self._count(buffer.sequence, taken)
        image, device_ptr = self._buffers.hand_out(buffer, self._layout.shape, self._layout.strides)
        return VideoFrame(t_ns, self._index, image, self._layout.pixel_format, device_ptr)

    def _count(self, sequence: int, taken: int) -> None:
        """The driver's count goes on, a gap stays one; one that stands still is not believed."""
        step = (sequence - self._sequence) & 0xFFFFFFFF
        if self._index < 0:
            step = 1
        elif step == 0 or step > 0x7FFFFFFF:
            step = taken
        self._index += step
        self._sequence = sequence
