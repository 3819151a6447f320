"""Scores examples of one modality: the mean of what the networks give over each example.

In: open networks and examples as captured. Out: class probabilities (L,) of each example, or None
where it holds no face or no audio.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...engines.bundles import FUSION
from .clip_scorer import score_clip
from .material import ExampleMedia
from .networks import Networks, read_faces, read_voice

Float64 = NDArray[np.float64]


def score_faces(networks: Networks, examples: Sequence[ExampleMedia]) -> list[Float64 | None]:
    """Return the mean over each example's faces."""
    faces = [face for example in examples for face in example.faces]
    if not faces:
        return [None] * len(examples)
    probabilities = read_faces(networks, faces).probabilities
    ends = np.cumsum([len(example.faces) for example in examples])
    return [average(rows) for rows in np.split(probabilities, ends[:-1])]


def score_voices(networks: Networks, examples: Sequence[ExampleMedia]) -> list[Float64 | None]:
    """Return the mean over each recording's windows."""
    return [
        None if example.audio is None else average(read_voice(networks, example.audio))
        for example in examples
    ]


def score_clips(networks: Networks, examples: Sequence[ExampleMedia]) -> list[Float64 | None]:
    """Return the mean over each clip's predictions, see `score_clip`."""
    return [average(score_clip(networks, example)) for example in examples]


SCORERS = {"face": score_faces, "voice": score_voices, FUSION: score_clips}
"""Scorer of several examples at once, by modality."""


def average(rows: Float64) -> Float64 | None:
    """Return the mean (L,) of the rows (K, L) that are finite; None when there are none. The device
    ignores a NaN as well."""
    finite = rows[np.isfinite(rows).all(axis=1)]
    return finite.mean(axis=0) if len(finite) else None
