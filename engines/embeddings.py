"""The fusion network's input: embeddings of the last second's faces and of the newest voice.

In: embeddings of the face and voice networks, with their times. Out: the arrays that
`bundles.FusionEntry` describes, allocated once and filled again for each estimate. Embeddings
describe a person, so none is kept longer than it is used.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .base import Arrays
from .bundles import EMBEDDING_SIZE, MAX_FUSION_FACES

MAX_FACE_AGE_NS = 1_000_000_000
"""An expression lasts from half a second to four (Ekman 2003). After a second without frames the
face may show another one."""
MIN_GAP_NS = MAX_FACE_AGE_NS // MAX_FUSION_FACES
"""Minimum time between two stored faces. At 60 frames a second every face is stored."""
_SLOTS = MAX_FUSION_FACES + 2
"""The faces of one second with both ends, and the newest."""


class EmbeddingMemory:
    """Stores embeddings of one person. For one thread.

    The network reads the newest face and earlier ones back to one second before it, newest last.
    Its rows stand for points on an even time grid of `MAX_FACE_AGE_NS / (num_faces - 1)`. Each
    point gets the face nearest to it in time, and no face appears twice. Two neighbours are
    therefore one grid step apart to within one frame period, and the oldest face is one second old
    to within one frame period. A camera slower than the grid has all faces of the second included.
    A mask is 1 where there is an embedding.
    """

    def __init__(self, num_faces: int) -> None:
        self._spacing_ns = MAX_FACE_AGE_NS // max(1, num_faces - 1)
        self._ring = np.zeros((_SLOTS, EMBEDDING_SIZE), np.float32)
        self._ring_ns = [0] * _SLOTS
        self._newest = 0
        """Slot of the newest face in the ring."""
        self._count = 0
        self._faces = np.zeros((1, num_faces, EMBEDDING_SIZE), np.float32)
        self._face_mask = np.zeros((1, num_faces), np.float32)
        self._voice = np.zeros((1, EMBEDDING_SIZE), np.float32)
        self._voice_mask = np.zeros((1, 1), np.float32)
        self._feed = {
            "faces": self._faces,
            "face_mask": self._face_mask,
            "voice": self._voice,
            "voice_mask": self._voice_mask,
        }

    def add_face(self, t_ns: int, embedding: NDArray[np.float32]) -> None:
        """Copy the face's `embedding` (1, 256) from the frame captured at `t_ns`."""
        if self._count and t_ns < self._time_ns(0):  # timestamps went back: another camera
            self.clear_faces()
        if self._count < 2 or self._time_ns(0) - self._time_ns(1) >= MIN_GAP_NS:
            self._newest = (self._newest + 1) % _SLOTS
            self._count = min(self._count + 1, _SLOTS)
        # Otherwise the newest slot is overwritten: it was stored only for being the newest.
        self._ring[self._newest] = embedding[0]
        self._ring_ns[self._newest] = t_ns

    def set_voice(self, embedding: NDArray[np.float32]) -> None:
        """Copy the newest voice's `embedding` (1, 256)."""
        self._voice[:] = embedding

    def clear_faces(self) -> None:
        """Overwrite all faces with zeros: the next face may be another person's."""
        if self._count:
            self._count = 0
            self._ring.fill(0.0)
            self._faces.fill(0.0)

    def clear_voice(self) -> None:
        """Overwrite the voice with zeros."""
        self._voice.fill(0.0)

    def expire_faces(self, t_ns: int) -> None:
        """Overwrite the faces that are more than a second old at `t_ns`."""
        since_ns = t_ns - MAX_FACE_AGE_NS
        if self._count and self._time_ns(self._count - 1) < since_ns:
            self._faces.fill(0.0)
        while self._count and self._time_ns(self._count - 1) < since_ns:
            self._ring[self._newest - self._count + 1] = 0.0
            self._count -= 1

    def feed(self, t_ns: int, face: bool, voice: bool) -> Arrays:
        """Return the network's input at `t_ns`, with the faces if `face`, with the voice if
        `voice`. Expires old faces. The next call fills the same arrays."""
        self.expire_faces(t_ns)
        row = self._select_faces() if face else self._faces.shape[1]
        self._faces[0, :row] = 0.0
        self._face_mask[0, :row] = 0.0
        self._face_mask[0, row:] = 1.0
        self._voice_mask[0, 0] = voice
        return self._feed

    def wipe(self) -> None:
        """Overwrite everything with zeros."""
        self.clear_faces()
        self.clear_voice()

    def _select_faces(self) -> int:
        """Copy a face to each point of the time grid, newest last -> the first row filled."""
        row = self._faces.shape[1]
        age, count, newest = 0, self._count, self._newest  # age: faces since then
        times_ns = self._ring_ns
        point_ns = times_ns[newest]
        while row and age < count:
            # The next older face is nearer when the point lies on its side of the middle.
            while age + 1 < count and (
                2 * point_ns < times_ns[newest - age] + times_ns[newest - age - 1]
            ):
                age += 1
            row -= 1
            self._faces[0, row] = self._ring[newest - age]
            age += 1
            point_ns -= self._spacing_ns
        return row

    def _time_ns(self, age: int) -> int:
        """Return the time of the face `age` faces before the newest. (A negative index wraps.)"""
        return self._ring_ns[self._newest - age]
