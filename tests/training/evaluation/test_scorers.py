"""One example, one row of class probabilities: the mean over its faces or its windows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_edge.engines.bundles.manifest import Bundle
from emotion_edge.training.evaluation.material import ExampleMedia
from emotion_edge.training.evaluation.networks import Networks, read_faces, read_voice
from emotion_edge.training.evaluation.scorers import (
    average,
    score_clips,
    score_faces,
    score_voices,
)

from .conftest import make_faces

Audio = NDArray[np.float32]
Open = Callable[[Bundle, str], Networks]


def test_faces_of_several_examples_stay_apart(bundle: Bundle, open_null: Open) -> None:
    """One call for all gives what each gives alone, over more than one batch of the network."""
    networks = open_null(bundle, "face")
    examples = [ExampleMedia(make_faces(n, seed=n)) for n in (3, 0, 70, 1)]
    together = score_faces(networks, examples)
    assert together[1] is None
    for example, row in zip(examples, together, strict=True):
        if example.faces:
            (alone,) = score_faces(networks, [example])
            assert row is not None
            np.testing.assert_allclose(row, alone, rtol=1e-6)
            rows = read_faces(networks, example.faces).probabilities
            np.testing.assert_allclose(row, rows.mean(axis=0))
    assert score_faces(networks, [ExampleMedia(), ExampleMedia()]) == [None, None]


def test_voice_is_the_mean_of_its_windows(bundle: Bundle, open_null: Open, voice: Audio) -> None:
    """Four seconds: windows of three, a quarter of a second apart."""
    networks = open_null(bundle, "voice")
    rows = read_voice(networks, voice)
    assert len(rows) == 4
    scored = score_voices(networks, [ExampleMedia(audio=voice), ExampleMedia()])
    np.testing.assert_allclose(scored[0], rows.mean(axis=0))
    assert scored[1] is None


@pytest.mark.parametrize("num_samples", [0, 100, 399])
def test_audio_without_one_column_is_no_voice(
    bundle: Bundle, open_null: Open, num_samples: int
) -> None:
    audio = np.ones(num_samples, np.float32)
    assert score_voices(open_null(bundle, "voice"), [ExampleMedia(audio=audio)]) == [None]
    assert score_clips(open_null(bundle, "fusion"), [ExampleMedia(audio=audio)]) == [None]


def test_non_finite_rows_are_left_out() -> None:
    rows = np.array([[0.2, 0.8], [np.nan, np.nan], [0.4, 0.6]])
    np.testing.assert_allclose(average(rows), [0.3, 0.7])
    assert average(rows[1:2]) is None
