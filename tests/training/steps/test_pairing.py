"""Pairs of a face and a voice: of the same recording, else of the same label."""

from __future__ import annotations

import numpy as np
import pytest

from emotion_edge.training.steps.opinions import Opinions
from emotion_edge.training.steps.pairing import pair_labels, pair_recordings

TEMPERATURES = {"face": 2.0, "voice": 1.0}


def make_opinions(
    recordings: tuple[str, ...], rows: list[int], groups: tuple[int, ...] = (0, 1)
) -> Opinions:
    """`rows` has the example of each row; an example's target is its index modulo 2."""
    rng = np.random.default_rng(len(rows))
    return Opinions(
        rng.standard_normal((len(rows), 256)).astype(np.float32),
        rng.standard_normal((len(rows), len(groups))).astype(np.float32),
        groups,
        np.array(rows),
        np.arange(len(recordings)) % 2,
        recordings,
        ("ann",) * len(recordings),
    )


@pytest.fixture
def face() -> Opinions:
    """Three frames of b, two of a, one picture."""
    return make_opinions(("b", "a", ""), [0, 0, 0, 1, 1, 2])


def test_windows_are_paired_with_the_faces_of_their_recording(face: Opinions) -> None:
    """A window of a recording without faces is left out. The face is the mean over its frames."""
    voice = make_opinions(("a", "c", "b"), [0, 0, 1, 2], groups=(0, 0, 1))
    found = pair_recordings(face, voice, "attention", TEMPERATURES, 2)
    assert found is not None
    pairs, recording_of = found
    assert recording_of.tolist() == [0, 0, 2]
    assert pairs.labels.tolist() == [0, 0, 0]
    frames = face.probabilities(2.0, 2)
    np.testing.assert_allclose(
        np.exp(pairs.faces[:, 0]), [frames[3:5].mean(0)] * 2 + [frames[:3].mean(0)], rtol=1e-5
    )
    np.testing.assert_allclose(np.exp(pairs.voices).sum(axis=1), 1, rtol=1e-5)
    assert pair_recordings(face, make_opinions(("c",), [0]), "attention", TEMPERATURES, 2) is None


def test_channel_attention_gets_embeddings(face: Opinions) -> None:
    """Eight faces, spread over the frames in their order."""
    found = pair_recordings(face, make_opinions(("b",), [0]), "channel", TEMPERATURES, 2)
    assert found is not None
    assert found[0].faces.shape == (1, 8, 256)
    assert found[0].voices.shape == (1, 256)
    np.testing.assert_array_equal(found[0].faces[0, [0, -1]], face.embeddings[[0, 2]])


def test_random_faces_have_the_label_of_the_voice() -> None:
    """A voice of a label without a face is left out; equal seeds draw equal faces."""
    arrays = {
        "voice": np.arange(6, dtype=np.float32)[:, None],
        "labels": np.array([0, 1, 2, 0, 1, 2]),
        "other_faces": np.arange(4, dtype=np.float32)[:, None, None],
        "other_labels": np.array([0, 1, 0, 1]),
    }
    pairs = pair_labels(arrays, seed=0)
    assert pairs.labels.tolist() == [0, 1, 0, 1]
    assert pairs.voices[:, 0].tolist() == [0, 1, 3, 4]
    assert arrays["other_labels"][pairs.faces[:, 0, 0].astype(int)].tolist() == [0, 1, 0, 1]
    np.testing.assert_array_equal(pairs.faces, pair_labels(arrays, seed=0).faces)
