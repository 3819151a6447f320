"""Faces followed from frame to frame.

In: frames, of which only some are searched. Out: square `FaceBox`es, framed as the face network was
trained, the main face first. The device and evaluation both crop faces with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..kernels.pixels import image_size
from .detection import Detection, Detector, TrackingScores
from .face_matching import drop_overlaps, match_faces, rank_face
from .tracked_face import BoxSmoother, FaceBox, Frame, TrackedFace

__all__ = ["BoxSmoother", "FaceBox", "FaceTracker", "Frame", "sort_faces"]

MAX_FACES = 4
"""Default for the most faces that are followed at a time."""
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


class FaceTracker:
    """Detects and follows faces. `track` runs on one thread, the rest on any."""

    def __init__(
        self,
        detector: Detector,
        lost_after_s: float = LOST_AFTER_S,
        max_faces: int = MAX_FACES,
        scores: TrackingScores | None = None,
    ) -> None:
        """`scores` are those of the detector, if its scores are probabilities."""
        self.period_ns = 125_000_000
        """Time from one search to the next; may be changed at any moment."""
        self._detector = detector
        self._lost_after_s = lost_after_s
        self._max_faces = max_faces
        self._scores = scores or TrackingScores()
        self._tracks: list[TrackedFace] = []
        """The main face first."""
        self._lost: list[TrackedFace] = []
        """Without a box, but remembered."""
        # Replaced as a whole, as another thread may read it at any moment.
        self._newest: tuple[tuple[int, int], tuple[FaceBox, ...]] = (0, 0), ()
        from .liveness import Scene  # needs OpenCV

        self._scene = Scene()
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
            self._forget_all()
        elif self._searched_ns is not None:
            self._interval_ns = t_ns - self._searched_ns
        self._searched_ns = t_ns
        known = [*self._tracks, *self._lost]
        self._drop_lost(t_ns)
        detections = self._detector.detect(frame.image, frame.format)
        main = self._tracks[0].smoother.box if self._tracks else None
        faces = sort_faces(detections, width, height, main)
        # First the certain ones: a doubtful square must not hide a face.
        faces.sort(key=lambda face: face.score < self._scores.begin)
        faces = drop_overlaps(faces)
        self._follow(frame, faces, width, height)
        for track in known:
            if track not in self._tracks and track not in self._lost:
                track.liveness.wipe()
        self._newest = (height, width), tuple(track.box for track in self._tracks)
        return self.boxes

    def wipe(self) -> None:
        """Overwrite what is stored of faces and frames."""
        self._forget_all()
        self._scene.wipe()

    def _forget_all(self) -> None:
        for track in (*self._tracks, *self._lost):
            track.liveness.wipe()
        self._tracks, self._lost = [], []

    def _drop_lost(self, t_ns: int) -> None:
        tracks, lost = self._tracks, self._lost
        self._tracks = [track for track in tracks if track.is_shown(t_ns, self.period_ns)]
        lost += [track for track in tracks if track not in self._tracks]
        self._lost = [track for track in lost if t_ns - track.seen_ns <= REMEMBERED_NS]

    def _follow(self, frame: Frame, faces: Sequence[Detection], width: int, height: int) -> None:
        """Match the faces with the tracks, begin tracks for the others, and order them all."""
        t_ns, before = frame.t_ns, self._tracks
        self._scene.update(frame.image, frame.format)
        known = [*before, *self._lost]
        matches = match_faces([track.expect(t_ns) for track in known], faces)
        by_face = {found: known[index] for index, found in matches}
        seen = []
        for found, face in enumerate(faces):
            track = by_face.get(found)
            if face.score < self._scores.begin and track not in before:
                continue
            track = track or TrackedFace(self._lost_after_s, self._scores.label)
            seen.append(track)
            track.update(t_ns, face, self.period_ns)
            track.check_liveness(frame, self._scene.moves)
        self._lost = [track for track in self._lost if track not in seen]
        appeared = [track for track in seen if track not in before]
        if appeared and len(before) == 1 and before[0] not in seen:
            before = []  # the only face has jumped: nothing is left where it was
        self._order(before, appeared, width, height)

    def _order(
        self, before: list[TrackedFace], appeared: list[TrackedFace], width: int, height: int
    ) -> None:
        """Keep the best tracks, the main one first. One that is not trusted comes after all others.

        A main face that is not detected is held, unless another face appears: it may be that one,
        moved far. Otherwise the main face is one of those detected now.
        """
        main = before[0] if before and before[0].box.trusted else None
        holds_main = main is not None and not main.detected and not appeared

        def rank(track: TrackedFace, known: bool) -> float:
            return rank_face(track.newest, width, height) * (STEADY if known else 1.0)

        def order(track: TrackedFace) -> tuple[bool, bool, float]:
            is_first = track is main if holds_main else track.detected
            return track.box.trusted, is_first, rank(track, track is main)

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
