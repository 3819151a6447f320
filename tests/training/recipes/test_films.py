"""Films through the face network: the mean over a film's faces, found again by take."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from emotion_edge.kernels.spec import ImageSpec
from emotion_edge.training.data.crops import CropSet
from emotion_edge.training.recipes.ravdess_folds import VideoPredictions, predict_videos


class Brightness(nn.Module):
    """Says "angry" to white pictures and "disgust" to black ones."""

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        level = image.mean(dim=(1, 2, 3))
        logits = torch.zeros(len(image), 7)
        logits[:, 0], logits[:, 1] = level * 10, -level * 10
        return logits, logits


def test_mean_over_a_video() -> None:
    images = np.zeros((2, 4, 112, 112), np.uint8)
    images[0] = 255
    images[1, :2] = 255  # half of the faces say the one, half the other
    nobody = np.zeros(2, np.int64)
    films = CropSet(images, nobody, nobody, nobody, ["01-01-a", "02-01-b"])
    found = predict_videos(Brightness(), films, 32, ImageSpec())
    assert found.recording_ids == ["01-a", "01-b"]
    probabilities = np.exp(found.log_probabilities)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(probabilities[:, :2], [[1, 0], [0.5, 0.5]], atol=1e-3)


def test_videos_of_recordings() -> None:
    """In the order asked for; all or none."""
    films = VideoPredictions(["01-a", "01-b"], np.arange(14, dtype=np.float32).reshape(2, 7))
    found = films.select(["03-01-b", "03-01-a", "03-01-b"])
    assert found is not None
    assert found[:, 0].tolist() == [7, 0, 7]
    assert films.select(["03-01-a", "03-01-c"]) is None
    assert films.select([]) is None
