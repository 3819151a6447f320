"""Buffers for a V4L2 driver's frames: user memory that it fills, or its own, which is copied.

A frame is lent out as an array. Its memory is reused only after that array and all views of it are
gone. So the pipeline may take any time and never reads a frame that is half overwritten.
"""

from __future__ import annotations

import contextlib
import mmap
import struct
import weakref

import numpy as np
from numpy.typing import NDArray

from ...kernels.memory import MappedMemory, Pin
from . import v4l2_uapi as abi
from .v4l2_device import Handle

Image = NDArray[np.uint8]

MAX_FRAMES_IN_USE = 3
"""Frames in use at the same time: the pipeline's, the face tracker's and the newest."""
QUEUED_IN_DRIVER = 2
"""The driver fills one while another waits. With fewer it has no room for the next frame."""


class FramePool:
    """Memory for `count` frames of `size` bytes each."""

    def __init__(self, count: int, size: int, pin: Pin | None) -> None:
        """Raises MapError if the GPU's driver refuses the memory."""
        self.memories: list[MappedMemory] = []
        self._leases: list[weakref.ref[Image] | None] = [None] * count
        try:
            self.memories += (MappedMemory(size, pin) for _ in range(count))
        except OSError:
            self.close()
            raise

    @property
    def gpu_visible(self) -> bool:
        """Whether the GPU can access all of it."""
        return all(memory.device_ptr for memory in self.memories)

    def lease(self, index: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> Image:
        # Made from the pages, so that views of it keep it alive. Over another array they would not:
        # in NumPy a view of a view refers to the array under both.
        image: Image = np.ndarray(
            shape, np.uint8, buffer=self.memories[index].pages, strides=strides
        )
        self._leases[index] = weakref.ref(image)
        return image

    def is_free(self, index: int) -> bool:
        lease_ref = self._leases[index]
        return lease_ref is None or lease_ref() is None

    def close(self) -> None:
        """Free the memory; what is still lent is unmapped from the GPU when its array is gone."""
        for memory, lease_ref in zip(self.memories, self._leases, strict=False):
            image = lease_ref() if lease_ref is not None else None
            if image is None:
                memory.close()
            else:
                weakref.finalize(image, memory.close).atexit = False
        self.memories = []


class UserPtrBuffers:
    """V4L2_MEMORY_USERPTR: the driver fills our memory, nothing is copied. Starts streaming."""

    memory = abi.MEMORY_USERPTR

    def __init__(self, handle: Handle, size: int, pin: Pin | None) -> None:
        """Raises OSError if the driver refuses user memory."""
        self._handle = handle
        self._pool = FramePool(MAX_FRAMES_IN_USE + 1 + QUEUED_IN_DRIVER, size, pin)
        self._leased: list[int] = []
        self._queued = 0
        self.copies = 0
        """Copies of the newest frame; `gpu_visible` too is about that frame."""
        self.gpu_visible = self._pool.gpu_visible
        try:
            count = _request_buffers(handle, self.memory, len(self._pool.memories))
            for index in range(min(count, len(self._pool.memories))):
                self.queue(index)
            _set_streaming(handle, abi.STREAMON)
        except OSError:
            self.close()
            raise

    def queue(self, index: int) -> None:
        memory = self._pool.memories[index]
        buffer = abi.Buffer(index=index, type=abi.CAPTURE, memory=self.memory)
        buffer.m.userptr = memory.address
        buffer.length = memory.array.nbytes
        self._handle.ioctl(abi.QBUF, buffer)
        self._queued += 1

    def dequeue(self) -> abi.Buffer:
        """Return the oldest frame that is ready. Raises OSError; BlockingIOError if none is."""
        buffer = abi.Buffer(type=abi.CAPTURE, memory=self.memory)
        self._handle.ioctl(abi.DQBUF, buffer)
        self._queued -= 1
        return buffer

    def lease_frame(
        self, buffer: abi.Buffer, shape: tuple[int, ...], strides: tuple[int, ...]
    ) -> tuple[Image, int]:
        """Return the frame and its GPU address. Copies only if too many frames are in use."""
        image = self._pool.lease(buffer.index, shape, strides)
        if self._queued < QUEUED_IN_DRIVER:
            image, ptr = image.copy(), 0
            self.queue(buffer.index)
            self.copies = 1
        else:
            ptr = self._pool.memories[buffer.index].device_ptr
            self._leased.append(buffer.index)
            self.copies = 0
        self.gpu_visible = bool(ptr)
        return image, ptr

    def reclaim(self) -> None:
        """Queue the buffers whose frames are no longer in use."""
        for index in [index for index in self._leased if self._pool.is_free(index)]:
            self._leased.remove(index)
            self.queue(index)

    def close(self) -> None:
        _release(self._handle, self.memory)
        self._pool.close()


class MmapBuffers:
    """V4L2_MEMORY_MMAP: the driver fills its own memory, each frame is copied once. Starts
    streaming."""

    memory = abi.MEMORY_MMAP
    copies = 1

    def __init__(self, handle: Handle, size: int, pin: Pin | None) -> None:
        """Raises OSError."""
        self._handle = handle
        self._maps: list[mmap.mmap] = []
        self._pool = FramePool(MAX_FRAMES_IN_USE + 1, size, pin)
        self.gpu_visible = self._pool.gpu_visible
        try:
            for index in range(_request_buffers(handle, self.memory, QUEUED_IN_DRIVER + 1)):
                buffer = abi.Buffer(index=index, type=abi.CAPTURE, memory=self.memory)
                handle.ioctl(abi.QUERYBUF, buffer)
                self._maps.append(handle.map(buffer.length, buffer.m.offset))
                self.queue(index)
            _set_streaming(handle, abi.STREAMON)
        except OSError:
            self.close()
            raise

    def queue(self, index: int) -> None:
        buffer = abi.Buffer(index=index, type=abi.CAPTURE, memory=self.memory)
        self._handle.ioctl(abi.QBUF, buffer)

    def dequeue(self) -> abi.Buffer:
        """As `UserPtrBuffers.dequeue`."""
        buffer = abi.Buffer(type=abi.CAPTURE, memory=self.memory)
        self._handle.ioctl(abi.DQBUF, buffer)
        return buffer

    def lease_frame(
        self, buffer: abi.Buffer, shape: tuple[int, ...], strides: tuple[int, ...]
    ) -> tuple[Image, int]:
        """Return a copy and its GPU address, which is 0 if the pool has no free memory."""
        filled: Image = np.ndarray(
            shape, np.uint8, buffer=self._maps[buffer.index], strides=strides
        )
        free = [i for i in range(len(self._pool.memories)) if self._pool.is_free(i)]
        if free:
            image = self._pool.lease(free[0], shape, strides)
            ptr = self._pool.memories[free[0]].device_ptr
            np.copyto(image, filled)
        else:
            image, ptr = filled.copy(), 0
        self.gpu_visible = bool(ptr)
        self.queue(buffer.index)
        return image, ptr

    def reclaim(self) -> None:
        """Nothing to do: the driver has its buffers back already."""

    def close(self) -> None:
        for mapped in self._maps:
            mapped.close()
        self._maps = []
        _release(self._handle, self.memory)
        self._pool.close()


def _request_buffers(handle: Handle, memory: int, count: int) -> int:
    """Request buffers. Returns their number, which may differ from `count`."""
    request = abi.RequestBuffers(count=count, type=abi.CAPTURE, memory=memory)
    handle.ioctl(abi.REQBUFS, request)
    return int(request.count)


def _set_streaming(handle: Handle, number: int) -> None:
    handle.ioctl(number, struct.pack("i", abi.CAPTURE))


def _release(handle: Handle, memory: int) -> None:
    """Take all buffers back from the driver, which may be gone."""
    with contextlib.suppress(OSError):
        _set_streaming(handle, abi.STREAMOFF)
    with contextlib.suppress(OSError):
        _request_buffers(handle, memory, 0)
