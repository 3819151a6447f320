"""The drawn face and the synthetic voice."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from emotion_edge.runtime.capture.demo import FPS, Demo, _pitch, draw_face, synthesize_speech
from emotion_edge.runtime.capture.playback import merge_events
from emotion_edge.runtime.messages import AudioChunk, VideoFrame

cv2 = pytest.importorskip("cv2")


def test_face_is_detected_by_the_cascade() -> None:
    """OpenCV's frontal-face cascade detects one face in nearly every frame of a full cycle."""
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")
    times_s = np.arange(0, 20, 0.5)
    num_detected = 0
    for t_s in times_s:
        gray = cv2.cvtColor(draw_face(float(t_s)), cv2.COLOR_BGR2GRAY)
        boxes = cascade.detectMultiScale(gray, 1.15, 4, minSize=(80, 80))
        num_detected += len(boxes) == 1
    assert num_detected >= 0.95 * times_s.size


def test_frame_is_a_function_of_time() -> None:
    """The same time gives the same image, another expression another one."""
    first = draw_face(1.0)
    assert first.shape == (360, 640, 3)
    assert first.dtype == np.uint8
    happy = draw_face(5.0)
    assert np.array_equal(first, draw_face(1.0))
    assert np.abs(first.astype(int) - happy).max() > 50


def test_voice_does_not_depend_on_the_chunk_size() -> None:
    """Any chunk can be computed alone: all chunks together equal the whole."""
    whole = synthesize_speech(0, 48000)
    parts = np.concatenate([synthesize_speech(at, 777) for at in range(0, 48000 - 777, 777)])
    assert np.abs(whole[: parts.size] - parts).max() < 1e-5
    far = synthesize_speech(16000 * 3600, 160)
    assert np.isfinite(far).all()


def test_voice_is_loud_has_pauses_and_never_clips() -> None:
    """It has syllables, silence between phrases and headroom."""
    voice = synthesize_speech(0, 20 * 16000)
    assert voice.dtype == np.float32
    assert np.abs(voice).max() < 0.9
    loudness = np.sqrt((voice.reshape(-1, 1600) ** 2).mean(axis=1))
    assert loudness.max() > 0.05
    assert (loudness < 1e-4).mean() > 0.1


def test_pitch_follows_the_expression() -> None:
    """The surprised voice is higher than the sad one."""

    def pitch_hz(t_s: float) -> float:
        piece = synthesize_speech(round(t_s * 16000), 8000).astype(np.float64)
        piece = np.convolve(piece, np.ones(16))  # without the hiss of the consonants
        echo = np.correlate(piece, piece, "full")[piece.size :]
        return 16000 / (int(np.argmax(echo[60:200])) + 61)

    assert pitch_hz(8.0) == pytest.approx(230, rel=0.03)
    assert pitch_hz(12.0) == pytest.approx(100, rel=0.03)


def test_pitch_glides_without_a_click() -> None:
    """The phase is the pitch's integral, also between two expressions."""
    t_s = np.arange(0, 45, 1 / 1000)
    pitch_hz, turns = _pitch(t_s)
    middle_hz = (pitch_hz[1:] + pitch_hz[:-1]) / 2
    assert np.abs(np.diff(turns) * 1000 - middle_hz).max() < 0.5


def test_events_merge_video_and_audio() -> None:
    """Like those of a file: in time order, numbered, without gaps."""
    events = list(islice(merge_events(Demo()), 300))
    frames = [event for event in events if isinstance(event, VideoFrame)]
    chunks = [event for event in events if isinstance(event, AudioChunk)]
    assert [frame.index for frame in frames] == list(range(len(frames)))
    assert frames[30].t_ns == 1_000_000_000 * 30 // FPS
    assert [chunk.first_sample for chunk in chunks] == [160 * i for i in range(len(chunks))]
