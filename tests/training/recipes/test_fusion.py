"""The fusion recipe: weights follow accuracy, and a single modality is unchanged."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from emotion_edge.training.data.ravdess import EMOTION_GROUPS, EMOTIONS8
from emotion_edge.training.errors import TrainingError
from emotion_edge.training.models.fusion import AttentionFusion, ChannelAttention
from emotion_edge.training.models.merged_labels import MergedLabels, merge_logits
from emotion_edge.training.recipes.fusion import (
    FusionRecipe,
    Pairs,
    attach_heads,
    build_fusion,
    fuse_pairs,
    train_fusion,
)

NUM_LABELS = 7


def make_log_probabilities(
    labels: NDArray[np.int64], skill: float, seed: int
) -> NDArray[np.float32]:
    """Make log-probabilities whose accuracy grows with `skill`."""
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((len(labels), NUM_LABELS))
    logits[np.arange(len(labels)), labels] += skill
    return (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    labels = np.random.default_rng(0).integers(0, NUM_LABELS, 600)
    return Pairs(
        make_log_probabilities(labels, 2.0, 1)[:, None],
        make_log_probabilities(labels, 1.5, 2),
        labels,
    )


@pytest.fixture(scope="module")
def trained(pairs: Pairs) -> nn.Module:
    return train_fusion(pairs, NUM_LABELS, FusionRecipe(peak_lr=5e-3, num_epochs=15))


def accuracy(logits: NDArray[np.float32], pairs: Pairs) -> float:
    return float((logits.argmax(axis=1) == pairs.labels).mean())


def test_fusion_beats_either_modality(pairs: Pairs, trained: nn.Module) -> None:
    """By more than four points; the more accurate modality has the greater weight."""
    both, weights = fuse_pairs(trained, pairs)
    best = max(accuracy(pairs.faces[:, 0], pairs), accuracy(pairs.voices, pairs))
    assert accuracy(both, pairs) > best + 0.04
    assert weights[:, 0].mean() > weights[:, 1].mean()
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=1e-5)


def test_single_modality_is_unchanged(pairs: Pairs, trained: nn.Module) -> None:
    """The logits equal the log-probabilities of the modality."""
    logits, weights = fuse_pairs(trained, pairs, voice=False)
    np.testing.assert_allclose(logits, pairs.faces[:, 0], atol=1e-5)
    np.testing.assert_allclose(weights, np.tile([1.0, 0.0], (600, 1)), atol=1e-6)
    logits, _ = fuse_pairs(trained, pairs, face=False)
    np.testing.assert_allclose(logits, pairs.voices, atol=1e-5)


def test_agreement_raises_confidence(trained: nn.Module) -> None:
    """The scale with both modalities is greater than 1."""
    assert isinstance(trained, AttentionFusion)
    assert trained.log_scale.item() > 0.3


def test_attach_heads(trained: nn.Module) -> None:
    """The same pooling on embeddings; calm is merged into neutral; `face_doubt` needs a voice."""
    assert isinstance(trained, AttentionFusion)
    torch.manual_seed(0)
    face, voice = nn.Linear(256, 7), nn.Linear(256, 8)
    model = attach_heads(
        trained, face, voice, 1.5, 2.0, face_doubt=3.0, voice_groups=EMOTION_GROUPS
    )
    faces, voices = torch.randn(3, 4, 256), torch.randn(3, 256)
    with torch.no_grad():
        logits, weights = model(faces, torch.ones(3, 4), voices, torch.ones(3, 1))
        face_input = torch.log_softmax(face(faces.mean(dim=1)) / 4.5, dim=1).unsqueeze(1)
        voice_input = torch.log_softmax(
            merge_logits(voice(voices), EMOTION_GROUPS, NUM_LABELS) / 2.0, dim=1
        )
        want = trained.eval()(face_input, torch.ones(3, 1), voice_input, torch.ones(3, 1))
    torch.testing.assert_close(logits, want[0])
    torch.testing.assert_close(weights, want[1])
    with torch.no_grad():
        face_only, _ = model(faces, torch.ones(3, 4), voices, torch.zeros(3, 1))
        want_face = torch.log_softmax(face(faces.mean(dim=1)) / 1.5, dim=1)
    torch.testing.assert_close(face_only, want_face)


def test_reference_preset_trains(pairs: Pairs) -> None:
    """Channel attention trains on embeddings."""
    rng = np.random.default_rng(0)
    spread = rng.standard_normal((NUM_LABELS, 256)).astype(np.float32)
    embeddings = Pairs(np.exp(pairs.faces) @ spread, np.exp(pairs.voices) @ spread, pairs.labels)
    recipe = FusionRecipe(preset="channel", peak_lr=5e-3, num_epochs=15)
    model = train_fusion(embeddings, NUM_LABELS, recipe)
    logits, weights = fuse_pairs(model, embeddings)
    assert accuracy(logits, embeddings) > 0.6
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=1e-4)


def test_unknown_preset() -> None:
    with pytest.raises(TrainingError, match="'sum'"):
        build_fusion("sum", 7)


@pytest.mark.parametrize(("preset", "size"), [("attention", 256), ("channel", 7), ("channel", 256)])
def test_pairs_of_the_other_preset(pairs: Pairs, preset: str, size: int) -> None:
    """Refused before training: log-probabilities are no embeddings; nor are labels out of range."""
    labels = pairs.labels + (size == 256 and preset == "channel")
    wide = np.zeros((len(labels), size), np.float32)
    with pytest.raises(TrainingError):
        train_fusion(Pairs(wide[:, None], wide, labels), NUM_LABELS, FusionRecipe(preset=preset))


@pytest.mark.parametrize("size", [1, 7, 256])
def test_gate_of_channels(size: int) -> None:
    """The gate of a narrow input has a unit, so that it depends on its input."""
    torch.manual_seed(0)
    gate = ChannelAttention(size).gate
    assert gate[0].out_features >= 1
    rows = gate(torch.randn(64, size))
    assert rows.std(dim=0).max() > 0


def test_merge_logits() -> None:
    """The probability of a label is the sum of those of its values; any order and number."""
    logits = torch.randn(5, 8)
    merged = torch.softmax(merge_logits(logits, EMOTION_GROUPS, 7), dim=1)
    emotions = dict(zip(EMOTIONS8, torch.softmax(logits, dim=1).T, strict=True))
    torch.testing.assert_close(merged[:, 6], emotions["neutral"] + emotions["calm"])
    torch.testing.assert_close(merged[:, 0], emotions["angry"])
    assert merge_logits(logits, range(8), 8) is logits
    three = torch.softmax(merge_logits(logits, (2, 0, 1, 1, 0, 2, 2, 2), 3), dim=1)
    torch.testing.assert_close(three.sum(dim=1), torch.ones(5))
    with pytest.raises(ValueError, match="groups"):
        MergedLabels(nn.Identity(), (0, 2, 2))
