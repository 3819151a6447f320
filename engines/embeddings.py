"""The fusion network's input: embeddings of each face's last second and of the newest voice.

In: embeddings of the face and voice networks, with their times. Out: the arrays that
`bundles.FusionEntry` describes, allocated once and filled again for each estimate. Embeddings
describe a person, so none is kept longer than it is used.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .base import Arrays
from .bundles import EMBEDDING_SIZE, MAX_FUSION_FACES

MAX_FACE_AGE_NS = 1_000_000_000
"""An expression lasts from half a second to four (Ekman 2003). After a second without frames the
face may show another one."""
MIN_GAP_NS = MAX_FACE_AGE_NS // MAX_FUSION_FACES
"""Minimum time between two stored embeddings. At 60 frames a second every one is stored."""
_SLOTS = MAX_FUSION_FACES + 2
"""The embeddings of one second with both ends, and the newest."""


class FaceMemory:
    """Stores embeddings of one person's face. For one thread.

    The network reads the newest embedding and earlier ones back to one second before it, newest
    last. Its rows stand for points on an even time grid of `MAX_FACE_AGE_NS / (num_faces - 1)`.
    Each point gets the embedding nearest to it in time, and none appears twice. Two neighbours are
    therefore one grid step apart to within one frame period, and the oldest is one second old to
    within one frame period. A camera slower than the grid has all faces of the second included.
    """

    def __init__(self, num_faces: int) -> None:
        self._spacing_ns = MAX_FACE_AGE_NS // max(1, num_faces - 1)
        self._ring = np.zeros((_SLOTS, EMBEDDING_SIZE), np.float32)
        self._ring_ns = [0] * _SLOTS
        self._newest = 0
        """Slot of the newest embedding in the ring."""
        self._count = 0

    def add(self, t_ns: int, embedding: NDArray[np.float32]) -> None:
        """Copy the `embedding` (256,) of the face in the frame captured at `t_ns`."""
        if self._count and t_ns < self._time_ns(0):  # timestamps went back: another camera
            self.clear()
        if self._count < 2 or self._time_ns(0) - self._time_ns(1) >= MIN_GAP_NS:
            self._newest = (self._newest + 1) % _SLOTS
            self._count = min(self._count + 1, _SLOTS)
        # Otherwise the newest slot is overwritten: it was stored only for being the newest.
        self._ring[self._newest] = embedding
        self._ring_ns[self._newest] = t_ns

    def clear(self) -> None:
        """Overwrite everything with zeros: the next face may be another person's."""
        if self._count:
            self._count = 0
            self._ring.fill(0.0)

    def expire(self, t_ns: int) -> bool:
        """Overwrite what is more than a second old at `t_ns`. Return whether there was any."""
        since_ns = t_ns - MAX_FACE_AGE_NS
        before = self._count
        while self._count and self._time_ns(self._count - 1) < since_ns:
            self._ring[self._newest - self._count + 1] = 0.0
            self._count -= 1
        return self._count < before

    def select(self, faces: NDArray[np.float32]) -> int:
        """Copy the embedding of each point of the time grid into `faces` (num_faces, 256), newest
        last. Return the first row filled; those before it stay as they are."""
        row = len(faces)
        age, count, newest = 0, self._count, self._newest  # age: embeddings since then
        times_ns = self._ring_ns
        point_ns = times_ns[newest]
        while row and age < count:
            # The next older one is nearer when the point lies on its side of the middle.
            while age + 1 < count and (
                2 * point_ns < times_ns[newest - age] + times_ns[newest - age - 1]
            ):
                age += 1
            row -= 1
            faces[row] = self._ring[newest - age]
            age += 1
            point_ns -= self._spacing_ns
        return row

    def _time_ns(self, age: int) -> int:
        """Return the time of the embedding `age` before the newest. (A negative index wraps.)"""
        return self._ring_ns[self._newest - age]


class FusionInput:
    """The arrays that the fusion network reads, a row for each face. For one thread.

    The first row has the voice. A mask is 1 where there is an embedding.
    """

    def __init__(self, num_faces: int, max_rows: int) -> None:
        self._arrays = {
            "faces": np.zeros((max_rows, num_faces, EMBEDDING_SIZE), np.float32),
            "face_mask": np.zeros((max_rows, num_faces), np.float32),
            "voice": np.zeros((max_rows, EMBEDDING_SIZE), np.float32),
            "voice_mask": np.zeros((max_rows, 1), np.float32),
        }
        # The same objects for each number of rows: an engine binds an array once.
        self._feeds = [
            {name: array[: count + 1] for name, array in self._arrays.items()}
            for count in range(max_rows)
        ]
        self._num_filled = 0

    def set_voice(self, embedding: NDArray[np.float32]) -> None:
        """Copy the newest voice's `embedding` (256,)."""
        self._arrays["voice"][0] = embedding

    def clear_voice(self) -> None:
        """Overwrite the voice with zeros."""
        self._arrays["voice"][0] = 0.0

    def clear_faces(self) -> None:
        """Overwrite the faces of the last input with zeros."""
        self._arrays["faces"][: self._num_filled] = 0.0
        self._num_filled = 0

    def fill(self, t_ns: int, memories: Sequence[FaceMemory | None], voice: bool) -> Arrays:
        """Return the network's input at `t_ns`: a row for each memory, without a face for None,
        with the voice in the first if `voice`. The next call fills the same arrays."""
        faces, mask = self._arrays["faces"], self._arrays["face_mask"]
        for row, memory in enumerate(memories):
            first = faces.shape[1]
            if memory is not None:
                memory.expire(t_ns)
                first = memory.select(faces[row])
            faces[row, :first] = 0.0
            mask[row, :first] = 0.0
            mask[row, first:] = 1.0
        if len(memories) < self._num_filled:  # somebody has gone
            faces[len(memories) : self._num_filled] = 0.0
        self._num_filled = len(memories)
        self._arrays["voice_mask"][0, 0] = voice
        return self._feeds[len(memories) - 1]

    def wipe(self) -> None:
        """Overwrite everything with zeros."""
        for array in self._arrays.values():
            array.fill(0.0)
        self._num_filled = 0
