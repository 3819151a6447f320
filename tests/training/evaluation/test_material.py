"""Faces cut out of images give the networks the same input."""

from __future__ import annotations

import numpy as np
import pytest

from emotion_edge.kernels import Box, open_preprocessor
from emotion_edge.kernels.spec import ImageSpec, MelSpec
from emotion_edge.training.evaluation.material import cut_face, whole_face


@pytest.mark.parametrize(
    "box",
    [
        (50.0, 30.0, 40.0, 0.0),
        (50.3, 30.7, 61.9, 0.0),
        (50.3, 30.7, 61.9, 0.785),
        (-20.0, -10.0, 50.0, -0.5),
        (120.0, 80.0, 60.0, 0.0),
        (-80.0, 20.0, 60.0, 0.3),  # all of it outside
        (10.0, 5.0, 400.0, 0.0),
    ],
)
def test_cut_face_gives_the_same_input(box: Box) -> None:
    """The preprocessor gives the same for the cut-out as for the whole image."""
    image = np.random.default_rng(0).integers(0, 256, (100, 150, 3), dtype=np.uint8)
    preprocessor = open_preprocessor("cpu", ImageSpec(), MelSpec())
    want = preprocessor.faces(image, [box], 48, "rgb8").copy()
    face = cut_face(1.5, image, box)
    assert face.t_s == 1.5
    assert face.image.size <= image.size
    got = preprocessor.faces(face.image, [face.box], 48, "rgb8")
    np.testing.assert_allclose(got, want, atol=0.02)


def test_small_face_is_a_small_copy() -> None:
    """Only the face and a margin, in memory of their own."""
    image = np.zeros((1_000, 1_000, 3), np.uint8)
    face = cut_face(0.0, image, (500.0, 500.0, 40.0, 0.0))
    assert max(face.image.shape) < 80
    assert face.image.base is None


def test_whole_face_is_gray_edge_to_edge() -> None:
    gray = np.arange(16, dtype=np.uint8).reshape(4, 4)
    face = whole_face(0.2, gray)
    assert face.box == (0.0, 0.0, 4.0, 0.0)
    for channel in range(3):
        np.testing.assert_array_equal(face.image[..., channel], gray)
