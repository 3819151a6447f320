"""What the fusion network reads: faces of the last second and the newest voice.

In: embeddings as the networks give them. Out: the arrays of `engines.bundle.FusionEntry`, made
once and filled anew. They tell how somebody looked and sounded, so nothing stays longer than it
is of use.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...engines.base import Arrays
from ...engines.bundles import EMBEDDING_SIZE, MAX_FUSION_FACES

MAX_FACE_AGE_NS = 1_000_000_000
"""An expression lasts from half a second to four (Ekman 2003): after a second without frames
the face may show another one."""
KEPT_GAP_NS = MAX_FACE_AGE_NS // MAX_FUSION_FACES
"""Faces that come faster than this are not all kept; those of 60 frames a second are."""
_SLOTS = MAX_FUSION_FACES + 2
"""For the faces of one second, both ends included, and the newest."""


class EmbeddingMemory:
    """Faces newest last, masks 1 where there is something. One thread.

    The network reads the newest face and earlier ones back to one second before it. They stand
    for places on an even grid of `MAX_FACE_AGE_NS / (num_faces - 1)`. Each place gets the face
    nearest to it in time, and no face stands twice. So two neighbours are the grid's spacing apart
    to within one frame period, and the oldest is one second old to within one frame period. A
    camera that is slower than the grid has all its faces of the second shown.
    """

    def __init__(self, num_faces: int) -> None:
        self._spacing_ns = MAX_FACE_AGE_NS // max(1, num_faces - 1)
        self._kept = np.zeros((_SLOTS, EMBEDDING_SIZE), np.float32)  # a ring
        self._kept_ns = [0] * _SLOTS
        self._newest = 0  # its slot
        self._held = 0
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

    def add(self, modality: str, t_ns: int, embedding: NDArray[np.float32]) -> None:
        """Copy the `embedding` (1, 256) of the window at `t_ns`."""
        if modality == "voice":
            self._voice[:] = embedding
            return
        if self._held and t_ns < self._time_ns(0):  # the stamps went back: the camera is another
            self.clear_faces()
        if self._held < 2 or self._time_ns(0) - self._time_ns(1) >= KEPT_GAP_NS:
            self._newest = (self._newest + 1) % _SLOTS
            self._held = min(self._held + 1, _SLOTS)
        # Else the last one was there for being the newest, and leaves no gap.
        self._kept[self._newest] = embedding[0]
        self._kept_ns[self._newest] = t_ns

    def clear_faces(self) -> None:
        """Somebody else may come next."""
        if self._held:
            self._held = 0
            self._kept.fill(0.0)
            self._faces.fill(0.0)

    def forget_voice(self) -> None:
        """It is over, or too old to be shown."""
        self._voice.fill(0.0)

    def forget_old_faces(self, t_ns: int) -> None:
        """Those that are more than a second old at `t_ns`; `feed` does the same."""
        since_ns = t_ns - MAX_FACE_AGE_NS
        if self._held and self._time_ns(self._held - 1) < since_ns:
            self._faces.fill(0.0)
        while self._held and self._time_ns(self._held - 1) < since_ns:
            self._kept[self._newest - self._held + 1] = 0.0
            self._held -= 1

    def feed(self, t_ns: int, face: bool, voice: bool) -> Arrays:
        """The network's input at `t_ns`: with `face` the faces of the second before it, with
        `voice` the newest voice. The next call fills the same arrays."""
        self.forget_old_faces(t_ns)
        row = self._place_faces() if face else self._faces.shape[1]
        self._faces[0, :row] = 0.0
        self._face_mask[0, :row] = 0.0
        self._face_mask[0, row:] = 1.0
        self._voice_mask[0, 0] = voice
        return self._feed

    def wipe(self) -> None:
        """Overwrite everything with zeros."""
        self.clear_faces()
        self.forget_voice()

    def _place_faces(self) -> int:
        """Copy a face to each place of the grid, newest last -> the first row that got one."""
        row = self._faces.shape[1]
        back, held, at = 0, self._held, self._newest
        times_ns = self._kept_ns
        place_ns = times_ns[at]
        while row and back < held:
            # The one before is nearer when the place lies on its side of the middle.
            while back + 1 < held and (
                2 * place_ns < times_ns[at - back] + times_ns[at - back - 1]
            ):
                back += 1
            row -= 1
            self._faces[0, row] = self._kept[at - back]
            back += 1
            place_ns -= self._spacing_ns
        return row

    def _time_ns(self, back: int) -> int:
        """Of the face that came `back` faces before the newest; below 0 the ring goes on."""
        return self._kept_ns[self._newest - back]
