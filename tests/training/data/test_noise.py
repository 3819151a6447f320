"""Noise: one half for training, one for evaluation; files that fail are skipped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from emotion_edge.training.data.noise import esc_fold, is_for_training, load_noises
from emotion_edge.training.errors import DatasetError

from ..wav_files import write_noise, write_wav


def test_halves_share_nothing() -> None:
    """ESC files are split by their fold, others alternately."""
    assert is_for_training(Path("1-100-A-0.ogg"), 5)
    assert not is_for_training(Path("4-100-A-0.ogg"), 4)
    assert is_for_training(Path("street.wav"), 4)
    assert not is_for_training(Path("street.wav"), 5)


def test_load(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Subfolders are searched; silent and broken files are skipped, broken ones logged."""
    write_noise(tmp_path / "rain" / "1-1-A-0.wav")
    write_noise(tmp_path / "rain" / "3-1-A-0.wav")
    write_wav(tmp_path / "rain" / "2-2-A-0.wav", np.zeros(4_000, np.int16))
    (tmp_path / "rain" / "2-1-A-0.wav").write_bytes(b"nothing")
    (tmp_path / "rain" / "licence.txt").write_text("free")
    assert len(load_noises(tmp_path, True, 16_000)) == 1
    assert "2-1-A-0.wav" in caplog.text
    assert len(load_noises(tmp_path, False, 16_000)) == 1


def test_nothing_there(tmp_path: Path) -> None:
    """A missing folder and one without audio are named."""
    for root in (tmp_path / "none", tmp_path):
        with pytest.raises(DatasetError, match=f"{root}: "):
            load_noises(root, True, 16_000)


@pytest.mark.parametrize(
    ("name", "fold"),
    [("1-100032-A-0.wav", 1), ("4-182395-A.ogg", 4), ("5-1-B.ogg", 5), ("dog.wav", None)],
)
def test_fold_of_both_releases_of_esc(name: str, fold: int | None) -> None:
    """ESC-50's names end with the class, those of the first ESC-10 do not."""
    assert esc_fold(Path(name)) == fold
