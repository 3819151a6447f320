"""What the face network says to the films of RAVDESS: the face's side of the fusion on real
pictures. The network learned from other people, so every actor is new to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from ..engines.fusion import calibrate
from ..kernels.spec import ImageSpec
from .data.crops import CropSet
from .face import face_logits


@dataclass(frozen=True, slots=True)
class FilmOpinions:
    """N films."""

    takes: list[str]
    """As `Clip.take`."""
    log_probabilities: NDArray[np.float32]
    """(N, 7): of the mean over a film's faces."""

    def of(self, names: Sequence[str]) -> NDArray[np.float32] | None:
        """For recordings by name (M,) -> (M, 7); None unless there is a film of each."""
        row_of = {take: row for row, take in enumerate(self.takes)}
        # A recording's name is its take after the modality: 03-01-...
        rows = [row_of.get(name[3:], -1) for name in names]
        return None if min(rows, default=-1) < 0 else self.log_probabilities[rows]


def read_films(model: nn.Module, films: CropSet, size_px: int, spec: ImageSpec) -> FilmOpinions:
    """Each film through the face network, at `size_px`."""
    num_films, num_crops = films.images.shape[:2]
    logits = face_logits(model, films.images.reshape(-1, *films.images.shape[2:]), size_px, spec)
    faces = calibrate(logits, 1.0).reshape(num_films, num_crops, -1)
    takes = [name[3:] for name in films.names]
    return FilmOpinions(takes, np.log(faces.mean(axis=1)).astype(np.float32))
