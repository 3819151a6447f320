"""Where the face is: found in the newest picture, off the critical path, and held steady.

In: pictures. Out: one square `FaceBox`, framed as the face network was trained (forehead to chin,
the frame of OpenCV's Haar faces, which FER2013 was cut with), or None.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import cv2
import numpy as np

from ...engines import face_detector
from ...engines.base import EngineError
from ...engines.face_detector import Detection, Detector
from ...kernels.pixels import image_size
from ..clock import Clock
from ..faults import FaultLog
from ..messages import FaceBox, SourceError, VideoFrame

log = logging.getLogger(__name__)


MIN_BOX_LIFE_NS = 1_000_000_000
"""A box may be used for so long at least: a slow camera or a starved finder has none that is newer.
As long as the newest voice may stand beside a new face."""


def open_detector(yunet_file: str) -> Detector:
    """YuNet when a file is given, else OpenCV's bundled Haar cascade. Raises SourceError."""
    try:
        return face_detector.open_detector(yunet_file)
    except EngineError as error:
        setting = "face.yunet_file " if yunet_file else ""
        raise SourceError(f"{setting}{error}") from error


@contextmanager
def one_opencv_thread() -> Iterator[None]:
    """OpenCV works on one core: the other one belongs to the networks."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def choose_face(
    found: list[Detection], width: int, height: int, previous: FaceBox | None
) -> Detection:
    """The largest central face; the one followed so far is left only for a clearly better one."""

    def rank(face: Detection) -> float:
        away = np.hypot(face.x / width - 0.5, face.y / height - 0.5) / np.hypot(0.5, 0.5)
        rank = face.size * (1.0 - 0.5 * float(away))
        if previous is not None:
            apart = np.hypot(
                face.x - previous.x - previous.size / 2, face.y - previous.y - previous.size / 2
            )
            if apart < previous.size / 2:
                rank *= 1.3
        return rank

    return max(found, key=rank)


class BoxSmoother:
    """Holds the box still while the face is: a found box within the dead band moves nothing,
    a larger move is followed at once."""

    DEAD_BAND = 0.06
    """Of the side; the detectors' jitter is about 0.02."""
    EASE = 0.25
    """Share of a small error taken per finding, so that a slow drift is followed."""

    def __init__(self, lost_after_s: float) -> None:
        self._lost_after_ns = lost_after_s * 1e9
        self.box: FaceBox | None = None

    def update(self, t_ns: int, found: Detection | None, period_ns: int = 0) -> FaceBox | None:
        """`found` in the picture of `t_ns`, or None -> the steady box, or None when it is lost: for
        long enough, and in more than one search when these are `period_ns` apart."""
        old = self.box
        if old is not None and t_ns - old.t_ns > max(self._lost_after_ns, 1.5 * period_ns):
            old = self.box = None
        if found is None:
            return old
        if old is None:
            x, y, size = found.x, found.y, found.size
        else:
            x, y, size = old.x + old.size / 2, old.y + old.size / 2, old.size
            off = max(abs(found.x - x), abs(found.y - y), abs(found.size - size)) / size
            ease = 1.0 if off > self.DEAD_BAND else self.EASE * off / self.DEAD_BAND
            x += ease * (found.x - x)
            y += ease * (found.y - y)
            size += ease * (found.size - size)
        self.box = FaceBox(x - size / 2, y - size / 2, size, found.score, t_ns)
        return self.box


class FaceTracker:
    """Finds and follows one face. `track` does it now; `run` is the body of its own thread."""

    def __init__(self, detector: Detector, lost_after_s: float) -> None:
        self.period_ns = 125_000_000
        """From one search to the next; may be changed while `run` goes on."""
        self._detector = detector
        self._lost_after_s = lost_after_s
        self._steady = BoxSmoother(lost_after_s)
        # Replaced as a whole, as the reader may come at any moment.
        self._newest: tuple[tuple[int, int], FaceBox | None] = (0, 0), None

    @property
    def box(self) -> FaceBox | None:
        """The newest answer; read from any thread."""
        return self._newest[1]

    def box_for(self, frame: VideoFrame) -> FaceBox | None:
        """The newest answer for a picture of this size and time; read from any thread. A camera
        that was lost may come back with another, where the box would be somewhere else, and a box
        found before it was lost says nothing about who is there now."""
        size, box = self._newest
        if box is None or size != image_size(frame.image, frame.format):
            return None
        return box if frame.t_ns - box.t_ns <= self._box_life_ns else None

    @property
    def _box_life_ns(self) -> float:
        """How much older than a picture its box may be: as old as the search allows, and one search
        more, which is on its way."""
        period_ns = self.period_ns
        lost_after_ns = max(self._lost_after_s * 1e9, 1.5 * period_ns)
        return max(lost_after_ns, MIN_BOX_LIFE_NS) + period_ns

    def track(self, frame: VideoFrame) -> FaceBox | None:
        height, width = image_size(frame.image, frame.format)
        if self._newest[0] != (height, width):
            self._steady = BoxSmoother(self._lost_after_s)
        found = self._detector.detect(frame.image, frame.format)
        chosen = choose_face(found, width, height, self.box_for(frame)) if found else None
        self._newest = (height, width), self._steady.update(frame.t_ns, chosen, self.period_ns)
        return self.box

    def run(
        self,
        newest: Callable[[], VideoFrame | None],
        clock: Clock,
        stop: threading.Event,
    ) -> None:
        """Search the newest picture every `period_ns` until `stop`."""
        faults = FaultLog(log, clock=clock)
        due = clock.now_ns()
        searched = None
        while not stop.is_set():
            frame = newest()
            if frame is not None and frame is not searched:
                searched = frame
                try:
                    self.track(frame)
                    faults.log_transition("")
                except cv2.error as error:
                    faults.log_transition(f"face search failed: {error.err}")
            due = max(due + self.period_ns, clock.now_ns())
            if clock.sleep_until_ns(due, stop):
                return
