"""One face followed from frame to frame.

In: frames, of which only some are searched. Out: one square `FaceBox`, framed as the face network
was trained, or None. The device and evaluation both crop faces with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from ..kernels.pixels import image_size

if TYPE_CHECKING:  # commands that search no face must not need OpenCV
    from .face_detector import Detection, Detector

LOST_AFTER_S = 0.7
"""Default time without a detection after which a face counts as lost."""
MIN_BOX_LIFE_NS = 1_000_000_000
"""A box may be used for at least this long, as a slow camera or a starved detector has no newer
one. It equals the age limit of a voice beside a new face."""
MAX_BOX_LIFE_NS = 10_000_000_000
"""A box may be used for at most about this long where one search takes seconds."""


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


class FaceTracker:
    """Detects and follows one face. `track` runs on one thread, the rest on any."""

    def __init__(self, detector: Detector, lost_after_s: float = LOST_AFTER_S) -> None:
        self.period_ns = 125_000_000
        """Time from one search to the next; may be changed at any moment."""
        self._detector = detector
        self._lost_after_s = lost_after_s
        self._smoother = BoxSmoother(lost_after_s)
        # Replaced as a whole, as another thread may read it at any moment.
        self._newest: tuple[tuple[int, int], FaceBox | None] = (0, 0), None
        self._searched_ns: int | None = None
        self._interval_ns = 0
        """Between the last two frames searched: on a slow machine longer than `period_ns`."""

    @property
    def box(self) -> FaceBox | None:
        """The newest box, whatever its age."""
        return self._newest[1]

    def box_for(self, frame: Frame) -> FaceBox | None:
        """Return the newest box if it fits the frame's size and time.

        A camera that comes back may be another one, where the face would be elsewhere. A box from
        before the camera was lost does not show who is there now.
        """
        size, box = self._newest
        if box is None or size != image_size(frame.image, frame.format):
            return None
        return box if frame.t_ns - box.t_ns <= self._box_life_ns else None

    def track(self, frame: Frame) -> FaceBox | None:
        """Search the frame for faces and return the updated box."""
        height, width = image_size(frame.image, frame.format)
        if self._newest[0] != (height, width):
            self._smoother = BoxSmoother(self._lost_after_s)
        if self._searched_ns is not None:
            self._interval_ns = max(0, frame.t_ns - self._searched_ns)
        self._searched_ns = frame.t_ns
        faces = self._detector.detect(frame.image, frame.format)
        face = choose_face(faces, width, height, self.box_for(frame)) if faces else None
        self._newest = (height, width), self._smoother.update(frame.t_ns, face, self.period_ns)
        return self.box

    @property
    def _box_life_ns(self) -> float:
        """Maximum age of a box: what the smoother allows, and one search that is under way.

        A box is one search old when it is known, and two when the next one replaces it.
        """
        period_ns = self.period_ns
        lost_after_ns = max(self._lost_after_s * 1e9, 1.5 * period_ns, MIN_BOX_LIFE_NS)
        slow_ns = min(2 * self._interval_ns, MAX_BOX_LIFE_NS)
        return max(lost_after_ns, slow_ns) + period_ns


class BoxSmoother:
    """Keeps the box still while the face is still. A detection within the dead band moves the box
    only a little, a larger move is followed at once."""

    DEAD_BAND = 0.06
    """Share of the side. The detectors' jitter is about 0.02."""
    EASE = 0.25
    """Share of a small error corrected per detection, so that a slow drift is followed."""

    def __init__(self, lost_after_s: float) -> None:
        self._lost_after_ns = lost_after_s * 1e9
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
            x, y, size = face.x, face.y, face.size
        else:
            x, y, size = old.x + old.size / 2, old.y + old.size / 2, old.size
            error = max(abs(face.x - x), abs(face.y - y), abs(face.size - size)) / size
            ease = 1.0 if error > self.DEAD_BAND else self.EASE * error / self.DEAD_BAND
            x += ease * (face.x - x)
            y += ease * (face.y - y)
            size += ease * (face.size - size)
        self.box = FaceBox(x - size / 2, y - size / 2, size, face.score, t_ns)
        return self.box


def choose_face(
    faces: Sequence[Detection], width: int, height: int, previous: FaceBox | None
) -> Detection:
    """Return the largest central face. The face at `previous` is left only for a clearly better
    one."""

    def rank(face: Detection) -> float:
        off_center = np.hypot(face.x / width - 0.5, face.y / height - 0.5) / np.hypot(0.5, 0.5)
        rank = face.size * (1.0 - 0.5 * float(off_center))
        if previous is not None:
            distance = np.hypot(
                face.x - previous.x - previous.size / 2, face.y - previous.y - previous.size / 2
            )
            if distance < previous.size / 2:
                rank *= 1.3
        return rank

    return max(faces, key=rank)
