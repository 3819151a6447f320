"""Noise: one half for training, the other for judging, and bad files left out."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from emotion_edge.training.data.noise import is_for_training, load_noises
from emotion_edge.training.errors import DatasetError


def write_audio_file(path: Path, level: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pcm = (np.random.default_rng(0).standard_normal(4_000) * level * 32_000).astype(np.int16)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def test_halves_share_nothing() -> None:
    """ESC files go by their fold, others by turns."""
    assert is_for_training(Path("1-100-A-0.ogg"), 5)
    assert not is_for_training(Path("4-100-A-0.ogg"), 4)
    assert is_for_training(Path("street.wav"), 4)
    assert not is_for_training(Path("street.wav"), 5)


def test_load(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A silent and a broken file are left out; folders are searched."""
    write_audio_file(tmp_path / "rain" / "1-1-A-0.wav", 0.1)
    write_audio_file(tmp_path / "rain" / "3-1-A-0.wav", 0.1)
    write_audio_file(tmp_path / "rain" / "2-2-A-0.wav", 0.0)
    (tmp_path / "rain" / "2-1-A-0.wav").write_bytes(b"nothing")
    (tmp_path / "rain" / "licence.txt").write_text("free")
    assert len(load_noises(tmp_path, True, 16_000)) == 1
    assert "2-1-A-0.wav" in caplog.text
    assert len(load_noises(tmp_path, False, 16_000)) == 1


def test_nothing_there(tmp_path: Path) -> None:
    """A missing folder, and one without a sound, are named."""
    with pytest.raises(DatasetError, match="no such folder"):
        load_noises(tmp_path / "none", True, 16_000)
    with pytest.raises(DatasetError, match="no readable noise"):
        load_noises(tmp_path, True, 16_000)
