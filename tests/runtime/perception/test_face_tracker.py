"""The face search's thread, and its detector."""

from __future__ import annotations

import logging
import threading
import weakref
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
    FaceSearch,
    one_opencv_thread,
    open_yunet,
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
    FaceSearch(face_tracker, clock).run(newest, stop)
    assert asked_ns == [n * STEP_NS for n in range(10)]
    assert detector.seen == [1, 2, 3, 4]
    assert len(face_tracker.boxes) == 1
    FaceSearch(face_tracker, clock).run(newest, stop)
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
        target=FaceSearch(face_tracker, MonotonicClock()).run, args=(newest, stop)
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
        FaceSearch(face_tracker, clock).run(newest, stop)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert len(face_tracker.boxes) == 1


def test_network_that_fails_is_not_the_end(caplog: pytest.LogCaptureFixture) -> None:
    """The same for a detector's network."""

    class Failing(Script):
        def detect(self, image: NDArray[np.uint8], pixel_format: str) -> list[Detection]:
            if not image.any():
                raise EngineError("faces.onnx: out of memory")
            return super().detect(image, pixel_format)

    stop = threading.Event()
    face_tracker = FaceTracker(Failing([Detection(50, 50, 20, 1.0)]), 0.7)
    images = [np.zeros((100, 100, 3), np.uint8), np.ones((100, 100, 3), np.uint8)]
    frames = iter([make_frame(image, index=index) for index, image in enumerate(images)])

    def newest() -> VideoFrame | None:
        frame = next(frames, None)
        if frame is None:
            stop.set()
        return frame

    FaceSearch(face_tracker, FakeClock()).run(newest, stop)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "faces.onnx: out of memory" in caplog.text
    assert face_tracker.boxes


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

    FaceSearch(FaceTracker(Broken([]), 0.7), FakeClock()).run(newest, stop)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


@pytest.mark.parametrize("pixel_format", ["bgr8", "yuyv"])
def test_frames_that_stay_black(pixel_format: str, caplog: pytest.LogCaptureFixture) -> None:
    """A fault after half a minute, named once, until there is light. A dark room is none."""
    search = FaceSearch(FaceTracker(Script([]), 0.7), FakeClock())

    def show(brightness: int, seconds: range) -> list[bool]:
        """Return whether there is a fault at each second."""
        faults = []
        for second in seconds:
            image = np.full((18, 32, 3), brightness, np.uint8)
            if pixel_format == "yuyv":  # black is 16 in limited range
                image = np.full((18, 32, 2), 128, np.uint8)
                image[..., 0] = 16 + brightness
            frame = VideoFrame(second * 10**9, second, image, pixel_format)
            search.run(lambda: frame, stopped_after(1))  # noqa: B023 - it is called at once
            faults.append(search.fault != "")
        return faults

    assert show(2, range(60)) == [False] * 30 + [True] * 30
    assert show(40, range(60, 62)) == [False] * 2
    assert show(2, range(62, 80)) == [False] * 18
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 2


# The frames of a slow camera


class SlowDetector(Script):
    """A detector whose search takes `took_ns`."""

    def __init__(self, clock: FakeClock, took_ns: int) -> None:
        super().__init__([Detection(50, 50, 20, 1.0)])
        self.clock, self.took_ns = clock, took_ns

    def detect(self, image: NDArray[np.uint8], pixel_format: str) -> list[Detection]:
        self.clock.advance(self.took_ns)
        return super().detect(image, pixel_format)


@pytest.mark.parametrize(("fps", "is_slow"), [(30, False), (5, False), (4, True), (1, True)])
def test_frame_of_a_slow_camera_is_searched_at_once(fps: float, is_slow: bool) -> None:
    """Its box is not that of the frame before. The first frame of a camera is left to the
    thread."""
    detector = Script([])
    search = FaceSearch(FaceTracker(detector, 0.7), FakeClock())
    at_once = []
    for n in range(8):
        frame = make_frame(np.zeros((100, 100, 3), np.uint8), round(n / fps * 1e9))
        before = len(detector.seen)
        search.refresh(frame)
        at_once.append(len(detector.seen) > before)
        search.run(lambda: frame, stopped_after(1))  # noqa: B023 - it is called at once
        assert len(detector.seen) == n + 1
    assert at_once == [False, *[is_slow] * 7]


def test_search_keeps_no_frame() -> None:
    """Its image shows a person, and its memory may be the camera's."""
    search = FaceSearch(FaceTracker(Script([]), 0.7), FakeClock())
    image = np.zeros((9, 9, 3), np.uint8)
    held = weakref.ref(image)
    search.refresh(VideoFrame(0, 0, image, shown_ns=1))
    search.run(lambda: None, stopped_after(1))
    del image
    assert held() is None


def stopped_after(count: int) -> threading.Event:
    """An event that is set from the `count`th wait on."""

    class Stop(threading.Event):
        def is_set(self) -> bool:
            nonlocal count
            count -= 1
            return count < 0

    return Stop()


@pytest.mark.parametrize(("shown_ms", "searched"), [(0, 0), (33, 1), (9000, 1)])
def test_first_frame_of_a_file_is_searched_at_once(shown_ms: int, searched: int) -> None:
    """A still image has no other. A file states how long the frame is shown."""
    detector = Script([])
    frame = VideoFrame(0, 0, np.zeros((9, 9, 3), np.uint8), shown_ns=shown_ms * 1_000_000)
    FaceSearch(FaceTracker(detector, 0.7), FakeClock()).refresh(frame)
    assert len(detector.seen) == searched


@pytest.mark.parametrize(("took_ms", "searched"), [(20, 8), (21, 1)])
def test_search_that_takes_long_is_left_to_the_thread(took_ms: int, searched: int) -> None:
    """An estimate never waits for a starved detector a second time."""
    clock = FakeClock()
    detector = SlowDetector(clock, took_ms * 1_000_000)
    search = FaceSearch(FaceTracker(detector, 0.7), clock)
    image = np.zeros((100, 100, 3), np.uint8)
    for n in range(8):
        search.refresh(VideoFrame(n * 500_000_000, n, image, shown_ns=500_000_000))
    assert len(detector.seen) == searched


def test_estimate_does_not_wait_for_a_search_under_way() -> None:
    """At most as long as a search may take."""
    searching, release = threading.Event(), threading.Event()

    class Stuck(Script):
        def detect(self, image: NDArray[np.uint8], pixel_format: str) -> list[Detection]:
            searching.set()
            release.wait()
            return super().detect(image, pixel_format)

    detector = Stuck([])
    search = FaceSearch(FaceTracker(detector, 0.7), FakeClock())
    image = np.zeros((100, 100, 3), np.uint8)
    thread = threading.Thread(target=search.run, args=(lambda: make_frame(image), stopped_after(1)))
    thread.start()
    searching.wait()
    search.refresh(VideoFrame(0, 0, image, shown_ns=500_000_000))  # returns
    release.set()
    thread.join()
    assert len(detector.seen) == 1


def test_opencv_leaves_the_cores_alone() -> None:
    """OpenCV uses one thread within the block, and as many as before after it."""
    before = cv2.getNumThreads()
    with one_opencv_thread():
        assert cv2.getNumThreads() == 1
    assert cv2.getNumThreads() == before
