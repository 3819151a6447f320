"""The OpenCV camera on a fake cv2.VideoCapture.

The fake does what OpenCV's cap_v4l.cpp does: `grab` dequeues a buffer and stores its timestamp,
CAP_PROP_POS_MSEC returns that timestamp in milliseconds, `retrieve` decodes the frame and may fail
for a corrupt JPEG, and with a device that is gone `grab` returns False.
"""

from __future__ import annotations

import logging
import os

import numpy as np
import pytest

from emotion_edge.runtime.capture import opencv_camera
from emotion_edge.runtime.capture.camera import CameraSettings
from emotion_edge.runtime.capture.opencv_camera import OpencvCamera
from emotion_edge.runtime.clock import FakeClock
from emotion_edge.runtime.messages import CapturePath, SourceError

from .reading import read_many, read_next

cv2 = pytest.importorskip("cv2")

MS = 1_000_000
IMAGE = np.full((4, 6, 3), 7, np.uint8)


class FakeCapture:
    """A cv2.VideoCapture. `script` holds the result of each grab."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.opened = True
        self.properties: dict[int, float] = {}
        self.script: list[str] = []
        self.age_ms = 8.0
        self.timestamp_ms = 0.0
        self.releases = 0
        self.good = True

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return self.opened

    def set(self, key: int, value: float) -> bool:
        self.properties[key] = value
        return True

    def get(self, key: int) -> float:
        if key == cv2.CAP_PROP_POS_MSEC:
            return self.timestamp_ms
        return self.properties.get(key, 0.0)

    def grab(self) -> bool:
        step = self.script.pop(0) if self.script else "frame"
        if step == "gone":
            return False
        if step == "assert":
            raise cv2.error("(-215:Assertion failed) buf.index < req.count")
        self.clock.advance(33 * MS)
        self.timestamp_ms = self.clock.now_ns() / MS - self.age_ms
        self.good = step != "corrupt"
        return True

    def retrieve(self) -> tuple[bool, np.ndarray | None]:
        return (True, IMAGE.copy()) if self.good else (False, None)

    def release(self) -> None:
        self.releases += 1


@pytest.fixture
def capture(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> FakeCapture:
    fake = FakeCapture(clock)
    monkeypatch.setattr(cv2, "VideoCapture", lambda device, api: fake)
    monkeypatch.setattr(opencv_camera, "check_device", lambda device: None)
    return fake


@pytest.fixture
def camera(capture: FakeCapture, clock: FakeClock) -> OpencvCamera:
    return OpencvCamera("/dev/video3", clock, CameraSettings(640, 480, 60))


def test_frames_carry_the_drivers_time(camera: OpencvCamera) -> None:
    """The driver captured the frame 8 ms before OpenCV returned it."""
    frames = read_many(camera, 3)
    assert [frame.t_ns // MS for frame in frames] == [100_025, 100_058, 100_091]
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert np.array_equal(frames[0].image, IMAGE)
    assert camera.path == CapturePath(2, "v4l2 monotonic", "none")


@pytest.mark.usefixtures("camera")
def test_requested_camera_properties(capture: FakeCapture) -> None:
    """Few buffers, MJPEG, size and rate, and a wait of one second at most."""
    assert capture.properties == {
        cv2.CAP_PROP_BUFFERSIZE: 2,
        cv2.CAP_PROP_FOURCC: cv2.VideoWriter.fourcc(*"MJPG"),
        cv2.CAP_PROP_FRAME_WIDTH: 640,
        cv2.CAP_PROP_FRAME_HEIGHT: 480,
        cv2.CAP_PROP_FPS: 60,
    }
    assert "OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT" in os.environ


def test_impossible_time_falls_back_to_arrival(
    camera: OpencvCamera, capture: FakeCapture, caplog: pytest.LogCaptureFixture
) -> None:
    """With one warning; `path` states it."""
    capture.age_ms = 100_000.0
    assert [frame.t_ns // MS for frame in read_many(camera, 3)] == [100_033, 100_066, 100_099]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert camera.path.clock_domain == "time of arrival"


def test_vanished_camera_raises(camera: OpencvCamera, capture: FakeCapture) -> None:
    """A grab that fails, or an assertion inside OpenCV, is a SourceError that names the device."""
    capture.script = ["frame", "gone", "assert"]
    read_next(camera)
    for _ in range(2):
        with pytest.raises(SourceError, match="/dev/video3"):
            camera.read()


def test_corrupt_frames_are_skipped(camera: OpencvCamera, capture: FakeCapture) -> None:
    """A truncated JPEG costs one index. Thirty in a row are a failure."""
    capture.script = ["frame", "corrupt", "corrupt", "frame"]
    assert [frame.index for frame in read_many(camera, 2)] == [0, 3]
    assert camera.corrupt_frames == 2
    capture.script = ["corrupt"] * 40
    with pytest.raises(SourceError, match="/dev/video3"):
        camera.read()
    assert camera.corrupt_frames == 32


def test_busy_camera_cannot_be_opened(capture: FakeCapture, clock: FakeClock) -> None:
    capture.opened = False
    with pytest.raises(SourceError, match="/dev/video0"):
        OpencvCamera("/dev/video0", clock, CameraSettings())
    assert capture.releases == 1


def test_closed_camera_is_released(camera: OpencvCamera, capture: FakeCapture) -> None:
    with camera:
        read_next(camera)
    assert capture.releases == 1
    assert camera.read() is None
