"""The V4L2 camera on a fake driver; `tests/rig` runs it on real ones."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from emotion_edge.kernels.memory import MapError, Pin
from emotion_edge.kernels.pixels import image_size
from emotion_edge.runtime.capture import v4l2_uapi as abi
from emotion_edge.runtime.capture.camera import CameraSettings
from emotion_edge.runtime.capture.reconnect import ReconnectingVideo
from emotion_edge.runtime.capture.v4l2_camera import V4l2Camera
from emotion_edge.runtime.clock import FakeClock
from emotion_edge.runtime.messages import CapturePath, SourceError, VideoFrame

from .reading import read_many, read_next
from .v4l2_fake import MS, FakeDriver

fills_user_memory = pytest.mark.parametrize("user_memory", [True, False])


@pytest.fixture
def driver(clock: FakeClock) -> FakeDriver:
    return FakeDriver(clock)


def open_camera(driver: FakeDriver, pin: Pin | None = None, **options: Any) -> V4l2Camera:
    settings = replace(CameraSettings(640, 480), **options)
    return V4l2Camera("/dev/video7", driver.clock, settings, pin=pin, open_handle=driver)  # type: ignore[arg-type]


def read_frames(driver: FakeDriver, count: int, **options: Any) -> list[VideoFrame]:
    """Open the camera, read and close it."""
    with open_camera(driver, **options) as camera:
        return read_many(camera, count)


def fake_pin(owner: object, address: int, size: int) -> tuple[int, Callable[[], None]]:
    """Map everything for a GPU, a terabyte higher."""
    return address + (1 << 40), lambda: None


@fills_user_memory
def test_timestamp_and_index_come_from_the_driver(driver: FakeDriver, user_memory: bool) -> None:
    """Each frame is what the driver wrote, 8 ms old, and counted; the first one is skipped."""
    driver.takes_user_memory = user_memory
    with open_camera(driver) as camera:
        frames = read_many(camera, 3)
        assert camera.path == CapturePath(0 if user_memory else 1, "v4l2 monotonic", "none")
    assert [frame.t_ns // MS for frame in frames] == [100_058, 100_091, 100_124]
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert [np.unique(frame.image).tolist() for frame in frames] == [[1], [2], [3]]
    assert {(frame.format, frame.image.shape) for frame in frames} == {("yuyv", (480, 640, 2))}
    assert {frame.device_ptr for frame in frames} == {0}


@fills_user_memory
def test_device_pointer_is_the_frames(driver: FakeDriver, user_memory: bool) -> None:
    """`device_ptr` is the GPU's address of the image's first byte."""
    driver.takes_user_memory = user_memory
    with open_camera(driver, pin=fake_pin) as camera:
        for frame in read_many(camera, 3):
            assert frame.device_ptr == frame.image.ctypes.data + (1 << 40)
        assert camera.path.zero_copy == "pinned"


def test_memory_that_cannot_be_pinned_is_used_without(
    driver: FakeDriver, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(owner: object, address: int, size: int) -> tuple[int, Callable[[], None]]:
        raise MapError("out of memory")

    with open_camera(driver, pin=refuse) as camera:
        assert [frame.device_ptr for frame in read_many(camera, 2)] == [0, 0]
        assert camera.path == CapturePath(0, "v4l2 monotonic", "none")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


@pytest.mark.parametrize(
    ("name", "pixel_format", "shape", "row_bytes"),
    [
        ("NV12", "nv12", (180, 160), 166),
        ("YUYV", "yuyv", (120, 160, 2), 326),
        ("RGB3", "rgb8", (120, 160, 3), 486),
        ("BGR3", "bgr8", (120, 160, 3), 486),
    ],
)
@fills_user_memory
def test_formats_and_padded_rows(
    driver: FakeDriver,
    name: str,
    pixel_format: str,
    shape: tuple[int, ...],
    row_bytes: int,
    user_memory: bool,
) -> None:
    """Every raw format, with rows six bytes longer than the image."""
    driver.formats = {name: {(160, 120): 30.0}}
    driver.more_row_bytes = 6
    driver.takes_user_memory = user_memory
    (frame,) = read_frames(driver, 1, width_px=160, height_px=120)
    assert (frame.format, frame.image.shape) == (pixel_format, shape)
    assert frame.image.strides[0] == row_bytes
    assert image_size(frame.image, frame.format) == (120, 160)
    assert np.unique(frame.image).tolist() == [1]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("YUYV", "yuyv-709-full"), ("NV12", "nv12-709-full"), ("RGB3", "rgb8")],
)
def test_frame_carries_the_stated_encoding(driver: FakeDriver, name: str, expected: str) -> None:
    """As part of its format; R'G'B' has none. `test_v4l2_format` has all combinations."""
    driver.formats = {name: {(160, 120): 30.0}}
    driver.colors = (8, 2, 1)
    (frame,) = read_frames(driver, 1, width_px=160, height_px=120)
    assert frame.format == expected
    assert image_size(frame.image, frame.format) == (120, 160)


def test_old_kernel_states_no_encoding(driver: FakeDriver) -> None:
    """Without the magic number the fields after it are undefined; the color space is not."""
    driver.extends_formats = False
    for colors, expected in (((8, 2, 1), "yuyv"), ((7, 2, 2), "yuyv-full")):
        driver.colors = colors
        assert read_frames(driver, 1)[0].format == expected


def test_nv12_is_preferred_and_the_rate_is_requested(driver: FakeDriver) -> None:
    """Half the bytes of RGB, but not at the cost of the rate."""
    driver.formats |= {"NV12": {(640, 480): 30.0}}
    assert read_frames(driver, 1)[0].format == "nv12"
    assert driver.fps == pytest.approx(30)
    driver.formats |= {"NV12": {(640, 480): 5.0}}
    assert read_frames(driver, 1, fps=29.97)[0].format == "yuyv"
    assert driver.fps == pytest.approx(29.97)


def test_newest_frame_is_returned(driver: FakeDriver) -> None:
    """Older frames go back to the driver; the index has a gap for them."""
    driver.script = ["frame", "frame", "frame+frame+frame", "frame"]
    with open_camera(driver) as camera:
        frames = read_many(camera, 3)
        assert camera.stale_frames == 2
        assert len(driver.queued) == 3  # of six, three are in use
    assert [frame.index for frame in frames] == [0, 3, 4]
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [1, 4, 5]


def test_lost_and_corrupt_frames_are_gaps(driver: FakeDriver) -> None:
    """Frames that the driver lost, marked as corrupt or delivered in part cost an index."""
    driver.script = ["frame", "frame", "lost+frame", "error", "frame", "short+frame"]
    with open_camera(driver) as camera:
        assert [frame.index for frame in read_many(camera, 4)] == [0, 2, 4, 6]
        assert camera.corrupt_frames == 2


def test_thirty_corrupt_frames_are_a_failure(driver: FakeDriver) -> None:
    driver.script = ["frame"] + ["error"] * 40
    with open_camera(driver) as camera:
        with pytest.raises(SourceError, match="/dev/video7"):
            camera.read()
        assert camera.corrupt_frames >= 30


def test_sequence_of_the_driver(driver: FakeDriver) -> None:
    """It may overflow. One that stands still is replaced by the number of frames."""
    driver.sequence = 0xFFFFFFFE
    assert [frame.index for frame in read_frames(driver, 4)] == [0, 1, 2, 3]
    driver.counts = False
    driver.script = ["frame", "frame", "frame+frame"]
    assert [frame.index for frame in read_frames(driver, 2)] == [0, 2]


@fills_user_memory
def test_frame_in_use_is_never_overwritten(driver: FakeDriver, user_memory: bool) -> None:
    """Frames beyond the spare buffers are copies. A view keeps its frame in use."""
    driver.takes_user_memory = user_memory
    with open_camera(driver, pin=fake_pin) as camera:
        frames = read_many(camera, 12)
        views = [frame.image[10:20, ..., 0] for frame in frames]
        assert [bool(frame.device_ptr) for frame in frames] == [True] * 4 + [False] * 8
        assert camera.path == CapturePath(1, "v4l2 monotonic", "none")
        del frames
        more = read_many(camera, 3)
        assert [int(view.max()) for view in views] == list(range(1, 13))
        assert [bool(frame.device_ptr) for frame in more] == [False] * 3
        del views, more
        assert [bool(frame.device_ptr) for frame in read_many(camera, 4)] == [True] * 4
        assert camera.path == CapturePath(0 if user_memory else 1, "v4l2 monotonic", "pinned")


def test_driver_always_has_buffers(driver: FakeDriver) -> None:
    """At most four frames are in use at once, so that the driver has two buffers left."""
    with open_camera(driver) as camera:
        frames = read_many(camera, 8)
        assert len(driver.queued) == 2
        del frames
        camera.read()
        assert len(driver.queued) == 5


def test_memory_outlives_the_camera(driver: FakeDriver) -> None:
    """A frame in use when the camera closes stays intact and mapped for the GPU."""
    unpinned: list[int] = []

    def pin(owner: object, address: int, size: int) -> tuple[int, Callable[[], None]]:
        return address, lambda: unpinned.append(address)

    (frame,) = read_frames(driver, 1, pin=pin)
    address = frame.device_ptr
    assert len(unpinned) == 5
    assert address not in unpinned
    assert np.unique(frame.image).tolist() == [1]
    del frame
    assert unpinned[5:] == [address]


@pytest.mark.parametrize(
    ("flag", "age_ms", "t_ms", "domain"),
    [
        (abi.FLAG_TIMESTAMP_MONOTONIC, 8.0, 100_058, "v4l2 monotonic"),
        (abi.FLAG_TIMESTAMP_UNKNOWN, 8.0, 100_058, "v4l2 monotonic"),
        (0x4000, 8.0, 100_066, "time of arrival"),  # copied from another device
        (abi.FLAG_TIMESTAMP_UNKNOWN, -1.7e12, 100_066, "time of arrival"),  # wall clock
        (abi.FLAG_TIMESTAMP_MONOTONIC, -20.0, 100_066, "time of arrival"),  # future
    ],
)
def test_clock_of_the_timestamps(
    driver: FakeDriver,
    caplog: pytest.LogCaptureFixture,
    flag: int,
    age_ms: float,
    t_ms: int,
    domain: str,
) -> None:
    """An impossible timestamp is replaced, with one warning, and `path` states it."""
    driver.timestamp_flag, driver.age_ms = flag, age_ms
    with open_camera(driver) as camera:
        assert read_many(camera, 3)[0].t_ns // MS == t_ms
        assert camera.path.clock_domain == domain
    assert len(caplog.records) == (domain == "time of arrival")


@pytest.mark.parametrize("step", ["gone", "fatal", "late", "lost"])
def test_failures_are_source_errors(driver: FakeDriver, step: str) -> None:
    """Unplugged, defective, silent, an event without a frame: the device is closed once after."""
    driver.script = ["frame", "frame", step]
    with open_camera(driver) as camera:
        read_next(camera)
        with pytest.raises(SourceError, match=r"^camera /dev/video7 "):
            camera.read()
    camera.close()
    assert driver.closed == 1


def test_unplugged_camera_is_reopened(clock: FakeClock) -> None:
    """Index and path continue with the new camera."""
    drivers = [FakeDriver(clock), FakeDriver(clock)]
    drivers[0].script = ["frame", "frame", "frame", "gone"]
    drivers[1].takes_user_memory = False
    opened = iter(drivers)
    with ReconnectingVideo("camera", lambda: open_camera(next(opened)), clock) as camera:
        assert camera.path.copies_per_frame == 0
        assert [frame.index for frame in read_many(camera, 4)] == [0, 1, 2, 3]
        assert camera.path.copies_per_frame == 1
    assert [driver.closed for driver in drivers] == [1, 1]


def test_driver_that_never_fills_user_memory(driver: FakeDriver) -> None:
    """It accepts the buffers and stays silent: its own memory is tried next."""
    driver.fills_user_memory = False
    with open_camera(driver) as camera:
        assert [frame.index for frame in read_many(camera, 2)] == [0, 1]
        assert camera.path.copies_per_frame == 1


def test_close_wakes_a_read(driver: FakeDriver) -> None:
    """After close() from another thread the read that waits closes the device, once."""
    camera = open_camera(driver)

    def close() -> None:
        driver.on_wait = lambda: None
        camera.close()
        assert driver.woken
        assert driver.closed == 0

    driver.on_wait = close
    assert camera.read() is None
    assert driver.closed == 1
    assert not driver.streaming
    assert camera.read() is None
    camera.close()
    assert driver.closed == 1


@pytest.mark.parametrize(
    ("formats", "caps", "detail"),
    [
        ({"MJPG": {}}, 0x04000001, "source.capture to opencv"),
        ({"YUYV": {}}, 0x04000002, "no camera"),
        ({"YUYV": {}}, 0x04001000, "multi-planar"),
        ({"YUYV": {}}, 0x01000001, "stream"),
        ({"YUYV": {(641, 480): 30.0}}, 0x04000001, "641x480"),
    ],
)
def test_devices_that_are_refused(
    driver: FakeDriver, formats: dict[str, dict[tuple[int, int], float]], caps: int, detail: str
) -> None:
    """Nothing stays open."""
    driver.formats, driver.caps = formats, caps
    with pytest.raises(SourceError, match=detail):
        open_camera(driver)
    assert driver.closed == 1
