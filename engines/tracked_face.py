"""One face while it is followed: its steady box, where it moves, and whether it lives.

In: its detections. Out: its `FaceBox`, framed as the face network was trained.
"""

from __future__ import annotations

import math
import secrets
import string
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .detection import Detection
from .face_matching import Expected

ID_LETTERS = 6


@dataclass(frozen=True, slots=True)
class FaceBox:
    """A square around a face in image coordinates (pixels, may reach past the border)."""

    x: float
    y: float
    size: float
    score: float
    """The detector's confidence; its scale depends on the detector."""
    t_ns: int
    """Capture time of the frame it was detected in."""
    roll: float = 0.0
    """The square is turned about its centre by this angle, as in `Detection`."""
    id: str = ""
    """Names one face from its first detection until it is lost; "" if faces are not told apart."""
    trusted: bool = True
    """False: probably not a living face. It gets no label."""


class Frame(Protocol):
    """What the tracker needs of a frame."""

    @property
    def t_ns(self) -> int:
        """Capture time."""

    @property
    def image(self) -> NDArray[np.uint8]: ...

    @property
    def format(self) -> str:
        """As in `kernels.pixels`."""


class TrackedFace:
    """One face: its smoothed box, and where it moves."""

    def __init__(self, lost_after_s: float, min_label_score: float = 0.0) -> None:
        self._min_label_score = min_label_score
        self._best_score = 0.0
        face_id = "".join(secrets.choice(string.ascii_lowercase) for _ in range(ID_LETTERS))
        self.smoother = BoxSmoother(lost_after_s, face_id)
        from .liveness import LivenessCheck  # needs OpenCV

        self.liveness = LivenessCheck()
        self.seen_ns = 0
        """Capture time of the frame of its newest detection."""
        self.detected = False
        """In the frame searched last."""
        self.newest = Expected(0.0, 0.0, 0.0, 0.0)
        """Its newest detection."""
        self._speed = 0.0, 0.0
        """Pixels per second, along x and y."""

    @property
    def box(self) -> FaceBox:
        """Its box, which it has while it is not lost."""
        assert self.smoother.box is not None
        is_sure = self._best_score >= self._min_label_score
        return replace(self.smoother.box, trusted=is_sure and not self.liveness.is_picture)

    def check_liveness(self, frame: Frame, scene_moves: bool) -> None:
        box = self.box
        square = box.x, box.y, box.size
        self.liveness.update(frame.t_ns, frame.image, frame.format, square, scene_moves)

    def is_shown(self, t_ns: int, period_ns: int) -> bool:
        """Return whether its box is not lost before the search of the frame of `t_ns`."""
        self.detected = False
        return self.smoother.update(t_ns, None, period_ns) is not None

    def expect(self, t_ns: int) -> Expected:
        """Return where it is at `t_ns` if it goes on as before, at most for a second."""
        x, y, size, _ = self.newest
        unseen_s = min(1.0, (t_ns - self.seen_ns) / 1e9)
        x, y = x + self._speed[0] * unseen_s, y + self._speed[1] * unseen_s
        return Expected(x, y, size, 0.0 if self.smoother.box is None else unseen_s)

    def update(self, t_ns: int, face: Detection, period_ns: int) -> None:
        if self.smoother.box is None:
            self._speed = 0.0, 0.0
        elif t_ns > self.seen_ns:
            elapsed_s = (t_ns - self.seen_ns) / 1e9
            x, y = face.x - self.newest.x, face.y - self.newest.y
            speed_x, speed_y = self._speed
            self._speed = (speed_x + x / elapsed_s) / 2, (speed_y + y / elapsed_s) / 2
        self._best_score = max(self._best_score, face.score)
        self.seen_ns = t_ns
        self.detected = True
        self.newest = Expected(face.x, face.y, face.size, 0.0)
        self.smoother.update(t_ns, face, period_ns)


class BoxSmoother:
    """Keeps the box still while the face is still. A detection within the dead band moves the box
    only a little, a larger move is followed at once."""

    DEAD_BAND = 0.06
    """Share of the side. The detectors' jitter is about 0.02."""
    EASE = 0.25
    """Share of a small error corrected per detection, so that a slow drift is followed."""
    ROLL_DEAD_BAND = 0.12
    """The dead band of the roll in radians: 7 degrees."""

    def __init__(self, lost_after_s: float, face_id: str = "") -> None:
        self._lost_after_ns = lost_after_s * 1e9
        self._id = face_id
        self.box: FaceBox | None = None

    def update(self, t_ns: int, face: Detection | None, period_ns: int = 0) -> FaceBox | None:
        """Take the `face` detected in the frame of `t_ns` and return the smoothed box.

        Without a face the last box is returned until it is lost: after `lost_after_s`, and after
        more than one search when searches are `period_ns` apart.
        """
        old = self.box
        if old is not None and t_ns - old.t_ns > max(self._lost_after_ns, 1.5 * period_ns):
            old = self.box = None
        if face is None:
            return old
        if old is None:
            x, y, size, roll = face.x, face.y, face.size, face.roll
        else:
            x, y, size = old.x + old.size / 2, old.y + old.size / 2, old.size
            error = max(abs(face.x - x), abs(face.y - y), abs(face.size - size)) / size
            ease = self._ease(error, self.DEAD_BAND)
            turn = math.remainder(face.roll - old.roll, math.tau)
            roll = old.roll + self._ease(abs(turn), self.ROLL_DEAD_BAND) * turn
            roll = math.remainder(roll, math.tau)
            x += ease * (face.x - x)
            y += ease * (face.y - y)
            size += ease * (face.size - size)
        corner = x - size / 2, y - size / 2
        self.box = FaceBox(*corner, size, face.score, t_ns, roll, self._id)
        return self.box

    def _ease(self, error: float, dead_band: float) -> float:
        """Return the share of an error to correct."""
        return 1.0 if error > dead_band else self.EASE * error / dead_band
