"""Faces followed from frame to frame.

In: frames, of which only some are searched. Out: square `FaceBox`es, framed as the face network was
trained, the main face first. The device and evaluation both crop faces with it.
"""

from __future__ import annotations

import math
import secrets
import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from ..kernels.pixels import image_size
from .face_matching import Expected, drop_overlaps, match_faces, rank_face

if TYPE_CHECKING:  # commands that search no face must not need OpenCV
    from .face_detector import Detection, Detector

MAX_FACES = 4
"""Default for the most faces that are followed at a time."""
ID_LETTERS = 6
REMEMBERED_NS = 2_000_000_000
"""A face that is detected again within this time, where it was, is the same one."""
LOST_AFTER_S = 0.7
"""Default time without a detection after which a face counts as lost."""
MIN_BOX_LIFE_NS = 1_000_000_000
"""A box may be used for at least this long, as a slow camera or a starved detector has no newer
one. It equals the age limit of a voice beside a new face."""
STEADY = 1.3
"""Factor by which another face must be larger or more central to take a face's place."""
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
    """Detects and follows faces. `track` runs on one thread, the rest on any."""

    def __init__(
        self, detector: Detector, lost_after_s: float = LOST_AFTER_S, max_faces: int = MAX_FACES
    ) -> None:
        self.period_ns = 125_000_000
        """Time from one search to the next; may be changed at any moment."""
        self._detector = detector
        self._lost_after_s = lost_after_s
        self._max_faces = max_faces
        self._tracks: list[_Track] = []
        """The main face first."""
        self._lost: list[_Track] = []
        """Without a box, but remembered."""
        # Replaced as a whole, as another thread may read it at any moment.
        self._newest: tuple[tuple[int, int], tuple[FaceBox, ...]] = (0, 0), ()
        self._searched_ns: int | None = None
        self._interval_ns = 0
        """Between the last two frames searched: on a slow machine longer than `period_ns`."""

    @property
    def boxes(self) -> tuple[FaceBox, ...]:
        """The newest boxes, whatever their age."""
        return self._newest[1]

    def faces_for(self, frame: Frame) -> tuple[FaceBox, ...]:
        """Return the newest boxes that fit the frame's size and time, the main face first.

        A camera that comes back may be another one, where the faces would be elsewhere. A box from
        before the camera was lost does not show who is there now.
        """
        size, boxes = self._newest
        if not boxes or size != image_size(frame.image, frame.format):
            return ()
        oldest_ns = frame.t_ns - self._box_life_ns
        return tuple(box for box in boxes if box.t_ns >= oldest_ns)

    def track(self, frame: Frame) -> tuple[FaceBox, ...]:
        """Search the frame for faces and return the updated boxes, the main face first."""
        height, width = image_size(frame.image, frame.format)
        t_ns = frame.t_ns
        went_back = self._searched_ns is not None and t_ns < self._searched_ns
        if self._newest[0] != (height, width) or went_back:  # another camera
            self._tracks, self._lost = [], []
        elif self._searched_ns is not None:
            self._interval_ns = t_ns - self._searched_ns
        self._searched_ns = t_ns
        self._drop_lost(t_ns)
        detections = self._detector.detect(frame.image, frame.format)
        main = self._tracks[0].smoother.box if self._tracks else None
        faces = drop_overlaps(sort_faces(detections, width, height, main))
        self._follow(t_ns, faces, width, height)
        boxes = [track.smoother.box for track in self._tracks]
        self._newest = (height, width), tuple(box for box in boxes if box is not None)
        return self.boxes

    def _drop_lost(self, t_ns: int) -> None:
        tracks, lost = self._tracks, self._lost
        self._tracks = [track for track in tracks if track.is_shown(t_ns, self.period_ns)]
        lost += [track for track in tracks if track not in self._tracks]
        self._lost = [track for track in lost if t_ns - track.seen_ns <= REMEMBERED_NS]

    def _follow(self, t_ns: int, faces: Sequence[Detection], width: int, height: int) -> None:
        """Match the faces with the tracks, begin tracks for the others, and order them all."""
        before = self._tracks
        known = [*before, *self._lost]
        matches = match_faces([track.expect(t_ns) for track in known], faces)
        by_face = {found: known[index] for index, found in matches}
        seen = [by_face.get(found) or _Track(self._lost_after_s) for found in range(len(faces))]
        for track, face in zip(seen, faces, strict=True):
            track.update(t_ns, face, self.period_ns)
        self._lost = [track for track in self._lost if track not in seen]
        appeared = [track for track in seen if track not in before]
        if appeared and len(before) == 1 and before[0] not in seen:
            before = []  # the only face has jumped: nothing is left where it was
        self._order(before, appeared, width, height)

    def _order(self, before: list[_Track], appeared: list[_Track], width: int, height: int) -> None:
        """Keep the best tracks, the main one first.

        A main face that is not detected is held, unless another face appears: it may be that one,
        moved far. Otherwise the main face is one of those detected now.
        """
        main = before[0] if before else None
        holds_main = main is not None and not main.detected and not appeared

        def rank(track: _Track, known: bool) -> float:
            return rank_face(track.newest, width, height) * (STEADY if known else 1.0)

        def order(track: _Track) -> tuple[bool, float]:
            is_first = track is main if holds_main else track.detected
            return is_first, rank(track, track is main)

        tracks = [*before, *appeared]
        tracks.sort(key=lambda track: rank(track, track in before), reverse=True)
        self._tracks = sorted(tracks[: self._max_faces], key=order, reverse=True)

    @property
    def _box_life_ns(self) -> float:
        """Maximum age of a box: what the smoother allows, and one search that is under way.

        A box is one search old when it is known, and two when the next one replaces it.
        """
        period_ns = self.period_ns
        lost_after_ns = max(self._lost_after_s * 1e9, 1.5 * period_ns, MIN_BOX_LIFE_NS)
        slow_ns = min(2 * self._interval_ns, MAX_BOX_LIFE_NS)
        return max(lost_after_ns, slow_ns) + period_ns


class _Track:
    """One face: its smoothed box, and where it moves."""

    def __init__(self, lost_after_s: float) -> None:
        face_id = "".join(secrets.choice(string.ascii_lowercase) for _ in range(ID_LETTERS))
        self.smoother = BoxSmoother(lost_after_s, face_id)
        self.seen_ns = 0
        """Capture time of the frame of its newest detection."""
        self.detected = False
        """In the frame searched last."""
        self.newest = Expected(0.0, 0.0, 0.0, 0.0)
        """Its newest detection."""
        self._speed = 0.0, 0.0
        """Pixels per second, along x and y."""

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


def sort_faces(
    faces: Sequence[Detection], width: int, height: int, main: FaceBox | None
) -> list[Detection]:
    """Return the faces, the largest and most central first. The face at `main` comes after another
    one only when that is clearly better."""

    def rank(face: Detection) -> float:
        rank = rank_face(face, width, height)
        if main is not None:
            distance = math.hypot(face.x - main.x - main.size / 2, face.y - main.y - main.size / 2)
            if distance < main.size / 2:
                rank *= STEADY
        return rank

    return sorted(faces, key=rank, reverse=True)
