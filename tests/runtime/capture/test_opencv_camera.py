"""The V4L2 camera on a stand-in for cv2.VideoCapture.

The stand-in keeps to what OpenCV's cap_v4l.cpp does: `grab` dequeues a buffer and keeps its
timestamp, CAP_PROP_POS_MSEC returns that timestamp in milliseconds, `retrieve` decodes the picture
and may fail for a broken JPEG, a device that is gone makes `grab` return False.
"""

from __future__ import annotations

import logging
import os
import threading

import numpy as np
import pytest

from emotion_edge.runtime.capture import opencv_camera as camera_module
from emotion_edge.runtime.capture.camera import CameraSettings
from emotion_edge.runtime.capture.opencv_camera import OpencvCamera
from emotion_edge.runtime.clock import FakeClock
from emotion_edge.runtime.messages import CapturePath, SourceError

cv2 = pytest.importorskip("cv2")

SETTINGS = CameraSettings()
MS = 1_000_000
FRAME = np.full((4, 6, 3), 7, np.uint8)


class StandIn:
    """See the module's docstring. `script` says what each grab does."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.opened = True
        self.set_to: dict[int, float] = {}
        self.script: list[str] = []
        self.age_ms = 8.0
        self.stamp_ms = 0.0
        self.releases = 0
        self.good = True

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return self.opened

    def set(self, key: int, value: float) -> bool:
        self.set_to[key] = value
        return True

    def get(self, key: int) -> float:
        return self.stamp_ms if key == cv2.CAP_PROP_POS_MSEC else self.set_to.get(key, 0.0)

    def grab(self) -> bool:
        step = self.script.pop(0) if self.script else "picture"
        if step == "gone":
            return False
        if step == "assert":
            raise cv2.error("(-215:Assertion failed) buf.index < req.count")
        self.clock.advance(33 * MS)
        self.stamp_ms = self.clock.now_ns() / MS - self.age_ms
        self.good = step != "broken"
        return True

    def retrieve(self) -> tuple[bool, np.ndarray | None]:
        return (True, FRAME.copy()) if self.good else (False, None)

    def release(self) -> None:
        self.releases += 1


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(100_000 * MS)


@pytest.fixture
def stand_in(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    fake = StandIn(clock)
    monkeypatch.setattr(cv2, "VideoCapture", lambda device, api: fake)
    monkeypatch.setattr(camera_module, "check_device", lambda device: None)
    return fake


def test_frames_carry_the_drivers_time(stand_in: StandIn, clock: FakeClock) -> None:
    """The driver took the picture 8 ms before OpenCV returned: that is its t_ns."""
    with OpencvCamera("/dev/video0", clock, SETTINGS) as camera:
        frames = [camera.read() for _ in range(3)]
    assert [frame.t_ns // MS for frame in frames if frame] == [100_025, 100_058, 100_091]
    assert [frame.index for frame in frames if frame] == [0, 1, 2]
    assert frames[0] is not None
    assert np.array_equal(frames[0].image, FRAME)
    assert camera.path == CapturePath(2, "v4l2 monotonic", "none")


def test_requested_camera_properties(stand_in: StandIn, clock: FakeClock) -> None:
    """Few buffers, MJPEG, the size and the rate, and a wait of one second at most."""
    OpencvCamera("/dev/video0", clock, CameraSettings(640, 480, 60)).close()
    assert stand_in.set_to == {
        cv2.CAP_PROP_BUFFERSIZE: 2,
        cv2.CAP_PROP_FOURCC: cv2.VideoWriter.fourcc(*"MJPG"),
        cv2.CAP_PROP_FRAME_WIDTH: 640,
        cv2.CAP_PROP_FRAME_HEIGHT: 480,
        cv2.CAP_PROP_FPS: 60,
    }
    assert "OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT" in os.environ


@pytest.mark.parametrize("age_ms", [100_000.0, -1.7e12, 1500.0, -20.0])
def test_impossible_time_falls_back_to_arrival(
    stand_in: StandIn, clock: FakeClock, caplog: pytest.LogCaptureFixture, age_ms: float
) -> None:
    """Zero, the wall clock, too old, in the future: the time of arrival, and one warning."""
    stand_in.age_ms = age_ms
    with OpencvCamera("/dev/video0", clock, SETTINGS) as camera, caplog.at_level(logging.WARNING):
        frames = [camera.read() for _ in range(3)]
    assert [frame.t_ns // MS for frame in frames if frame] == [100_033, 100_066, 100_099]
    assert len(caplog.records) == 1
    assert "CLOCK_MONOTONIC" in caplog.records[0].getMessage()
    assert camera.path.clock_domain == "time of arrival"


def test_old_picture_is_not_dated_as_now(
    stand_in: StandIn, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Its driver's clock is known to be ours, and the picture lay there while nobody read: its time
    stays that of its capture, however long ago."""
    with OpencvCamera("/dev/video0", clock, SETTINGS) as camera, caplog.at_level(logging.WARNING):
        first = camera.read()
        clock.advance(20_000 * MS)
        stand_in.age_ms += 15_000
        late = camera.read()
    assert first is not None
    assert late is not None
    assert late.t_ns == clock.now_ns() - round(stand_in.age_ms * MS)
    assert camera.path.clock_domain == "v4l2 monotonic"
    assert not caplog.records


def test_constant_timestamp_is_rejected(stand_in: StandIn, clock: FakeClock) -> None:
    """Two pictures never have the same time."""
    with OpencvCamera("/dev/video0", clock, SETTINGS) as camera:
        first = camera.read()
        stand_in.age_ms += 33
        second = camera.read()
    assert first is not None
    assert second is not None
    assert first.t_ns < second.t_ns == clock.now_ns()


def test_vanished_camera_raises(stand_in: StandIn, clock: FakeClock) -> None:
    """A grab that fails, or an assertion inside OpenCV, is a SourceError that names the device."""
    stand_in.script = ["picture", "gone", "assert"]
    with OpencvCamera("/dev/video3", clock, SETTINGS) as camera:
        camera.read()
        with pytest.raises(SourceError, match="camera /dev/video3 gives no pictures"):
            camera.read()
        with pytest.raises(SourceError, match=r"camera /dev/video3: .*Assertion failed"):
            camera.read()


def test_corrupt_frames_are_skipped(stand_in: StandIn, clock: FakeClock) -> None:
    """A cut-off JPEG costs one picture, whose index is left out; thirty in a row are a failure."""
    stand_in.script = ["picture", "broken", "broken", "picture"]
    with OpencvCamera("/dev/video0", clock, SETTINGS) as camera:
        first, second = camera.read(), camera.read()
        assert first is not None
        assert second is not None
        assert (first.index, second.index) == (0, 3)
        assert camera.corrupt_frames == 2
        stand_in.script = ["broken"] * 40
        with pytest.raises(SourceError, match="30 broken pictures"):
            camera.read()


def test_busy_camera_cannot_be_opened(stand_in: StandIn, clock: FakeClock) -> None:
    """A device that does not open raises and is released."""
    stand_in.opened = False
    with pytest.raises(SourceError, match="camera /dev/video0 cannot be opened"):
        OpencvCamera("/dev/video0", clock, SETTINGS)
    assert stand_in.releases == 1


def test_close_does_not_release_under_a_read(stand_in: StandIn, clock: FakeClock) -> None:
    """While a read waits in the driver, close returns at once; the read releases when it ends."""
    waiting, go_on = threading.Event(), threading.Event()

    def grab() -> bool:
        waiting.set()
        go_on.wait()
        return False

    stand_in.grab = grab  # type: ignore[method-assign]
    camera = OpencvCamera("/dev/video0", clock, SETTINGS)
    got: list[object] = []
    reader = threading.Thread(target=lambda: got.append(camera.read()))
    reader.start()
    waiting.wait()
    camera.close()
    assert stand_in.releases == 0
    go_on.set()
    reader.join()
    assert got == [None]
    assert stand_in.releases == 1
    assert camera.read() is None


def test_missing_camera_is_named(clock: FakeClock) -> None:
    """A device that is not there is refused before OpenCV is asked, with what there is."""
    with pytest.raises(SourceError, match=r"camera /dev/video97: no such device \(found: "):
        OpencvCamera("/dev/video97", clock, SETTINGS)
