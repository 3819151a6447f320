"""Face search beside the hot path, on a thread of its own. Only a slow camera's frames are searched
on the hot path.

In: the newest frame. Out: the box in the `FaceTracker`, which the main thread reads.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import cv2

from ...engines.base import EngineError
from ...engines.face_detector import Detector, open_detector
from ...engines.face_tracker import FaceTracker
from ...kernels.bgr_image import resize_to_bgr
from ..clock import Clock
from ..faults import FaultLog
from ..messages import SourceError, VideoFrame

log = logging.getLogger(__name__)

SLOW_NS = 250_000_000
"""Time between frames from which each frame is searched before its estimate."""
MAX_SEARCH_NS = 20_000_000
"""The longest search that an estimate waits for: with the networks it stays within the budget."""

BLACK_LEVEL = 16
"""The brightest pixel of a black frame, of 255: sensor noise stays under it."""
BLACK_NS = 30_000_000_000
"""Frames that have been black for so long are a fault: the lens is covered, or the light is off."""
SAMPLE_PX = 32, 18


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


class FaceSearch:
    """Searches frames, each once, and stores the result in the tracker. A search that fails is
    logged, and the next one goes on."""

    def __init__(self, tracker: FaceTracker, clock: Clock) -> None:
        self._tracker = tracker
        self._clock = clock
        self._faults = FaultLog(log, clock=clock)
        self._light = FaultLog(log, "the frames are not black any more", clock)
        self._black: tuple[int, str] | None = None
        """Since when the frames have been black: capture time, and time of day."""
        self._lock = threading.Lock()
        self._searched: tuple[int, int] | None = None
        """Time and index of the newest frame searched: the frame itself is not kept."""
        self._took_ns = 0

    @property
    def fault(self) -> str:
        """The present fault: the search fails, or the frames are black; "" for none."""
        return self._faults.fault or self._light.fault

    def run(self, newest: Callable[[], VideoFrame | None], stop: threading.Event) -> None:
        """Search the newest frame once every `tracker.period_ns` until `stop`. The body of the
        search's own thread."""
        due_ns = self._clock.now_ns()
        while not stop.is_set():
            frame = newest()
            if frame is not None:
                with self._lock:
                    self._search(frame)
                self._note_light(frame)
            due_ns = max(due_ns + self._tracker.period_ns, self._clock.now_ns())
            if self._clock.sleep_until_ns(due_ns, stop):
                return

    def refresh(self, frame: VideoFrame) -> None:
        """Search `frame` in the calling thread if the newest search is long ago, as it is with each
        frame of a slow camera: there the face would be elsewhere. So is the first frame of a file.
        It is left to the search's own thread where it takes long."""
        searched = self._searched
        if searched is None:
            is_due = frame.shown_ns > 0
        else:
            is_due = frame.t_ns - searched[0] >= max(SLOW_NS, self._tracker.period_ns)
        if not is_due or self._took_ns > MAX_SEARCH_NS:
            return
        if self._lock.acquire(timeout=MAX_SEARCH_NS / 1e9):
            try:
                self._search(frame)
            finally:
                self._lock.release()

    def _search(self, frame: VideoFrame) -> None:
        if (frame.t_ns, frame.index) == self._searched:
            return
        begun_ns = self._clock.now_ns()
        try:
            self._tracker.track(frame)
            self._faults.log_transition("")
        except (cv2.error, EngineError) as error:
            reason = error.err if isinstance(error, cv2.error) else error
            self._faults.log_transition(f"face search failed: {reason}")
        self._searched = frame.t_ns, frame.index
        self._took_ns = self._clock.now_ns() - begun_ns

    def _note_light(self, frame: VideoFrame) -> None:
        """Set or end the fault of a camera that sees nothing."""
        try:
            sample = resize_to_bgr(frame.image, frame.format, *SAMPLE_PX, cv2.INTER_NEAREST)
        except cv2.error:  # the search has reported it
            return
        if sample.max() > BLACK_LEVEL:
            self._black = None
        elif self._black is None:
            self._black = frame.t_ns, time.strftime("%H:%M")
        if self._black is None:
            self._light.log_transition("")
        elif frame.t_ns - self._black[0] >= BLACK_NS:
            self._light.log_transition(
                f"the frames are black since {self._black[1]}: the lens is covered or it is dark"
            )
