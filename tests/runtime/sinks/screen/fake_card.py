"""A fake of the kernel's side of /dev/dri/card0: the ioctls that the screen uses.

It has one connector and follows drivers/gpu/drm of Linux 6.1. tests/rig/test_screen.py tests the
real driver.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from ctypes import Structure
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emotion_edge.runtime.sinks.screen import drm_uapi as abi
from emotion_edge.runtime.sinks.screen.drm import Handle, KmsError

CARD = "/dev/dri/card0"
CRTC, CONNECTOR, ENCODER = 31, 41, 51
PAD_BYTES = 64
"""Rows are longer than the visible width."""


def make_mode(width: int, height: int, preferred: bool = False) -> abi.ModeInfo:
    kind = abi.MODE_TYPE_PREFERRED if preferred else 0
    return abi.ModeInfo(hdisplay=width, vdisplay=height, vrefresh=60, type=kind)


class FakeCard:
    """The card, and its possible faults. `open` replaces Handle."""

    def __init__(self, root: Path) -> None:
        self.modes = [make_mode(640, 480), make_mode(1280, 720, preferred=True)]
        self.plugged = True
        self.may_open = True
        self.master_elsewhere = False
        self.failing: dict[int, int] = {}
        """ioctl number -> errno"""
        self.silent = False
        """Flips never end."""
        self.changes: dict[str, int] = {}
        """Fields of results with wrong values."""
        self.calls: list[int] = []
        self.handles: list[FakeHandle] = []
        self.shown: NDArray[np.uint32] | None = None
        """The buffer on the monitor."""
        self.lit: tuple[int, int] | None = None
        self.black_at_release: list[bool] = []
        self._folder = root / "sys/class/drm/card0-HDMI-A-1"
        self._folder.mkdir(parents=True)
        (root / "dev/dri").mkdir(parents=True)
        (root / "dev/dri/card0").touch()
        self.update_sysfs()

    def update_sysfs(self) -> None:
        """Update /sys, as most drivers do."""
        modes = "".join(f"{mode.hdisplay}x{mode.vdisplay}\n" for mode in self.modes)
        (self._folder / "status").write_text("connected\n" if self.plugged else "disconnected\n")
        (self._folder / "modes").write_text(modes if self.plugged else "")

    def plug(self, *modes: abi.ModeInfo) -> None:
        self.plugged, self.modes = True, list(modes or self.modes)
        self.update_sysfs()

    def unplug(self) -> None:
        self.plugged = False
        self.update_sysfs()

    def open(self, path: str) -> Handle:
        if not self.may_open:
            raise KmsError(f"no permission for {CARD}: join group video")
        handle = FakeHandle(self)
        self.handles.append(handle)
        return handle

    @property
    def num_open(self) -> int:
        return sum(not handle.closed for handle in self.handles)

    def count(self, number: int) -> int:
        return self.calls.count(number)


class FakeBuffer:
    """The memory of a dumb buffer, with the data of another program."""

    def __init__(self, width: int, pitch: int, size: int) -> None:
        self.file = os.memfd_create("dumb")
        self._width, self._pitch, self._size = width, pitch, size
        os.write(self.file, b"\x55" * size)

    def read(self) -> NDArray[np.uint32]:
        rows = np.frombuffer(os.pread(self.file, self._size, 0), np.uint32)
        return rows.reshape(-1, self._pitch // 4)[:, : self._width]


class FakeHandle(Handle):
    def __init__(self, card: FakeCard) -> None:
        self.path = CARD
        self.card = card
        self.closed = False
        self._buffers: dict[int, FakeBuffer] = {}
        self._frames: dict[int, int] = {}
        self._events = b""

    def ioctl(self, number: int, argument: Structure) -> None:
        assert not self.closed
        card = self.card
        card.calls.append(number)
        if number in card.failing:
            raise OSError(card.failing[number], "fault of the test")
        if card.master_elsewhere and number in (abi.SETCRTC, abi.PAGE_FLIP):
            raise OSError(errno.EACCES, "Permission denied")
        handler = {
            abi.GETRESOURCES: self._resources,
            abi.GETCONNECTOR: self._connector,
            abi.GETENCODER: self._encoder,
            abi.CREATE_DUMB: self._create,
            abi.ADDFB: self._add,
            abi.MAP_DUMB: self._place,
            abi.SETCRTC: self._set,
            abi.PAGE_FLIP: self._flip,
            abi.RMFB: self._remove,
            abi.DESTROY_DUMB: self._destroy,
        }[number]
        handler(argument)
        for name, value in card.changes.items():
            if hasattr(argument, name):
                setattr(argument, name, value)

    def map(self, length: int, offset: int) -> mmap.mmap:
        return mmap.mmap(self._buffers[offset].file, length)

    def read_events(self, timeout_s: float) -> bytes:
        events, self._events = self._events, b""
        return events

    def close(self) -> None:
        assert not self.closed
        assert not self._buffers
        self.closed = True

    def _resources(self, arg: Any) -> None:
        if arg.count_crtcs:
            write_ids(arg.crtc_id_ptr, 30, CRTC)
            write_ids(arg.connector_id_ptr, CONNECTOR)
        arg.count_crtcs, arg.count_connectors = 2, 1

    def _connector(self, arg: Any) -> None:
        assert arg.connector_id == CONNECTOR
        modes = self.card.modes if self.card.plugged else []
        if modes and arg.count_modes:
            array = (abi.ModeInfo * len(modes))(*modes)
            ctypes.memmove(arg.modes_ptr, array, ctypes.sizeof(array))
            write_ids(arg.encoders_ptr, ENCODER)
        arg.connection = 1 if self.card.plugged else 2
        arg.count_modes, arg.count_encoders = len(modes), 1

    def _encoder(self, arg: Any) -> None:
        assert arg.encoder_id == ENCODER
        arg.possible_crtcs = 0b10

    def _create(self, arg: Any) -> None:
        arg.handle = len(self._buffers) + 1
        arg.pitch = 4 * arg.width + PAD_BYTES
        arg.size = arg.pitch * arg.height
        self._buffers[arg.handle] = FakeBuffer(arg.width, arg.pitch, arg.size)

    def _add(self, arg: Any) -> None:
        assert (arg.bpp, arg.depth) == (32, 24)
        arg.fb_id = 100 + arg.handle
        self._frames[arg.fb_id] = arg.handle

    def _place(self, arg: Any) -> None:
        arg.offset = arg.handle

    def _set(self, arg: Any) -> None:
        assert (arg.crtc_id, arg.count_connectors, arg.mode_valid) == (CRTC, 1, 1)
        self.card.lit = arg.mode.hdisplay, arg.mode.vdisplay
        self._scan_out(arg.fb_id)

    def _flip(self, arg: Any) -> None:
        assert self.card.lit is not None
        self._scan_out(arg.fb_id)
        flip = abi.VblankEvent(
            type=abi.EVENT_FLIP_COMPLETE, length=ctypes.sizeof(abi.VblankEvent), user_data=0
        )
        self._events += bytes(flip)  # of an earlier flip
        if not self.card.silent:
            flip.user_data = arg.user_data
            self._events += bytes(flip)

    def _scan_out(self, fb_id: int) -> None:
        self.card.shown = self._buffers[self._frames[fb_id]].read()

    def _remove(self, arg: Any) -> None:
        del self._frames[arg.fb_id]

    def _destroy(self, arg: Any) -> None:
        buffer = self._buffers.pop(arg.handle)
        self.card.black_at_release.append(not buffer.read().any())
        os.close(buffer.file)


def write_ids(address: int, *ids: int) -> None:
    array = (ctypes.c_uint32 * len(ids))(*ids)
    ctypes.memmove(address, array, ctypes.sizeof(array))
