"""Where the teacher hears speech."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from emotion_edge.training.data import SpeechTeacher, decode_audio
from emotion_edge.training.data.speech_teacher import CHUNK, to_marks
from emotion_edge.training.errors import DatasetError

from ..speech_files import make_recording, write_teacher

HOPS_A_CHUNK = CHUNK / 160


def test_marks_follow_the_audio(tmp_path: Path) -> None:
    """One second of tone in three is marked, to within a chunk, in any order of lengths, and a
    quiet recording like a loud one."""
    teacher = SpeechTeacher(write_teacher(tmp_path / "teacher.onnx"))
    recordings = [make_recording(), make_recording(2.0, 1.0, 0.5) * 0.001, make_recording(0.5)]
    for marks, start_s, audio in zip(
        teacher.mark(recordings), (1.0, 2.0, 0.5), recordings, strict=True
    ):
        assert len(marks) == -(-len(audio) // 160)
        spoken = np.flatnonzero(marks)
        assert spoken[0] == pytest.approx(start_s * 100, abs=HOPS_A_CHUNK + 1)
        assert spoken[-1] == pytest.approx(start_s * 100 + 100, abs=HOPS_A_CHUNK + 1)
        assert len(spoken) == spoken[-1] - spoken[0] + 1


def test_hysteresis_and_short_runs() -> None:
    """A dip to 0.4 does not end speech, 0.4 does not begin it, one chunk is no speech."""
    values = np.array([0, 0.4, 0.9, 0.4, 0.9, 0, 0, 0.9, 0, 0], np.float32)
    marks = to_marks(values, 10 * CHUNK)
    per_chunk = marks[(np.arange(10) * HOPS_A_CHUNK + 1).astype(int)]
    assert per_chunk.tolist() == [False, False, True, True, True, False, False, False, False, False]


@pytest.mark.parametrize("content", [None, b"", b"no network"])
def test_refuses_another_file(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "silero.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"silero\.onnx"):
        SpeechTeacher(path)


def test_refuses_another_network(tmp_path: Path) -> None:
    from ...engines.test_voice_activity import write_network

    with pytest.raises(DatasetError, match="mel"):
        SpeechTeacher(write_network(tmp_path / "silero.onnx"))


def test_real_teacher(shared_data: Path) -> None:
    """It hears a sentence in the middle of a recording, and none in rain."""
    teacher = SpeechTeacher(shared_data / "models" / "silero_vad" / "silero_vad.onnx")
    actor = shared_data / "ravdess" / "audio" / "Actor_02"
    files = [min(actor.iterdir()), min((shared_data / "noise" / "002_Rain").iterdir())]
    speech, rain = teacher.mark([decode_audio(path, 16_000)[0] for path in files])
    assert 0.2 < speech.mean() < 0.8
    assert not rain.any()
