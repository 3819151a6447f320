"""Action units: every cell of the table is checked, and rows are matched to recordings."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from emotion_edge.engines.bundles import LABELS
from emotion_edge.kernels.spec import MelSpec
from emotion_edge.training.data.action_units import (
    INTENSITIES,
    PRESENCES,
    UNITS,
    load_action_units,
    pair,
)
from emotion_edge.training.data.ravdess import EMOTIONS8, find_voice_clips
from emotion_edge.training.data.voices import VoiceSet, load_voices
from emotion_edge.training.errors import DatasetError

WriteTable = Callable[..., Path]
CLIP = "01-01-03-01-02-01-07"


@pytest.fixture
def write_table(tmp_path: Path) -> WriteTable:
    """A function (cells by clip, columns) -> a table; other cells hold 0.5."""

    def write(
        rows: Mapping[str, Mapping[str, object]], columns: Sequence[str] = ("clip", *UNITS)
    ) -> Path:
        path = tmp_path / "units.csv"
        with path.open("w", newline="") as file:
            table = csv.DictWriter(file, columns, restval=0.5, extrasaction="ignore")
            table.writeheader()
            table.writerows({"clip": clip, **cells} for clip, cells in rows.items())
        return path

    return write


def test_names_of_the_units() -> None:
    """17 intensities and 18 presences; unit 28 has no intensity."""
    assert (len(INTENSITIES), len(PRESENCES), len(set(UNITS))) == (17, 18, 35)
    assert "AU28_c" in UNITS
    assert "AU28_r" not in UNITS


def test_good_table(write_table: WriteTable) -> None:
    """Values in the order of `names`, for any order of columns; labels come from the clip names."""
    rows = {
        CLIP: {"AU12_r": 4.5, "AU45_c": 1, "AU01_r": 0},
        "02-01-02-01-01-01-24": {"AU12_r": 0.25},
    }
    units = load_action_units(write_table(rows, (*UNITS[::-1], "clip")))
    assert units.names == list(UNITS)
    assert units.recording_ids == [CLIP[3:], "01-02-01-01-01-24"]
    assert units.values.shape == (2, 35)
    assert units.values.dtype == np.float32
    at = units.names.index
    assert units.values[0, [at("AU12_r"), at("AU45_c"), at("AU01_r")]].tolist() == [4.5, 1, 0]
    assert units.values[1, at("AU12_r")] == 0.25
    assert units.values[1, at("AU45_c")] == 0.5
    assert units.emotions.tolist() == [EMOTIONS8.index("happy"), EMOTIONS8.index("calm")]
    assert units.labels.tolist() == [LABELS.index("happy"), LABELS.index("neutral")]
    assert units.actors.tolist() == [7, 24]


@pytest.mark.parametrize("cell", ["nan", "inf", "-inf", "-0.1", "5.1", "", "x", "1,5", None])
def test_wrong_value_is_named(write_table: WriteTable, cell: str | None) -> None:
    """The error names line and column."""
    good, bad = "01-01-03-01-02-01-06", CLIP
    path = write_table({good: {}, bad: {"AU12_r": cell}})
    with pytest.raises(DatasetError, match=r"units\.csv line 3 column AU12_r"):
        load_action_units(path)


def test_presence_is_a_share(write_table: WriteTable) -> None:
    """Presences are at most 1, intensities may be larger."""
    load_action_units(write_table({CLIP: {"AU12_r": 1.5, "AU12_c": 1.0}}))
    with pytest.raises(DatasetError, match=r"column AU12_c: '1\.5'"):
        load_action_units(write_table({CLIP: {"AU12_c": 1.5}}))


def test_truncated_row(write_table: WriteTable) -> None:
    """The error names the first missing cell."""
    path = write_table({CLIP: {}})
    path.write_text(path.read_text().rstrip("\n").rsplit(",", 2)[0])
    with pytest.raises(DatasetError, match="line 2 column AU28_c"):
        load_action_units(path)


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        (UNITS, "missing: clip"),
        (("clip", *UNITS[1:]), "missing: AU01_r"),
        (("clip", *UNITS, "AU99_r"), "unknown: AU99_r"),
        (("clip", *UNITS, "AU12_r"), "duplicate: AU12_r"),
    ],
)
def test_wrong_columns_are_named(
    write_table: WriteTable, columns: Sequence[str], named: str
) -> None:
    """Missing, unknown and duplicate ones."""
    with pytest.raises(DatasetError, match=named):
        load_action_units(write_table({CLIP: {}}, columns))


@pytest.mark.parametrize("clip", ["", "01-02-03-01-02-01-07", "01-01-09-01-02-01-07", "talk"])
def test_unknown_clip_is_named(write_table: WriteTable, clip: str) -> None:
    """Songs and other names are refused."""
    with pytest.raises(DatasetError, match=f"line 2 column clip: '{clip}'"):
        load_action_units(write_table({clip: {}}))


def test_duplicate_clip_is_refused(write_table: WriteTable) -> None:
    """Also under the name of another modality."""
    with pytest.raises(DatasetError, match=r"line 3 column clip: '02-01-"):
        load_action_units(write_table({CLIP: {}, f"02{CLIP[2:]}": {}}))


@pytest.mark.parametrize("data", [None, b"\xff\xfe", b"", ",".join(("clip", *UNITS)).encode()])
def test_file_that_is_no_table(tmp_path: Path, data: bytes | None) -> None:
    """Missing, not text, empty or without rows: the error names the file."""
    path = tmp_path / "units.csv"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(DatasetError, match=r"units\.csv"):
        load_action_units(path)


def test_pairs_are_of_one_recording(write_table: WriteTable) -> None:
    """Recordings without action units are skipped, and action units without a recording."""
    names = ["03-01-04-01-01-01-02", "03-01-08-01-01-01-02", "03-01-03-01-02-01-07"]
    voices = VoiceSet(
        [np.zeros(1, np.float32)] * 3, np.zeros(3, int), np.zeros(3, int), np.zeros(3, int), names
    )
    rows: dict[str, dict[str, object]] = {CLIP: {}, "02-01-05-01-01-01-02": {}}
    units = load_action_units(write_table({**rows, "01-01-04-01-01-01-02": {}}))
    voice_rows, unit_rows = pair(voices, units)
    assert voice_rows.tolist() == [0, 2]
    assert unit_rows.tolist() == [2, 0]
    others = load_action_units(write_table({"02-01-05-01-01-01-02": {}}))
    with pytest.raises(DatasetError, match="no recording"):
        pair(voices, others)


def test_real_table(shared_data: Path) -> None:
    """Every recording of two actors has a row with the same label and actor."""
    units = load_action_units(shared_data / "ravdess" / "openface_au_mean.csv")
    assert units.values.shape == (1_260, 35)
    assert len(set(units.actors.tolist())) == 21
    voices = load_voices(find_voice_clips(shared_data / "ravdess" / "audio", [7, 10]), MelSpec())
    voice_rows, unit_rows = pair(voices, units)
    assert voice_rows.tolist() == list(range(119))
    np.testing.assert_array_equal(voices.labels[voice_rows], units.labels[unit_rows])
    np.testing.assert_array_equal(voices.emotions[voice_rows], units.emotions[unit_rows])
    np.testing.assert_array_equal(voices.actors[voice_rows], units.actors[unit_rows])
