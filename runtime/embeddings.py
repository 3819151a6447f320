"""What the fusion network reads: faces of the last second and the newest voice.

In: embeddings as the networks give them. Out: the arrays of `engines.bundle.FusionEntry`, made
once and filled anew. They tell how somebody looked and sounded, so nothing stays longer than it
is of use.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..engines.base import Arrays
from ..engines.bundle import EMBEDDING_SIZE

MAX_FACE_AGE_NS = 1_000_000_000
"""An expression lasts from half a second to four (Ekman 2003): after a second without pictures
the face may show another one."""


class EmbeddingMemory:
    """Faces newest last, masks 1 where there is something. One thread.

    The faces are the newest and earlier ones up to a `num_faces`-th of a second apart, so that they
    show the whole second whatever the camera's rate is.
    """

    def __init__(self, num_faces: int) -> None:
        self._spacing_ns = MAX_FACE_AGE_NS // num_faces
        self._faces = np.zeros((1, num_faces, EMBEDDING_SIZE), np.float32)
        self._flat = self._faces.reshape(-1)
        self._face_mask = np.zeros((1, num_faces), np.float32)
        self._voice = np.zeros((1, EMBEDDING_SIZE), np.float32)
        self._voice_mask = np.zeros((1, 1), np.float32)
        self._feed = {
            "faces": self._faces,
            "face_mask": self._face_mask,
            "voice": self._voice,
            "voice_mask": self._voice_mask,
        }
        self._times_ns: list[int] = []  # of the faces held, oldest first

    def add(self, modality: str, t_ns: int, embedding: NDArray[np.float32]) -> None:
        """Copy the `embedding` (1, 256) of the window at `t_ns`."""
        if modality == "voice":
            self._voice[:] = embedding
            return
        times_ns = self._times_ns
        if len(times_ns) > 1 and t_ns - times_ns[-2] <= self._spacing_ns:
            times_ns.pop()  # it was there for being the newest, and leaves no gap
        else:
            # In one dimension NumPy moves overlapping values without a copy in between.
            self._flat[:-EMBEDDING_SIZE] = self._flat[EMBEDDING_SIZE:]
        self._faces[0, -1] = embedding[0]
        times_ns.append(t_ns)
        del times_ns[: -self._faces.shape[1]]

    def forget_faces(self) -> None:
        """Somebody else may come next."""
        if self._times_ns:
            self._times_ns.clear()
            self._faces.fill(0.0)

    def forget_voice(self) -> None:
        """It is over, or too old to be shown."""
        self._voice.fill(0.0)

    def feed(self, t_ns: int, voice: bool) -> Arrays:
        """The network's input at `t_ns`, with faces of the second before it, and with the voice
        if that is present. The next call fills the same arrays."""
        while self._times_ns and t_ns - self._times_ns[0] > MAX_FACE_AGE_NS:
            self._faces[0, -len(self._times_ns)] = 0.0
            del self._times_ns[0]
        held = len(self._times_ns)
        self._face_mask[0, :] = 0.0
        if held:
            self._face_mask[0, -held:] = 1.0
        self._voice_mask[0, 0] = voice
        return self._feed

    def wipe(self) -> None:
        """Overwrite everything with zeros."""
        self.forget_faces()
        self.forget_voice()
