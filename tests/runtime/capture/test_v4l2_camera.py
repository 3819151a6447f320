"""The V4L2 source on a stand-in for the driver; `tests/rig` has it on real ones."""

from __future__ import annotations

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

from .v4l2_stand_in import MS, StandIn


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(100_000 * MS)


@pytest.fixture
def driver(clock: FakeClock) -> StandIn:
    return StandIn(clock)


def open_camera(driver: StandIn, pin: Pin | None = None, **options: Any) -> V4l2Camera:
    settings = replace(CameraSettings(640, 480), **options)
    return V4l2Camera("/dev/video7", driver.clock, settings, pin=pin, open_handle=driver)  # type: ignore[arg-type]


def take(camera: V4l2Camera, count: int) -> list[VideoFrame]:
    frames = [camera.read() for _ in range(count)]
    return [frame for frame in frames if frame is not None]


def fake_pin(owner: object, address: int, size: int) -> tuple[int, Callable[[], None]]:
    """A GPU that sees everything a terabyte further up."""
    return address + (1 << 40), lambda: None


@pytest.mark.parametrize("ours", [True, False])
def test_timestamp_and_index_come_from_the_driver(driver: StandIn, ours: bool) -> None:
    """Each picture is what the driver wrote, 8 ms old, counted; the first one is left out."""
    driver.takes_user_memory = ours
    with open_camera(driver) as camera:
        frames = take(camera, 3)
        assert camera.path == CapturePath(0 if ours else 1, "v4l2 monotonic", "none")
    assert [frame.t_ns // MS for frame in frames] == [100_058, 100_091, 100_124]
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert [np.unique(frame.image).tolist() for frame in frames] == [[1], [2], [3]]
    assert {(frame.format, frame.image.shape) for frame in frames} == {("yuyv", (480, 640, 2))}
    assert {frame.device_ptr for frame in frames} == {0}


@pytest.mark.parametrize("ours", [True, False])
def test_the_gpu_sees_what_the_driver_filled(driver: StandIn, ours: bool) -> None:
    """`device_ptr` is the GPU's address of the picture's first byte."""
    driver.takes_user_memory = ours
    with open_camera(driver, pin=fake_pin) as camera:
        for frame in take(camera, 3):
            assert frame.device_ptr == frame.image.ctypes.data + (1 << 40)
        assert camera.path.zero_copy == "pinned"


def test_memory_that_cannot_be_pinned_is_used_without(
    driver: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    """The pictures come all the same, the reason is said once."""

    def refuse(owner: object, address: int, size: int) -> tuple[int, Callable[[], None]]:
        raise MapError("out of memory")

    with open_camera(driver, pin=refuse) as camera:
        assert [frame.device_ptr for frame in take(camera, 2)] == [0, 0]
        assert camera.path == CapturePath(0, "v4l2 monotonic", "none")
    assert ["out of memory" in record.getMessage() for record in caplog.records] == [True]


@pytest.mark.parametrize(
    ("name", "pixel_format", "shape", "row_bytes"),
    [
        ("NV12", "nv12", (180, 160), 166),
        ("YUYV", "yuyv", (120, 160, 2), 326),
        ("RGB3", "rgb8", (120, 160, 3), 486),
        ("BGR3", "bgr8", (120, 160, 3), 486),
    ],
)
@pytest.mark.parametrize("ours", [True, False])
def test_formats_and_longer_rows(
    driver: StandIn,
    name: str,
    pixel_format: str,
    shape: tuple[int, ...],
    row_bytes: int,
    ours: bool,
) -> None:
    """Every raw format, with rows six bytes longer than the picture."""
    driver.formats = {name: {(160, 120): 30.0}}
    driver.more_row_bytes = 6
    driver.takes_user_memory = ours
    with open_camera(driver, width_px=160, height_px=120) as camera:
        (frame,) = take(camera, 1)
    assert (frame.format, frame.image.shape, frame.image.strides[0]) == (
        pixel_format,
        shape,
        row_bytes,
    )
    assert image_size(frame.image, frame.format) == (120, 160)
    assert np.unique(frame.image).tolist() == [1]


@pytest.mark.parametrize(
    ("colours", "suffix"),
    [
        ((0, 0, 0), ""),  # the driver states nothing
        ((8, 1, 2), ""),  # sRGB, BT.601, limited range: all of it stated
        ((8, 0, 1), "-full"),
        ((8, 2, 1), "-709-full"),
        ((3, 2, 2), "-709"),
        ((7, 0, 0), "-full"),  # JPEG
        ((3, 0, 0), "-709"),  # Rec. 709
    ],
)
@pytest.mark.parametrize("name", ["YUYV", "NV12", "RGB3"])
def test_a_frame_carries_the_stated_encoding(
    driver: StandIn, name: str, colours: tuple[int, int, int], suffix: str
) -> None:
    """As part of its format; R'G'B' has none."""
    driver.formats = {name: {(160, 120): 30.0}}
    driver.colours = colours
    with open_camera(driver, width_px=160, height_px=120) as camera:
        (frame,) = take(camera, 1)
    layout = {"YUYV": "yuyv", "NV12": "nv12", "RGB3": "rgb8"}[name]
    assert frame.format == (layout if name == "RGB3" else layout + suffix)
    assert image_size(frame.image, frame.format) == (120, 160)


def test_an_old_kernel_states_no_encoding(driver: StandIn) -> None:
    """Without the magic number the fields after it mean nothing; the colour space does."""
    driver.extends_formats = False
    driver.colours = (8, 2, 1)
    with open_camera(driver) as camera:
        assert take(camera, 1)[0].format == "yuyv"
    driver.colours = (7, 2, 2)
    with open_camera(driver) as camera:
        assert take(camera, 1)[0].format == "yuyv-full"


def test_nv12_is_preferred_and_the_rate_is_asked_for(driver: StandIn) -> None:
    """Half the bytes of RGB; but not at the cost of the rate."""
    driver.formats |= {"NV12": {(640, 480): 30.0}}
    with open_camera(driver) as camera:
        assert take(camera, 1)[0].format == "nv12"
    assert driver.fps == pytest.approx(30)
    driver.formats |= {"NV12": {(640, 480): 5.0}}
    with open_camera(driver, fps=29.97) as camera:
        assert take(camera, 1)[0].format == "yuyv"
    assert driver.fps == pytest.approx(29.97)


def test_the_newest_wins(driver: StandIn) -> None:
    """Older pictures go back to the driver; the gap in the index shows them."""
    driver.script = ["picture", "picture", "picture+picture+picture", "picture"]
    with open_camera(driver) as camera:
        frames = take(camera, 3)
        assert camera.stale_frames == 2
        assert len(driver.queued) == 3  # of six, three are looked at
    assert [frame.index for frame in frames] == [0, 3, 4]
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [1, 4, 5]


def test_lost_and_corrupt_frames_are_gaps(driver: StandIn) -> None:
    """What the driver lost, marked as broken or gave in part costs its number."""
    driver.script = ["picture", "picture", "lost+picture", "error", "picture", "short+picture"]
    with open_camera(driver) as camera:
        frames = take(camera, 4)
        assert camera.corrupt_frames == 2
    assert [frame.index for frame in frames] == [0, 2, 4, 6]
    driver.script = ["picture"] + ["error"] * 40
    with open_camera(driver) as camera, pytest.raises(SourceError, match="30 broken pictures in a"):
        camera.read()


def test_count_of_the_driver(driver: StandIn) -> None:
    """It may run over; one that stands still is replaced by ours."""
    driver.sequence = 0xFFFFFFFE
    with open_camera(driver) as camera:
        assert [frame.index for frame in take(camera, 4)] == [0, 1, 2, 3]
    driver.counts = False
    driver.script = ["picture", "picture", "picture+picture"]
    with open_camera(driver) as camera:
        assert [frame.index for frame in take(camera, 2)] == [0, 2]


@pytest.mark.parametrize("ours", [True, False])
def test_a_frame_in_use_is_never_overwritten(driver: StandIn, ours: bool) -> None:
    """However many are kept: those beyond the spare ones are copies. Kept parts count as well."""
    driver.takes_user_memory = ours
    with open_camera(driver, pin=fake_pin) as camera:
        kept = take(camera, 12)
        parts = [frame.image[10:20, ..., 0] for frame in kept]
        on_gpu = [bool(frame.device_ptr) for frame in kept]
        assert on_gpu == [True] * 4 + [False] * 8
        assert camera.path == CapturePath(1, "v4l2 monotonic", "none")
        del kept
        more = take(camera, 3)
        assert [int(part.max()) for part in parts] == list(range(1, 13))
        assert [bool(frame.device_ptr) for frame in more] == [False] * 3
        del parts, more
        assert [bool(frame.device_ptr) for frame in take(camera, 4)] == [True] * 4
        assert camera.path == CapturePath(0 if ours else 1, "v4l2 monotonic", "pinned")


def test_driver_always_has_buffers(driver: StandIn) -> None:
    """At most four pictures are away at once: the driver is left with two."""
    with open_camera(driver) as camera:
        kept = [camera.read() for _ in range(8)]
        assert len(driver.queued) == 2
        del kept
        camera.read()
        assert len(driver.queued) == 5


def test_memory_outlives_the_camera(driver: StandIn) -> None:
    """A picture that is still looked at when the camera closes stays whole and on the GPU."""
    unpinned: list[int] = []

    def pin(owner: object, address: int, size: int) -> tuple[int, Callable[[], None]]:
        return address, lambda: unpinned.append(address)

    camera = open_camera(driver, pin=pin)
    (frame,) = take(camera, 1)
    address = frame.device_ptr
    camera.close()
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
        (0x4000, 8.0, 100_066, "time of arrival"),
        (abi.FLAG_TIMESTAMP_UNKNOWN, -1.7e12, 100_066, "time of arrival"),
        (abi.FLAG_TIMESTAMP_MONOTONIC, -20.0, 100_066, "time of arrival"),
    ],
)
def test_clock_of_the_stamps(
    driver: StandIn,
    caplog: pytest.LogCaptureFixture,
    flag: int,
    age_ms: float,
    t_ms: int,
    domain: str,
) -> None:
    """A stamp that was copied, is of the wall clock or in the future is replaced, with a warning
    once, and the report says so."""
    driver.stamp_flag, driver.age_ms = flag, age_ms
    with open_camera(driver) as camera:
        frames = take(camera, 3)
        assert camera.path.clock_domain == domain
    assert frames[0].t_ns // MS == t_ms
    assert len(caplog.records) == (domain == "time of arrival")


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("gone", "camera /dev/video7 is gone"),
        ("fatal", "camera /dev/video7 failed: Input/output error"),
        ("late", "camera /dev/video7 gives no pictures"),
        ("lost", "camera /dev/video7 has stopped"),
    ],
)
def test_failures_are_source_errors(driver: StandIn, step: str, message: str) -> None:
    """Unplugged, broken, silent, an event without a picture; the device is closed once after."""
    driver.script = ["picture", "picture", step]
    with open_camera(driver) as camera:
        take(camera, 1)
        with pytest.raises(SourceError, match=f"^{message}"):
            camera.read()
    camera.close()
    assert driver.closed == 1


def test_unplugged_camera_is_opened_again(clock: FakeClock) -> None:
    """The supervisor closes it, opens it again, and the index and the report go on."""
    drivers = [StandIn(clock), StandIn(clock)]
    drivers[0].script = ["picture", "picture", "picture", "gone"]
    drivers[1].takes_user_memory = False
    opened = iter(drivers)
    camera = ReconnectingVideo("camera", lambda: open_camera(next(opened)), clock)
    assert camera.path.copies_per_frame == 0
    frames = [camera.read() for _ in range(4)]
    assert [frame.index for frame in frames if frame] == [0, 1, 2, 3]
    assert camera.path.copies_per_frame == 1
    camera.close()
    assert [driver.closed for driver in drivers] == [1, 1]


def test_driver_that_never_fills_our_memory(driver: StandIn) -> None:
    """It takes our buffers and stays silent: it gets a chance with its own."""
    driver.fills_user_memory = False
    with open_camera(driver) as camera:
        assert [frame.index for frame in take(camera, 2)] == [0, 1]
        assert camera.path.copies_per_frame == 1


def test_close_wakes_a_read(driver: StandIn) -> None:
    """close() from another thread while the read waits: the read closes the device, once."""
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
    ("formats", "caps", "message"),
    [
        ({"MJPG": {}}, 0x04000001, "offers none of NV12, YUYV, RGB3, BGR3; for MJPEG set source"),
        ({"YUYV": {}}, 0x04000002, "/dev/video7 is no camera"),
        ({"YUYV": {}}, 0x04001000, "has only multi-planar formats"),
        ({"YUYV": {}}, 0x01000001, "cannot stream"),
        ({"YUYV": {(641, 480): 30.0}}, 0x04000001, "yuyv pictures of 641x480 cannot be read"),
    ],
)
def test_devices_that_are_refused(
    driver: StandIn, formats: dict[str, dict[tuple[int, int], float]], caps: int, message: str
) -> None:
    """One line, and nothing stays open."""
    driver.formats, driver.caps = formats, caps
    with pytest.raises(SourceError, match=message):
        open_camera(driver)
    assert driver.closed == 1
