"""Shows pixels on a monitor without X, Wayland or a GPU: two dumb buffers of the kernel, in turns.

In: a display device, 32-bit pixels 0x00RRGGBB and the rectangles that changed. Out: the monitor
shows them in its preferred mode. Every number from the kernel is checked before use.
"""

from __future__ import annotations

import errno
import logging
import mmap
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from ctypes import addressof, c_uint32, sizeof
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import drm_uapi as abi
from .drm import MAX_SIDE_PX, Handle, KmsError, Output, explain_errors

log = logging.getLogger(__name__)

Pixels = NDArray[np.uint32]

FLIP_TIMEOUT_S = 1.0
"""The slowest monitors have a refresh rate of 24 Hz."""
_NO_FLIPS = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTTY)


class Rect(NamedTuple):
    """Pixels x0 <= x < x1, y0 <= y < y1."""

    x0: int
    y0: int
    x1: int
    y1: int


class Display:
    """Shows pixels on an output. Every method except `close` may raise KmsError.

    The first `show` sets the mode.
    """

    def __init__(
        self, handle: Handle, output: Output, flip_limit_s: float = FLIP_TIMEOUT_S
    ) -> None:
        self.output = output
        self._handle = handle
        self._flip_limit_s = flip_limit_s
        self._buffers: list[_Buffer] = []
        self._front: _Buffer | None = None
        self._flips = True
        self._flip_number = 0
        try:
            with explain_errors(handle):
                for _ in range(2):
                    self._buffers.append(_Buffer(handle, output.width, output.height))
        except KmsError:
            self.close()
            raise

    def show(self, pixels: Pixels, rects: Sequence[Rect]) -> None:
        """Show `pixels` (height, width), of which `rects` differ from the call before.

        Waits for the page flip.
        """
        for buffer in self._buffers:
            buffer.outdated.update(dict.fromkeys(rects))
        first, second = self._buffers
        back = second if self._front is first else first
        back.catch_up(pixels)
        with explain_errors(self._handle):
            if self._front is None or not (self._flips and self._flip(back)):
                self._set_mode(back)
        self._front = back

    def close(self) -> None:
        """Clear and free the buffers."""
        for buffer in self._buffers:
            buffer.close(self._handle)
        self._buffers.clear()

    def _set_mode(self, buffer: _Buffer) -> None:
        connector = c_uint32(self.output.connector_id)
        crtc = abi.Crtc(
            set_connectors_ptr=addressof(connector),
            count_connectors=1,
            crtc_id=self.output.crtc_id,
            fb_id=buffer.fb_id,
            mode_valid=1,
            mode=abi.ModeInfo.from_buffer_copy(self.output.mode),
        )
        self._handle.ioctl(abi.SETCRTC, crtc)

    def _flip(self, buffer: _Buffer) -> bool:
        """Return False when the driver has no page flips. Setting the mode is the slower way."""
        self._flip_number += 1
        flip = abi.PageFlip(
            crtc_id=self.output.crtc_id,
            fb_id=buffer.fb_id,
            flags=abi.PAGE_FLIP_EVENT,
            user_data=self._flip_number,
        )
        try:
            self._handle.ioctl(abi.PAGE_FLIP, flip)
        except OSError as error:
            if error.errno not in _NO_FLIPS:
                raise
            log.info("%s has no page flips: %s", self._handle.path, error.strerror)
            self._flips = False
            return False
        self._wait_for_flip()
        return True

    def _wait_for_flip(self) -> None:
        end_s = time.monotonic() + self._flip_limit_s
        while (left_s := end_s - time.monotonic()) > 0:
            for event in parse_events(self._handle.read_events(left_s)):
                if event.type == abi.EVENT_FLIP_COMPLETE and event.user_data == self._flip_number:
                    return
        limit_s = self._flip_limit_s
        raise KmsError(f"{self._handle.path} has not flipped the page within {limit_s:g} s")


def parse_events(data: bytes) -> Iterator[abi.VblankEvent]:
    """Yield the vblank events, without shorter ones and a truncated end."""
    at = 0
    while at + 8 <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        if length < 8:
            return
        if sizeof(abi.VblankEvent) <= length <= len(data) - at:
            yield abi.VblankEvent.from_buffer_copy(data, at)
        at += length


class _Buffer:
    """A dumb buffer with its frame buffer, and the rectangles in which it is out of date."""

    def __init__(self, handle: Handle, width: int, height: int) -> None:
        self.fb_id = 0
        self.outdated: dict[Rect, None] = {Rect(0, 0, width, height): None}
        self._memory: mmap.mmap | None = None
        self._pixels: Pixels | None = None
        dumb = abi.CreateDumb(height=height, width=width, bpp=32)
        handle.ioctl(abi.CREATE_DUMB, dumb)
        self._dumb_handle = dumb.handle
        try:
            self._map(handle, width, height, dumb.pitch, dumb.size)
        except BaseException:
            self.close(handle)
            raise

    def catch_up(self, pixels: Pixels) -> None:
        """Copy the outdated rectangles. The memory may be uncached, so it is never read."""
        assert self._pixels is not None
        for x0, y0, x1, y1 in self.outdated:
            self._pixels[y0:y1, x0:x1] = pixels[y0:y1, x0:x1]
        self.outdated.clear()

    def close(self, handle: Handle) -> None:
        if self._pixels is not None:
            self._pixels.fill(0)
            self._pixels = None
        if self._memory is not None:
            self._memory.close()
            self._memory = None
        # A device that is gone has freed its objects.
        with suppress(OSError):
            if self.fb_id:
                handle.ioctl(abi.RMFB, abi.FrameBufferId(self.fb_id))
        with suppress(OSError):
            handle.ioctl(abi.DESTROY_DUMB, abi.DestroyDumb(self._dumb_handle))

    def _map(self, handle: Handle, width: int, height: int, pitch: int, size: int) -> None:
        if not (4 * width <= pitch <= 8 * MAX_SIDE_PX) or pitch % 4 or size < pitch * height:
            raise KmsError(f"{handle.path} gave a buffer of {size} bytes in rows of {pitch}")
        frame = abi.FrameBuffer(
            width=width, height=height, pitch=pitch, bpp=32, depth=24, handle=self._dumb_handle
        )
        handle.ioctl(abi.ADDFB, frame)
        self.fb_id = frame.fb_id
        place = abi.MapDumb(handle=self._dumb_handle)
        handle.ioctl(abi.MAP_DUMB, place)
        self._memory = handle.map(pitch * height, place.offset)
        rows = np.frombuffer(self._memory, np.uint32).reshape(height, pitch // 4)
        self._pixels = rows[:, :width]
