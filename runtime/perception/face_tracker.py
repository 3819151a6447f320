"""Face search beside the hot path, on a thread of its own.

In: the newest frame. Out: the box in the `FaceTracker`, which the main thread reads.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import cv2

from ...engines.base import EngineError
from ...engines.face_detector import Detector, open_detector
from ...engines.face_tracker import FaceTracker
from ..clock import Clock
from ..faults import FaultLog
from ..messages import SourceError, VideoFrame

log = logging.getLogger(__name__)


def open_yunet(yunet_file: str) -> Detector | None:
    """Open YuNet if a file is given. Raises SourceError."""
    if not yunet_file:
        return None
    try:
        return open_detector(yunet_file)
    except EngineError as error:
        raise SourceError(f"face.yunet_file {error}") from error


@contextmanager
def one_opencv_thread() -> Iterator[None]:
    """Limit OpenCV to one core, so that the networks have the others."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def run_face_tracker(
    tracker: FaceTracker,
    newest: Callable[[], VideoFrame | None],
    clock: Clock,
    stop: threading.Event,
) -> None:
    """Search the newest frame once every `tracker.period_ns` until `stop`. A search that fails is
    logged, and the next one goes on."""
    faults = FaultLog(log, clock=clock)
    due_ns = clock.now_ns()
    searched = None
    while not stop.is_set():
        frame = newest()
        if frame is not None and frame is not searched:
            searched = frame
            try:
                tracker.track(frame)
                faults.log_transition("")
            except (cv2.error, EngineError) as error:
                reason = error.err if isinstance(error, cv2.error) else error
                faults.log_transition(f"face search failed: {reason}")
        due_ns = max(due_ns + tracker.period_ns, clock.now_ns())
        if clock.sleep_until_ns(due_ns, stop):
            return
