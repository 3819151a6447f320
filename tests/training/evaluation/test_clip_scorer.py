"""A clip's predictions: which face, which voice and which moments count.

That they equal the device's is in `test_device_parity.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_edge.engines.bundles import EMBEDDING_SIZE, Bundle
from emotion_edge.training.evaluation import networks as networks_module
from emotion_edge.training.evaluation.clip_scorer import predict_clip, score_clip
from emotion_edge.training.evaluation.material import ExampleMedia
from emotion_edge.training.evaluation.networks import FaceOutputs, Networks, read_faces
from emotion_edge.training.evaluation.scorers import score_clips

from .conftest import make_faces

Audio = NDArray[np.float32]
Open = Callable[[Bundle, str], Networks]
MS = 1_000_000


def make_clip(
    num_frames: int, audio: Audio | None = None, num_faces: int | None = None, **more: Any
) -> ExampleMedia:
    """Ten frames a second, the first `num_faces` of them with a face."""
    faces = make_faces(num_frames if num_faces is None else num_faces)
    return ExampleMedia(
        faces, audio, frame_times_s=tuple(n / 10 for n in range(num_frames)), **more
    )


class Recorder:
    """An engine that stores its inputs and gives the same outputs to all."""

    inputs = outputs = ()

    def __init__(self, **outputs: NDArray[np.float32]) -> None:
        self._outputs = outputs
        self.feeds: list[dict[str, NDArray[np.float32]]] = []

    def infer(self, feed: Any) -> dict[str, NDArray[np.float32]]:
        self.feeds.append({name: array.copy() for name, array in feed.items()})
        count = len(next(iter(feed.values())))
        return {name: np.repeat(row[None], count, axis=0) for name, row in self._outputs.items()}


def with_engines(networks: Networks, **engines: Any) -> Networks:
    return replace(networks, engines={**networks.engines, **engines}, newest_faces=[])


def test_a_frame_is_fused_with_its_own_face_and_the_last_voice(
    bundle: Bundle, open_null: Open, voice: Audio
) -> None:
    """Half and half from the time the voice window is half full, at every frame."""
    networks = open_null(bundle, "fusion")
    clip = make_clip(40, voice)
    faces = read_faces(networks, clip.faces).probabilities
    predictions = [prediction for _, prediction in predict_clip(networks, clip)]
    for row, prediction in zip(faces, predictions, strict=True):
        assert prediction.face == pytest.approx(row)
        if prediction.voice is not None:
            mean = (row + np.array(prediction.voice)) / 2
            assert prediction.probabilities == pytest.approx(mean)
    rows = [prediction.probabilities for prediction in predictions[16:]]
    np.testing.assert_allclose(score_clip(networks, clip), rows)


def test_frames_without_a_face_use_the_voice_alone(
    bundle: Bundle, open_null: Open, voice: Audio
) -> None:
    networks = open_null(bundle, "fusion")
    predictions = [p for _, p in predict_clip(networks, make_clip(40, voice, num_faces=10))]
    for prediction in predictions[16:]:
        assert prediction.weights == {"face": 0.0, "voice": 1.0}
        assert prediction.probabilities == prediction.voice


def test_without_audio_every_face_counts(bundle: Bundle, open_null: Open) -> None:
    networks = open_null(bundle, "fusion")
    clip = make_clip(11)
    rows = read_faces(networks, clip.faces).probabilities
    np.testing.assert_allclose(score_clip(networks, clip), rows)
    assert score_clips(networks, [ExampleMedia(), make_clip(5, num_faces=0)]) == [None, None]


def test_without_frames_the_voice_counts_four_times_a_second(
    bundle: Bundle, open_null: Open, voice: Audio
) -> None:
    """From 1.75 s to 4 s; at 1.5 s the voice window is not quite half full."""
    networks = open_null(bundle, "fusion")
    assert len(score_clip(networks, ExampleMedia(audio=voice))) == 10


def test_a_short_recording_counts_at_its_end(bundle: Bundle, open_null: Open, voice: Audio) -> None:
    """Its voice window is never half full."""
    networks = open_null(bundle, "fusion")
    assert len(score_clip(networks, make_clip(10, voice[:16_000]))) == 1
    assert len(score_clip(networks, ExampleMedia(audio=voice[:16_000]))) == 1


def test_late_audio_belongs_to_later_frames(bundle: Bundle, open_null: Open, voice: Audio) -> None:
    """Audio that begins at 1 s: the voice windows are those of audio from 0 s, a second later."""
    networks = open_null(bundle, "fusion")
    plain = dict(predict_clip(networks, make_clip(40, voice)))
    late = dict(predict_clip(networks, make_clip(45, voice, audio_t_s=1.0)))
    assert late[900 * MS].voice is None
    assert late[4000 * MS].voice == plain[3000 * MS].voice
    assert late[4000 * MS].voice is not None


def test_audio_that_ended_long_ago_is_not_heard(
    bundle: Bundle, open_null: Open, voice: Audio
) -> None:
    """A second after its end, at the next voice hop, the face is alone."""
    networks = open_null(bundle, "fusion")
    predictions = dict(predict_clip(networks, make_clip(40, voice[:32_000])))
    assert predictions[2900 * MS].voice is not None
    assert predictions[3200 * MS].voice is None


def test_fusion_network_gets_the_faces_of_the_last_second(
    write_bundle: Callable[..., Bundle], open_null: Open, voice: Audio
) -> None:
    """Four faces a third of a second apart, newest last; frames without a face clear them."""
    fusion = Recorder(
        logits=np.arange(7, dtype=np.float32), weights=np.array([0.5, 0.5], np.float32)
    )
    networks = with_engines(open_null(write_bundle(fusion=True), "fusion"), fusion=fusion)
    clip = make_clip(40, voice, num_faces=29)
    rows = score_clip(networks, clip)
    embeddings = read_faces(networks, clip.faces).embeddings
    np.testing.assert_array_equal(fusion.feeds[28]["faces"][0], embeddings[[18, 21, 25, 28]])
    assert fusion.feeds[28]["face_mask"].all()
    assert fusion.feeds[28]["voice_mask"].all()
    assert not fusion.feeds[29]["face_mask"].any()
    assert not fusion.feeds[29]["faces"].any()
    expected = np.exp(np.arange(7)) / np.exp(np.arange(7)).sum()
    np.testing.assert_allclose(rows, np.repeat(expected[None], len(rows), axis=0), rtol=1e-6)


def test_non_finite_face_is_left_out(
    write_bundle: Callable[..., Bundle], open_null: Open, voice: Audio
) -> None:
    """As on the device: the fusion network does not get its embedding."""
    fusion = Recorder(logits=np.zeros(7, np.float32), weights=np.zeros(2, np.float32))
    bad = np.full(EMBEDDING_SIZE, np.nan, np.float32)
    face = Recorder(embedding=bad, logits=np.full(7, np.nan, np.float32))
    networks = open_null(write_bundle(fusion=True), "fusion")
    networks = with_engines(networks, fusion=fusion, face=face)
    assert len(score_clip(networks, make_clip(40, voice))) == 24
    assert not any(feed["face_mask"].any() for feed in fusion.feeds)
    assert all(np.isfinite(feed["faces"]).all() for feed in fusion.feeds)


def test_unchanged_faces_are_read_once(
    bundle: Bundle, open_null: Open, voice: Audio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A corruption of the audio costs no second run of the face network; other faces do."""
    networks = open_null(bundle, "fusion")
    runs: list[int] = []

    def read_counting(networks: Networks, faces: Any) -> FaceOutputs:
        runs.append(len(faces))
        return read_faces(networks, faces)

    monkeypatch.setattr(networks_module, "read_faces", read_counting)
    clip = make_clip(40, voice)
    score_clips(networks, [clip, replace(clip, audio=voice * 0.5)])
    assert len(runs) == 1
    score_clips(networks, [replace(clip, faces=make_faces(40))])
    assert len(runs) == 2
