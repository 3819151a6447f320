"""The face recipe on small data: its inputs, reproducibility, and predictions for videos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from emotion_edge.kernels import reference
from emotion_edge.kernels.spec import ImageSpec
from emotion_edge.training.data.ferplus import load_ferplus
from emotion_edge.training.models.face import BT601_LUMA, FaceNet
from emotion_edge.training.recipes.face import (
    FaceRecipe,
    Round,
    adjust_for_label_prior,
    face_logits,
    prepare_faces,
    sampling_weights,
    split_held_out,
    train_face,
)

TINY_FACE = FaceRecipe(
    rounds=(Round(((32,),), 2e-3, 0.99), Round(((32, 36),), 1e-3, 0.99)),
    batch_size=4,
    compile_model=False,
)


@pytest.mark.parametrize("size_px", [32, 48, 64, 96])
def test_faces_are_prepared_as_on_the_device(size_px: int) -> None:
    """As by the reference implementation of the kernels."""
    faces = np.random.default_rng(0).integers(0, 256, (3, 48, 48), dtype=np.uint8)
    prepared = prepare_faces(faces, size_px, ImageSpec())
    assert prepared.shape == (3, 3, size_px, size_px)
    for face, tensor in zip(faces, prepared, strict=True):
        color = np.repeat(face[:, :, None], 3, axis=2)
        want = reference.face_tensor(color, (0.0, 0.0, 48.0, 0.0), size_px, ImageSpec())
        np.testing.assert_allclose(tensor, want, rtol=0, atol=1e-5)


def test_held_out_faces() -> None:
    """A fifth at most, never in training, equal for equal seeds."""
    training, held_out = split_held_out(100, seed=3)
    assert len(held_out) == 20
    assert sorted([*training, *held_out]) == list(range(100))
    np.testing.assert_array_equal(split_held_out(100, seed=3)[1], held_out)
    assert not np.array_equal(split_held_out(100, seed=4)[1], held_out)


def test_rare_labels_are_drawn_more_often() -> None:
    """A label four times rarer is drawn twice as often."""
    votes = np.eye(7, dtype=np.float32)[[0] * 80 + [1] * 20]
    weights = sampling_weights(votes)
    assert weights.sum() == pytest.approx(1.0)
    assert weights[-1] / weights[0] == pytest.approx(2.0, rel=1e-3)


def test_adjust_for_label_prior() -> None:
    """The logit of a label falls by a part of its log frequency."""
    model = FaceNet()
    before = model.classifier.bias.detach().clone()
    share = np.array([0.5, 0.001, 0.1, 0.1, 0.1, 0.1, 0.099])
    adjust_for_label_prior(model, share, 0.5)
    change = (model.classifier.bias - before).detach().numpy()
    assert change[0] == pytest.approx(-0.5 * np.log(0.5), abs=1e-5)
    assert change[1] == pytest.approx(-0.5 * np.log(0.01), abs=1e-5), (
        "frequencies below 0.01 count as 0.01"
    )


def test_train_face(write_ferplus: Callable[..., Path], tmp_path: Path) -> None:
    """Two rounds give a network that uses the luma of colors; a repeated and a resumed run give
    the same weights."""
    rows = {
        f"{i}.png": {"happiness": 10} if i % 2 else {"sadness": 6, "neutral": 4} for i in range(12)
    }
    faces = load_ferplus(write_ferplus(rows), "train")
    parts = split_held_out(len(faces.labels), 0)
    first = train_face(faces, parts, tmp_path / "a", TINY_FACE, ImageSpec())
    assert (tmp_path / "a" / "face-round2.ckpt").is_file()
    kernel = first.features[0][0].weight  # type: ignore[index]
    shares = torch.tensor(BT601_LUMA) / BT601_LUMA[0]
    torch.testing.assert_close(kernel / kernel[:, :1], shares.view(1, 3, 1, 1).expand_as(kernel))
    again = train_face(faces, parts, tmp_path / "b", TINY_FACE, ImageSpec())
    resumed = train_face(faces, parts, tmp_path / "a", TINY_FACE, ImageSpec())
    for a, b, c in zip(first.parameters(), again.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)
    logits = face_logits(first, np.zeros((2, 48, 48), np.uint8), 32, ImageSpec())
    assert logits.shape == (2, 7)
    assert np.isfinite(logits).all()
