"""Which detection is which face: the geometry of tracking, without state.

In: detections, and where tracked faces are expected. Out: one detection per face, and the pairs
that belong together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # commands that search no face must not need OpenCV
    from .face_detector import Detection

REACH = 0.7
"""A face is detected at most this far from where it is expected, in sides of the face: the next
face in a row of people is further away..."""
REACH_PER_S = 1.0
"""... and farther by this for each second since it was last detected."""
MAX_OVERLAP = 0.5
"""Largest share of the smaller of two squares that lies in the other, for two faces."""


class Expected(NamedTuple):
    """Where a tracked face is expected: centre and side in pixels."""

    x: float
    y: float
    size: float
    unseen_s: float
    """Time since its last detection, at most a second; 0 for a face that is lost, which is not
    searched any farther."""


def rank_face(face: Detection | Expected, width: int, height: int) -> float:
    """Return how large and central a face is; the highest is the main one."""
    off_center = math.hypot(face.x / width - 0.5, face.y / height - 0.5) / math.hypot(0.5, 0.5)
    return face.size * (1.0 - 0.5 * off_center)


def drop_overlaps(faces: Sequence[Detection]) -> list[Detection]:
    """Return the faces that overlap none before them: a detector may frame one face twice."""
    kept: list[Detection] = []
    for face in faces:
        if all(_overlap(face, other) <= MAX_OVERLAP for other in kept):
            kept.append(face)
    return kept


def match_faces(expected: Sequence[Expected], faces: Sequence[Detection]) -> list[tuple[int, int]]:
    """Return pairs (index in `expected`, index in `faces`), the nearest pairs first.

    Distance is measured in sides, and a difference in size counts as much as a shift. Greedy: with
    a few faces the best assignment differs only where boxes cannot tell people apart.
    """
    pairs = sorted(
        (distance, i, j)
        for i, place in enumerate(expected)
        for j, face in enumerate(faces)
        if (distance := _distance(place, face)) <= REACH + REACH_PER_S * place.unseen_s
    )
    matched: list[tuple[int, int]] = []
    for _, i, j in pairs:
        if all(i != known and j != taken for known, taken in matched):
            matched.append((i, j))
    return matched


def _distance(place: Expected, face: Detection) -> float:
    size = max(place.size, face.size)
    shift = math.hypot(face.x - place.x, face.y - place.y) / size
    return math.hypot(shift, math.log(face.size / place.size))


def _overlap(face: Detection, other: Detection) -> float:
    reach = (face.size + other.size) / 2
    smaller = min(face.size, other.size)
    wide = min(reach - abs(face.x - other.x), smaller)
    high = min(reach - abs(face.y - other.y), smaller)
    return max(0.0, wide) * max(0.0, high) / smaller**2
