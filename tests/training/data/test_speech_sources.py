"""Recordings cut to their speech, and sounds freed of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from emotion_edge.training.data import (
    SpeechTeacher,
    list_audio_files,
    load_audio,
    mark_speech,
    remove_speech,
)
from emotion_edge.training.errors import DatasetError

from ..speech_files import make_recording, write_recording, write_teacher


@pytest.fixture
def teacher(tmp_path: Path) -> SpeechTeacher:
    return SpeechTeacher(write_teacher(tmp_path / "teacher.onnx"))


def test_speech_is_cut_and_levelled(teacher: SpeechTeacher) -> None:
    """0.3 s remain around a second of speech, whose level is 0.1."""
    (clip,) = mark_speech(
        [make_recording(3.0, 1.0, 2.0), np.full(16_000, 1e-3, np.float32)][:1], teacher
    )
    assert len(clip.audio) == pytest.approx(1.6 * 16_000, rel=0.05)
    assert len(clip.marks) == -(-len(clip.audio) // 160)
    assert 0.9 < clip.marks.sum() / 100 < 1.1
    spoken = clip.audio[np.repeat(clip.marks, 160)[: len(clip.audio)]]
    assert np.sqrt(np.square(spoken).mean()) == pytest.approx(0.1, rel=1e-3)


def test_recordings_without_speech_are_left_out(teacher: SpeechTeacher) -> None:
    click = np.zeros(16_000, np.float32)
    click[8_000] = 1.0
    assert mark_speech([click], teacher) == []


def test_long_speech_is_cut_out_of_sounds(teacher: SpeechTeacher) -> None:
    """A second of it with a margin; a bark of 0.3 s, the teacher's mistake, stays."""
    song, bark = make_recording(3.0, 1.0, 3.0), make_recording(1.0, 0.3, 1.0)
    quiet, whole = remove_speech([song, bark], teacher)
    assert np.abs(quiet).max() == 0.0
    assert len(quiet) == pytest.approx((7.0 - 1.6) * 16_000, rel=0.03)
    assert np.array_equal(whole, bark)


def test_unreadable_and_silent_files_are_skipped(tmp_path: Path) -> None:
    write_recording(tmp_path / "a.wav", make_recording())
    write_recording(tmp_path / "b.wav", np.zeros(16_000, np.float32))
    (tmp_path / "c.wav").write_bytes(b"no audio")
    assert len(list_audio_files(tmp_path)) == 3
    (audio,) = load_audio(list_audio_files(tmp_path), 2.0)
    assert len(audio) == 32_000


def test_folder_without_audio_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=tmp_path.name):
        list_audio_files(tmp_path)
