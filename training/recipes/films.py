"""What the face network says to the films of RAVDESS: the face's side of the fusion on real
pictures. The network learned from other people, so every actor is new to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from ...engines.estimator import calibrate
from ...kernels.spec import ImageSpec
from ..data.crops import CropSet
from .face import face_logits


@dataclass(frozen=True, slots=True)
class VideoPredictions:
    """N films."""

    recording_ids: list[str]
    """As `Clip.recording_id`."""
    log_probabilities: NDArray[np.float32]
    """(N, 7): of the mean over a film's faces."""

    def select(self, names: Sequence[str]) -> NDArray[np.float32] | None:
        """For recordings by name (M,) -> (M, 7); None unless there is a film of each."""
        row_of = {recording_id: row for row, recording_id in enumerate(self.recording_ids)}
        # A recording's name is its take after the modality: 03-01-...
        rows = [row_of.get(name[3:], -1) for name in names]
        return None if min(rows, default=-1) < 0 else self.log_probabilities[rows]


def predict_videos(
    model: nn.Module, videos: CropSet, size_px: int, spec: ImageSpec
) -> VideoPredictions:
    """Each film through the face network, at `size_px`."""
    num_videos, num_crops = videos.images.shape[:2]
    logits = face_logits(model, videos.images.reshape(-1, *videos.images.shape[2:]), size_px, spec)
    faces = calibrate(logits, 1.0).reshape(num_videos, num_crops, -1)
    recording_ids = [name[3:] for name in videos.names]
    return VideoPredictions(recording_ids, np.log(faces.mean(axis=1)).astype(np.float32))
