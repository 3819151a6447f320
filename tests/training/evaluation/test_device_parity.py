"""Evaluation of fusion and the device's replay of the same clip give the same probabilities."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_edge.engines.bundles import Bundle, load_bundle
from emotion_edge.engines.bundles.manifest import DEFAULT_BUNDLE
from emotion_edge.engines.face_detector import open_detector
from emotion_edge.runtime.capture.demo import draw_face, synthesize_speech
from emotion_edge.runtime.config import load_config
from emotion_edge.runtime.messages import Estimate
from emotion_edge.runtime.replay import run_replay
from emotion_edge.training.evaluation.clip_scorer import MIN_FILLED, predict_clip, score_clip
from emotion_edge.training.evaluation.loading import load_audio, load_pair
from emotion_edge.training.evaluation.networks import open_networks

from ...engines.speech_network import add_voice_activity
from ...runtime.conftest import Collector
from ...runtime.media import Image, write_video

RATE_HZ = 16_000
FPS = 25
"""A frame's time is a whole number of audio chunks, so the replay has all audio up to it."""
SECONDS = 5
TOLERANCE = 1e-4
"""Evaluation runs the face network in batches, which adds in another order."""


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """The bundle that ships, with its fusion network, and a voice-activity network that takes loud
    audio for speech."""
    if not (DEFAULT_BUNDLE / "bundle.json").is_file():
        pytest.skip(f"no bundle in {DEFAULT_BUNDLE}")
    shutil.copytree(DEFAULT_BUNDLE, tmp_path / "bundle")
    return add_voice_activity(load_bundle(tmp_path / "bundle"))


def speak_with_pauses(seconds: float) -> NDArray[np.float32]:
    """The demo's voice, and between 3 and 4 s a pause that is long enough to give it up."""
    audio = synthesize_speech(0, round(seconds * RATE_HZ))
    audio[3 * RATE_HZ : 4 * RATE_HZ] = 0
    return audio


def draw_frames() -> list[Image]:
    """A face that moves and changes its expression, then an empty room, then the face again."""
    frames = []
    for n in range(SECONDS * FPS):
        face = np.roll(draw_face(n / FPS), (n // 5, n // 3), axis=(0, 1))
        frames.append((n / FPS, np.full_like(face, 90) if 50 <= n < 85 else face))
    return frames


def replay(clip: Path, bundle: Bundle) -> list[Estimate]:
    """The device's estimates, without smoothing."""
    config = load_config(
        None,
        [
            f"source.name='{clip}'",
            f"bundle='{bundle.path}'",
            "engines.name=onnx",
            "output.smoothing_s=0",
        ],
    )
    sink = Collector()
    run_replay(config, [sink])
    return sink.estimates


@pytest.mark.parametrize("audio_s", [SECONDS, 2.5])
def test_fusion_is_scored_as_the_device_estimates(
    bundle: Bundle, tmp_path: Path, audio_s: float
) -> None:
    """At every moment that counts: with a moving face, without one, with it again, and with audio
    that ends before the frames do."""
    audio = speak_with_pauses(audio_s)
    clip = write_video(tmp_path / "clip.mkv", draw_frames(), audio[None], audio="pcm_s16le")
    estimates = {estimate.t_ns: estimate for estimate in replay(clip, bundle)}
    media = load_pair(clip, clip, open_detector(), bundle)
    with open_networks(bundle, "fusion", "onnx", bundle.manifest.levels[0]) as networks:
        predictions = list(predict_clip(networks, media))
        scored = score_clip(networks, media)
    assert [t_ns for t_ns, _ in predictions] == list(estimates)
    spec = bundle.manifest.mel
    first_ns = MIN_FILLED * spec.window_samples / spec.sample_rate_hz * 1e9
    counted = [t_ns for t_ns in estimates if t_ns >= first_ns and estimates[t_ns].probabilities]
    expected = [list(estimates[t_ns].probabilities.values()) for t_ns in counted]
    np.testing.assert_allclose(scored, expected, atol=TOLERANCE)
    assert {estimates[t_ns].voice_activity > 0.5 for t_ns in counted} == {True, False}
    kinds = {(estimates[t].face is None, estimates[t].voice is None) for t in counted}
    assert kinds >= {(False, False), (True, False)}
    for t_ns, prediction in predictions:
        if t_ns >= first_ns:
            weights = estimates[t_ns].modalities
            assert prediction.weights == pytest.approx(weights, abs=TOLERANCE)
            assert prediction.abstained == estimates[t_ns].abstained


def test_audio_alone_is_scored_as_the_device_estimates(bundle: Bundle, tmp_path: Path) -> None:
    """Four estimates a second, from the voice alone."""
    audio = speak_with_pauses(5)
    clip = write_video(tmp_path / "clip.wav", samples=audio[None], audio="pcm_s16le")
    estimates = {estimate.t_ns: estimate for estimate in replay(clip, bundle)}
    with open_networks(bundle, "fusion", "onnx", bundle.manifest.levels[0]) as networks:
        predictions = dict(predict_clip(networks, load_audio(clip, RATE_HZ)))
    times_ns = [t_ns for t_ns in estimates if t_ns >= 1.5e9]
    assert len(times_ns) >= 9
    assert {estimates[t_ns].voice is None for t_ns in times_ns} == {True, False}
    for t_ns in times_ns:
        expected = list(estimates[t_ns].probabilities.values())
        assert predictions[t_ns].probabilities == pytest.approx(expected, abs=TOLERANCE)
