"""The memory that a V4L2 driver's pictures come in: ours, or the driver's and copied.

A picture is lent out as an array. Its memory is used again when nobody looks at that array, or at
a part of it, any more: the pipeline may take as long as it likes and never sees a picture that is
half the next one.
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
"""Pictures that are looked at in the same moment: the pipeline's, the face finder's, the newest."""
QUEUED_IN_DRIVER = 2
"""One is filled while another waits: with fewer the driver has nowhere to put the next picture."""


class FramePool:
    """Memory for `count` pictures of `size` bytes each."""

    def __init__(self, count: int, size: int, pin: Pin | None) -> None:
        """Raises MapError when the GPU's driver does not take the memory."""
        self.memories: list[MappedMemory] = []
        self._leases: list[weakref.ref[Image] | None] = [None] * count
        try:
            self.memories += (MappedMemory(size, pin) for _ in range(count))
        except OSError:
            self.close()
            raise

    @property
    def gpu_visible(self) -> bool:
        """Does the GPU see it?"""
        return all(memory.device_ptr for memory in self.memories)

    def lease(self, index: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> Image:
        # Made from the pages and not from an array over them, so that its parts keep it alive: in
        # NumPy the part of a view refers to the array under the view.
        image: Image = np.ndarray(
            shape, np.uint8, buffer=self.memories[index].pages, strides=strides
        )
        self._leases[index] = weakref.ref(image)
        return image

    def is_free(self, index: int) -> bool:
        lease_ref = self._leases[index]
        return lease_ref is None or lease_ref() is None

    def close(self) -> None:
        """Memory that is still lent is taken from the GPU when it comes back."""
        for memory, lease_ref in zip(self.memories, self._leases, strict=False):
            image = lease_ref() if lease_ref is not None else None
            if image is None:
                memory.close()
            else:
                weakref.finalize(image, memory.close).atexit = False
        self.memories = []


class UserPtrBuffers:
    """V4L2_MEMORY_USERPTR: the driver fills our memory, nothing is copied. Is streaming."""

    memory = abi.MEMORY_USERPTR

    def __init__(self, handle: Handle, size: int, pin: Pin | None) -> None:
        """Raises OSError when the driver does not take memory of ours."""
        self._handle = handle
        self._pool = FramePool(MAX_FRAMES_IN_USE + 1 + QUEUED_IN_DRIVER, size, pin)
        self._leased: list[int] = []
        self._queued = 0
        self.copies = 0
        """Of the newest picture, like `gpu_visible`."""
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
        """The oldest picture that is ready. Raises OSError, BlockingIOError when there is none."""
        buffer = abi.Buffer(type=abi.CAPTURE, memory=self.memory)
        self._handle.ioctl(abi.DQBUF, buffer)
        self._queued -= 1
        return buffer

    def lease_frame(
        self, buffer: abi.Buffer, shape: tuple[int, ...], strides: tuple[int, ...]
    ) -> tuple[Image, int]:
        """The picture and its address on the GPU. Copied only when too many are still held."""
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
        """Give the driver what nobody looks at any more."""
        for index in [index for index in self._leased if self._pool.is_free(index)]:
            self._leased.remove(index)
            self.queue(index)

    def close(self) -> None:
        _release(self._handle, self.memory)
        self._pool.close()


class MmapBuffers:
    """V4L2_MEMORY_MMAP: the driver fills its own memory and we copy each picture out, once. Is
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
        """A copy, and its address on the GPU: 0 when so many are held that it found no place."""
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
        """The driver has its own back already."""

    def close(self) -> None:
        for mapped in self._maps:
            mapped.close()
        self._maps = []
        _release(self._handle, self.memory)
        self._pool.close()


def _request_buffers(handle: Handle, memory: int, count: int) -> int:
    """The number of buffers there are, which may be another than `count`."""
    request = abi.RequestBuffers(count=count, type=abi.CAPTURE, memory=memory)
    handle.ioctl(abi.REQBUFS, request)
    return int(request.count)


def _set_streaming(handle: Handle, number: int) -> None:
    handle.ioctl(number, struct.pack("i", abi.CAPTURE))


def _release(handle: Handle, memory: int) -> None:
    """Take all buffers back from the driver, or from what is left of it."""
    with contextlib.suppress(OSError):
        _set_streaming(handle, abi.STREAMOFF)
    with contextlib.suppress(OSError):
        _request_buffers(handle, memory, 0)
