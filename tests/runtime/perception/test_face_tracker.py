"""The face search's thread, and its detector."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_edge.engines.base import EngineError
from emotion_edge.engines.face_detector import (
    Detection,
)
from emotion_edge.engines.face_tracker import FaceTracker
from emotion_edge.runtime.capture.demo import draw_face
from emotion_edge.runtime.clock import FakeClock
from emotion_edge.runtime.messages import SourceError, VideoFrame
from emotion_edge.runtime.perception.face_tracker import (
    one_opencv_thread,
    open_yunet,
    run_face_tracker,
)

STEP_NS = 125_000_000
CLIPS = ("01-01-01-01-01-01-01.mp4", "01-01-08-01-01-02-01.mp4")


def make_frame(image: NDArray[np.uint8], t_ns: int = 0, index: int = 0) -> VideoFrame:
    return VideoFrame(t_ns, index, image)


@pytest.mark.parametrize("content", [None, b"", b"no network at all", b"\x08\x07" * 500])
def test_file_that_is_no_yunet(tmp_path: Path, content: bytes | None) -> None:
    """Missing or corrupt: one line that names the setting and the file."""
    file = tmp_path / "yunet.onnx"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SourceError) as error:
        open_yunet(str(file))
    assert "face.yunet_file" in str(error.value)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value).strip()


# The thread


class Script:
    """A detector with scripted detections."""

    def __init__(self, found: list[Detection]) -> None:
        self.found = found
        self.seen: list[int] = []
        """The first byte of each image."""

    def detect(self, image: NDArray[np.uint8], pixel_format: str) -> list[Detection]:
        self.seen.append(int(image[0, 0, 0]))
        return self.found


def test_run_detects_once_per_frame_and_stops() -> None:
    """Every period the newest frame, none twice; it waits for the first frame."""
    clock, stop = FakeClock(), threading.Event()
    detector = Script([Detection(50, 50, 20, 1.0)])
    face_tracker = FaceTracker(detector, 0.7)
    frames = {
        n: make_frame(np.full((100, 100, 3), n, np.uint8), n * STEP_NS, n) for n in range(1, 5)
    }
    asked_ns = []

    def newest() -> VideoFrame | None:
        asked_ns.append(clock.now_ns())
        if len(asked_ns) == 10:
            stop.set()
        return frames.get(len(asked_ns) // 2)

    face_tracker.period_ns = STEP_NS
    run_face_tracker(face_tracker, newest, clock, stop)
    assert asked_ns == [n * STEP_NS for n in range(10)]
    assert detector.seen == [1, 2, 3, 4]
    assert face_tracker.box is not None
    run_face_tracker(face_tracker, newest, clock, stop)
    assert len(asked_ns) == 10


def test_run_waits_without_delay_when_stopped() -> None:
    """A search that sleeps for an hour ends as soon as it is stopped."""
    from emotion_edge.runtime.clock import MonotonicClock

    stop = threading.Event()
    searched = threading.Event()

    def newest() -> VideoFrame | None:
        searched.set()
        return None

    face_tracker = FaceTracker(Script([]), 0.7)
    face_tracker.period_ns = 3_600 * 10**9
    thread = threading.Thread(
        target=run_face_tracker, args=(face_tracker, newest, MonotonicClock(), stop)
    )
    thread.start()
    searched.wait()
    stop.set()
    thread.join()


def test_search_that_fails_is_not_the_end(caplog: pytest.LogCaptureFixture) -> None:
    """OpenCV refuses one image: it is logged and the next one is searched."""

    class BlackRefusing(Script):
        def detect(self, image: NDArray[np.uint8], pixel_format: str) -> list[Detection]:
            if not image.any():
                cv2.cvtColor(image[..., 0], cv2.COLOR_BGR2GRAY)
            return super().detect(image, pixel_format)

    clock, stop = FakeClock(), threading.Event()
    face_tracker = FaceTracker(BlackRefusing([Detection(320, 185, 200, 1.0)]), 0.7)
    good = make_frame(draw_face(0.0), index=1)
    black = make_frame(np.zeros((50, 50, 3), np.uint8))
    frames = iter([black, good])

    def newest() -> VideoFrame | None:
        frame = next(frames, None)
        if frame is None:
            stop.set()
        return frame

    with caplog.at_level(logging.WARNING):
        run_face_tracker(face_tracker, newest, clock, stop)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert face_tracker.box is not None


def test_network_that_fails_is_not_the_end(caplog: pytest.LogCaptureFixture) -> None:
    """The same for a detector's network."""

    class Failing(Script):
        def detect(self, image: NDArray[np.uint8], pixel_format: str) -> list[Detection]:
            if not image.any():
                raise EngineError("faces.onnx: out of memory")
            return super().detect(image, pixel_format)

    stop = threading.Event()
    face_tracker = FaceTracker(Failing([Detection(50, 50, 20, 1.0)]), 0.7)
    images = iter([np.zeros((100, 100, 3), np.uint8), np.ones((100, 100, 3), np.uint8)])

    def newest() -> VideoFrame | None:
        image = next(images, None)
        if image is None:
            stop.set()
            return None
        return make_frame(image)

    run_face_tracker(face_tracker, newest, FakeClock(), stop)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "faces.onnx: out of memory" in caplog.text
    assert face_tracker.box is not None


def test_searches_that_fail_for_long_do_not_flood(caplog: pytest.LogCaptureFixture) -> None:
    """A camera whose images OpenCV refuses costs one warning, not eight a second."""

    class Broken(Script):
        def detect(self, image: NDArray[np.uint8], pixel_format: str) -> list[Detection]:
            cv2.cvtColor(image[..., 0], cv2.COLOR_BGR2GRAY)
            return []

    stop = threading.Event()
    image = np.zeros((50, 50, 3), np.uint8)
    frames = iter([make_frame(image) for _ in range(200)])

    def newest() -> VideoFrame | None:
        frame = next(frames, None)
        if frame is None:
            stop.set()
        return frame

    run_face_tracker(FaceTracker(Broken([]), 0.7), newest, FakeClock(), stop)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_opencv_leaves_the_cores_alone() -> None:
    """OpenCV uses one thread within the block, and as many as before after it."""
    before = cv2.getNumThreads()
    with one_opencv_thread():
        assert cv2.getNumThreads() == 1
    assert cv2.getNumThreads() == before
