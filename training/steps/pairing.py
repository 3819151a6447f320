"""Pairs of a face and a voice for the fusion network, from people held out from both networks.

In: opinions on faces and on voices. Out: `Pairs` of the same recording, or, where no recording has
both, of the same label.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...engines.probabilities import calibrate
from ..models import NUM_FACES
from ..recipes import Pairs
from .opinions import Opinions

Float32 = NDArray[np.float32]
TINY = 1e-12


def pair_recordings(
    face: Opinions,
    voice: Opinions,
    kind: str,
    temperatures: Mapping[str, float],
    num_labels: int,
) -> tuple[Pairs, NDArray[np.int64]] | None:
    """Pair each window of a voice with the faces of its recording -> pairs (W), and the recording
    of each by its index in `voice` (W,). None when no recording has both."""
    example_of = {name: i for i, name in enumerate(face.recordings) if name}
    owner = np.array([example_of.get(name, -1) for name in voice.recordings], np.int64)
    windows = np.flatnonzero(owner[voice.example_of] >= 0)
    if not len(windows):
        return None
    recording_of = voice.example_of[windows]
    faces = describe_faces(face, kind, temperatures["face"], num_labels)[owner[recording_of]]
    voices = describe_voices(voice, kind, temperatures["voice"], num_labels)[windows]
    return Pairs(faces, voices, voice.targets[recording_of]), recording_of


def pair_labels(arrays: Mapping[str, NDArray[Any]], seed: int) -> Pairs:
    """Pair each voice with a random face of the same label. `arrays`: voice (W, D) and labels (W,),
    other_faces (N, K, D) and other_labels (N,). Voices of a label without a face are left out."""
    face_labels = arrays["other_labels"]
    shared = np.isin(arrays["labels"], face_labels)
    labels = arrays["labels"][shared]
    rng = np.random.default_rng(seed)
    chosen = [int(rng.choice(np.flatnonzero(face_labels == label))) for label in labels]
    return Pairs(arrays["other_faces"][chosen], arrays["voice"][shared], labels)


def describe_faces(face: Opinions, kind: str, temperature: float, num_labels: int) -> Float32:
    """Return what the fusion network reads of each example (N, K, D): the log of the mean
    calibrated probabilities for attention, embeddings spread over the recording for channel."""
    if kind == "attention":
        mean = face.mean(face.probabilities(temperature, num_labels))
        return np.log(np.maximum(mean, TINY)).astype(np.float32)[:, None]
    rows = [np.flatnonzero(face.example_of == i) for i in range(len(face.targets))]
    spread = [own[np.linspace(0, len(own) - 1, NUM_FACES).round().astype(int)] for own in rows]
    return face.embeddings[np.array(spread, np.intp).reshape(-1, NUM_FACES)]


def describe_voices(voice: Opinions, kind: str, temperature: float, num_labels: int) -> Float32:
    """Return what the fusion network reads of each window (M, D)."""
    if kind == "attention":
        return np.log(calibrate(voice.merged(num_labels), temperature)).astype(np.float32)
    return voice.embeddings
