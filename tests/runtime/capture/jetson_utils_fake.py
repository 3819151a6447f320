"""A fake of the extension `jetson_utils_python`, over real memory and on a fake clock.

It proves nothing about a Jetson. It does what the source of dusty-nv's jetson-utils does
(gstCamera.cpp, gstBufferManager.cpp, RingBuffer.inl, videoOptions.cpp, commandLine.cpp,
PyVideo.cpp, PyCUDA.cpp):

- The camera runs from the first Capture on and writes each frame into a ring of num-buffers, read
  or not. Capture returns the newest one once, drops older ones silently, returns None after the
  timeout and raises Exception for an error.
- A format it does not know means raw: the image is the ring's own memory. A known one is converted
  into another ring, and its bytes are valid only after the stream is synchronized.
- Timestamps are nanoseconds since the pipeline was opened; 0 for a lost timestamp; the time since
  the start of the process where GStreamer has none.
- Numbers in the options are lost if argv is empty. Open may crash the process. A Capture after
  Close reopens. The memory is freed with the videoSource, not with the images.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest

from emotion_edge.runtime.capture import jetson_utils
from emotion_edge.runtime.clock import FakeClock

MS = 1_000_000
FREED, NOT_CONVERTED = 0xDD, 0xEE
BITS = {"nv12": 12, "i420": 12, "yuyv": 16, "uyvy": 16, "rgb8": 24, "bgr8": 24, "gray8": 8}


class FakeCamera:
    """The device: its properties, its scripted faults and what was done with it."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.process_start_ns = clock.now_ns() - 10_000 * MS
        # Properties
        self.size = (64, 32)
        self.format = "nv12"
        self.codec = "raw"
        self.fps = 30
        self.mapped = True
        self.starts_after_ms = 150.0
        self.delay_ms = 4.0
        """From the timestamp until the frame is in the ring."""
        self.drift_ppm = 0.0
        """How much faster GStreamer's clock runs than ours."""
        # Faults
        self.exists = True
        self.loses: set[int] = set()
        """Frames that the sensor loses."""
        self.dies_after: int | None = None
        self.errors: list[int] = []
        """Numbers of the calls of Capture that raise."""
        self.late_ms: dict[int, float] = {}
        """Frame -> additional delay of the call that returns it."""
        self.jitter_ms: Callable[[int], float] = lambda number: 0.0
        self.no_timestamp: set[int] = set()
        self.timestamp_of: dict[int, int] = {}
        self.app_time = False
        self.hold: Callable[[], None] = lambda: None
        """Called inside each Capture, where the real one waits."""
        # Observations
        self.created: list[dict[str, Any]] = []
        self.captures: list[tuple[str, int, int]] = []
        self.base_ns = 0
        """When the pipeline was opened: the zero of its running time."""
        self.opened = 0
        self.closed = 0
        self.deleted = 0
        self.leaks = 0
        self.windows = 0
        self.waits = 0
        self.streams: set[int] = set()
        self.events: dict[int, int] = {}
        self.queue: dict[int, list[Callable[[], None]]] = {}
        self._freed: list[Any] = []

    def free(self, buffers: list[Any]) -> None:
        """Mark memory as freed; it stays readable."""
        for buffer in buffers:
            ctypes.memset(buffer, FREED, ctypes.sizeof(buffer))
        self._freed += buffers

    def sensor_ns(self, number: int) -> int:
        """Return the capture time of a frame since the pipeline was opened."""
        return round(self.starts_after_ms * MS + number * 1e9 / self.fps)

    def frame_bytes(self, format_name: str) -> int:
        return self.size[0] * self.size[1] * BITS[format_name] // 8


class CudaImage:
    """A cudaImage of Capture, which does not own its memory."""

    def __init__(
        self, camera: FakeCamera, buffer: Any, format_name: str, timestamp_ns: int
    ) -> None:
        self._camera = camera
        self.ptr = ctypes.addressof(buffer)
        self.format = format_name
        self.timestamp = timestamp_ns
        self.width, self.height = camera.size
        self.mapped = camera.mapped
        self.shape = (self.height, self.width, 3)
        self.freeOnDelete = False

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        self._camera.leaks += 1
        return {}

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return self.__cuda_array_interface__


def parse_options(argv: list[str], options: dict[str, Any]) -> dict[str, Any]:
    """Return the result of videoOptions.Parse."""
    parsed = {"numBuffers": 4, "width": 0, "height": 0, "framerate": 0.0, "flipMethod": "none"}
    parsed |= {"zeroCopy": True, "headless": False, "log-file": "stdout"} | options
    if not argv:
        parsed |= {"numBuffers": 0, "width": 0, "height": 0, "framerate": 0.0}
    names: dict[str, tuple[str, Callable[[str], Any]]] = {
        "--num-buffers": ("numBuffers", int),
        "--input-width": ("width", int),
        "--input-height": ("height", int),
        "--input-rate": ("framerate", float),
        "--input-flip": ("flipMethod", str),
        "--log-level": ("log-level", str),
        "--log-file": ("log-file", str),
        "--headless": ("headless", lambda _: True),
    }
    for argument in argv:
        flag, _, value = argument.partition("=")
        name, kind = names[flag]
        parsed[name] = kind(value)
    return parsed


class VideoSource:
    """videoSource over gstCamera and gstBufferManager."""

    def __init__(
        self, camera: FakeCamera, uri: str, argv: list[str], options: dict[str, Any]
    ) -> None:
        self._camera = camera
        self._options = parse_options(argv, options)
        camera.created.append({"uri": uri, **self._options})
        if not camera.exists:
            raise Exception("jetson.utils -- failed to create videoSource device")
        self._streaming = False
        self._base_ns = 0
        self._next = 0  # number of the next frame
        self._newest: tuple[int, int] | None = None  # number and slot, until it is returned
        self._written = 0
        self._calls = 0
        length = self._options["numBuffers"]
        self._raw = [(ctypes.c_uint8 * camera.frame_bytes(camera.format))() for _ in range(length)]
        self._rgb = [(ctypes.c_uint8 * camera.frame_bytes("rgb8"))() for _ in range(length)]
        self._converted = 0

    def __del__(self) -> None:
        """PyVideoSource_Dealloc."""
        if self._camera.exists:
            self._camera.deleted += 1
            self._camera.free(self._raw + self._rgb)

    def Open(self) -> None:  # noqa: N802
        raise AssertionError("Open sets a Python error without the GIL: this may crash")

    def Close(self) -> None:  # noqa: N802
        self._camera.closed += 1
        self._streaming = False

    def GetWidth(self) -> int:  # noqa: N802
        return self._camera.size[0]

    def GetHeight(self) -> int:  # noqa: N802
        return self._camera.size[1]

    def GetFrameRate(self) -> int:  # noqa: N802
        return self._camera.fps

    def GetOptions(self) -> dict[str, Any]:  # noqa: N802
        return {**self._options, "codec": self._camera.codec}

    def Capture(  # noqa: N802
        self,
        format: str = "rgb8",  # noqa: A002 - its name
        timeout: int = 1000,
        stream: int = 0,
    ) -> CudaImage | None:
        camera, clock = self._camera, self._camera.clock
        camera.captures.append((format, timeout, stream))
        if not self._streaming:
            self._streaming = True
            camera.opened += 1
            self._base_ns = camera.base_ns = clock.now_ns()
            clock.advance(100 * MS)
        camera.hold()
        self._calls += 1
        if self._calls - 1 in camera.errors:
            raise Exception("jetson.utils -- videoSource failed to capture image")
        self._fill_ring()
        if self._newest is None:
            if self._arrival_ns(self._next) > clock.now_ns() + timeout * MS:
                clock.advance(timeout * MS)
                return None
            clock.advance(self._arrival_ns(self._next) - clock.now_ns())
            self._fill_ring()
        assert self._newest is not None
        (number, slot), self._newest = self._newest, None
        clock.advance(round(camera.late_ms.get(number, 0.0) * MS))
        timestamp_ns = self._timestamp_ns(number)
        if format not in BITS:
            return CudaImage(camera, self._raw[slot], camera.format, timestamp_ns)
        return CudaImage(camera, self._convert(slot, stream), format, timestamp_ns)

    def _arrival_ns(self, number: int) -> int:
        """Return when the frame is in the ring, in monotonic time; never for a dead camera."""
        camera = self._camera
        if camera.dies_after is not None and number > camera.dies_after:
            return 1 << 62
        late_ms = camera.delay_ms + camera.jitter_ms(number)
        while number in camera.loses:
            number += 1
        return self._base_ns + camera.sensor_ns(number) + round(late_ms * MS)

    def _fill_ring(self) -> None:
        """Write all frames that are due by now (checkBuffer and Enqueue)."""
        while self._arrival_ns(self._next) <= self._camera.clock.now_ns():
            while self._next in self._camera.loses:
                self._next += 1
            slot = self._written % len(self._raw)
            self._written += 1
            ctypes.memset(self._raw[slot], self._next % 200, ctypes.sizeof(self._raw[slot]))
            self._newest = (self._next, slot)
            self._next += 1

    def _timestamp_ns(self, number: int) -> int:
        camera = self._camera
        if number in camera.no_timestamp:
            return 0
        if number in camera.timestamp_of:
            return camera.timestamp_of[number]
        if camera.app_time:
            return self._arrival_ns(number) - camera.process_start_ns
        return round(camera.sensor_ns(number) * (1 + camera.drift_ppm * 1e-6))

    def _convert(self, slot: int, stream: int) -> Any:
        """Queue the conversion: until the stream is synchronized, the buffer is invalid."""
        source = self._raw[slot]
        target = self._rgb[self._converted % len(self._rgb)]
        self._converted += 1
        ctypes.memset(target, NOT_CONVERTED, ctypes.sizeof(target))
        value = source[0]

        def convert() -> None:
            ctypes.memset(target, value, ctypes.sizeof(target))

        self._camera.queue.setdefault(stream, []).append(convert)
        return target


def make_module(camera: FakeCamera) -> ModuleType:
    """Return the module to put into `sys.modules` as jetson_utils_python."""
    module: Any = ModuleType("jetson_utils_python")
    handles = iter(range(1000, 2000))
    lock = threading.Lock()

    def create_source(
        uri: str = "",
        argv: list[str] | None = None,
        positionArg: int = -1,  # noqa: N803
        options: dict[str, Any] | None = None,
    ) -> VideoSource:
        return VideoSource(camera, uri, argv or [], options or {})

    def create_output(*_: object, **__: object) -> None:
        camera.windows += 1

    def create_stream(nonblocking: bool = False, priority: int = 0) -> int:
        handle = next(handles)
        camera.streams.add(handle)
        return handle

    def create_event() -> int:
        handle = next(handles)
        camera.events[handle] = 0
        return handle

    def record(event: int = 0, stream: int = 0) -> int:
        camera.events[event] = stream
        return event

    def synchronize(event: int) -> None:
        camera.waits += 1
        with lock:
            for step in camera.queue.pop(camera.events[event], []):
                step()

    module.videoSource = create_source
    module.videoOutput = create_output
    module.cudaStreamCreate = create_stream
    module.cudaStreamDestroy = camera.streams.remove
    module.cudaEventCreate = create_event
    module.cudaEventRecord = record
    module.cudaEventSynchronize = synchronize
    module.cudaEventDestroy = camera.events.pop
    return cast(ModuleType, module)


def install(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> FakeCamera:
    """Install the fake library with one camera, which has any name in /dev."""
    camera = FakeCamera(clock)
    monkeypatch.setitem(sys.modules, "jetson_utils_python", make_module(camera))
    monkeypatch.setattr(jetson_utils, "Path", lambda name: Path("/dev/null"))
    return camera
