"""Noises and rooms: synthetic, or from folders with other files in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from emotion_edge.training.augment.corruptions import make_response
from emotion_edge.training.errors import DatasetError
from emotion_edge.training.evaluation.acoustics import (
    RT60S_S,
    list_noises,
    load_acoustic_conditions,
)
from emotion_edge.training.evaluation.robustness import SNRS_DB, list_conditions

RATE_HZ = 16_000
WriteVideo = Callable[..., Path]


def test_synthetic_conditions_are_seeded() -> None:
    made = load_acoustic_conditions(None, None, RATE_HZ, seed=0)
    again = load_acoustic_conditions(None, None, RATE_HZ, seed=0)
    other = load_acoustic_conditions(None, None, RATE_HZ, seed=1)
    assert tuple(made.rooms) == RT60S_S
    for name in ("white noise", "pink noise"):
        np.testing.assert_array_equal(made.noises[name][0], again.noises[name][0])
        assert (made.noises[name][0] != other.noises[name][0]).any()


def test_noises_and_rooms_of_folders(tmp_path: Path, write_video: WriteVideo) -> None:
    """Subfolders are searched, rooms are no noises, unreadable and silent files are left out."""
    import soundfile

    write_video(tmp_path / "noise" / "deep" / "a.wav", 0, 0.5)
    (tmp_path / "noise" / "b.wav").write_bytes(b"no audio")
    (tmp_path / "noise" / "readme.txt").write_text("no audio")
    soundfile.write(tmp_path / "noise" / "silent.wav", np.zeros(RATE_HZ), RATE_HZ)
    rooms = tmp_path / "noise" / "rooms"
    rooms.mkdir()
    response = make_response(0.5, RATE_HZ, np.random.default_rng(0))
    soundfile.write(rooms / "hall.wav", response / 2, RATE_HZ)
    found = load_acoustic_conditions(tmp_path / "noise", rooms, RATE_HZ, seed=0)
    assert {name: len(audio_clips) for name, audio_clips in found.noises.items()} == {"noise": 1}
    ((rt60_s, responses),) = found.rooms.items()
    assert len(responses) == 1
    assert 0.3 < rt60_s < 0.7
    names = [condition.name for condition in list_conditions("voice", found, RATE_HZ)]
    assert Counter(names) == {"noise": len(SNRS_DB), "reverberation": 1}


def test_noises_of_training_are_not_used(tmp_path: Path) -> None:
    """ESC folds 1 and 2 are for training; a folder without others is used all the same."""
    names = ["1-100-A-0.wav", "2-100-A-0.wav", "3-100-A-0.wav", "4-100-A-0.wav"]
    for name in names:
        (tmp_path / name).touch()
    assert [path.name for path in list_noises(tmp_path, None)] == names[2:]
    (tmp_path / names[2]).unlink()
    (tmp_path / names[3]).unlink()
    assert [path.name for path in list_noises(tmp_path, None)] == names[:2]


@pytest.mark.parametrize(
    "content",
    [
        None,
        {"a.txt": b"words"},
        {"a.wav": b"no audio", "b.ogg": b""},
    ],
)
@pytest.mark.parametrize("option", ["--noise", "--impulse-responses"])
def test_folder_without_audio_is_reported(
    tmp_path: Path, content: dict[str, bytes] | None, option: str
) -> None:
    """The error names the option and the folder."""
    folder = tmp_path / "sounds"
    if content is not None:
        folder.mkdir()
        for name, data in content.items():
            (folder / name).write_bytes(data)
    given = (folder, None) if option == "--noise" else (None, folder)
    with pytest.raises(DatasetError, match=f"{option} .*sounds"):
        load_acoustic_conditions(*given, RATE_HZ, seed=0)
