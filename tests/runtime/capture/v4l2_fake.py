"""A fake camera driver in place of `v4l2_device.Handle`.

It does what the kernel's videobuf2 does. Buffers are filled in the order of queueing and dequeued
in the order of filling. A frame without a queued buffer is lost but counted. A buffer cannot be
queued twice, and user memory must be long enough. An unplugged device answers ENODEV, a defective
one EIO.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import struct
from collections import deque
from collections.abc import Callable
from typing import Any

from emotion_edge.runtime.capture import v4l2_uapi as abi
from emotion_edge.runtime.clock import FakeClock

MS = 1_000_000


class FakeDriver:
    """`script` holds the result of each wait; after its end, one frame each."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.caps = abi.CAP_CAPTURE | abi.CAP_STREAMING
        self.formats: dict[str, dict[tuple[int, int], float]] = {
            "MJPG": {(1280, 720): 30.0},
            "YUYV": {(640, 480): 30.0, (1280, 720): 10.0},
        }
        """V4L2 format -> size -> fastest rate."""
        self.colors = (0, 0, 0)
        """The driver's colorspace, ycbcr_enc and quantization."""
        self.more_row_bytes = 0
        self.extends_formats = True
        """Mark the fields after `priv` as valid, as kernels from 3.16 on do."""
        self.takes_user_memory = True
        self.fills_user_memory = True
        self.timestamp_flag = abi.FLAG_TIMESTAMP_MONOTONIC
        self.counts = True
        self.age_ms = 8.0
        self.script: list[str] = []
        self.on_wait: Callable[[], None] = lambda: None
        self.format = abi.PixelFormat()
        self.fps = 0.0
        self.memory = 0
        self.buffers: dict[int, abi.Buffer] = {}
        self.queued: deque[int] = deque()
        self.done: deque[abi.Buffer] = deque()
        self.streaming = False
        self.sequence = 0
        self.gone = self.broken = self.woken = False
        self.maps: list[mmap.mmap] = []
        self.closed = 0

    def __call__(self, device: str) -> FakeDriver:
        self.woken = False
        return self

    # The interface of Handle

    def ioctl(self, number: int, argument: Any) -> None:
        if self.gone:
            raise OSError(errno.ENODEV, "No such device")
        names = {getattr(abi, name): name for name in dir(abi) if name.isupper()}
        getattr(self, "_" + names[number].lower())(argument)

    def map(self, length: int, offset: int) -> mmap.mmap:
        self.maps.append(mmap.mmap(-1, length))
        assert offset == (len(self.maps) - 1) * mmap.PAGESIZE
        return self.maps[-1]

    def wait(self, timeout_s: float) -> str:
        self.on_wait()
        if self.woken:
            return "woken"
        step = self.script.pop(0) if self.script else "frame"
        if step in ("late", "gone", "fatal"):
            self.gone, self.broken = step == "gone", step == "fatal"
            return "late" if step == "late" else "ready"
        if self.memory == abi.MEMORY_USERPTR and not self.fills_user_memory:
            return "late"
        for kind in step.split("+"):
            self.capture(kind)
        return "ready"

    def wake(self) -> None:
        self.woken = True

    def close(self) -> None:
        self.closed += 1

    # The driver

    def capture(self, kind: str = "frame") -> None:
        self.clock.advance(33 * MS)
        number, self.sequence = self.sequence, (self.sequence + 1) & 0xFFFFFFFF
        if kind == "lost" or not self.queued or not self.streaming:
            return
        index = self.queued.popleft()
        buffer = self.buffers[index]
        size = self.format.sizeimage
        if self.memory == abi.MEMORY_USERPTR:
            ctypes.memset(buffer.m.userptr, number % 251, size)
        else:
            self.maps[index][:size] = bytes([number % 251]) * size
        done = abi.Buffer.from_buffer_copy(buffer)
        done.bytesused = size // 2 if kind == "short" else size
        done.flags = self.timestamp_flag | (abi.FLAG_ERROR if kind == "error" else 0)
        done.sequence = number if self.counts else 0
        timestamp_us = self.clock.now_ns() // 1000 - round(self.age_ms * 1000)
        done.timestamp.tv_sec, done.timestamp.tv_usec = divmod(timestamp_us, 1_000_000)
        self.done.append(done)

    def _querycap(self, answer: abi.Capability) -> None:
        answer.capabilities = abi.CAP_DEVICE_CAPS | 0xFF
        answer.device_caps = self.caps

    def _enum_fmt(self, entry: abi.FormatDescription) -> None:
        assert entry.type == abi.CAPTURE
        entry.pixelformat = abi.fourcc(self._nth(list(self.formats), entry.index))

    def _enum_framesizes(self, entry: abi.FrameSize) -> None:
        sizes = list(self.formats[abi.fourcc_name(entry.pixel_format)])
        entry.type = abi.DISCRETE
        entry.sides[0:2] = self._nth(sizes, entry.index)

    def _enum_frameintervals(self, entry: abi.FrameInterval) -> None:
        rates = self.formats[abi.fourcc_name(entry.pixel_format)]
        fastest = rates.get((entry.width, entry.height), 0.0)
        rate = self._nth([1.0, fastest] if fastest else [], entry.index)
        entry.type = abi.DISCRETE
        entry.shortest.numerator, entry.shortest.denominator = 1000, round(rate * 1000)

    def _nth(self, items: list[Any], index: int) -> Any:
        if index >= len(items):
            raise OSError(errno.EINVAL, "Invalid argument")
        return items[index]

    def _s_fmt(self, argument: abi.Format) -> None:
        pix = argument.fmt.pix
        name = abi.fourcc_name(pix.pixelformat)
        sizes = self.formats[name]
        if sizes and (pix.width, pix.height) not in sizes:
            pix.width, pix.height = min(sizes)
        bytes_each = {"NV12": 1, "YUYV": 2}.get(name, 3)
        pix.bytesperline = pix.width * bytes_each + self.more_row_bytes
        rows = pix.height * 3 // 2 if name == "NV12" else pix.height
        pix.sizeimage = pix.bytesperline * rows
        pix.colorspace, pix.ycbcr_enc, pix.quantization = self.colors
        pix.priv = abi.PRIV_MAGIC if self.extends_formats else 0
        self.format = abi.PixelFormat.from_buffer_copy(pix)

    def _s_parm(self, argument: abi.StreamParm) -> None:
        period = argument.parm.capture.timeperframe
        self.fps = period.denominator / period.numerator

    def _reqbufs(self, argument: abi.RequestBuffers) -> None:
        if argument.memory == abi.MEMORY_USERPTR and not self.takes_user_memory:
            raise OSError(errno.EINVAL, "Invalid argument")
        assert not self.streaming
        self.memory = argument.memory
        self.buffers = {index: abi.Buffer(index=index) for index in range(argument.count)}
        self.queued.clear()
        self.done.clear()

    def _querybuf(self, buffer: abi.Buffer) -> None:
        buffer.length = self.format.sizeimage
        buffer.m.offset = buffer.index * mmap.PAGESIZE

    def _qbuf(self, buffer: abi.Buffer) -> None:
        assert buffer.memory == self.memory
        assert buffer.index in self.buffers
        assert buffer.index not in self.queued, "queued twice"
        if self.memory == abi.MEMORY_USERPTR and buffer.length < self.format.sizeimage:
            raise OSError(errno.EINVAL, "Invalid argument")
        self.buffers[buffer.index] = abi.Buffer.from_buffer_copy(buffer)
        self.queued.append(buffer.index)

    def _dqbuf(self, buffer: abi.Buffer) -> None:
        if self.broken:
            raise OSError(errno.EIO, "Input/output error")
        if not self.done:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        ctypes.pointer(buffer)[0] = self.done.popleft()

    def _streamon(self, argument: bytes) -> None:
        assert struct.unpack("i", argument) == (abi.CAPTURE,)
        self.streaming = True

    def _streamoff(self, argument: bytes) -> None:
        assert struct.unpack("i", argument) == (abi.CAPTURE,)
        self.streaming = False
        self.queued.clear()
