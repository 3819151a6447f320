"""The face detector's recipe: which cells learn a face, and a run of a few steps."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from emotion_edge.training.augment import FaceSceneMaterial
from emotion_edge.training.data import FacePicture
from emotion_edge.training.models import FaceDetectorNet, Predictions
from emotion_edge.training.recipes import DetectorRecipe, DetectorRound, train_detector
from emotion_edge.training.recipes.face_detector import (
    assign_cells,
    detection_loss,
    mine_backgrounds,
)

SIZE = 96
NUM_FINE = (SIZE // 8) ** 2
NUM_MIDDLE = (SIZE // 16) ** 2


def make_labels(*faces: tuple[float, float, float, float]) -> torch.Tensor:
    """Return the labels of one picture: (x, y, side, kind) each."""
    labels = torch.zeros(1, 4, 14)
    for row, (x, y, side, kind) in zip(labels[0], faces, strict=False):
        row[:3] = torch.tensor([x, y, side])
        row[3:13] = torch.tensor([x, y]).repeat(5)
        row[13] = kind
    return labels


def test_small_faces_belong_to_the_fine_grid() -> None:
    targets = assign_cells(make_labels((44, 44, 20, 1)), SIZE, SIZE)
    cells = targets.is_face[0].nonzero().flatten()
    assert 5 * 12 + 5 in cells
    assert (cells < NUM_FINE).all()
    assert (targets.labels[0, cells, 2] == 20).all()


def test_large_faces_belong_to_the_coarse_grid() -> None:
    targets = assign_cells(make_labels((48, 48, 90, 1)), SIZE, SIZE)
    cells = targets.is_face[0].nonzero().flatten()
    assert len(cells)
    assert (cells >= NUM_FINE + NUM_MIDDLE).all()


def test_the_nearer_of_two_faces_wins() -> None:
    targets = assign_cells(make_labels((20, 44, 20, 1), (44, 44, 20, 1)), SIZE, SIZE)
    cell = 5 * 12 + 5
    assert targets.labels[0, cell, 0] == 44


def test_cells_under_an_ignored_face_do_not_count() -> None:
    targets = assign_cells(make_labels((44, 44, 20, -1)), SIZE, SIZE)
    assert not targets.is_face.any()
    assert not targets.counts[0, 5 * 12 + 5]
    assert targets.counts[0, 0]


def test_a_perfect_prediction_costs_less() -> None:
    labels = make_labels((44, 44, 20, 1))
    targets = assign_cells(labels, SIZE, SIZE)
    weights = DetectorRound(1, 1e-3)
    net = FaceDetectorNet()
    found = net(torch.zeros(1, 1, SIZE, SIZE))
    perfect = found._replace(
        logits=torch.where(targets.is_face, 12.0, -12.0),
        boxes=torch.where(targets.is_face[..., None], targets.labels[..., :3], found.boxes),
        landmarks=torch.where(targets.is_face[..., None], targets.labels[..., 3:], found.landmarks),
    )
    assert float(detection_loss(perfect, labels, weights).detach()) == pytest.approx(0.0, abs=1e-3)
    assert float(detection_loss(found, labels, weights).detach()) > 1


def draw_material() -> FaceSceneMaterial:
    image = np.full((48, 48), 170, np.uint8)
    label = np.array([24, 25, 46, 15, 19, 33, 19, 24, 28, 18, 37, 31, 37], np.float32)
    for x, y in label[3:].reshape(5, 2):
        cv2.circle(image, (int(x), int(y)), 3, 20, -1)
    background = np.random.default_rng(0).integers(0, 255, (120, 160), dtype=np.uint8)
    return FaceSceneMaterial([FacePicture(image, label)], [], [background])


def test_a_short_run_learns_and_resumes(tmp_path: Path) -> None:
    recipe = DetectorRecipe(
        batch_size=4,
        rounds=(DetectorRound(2, 3e-3), DetectorRound(1, 1e-3)),
        scenes_per_epoch=24,
        sizes_px=(96,),
        num_workers=0,
    )
    model = train_detector(draw_material(), tmp_path, recipe)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "face-detector-round1.ckpt",
        "face-detector-round2.ckpt",
    ]
    again = train_detector(draw_material(), tmp_path, recipe)
    for first, second in zip(model.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(first, second)


def test_pictures_in_which_a_face_is_seen_are_mined(monkeypatch: pytest.MonkeyPatch) -> None:
    net = FaceDetectorNet()
    dark, bright = np.full((120, 200), 20, np.uint8), np.full((120, 200), 200, np.uint8)
    assert mine_backgrounds(net, [dark, bright]) == []

    def find_face(luma: torch.Tensor) -> Predictions:
        logits = torch.full((1, 2), 3.0 if luma.mean() > 100 else -3.0)
        box = torch.tensor([luma.shape[3] / 2, luma.shape[2] / 2, 20.0])
        return Predictions(logits, box.expand(1, 2, 3), torch.zeros(1, 2, 10), (96, 160))

    monkeypatch.setattr(net, "forward", find_face)
    mined = mine_backgrounds(net, [dark, bright])
    assert mined
    assert all((part == 200).all() and min(part.shape) >= 64 for part in mined)
