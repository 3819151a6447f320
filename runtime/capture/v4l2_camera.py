"""A V4L2 camera without a library: raw frames, in memory that the GPU can read in place.

In: a device that offers NV12, YUYV, RGB24 or BGR24. Out: the newest frame with the driver's own
time and number. If the driver supports it, it fills page-locked memory and nothing is copied.
Cameras with only MJPEG are for `opencv_camera`.
"""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Callable

from ...kernels.memory import MapError, Pin
from ..clock import Clock
from ..messages import CapturePath, SourceError, VideoFrame
from . import v4l2_uapi as abi
from .camera import Camera, CameraSettings
from .timestamps import DriverTimestamps
from .v4l2_buffers import MmapBuffers, UserPtrBuffers
from .v4l2_device import Handle, check_captures
from .v4l2_format import negotiate_format

_LOG = logging.getLogger(__name__)

_WAIT_S = 2.0
"""The lowest rate that can be configured is one frame a second."""
_MAX_CONSECUTIVE_CORRUPT = 30
_TRUSTED_TIMESTAMPS = (abi.FLAG_TIMESTAMP_MONOTONIC, abi.FLAG_TIMESTAMP_UNKNOWN)
"""An unstated clock may be another one; `DriverTimestamps` detects that."""


class V4l2Camera(Camera):
    """A camera that delivers its newest raw frame. `read` waits for two seconds at most."""

    def __init__(
        self,
        device: str,
        clock: Clock,
        settings: CameraSettings,
        *,
        pin: Pin | None = None,
        open_handle: Callable[[str], Handle] = Handle,
    ) -> None:
        """`pin`: the result of `kernels.memory.find_pin`, if the GPU reads the frames.

        Raises SourceError if the camera cannot be opened.
        """
        super().__init__()
        self.device = device
        self.corrupt_frames = 0
        """Skipped frames that the driver marked as corrupt or that were too short."""
        self.stale_frames = 0
        """Skipped frames because a newer one was ready."""
        self._clock = clock
        self._pin = pin
        self._timestamps = DriverTimestamps(device)
        self._index = -1
        self._sequence = 0
        self._warmed_up = False
        self._close_lock = threading.Lock()  # no wake while or after the device is closed
        self._released = False
        self._handle = open_handle(device)
        try:
            check_captures(self._handle, device)
            self._layout = negotiate_format(self._handle, device, settings)
            self._buffers = self._start()
        except OSError as error:
            self._handle.close()
            if isinstance(error, SourceError):
                raise
            raise self._failed(error) from error

    @property
    def path(self) -> CapturePath:
        """The path of the newest frame. A driver that refuses user memory costs a copy, and so does
        a reader that keeps too many frames."""
        return CapturePath(
            copies_per_frame=self._buffers.copies,
            clock_domain=self._timestamps.clock_domain,
            zero_copy="pinned" if self._buffers.gpu_visible else "none",
        )

    def close(self) -> None:
        """Return at once. A read that waits is woken and closes the device."""
        with self._close_lock:
            if not self._closed.is_set():
                self._closed.set()
                self._handle.wake()
        super().close()

    def _read(self) -> VideoFrame | None:
        try:
            return self._read_newest()
        except BlockingIOError as error:  # poll reported an event without a frame
            raise SourceError(f"camera {self.device} has stopped") from error
        except SourceError:
            raise
        except OSError as error:
            raise self._failed(error) from error

    def _release(self) -> None:
        with self._close_lock:
            if not self._released:
                self._released = True
                self._buffers.close()
                self._handle.close()

    def _failed(self, error: OSError) -> SourceError:
        if error.errno == errno.ENODEV:
            return SourceError(f"camera {self.device} is gone")
        return SourceError(f"camera {self.device} failed: {error.strerror or error}")

    def _start(self) -> UserPtrBuffers | MmapBuffers:
        if self._pin is not None:
            try:
                return self._open_user_buffers()
            except MapError as error:
                _LOG.warning("camera %s: the GPU gets copies: %s", self.device, error)
                self._pin = None
        return self._open_user_buffers()

    def _open_user_buffers(self) -> UserPtrBuffers | MmapBuffers:
        try:
            return UserPtrBuffers(self._handle, self._layout.buffer_bytes, self._pin)
        except MapError:
            raise
        except OSError as error:
            return self._open_driver_buffers(error.strerror or str(error))

    def _open_driver_buffers(self, reason: str) -> MmapBuffers:
        _LOG.info(
            "camera %s: its driver does not fill user memory (%s): each frame is copied once",
            self.device,
            reason,
        )
        return MmapBuffers(self._handle, self._layout.buffer_bytes, self._pin)

    def _read_newest(self) -> VideoFrame | None:
        bad = 0
        while not self._closed.is_set():
            self._buffers.reclaim()
            event = self._handle.wait(_WAIT_S)
            if event == "woken":
                return None
            if event == "late":
                self._restart_or_raise("delivers no frames")
                continue
            newest, num_dequeued, corrupt = self._take_newest()
            if newest is not None and not self._warmed_up:
                # The first frame is often dark, truncated or old.
                self._warmed_up = True
                self._buffers.queue(newest.index)
                continue
            if newest is not None:
                return self._make_frame(newest, num_dequeued)
            bad += corrupt
            if bad >= _MAX_CONSECUTIVE_CORRUPT:
                self._restart_or_raise(f"delivered {bad} corrupt frames in a row")
                bad = 0
        return None

    def _restart_or_raise(self, problem: str) -> None:
        """Retry with the driver's own memory if it accepted user memory and never filled it."""
        if self._warmed_up or isinstance(self._buffers, MmapBuffers):
            raise SourceError(f"camera {self.device} {problem}")
        self._buffers.close()
        self._buffers = self._open_driver_buffers(problem)

    def _take_newest(self) -> tuple[abi.Buffer | None, int, int]:
        """Return the newest good frame, the number of dequeued frames and of corrupt ones.

        Raises BlockingIOError if no frame was ready.
        """
        newest: abi.Buffer | None = None
        num_dequeued = bad = 0
        while True:
            try:
                buffer = self._buffers.dequeue()
            except BlockingIOError:
                if not num_dequeued:
                    raise
                return newest, num_dequeued, bad
            num_dequeued += 1
            if buffer.flags & abi.FLAG_ERROR or buffer.bytesused < self._layout.frame_bytes:
                bad += 1
                self.corrupt_frames += 1
                self._buffers.queue(buffer.index)
                continue
            if newest is not None:
                self.stale_frames += 1
                self._buffers.queue(newest.index)
            newest = buffer

    def _make_frame(self, buffer: abi.Buffer, num_dequeued: int) -> VideoFrame:
        now_ns = self._clock.now_ns()
        t_ns = buffer.timestamp.tv_sec * 1_000_000_000 + buffer.timestamp.tv_usec * 1000
        if buffer.flags & abi.FLAG_TIMESTAMP_MASK not in _TRUSTED_TIMESTAMPS:
            t_ns = -1  # copied from another device
        t_ns = self._timestamps.capture_ns(t_ns, now_ns)
        self._count(buffer.sequence, num_dequeued)
        image, device_ptr = self._buffers.lease_frame(
            buffer, self._layout.shape, self._layout.strides
        )
        return VideoFrame(t_ns, self._index, image, self._layout.pixel_format, device_ptr)

    def _count(self, sequence: int, num_dequeued: int) -> None:
        """Advance the index as the driver's sequence does, unless that stands still."""
        step = (sequence - self._sequence) & 0xFFFFFFFF
        if self._index < 0:
            step = 1
        elif step == 0 or step > 0x7FFFFFFF:
            step = num_dequeued
        self._index += step
        self._sequence = sequence
