"""Where the face is: found in the newest picture, off the critical path, and held steady.

In: pictures. Out: one square `FaceBox`, framed as the face network was trained (forehead to chin,
the frame of OpenCV's Haar faces, which FER2013 was cut with), or None.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from .clock import Clock
from .messages import FaceBox, SourceError, VideoFrame

log = logging.getLogger(__name__)

SEARCH_WIDTH_PX = 320
"""Pictures are searched at this width: a face of a tenth of the picture still shows."""
MIN_FACE_SHARE = 0.08
"""Smallest face, as a share of the picture's width."""


class Found(NamedTuple):
    """One face as a detector reports it: centre, side of the square, confidence."""

    x: float
    y: float
    size: float
    score: float


class Detector(Protocol):
    def detect(self, frame: VideoFrame) -> list[Found]: ...


def open_detector(yunet_file: str) -> Detector:
    """YuNet when a file is given, else OpenCV's bundled Haar cascade. Raises SourceError."""
    cv2.setNumThreads(1)  # the other core belongs to the networks
    return YuNetDetector(Path(yunet_file)) if yunet_file else HaarDetector()


def _shrink(frame: VideoFrame) -> tuple[NDArray[np.uint8], float]:
    """The picture at `SEARCH_WIDTH_PX`, and how many times larger the original is."""
    height, width = frame.image.shape[:2]
    scale = max(1.0, width / SEARCH_WIDTH_PX)
    size = (max(1, round(width / scale)), max(1, round(height / scale)))
    return np.asarray(cv2.resize(frame.image, size, interpolation=cv2.INTER_LINEAR)), scale


class HaarDetector:
    """Viola-Jones frontal faces; ships with OpenCV 4 (version 5 dropped it)."""

    FILE = "haarcascade_frontalface_default.xml"
    STEP, NEIGHBOURS = 1.15, 4

    def __init__(self) -> None:
        self._cascade = cv2.CascadeClassifier(str(Path(cv2.__file__).parent / "data" / self.FILE))
        if self._cascade.empty():
            raise SourceError(f"OpenCV {cv2.__version__} has no {self.FILE}; install 4.8 to 4.x")

    def detect(self, frame: VideoFrame) -> list[Found]:
        small, scale = _shrink(frame)
        grey = cv2.cvtColor(
            small, cv2.COLOR_BGR2GRAY if frame.format == "bgr8" else cv2.COLOR_RGB2GRAY
        )
        least = max(20, round(small.shape[1] * MIN_FACE_SHARE))
        boxes, _, weights = self._cascade.detectMultiScale3(
            grey, self.STEP, self.NEIGHBOURS, minSize=(least, least), outputRejectLevels=True
        )
        return [
            Found((x + w / 2) * scale, (y + h / 2) * scale, w * scale, float(weight))
            for (x, y, w, h), weight in zip(boxes, np.ravel(weights), strict=True)
        ]


class YuNetDetector:
    """YuNet (Wu et al. 2023), a small network run by OpenCV; also finds turned faces."""

    MIN_SCORE = 0.7
    SIDE_PER_HEIGHT = 0.95
    """Its boxes reach from hair line to chin: this share of their height is a Haar face."""
    MIN_SIDE_PX = 64
    """OpenCV makes it see huge faces, at random, in pictures of less than 33 rows or columns."""

    def __init__(self, file: Path) -> None:
        if not file.is_file():
            raise SourceError(f"face.yunet_file {str(file)!r}: no such file")
        try:
            self._net = cv2.FaceDetectorYN.create(str(file), "", (32, 32), self.MIN_SCORE)
        except cv2.error as error:
            raise SourceError(f"face.yunet_file {str(file)!r}: not a YuNet: {error.err}") from error

    def detect(self, frame: VideoFrame) -> list[Found]:
        small, scale = _shrink(frame)
        if min(small.shape[:2]) < self.MIN_SIDE_PX:
            return []
        if frame.format == "rgb8":
            small = np.ascontiguousarray(small[..., ::-1])
        self._net.setInputSize((small.shape[1], small.shape[0]))
        _, rows = self._net.detect(small)
        return [
            Found(
                float(x + w / 2) * scale,
                float(y + h / 2) * scale,
                float(h) * self.SIDE_PER_HEIGHT * scale,
                float(row[14]),
            )
            for row in (rows if rows is not None else ())
            for x, y, w, h in [row[:4]]
            if w >= small.shape[1] * MIN_FACE_SHARE * 0.8
        ]


def choose_face(found: list[Found], width: int, height: int, previous: FaceBox | None) -> Found:
    """The largest central face; the one followed so far is left only for a clearly better one."""

    def rank(face: Found) -> float:
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


class SteadyBox:
    """Holds the box still while the face is: a found box within the dead band moves nothing,
    a larger move is followed at once."""

    DEAD_BAND = 0.06
    """Of the side; the detectors' jitter is about 0.02."""
    EASE = 0.25
    """Share of a small error taken per finding, so that a slow drift is followed."""

    def __init__(self, lost_after_s: float) -> None:
        self._lost_after_ns = lost_after_s * 1e9
        self.box: FaceBox | None = None

    def update(self, t_ns: int, found: Found | None) -> FaceBox | None:
        """`found` in the picture of `t_ns`, or None -> the steady box, or None when it is lost."""
        old = self.box
        if found is None:
            if old is not None and t_ns - old.t_ns > self._lost_after_ns:
                self.box = None
            return self.box
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


class FaceFinder:
    """Finds and follows one face. `search` does it now; `run` is the body of its own thread."""

    def __init__(self, detector: Detector, lost_after_s: float) -> None:
        self._detector = detector
        self._steady = SteadyBox(lost_after_s)
        self.box: FaceBox | None = None
        """The newest answer; read from any thread."""

    def search(self, frame: VideoFrame) -> FaceBox | None:
        height, width = frame.image.shape[:2]
        found = self._detector.detect(frame)
        chosen = choose_face(found, width, height, self.box) if found else None
        self.box = self._steady.update(frame.t_ns, chosen)
        return self.box

    def run(
        self,
        newest: Callable[[], VideoFrame | None],
        period_ns: int,
        clock: Clock,
        stop: threading.Event,
    ) -> None:
        """Search the newest picture every `period_ns` until `stop`."""
        due = clock.now_ns()
        searched = None
        while not stop.is_set():
            frame = newest()
            if frame is not None and frame is not searched:
                searched = frame
                try:
                    self.search(frame)
                except cv2.error as error:
                    log.warning("face search failed: %s", error.err)
            due = max(due + period_ns, clock.now_ns())
            if clock.sleep_until_ns(due, stop):
                return
