"""Facial action units of RAVDESS recordings: OpenFace's mean over each video.

In: a CSV table with the column `clip` and one column per action unit. Out: `ActionUnits`, and the
pairs of rows and voice recordings.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import DatasetError
from .label_names import LabelNames
from .ravdess import EMOTIONS8, Clip, parse_clip
from .voices import VoiceSet

TABLE = "openface_au_mean.csv"
"""Name of the table in a folder."""
_BOTH = "01 02 04 05 06 07 09 10 12 14 15 17 20 23 25 26 45"
INTENSITIES = tuple(f"AU{unit}_r" for unit in _BOTH.split())
"""0 to 5 (Baltrusaitis et al. 2018, doi:10.1109/FG.2018.00019)."""
PRESENCES = tuple(f"AU{unit}_c" for unit in [*_BOTH.split()[:-1], "28", "45"])
"""Share of the frames that show the unit, 0 to 1."""
UNITS = INTENSITIES + PRESENCES
_MAX_OF = {**dict.fromkeys(INTENSITIES, 5.0), **dict.fromkeys(PRESENCES, 1.0)}
_TOLERANCE = 1e-3
"""For values that were rounded in the table."""


@dataclass(frozen=True, slots=True)
class ActionUnits:
    """35 values for each of N recordings."""

    names: list[str]
    """The columns of `values`: `UNITS`."""
    recording_ids: list[str]
    """Recording of each row, as `Clip.recording_id`."""
    values: NDArray[np.float32]
    """(N, 35): intensities 0..5, presences 0..1."""
    emotions: NDArray[np.int64]
    """(N,), index in `ravdess.EMOTIONS8`."""
    labels: NDArray[np.int64]
    """(N,), index in the labels."""
    actors: NDArray[np.int64]
    """(N,)."""


def find_unit_table(root: Path) -> Path:
    """Return the table itself, or that in a folder."""
    return root / TABLE if root.is_dir() else root


def load_action_units(path: Path, names: LabelNames | None = None) -> ActionUnits:
    """Read the table; its columns may be in any order.

    `names` are by default those of the product's seven labels; recordings that they leave out are
    not returned. Raises DatasetError, naming line and column, unless each recording has one row of
    finite values.
    """
    names = names or LabelNames()
    clips: dict[str, Clip] = {}
    values: list[list[float]] = []
    if not path.is_file():
        raise DatasetError(f"{path}: no such file")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = [name.strip() for name in reader.fieldnames or ()]
            _check_columns(path, columns)
            reader.fieldnames = columns
            for row in reader:
                where = f"{path} line {reader.line_num}"
                clip = parse_clip(Path(f"{row['clip']}.csv"))
                if clip is None:
                    raise DatasetError(
                        f"{where} column clip: {row['clip']!r}, allowed: names such as"
                        " 01-01-03-01-02-01-07"
                    )
                if clip.recording_id in clips:
                    raise DatasetError(f"{where} column clip: {row['clip']!r} is a duplicate")
                clips[clip.recording_id] = clip
                values.append([_parse_value(where, name, row[name]) for name in UNITS])
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise DatasetError(f"{path}: not a table of action units: {error}") from error
    if not values:
        raise DatasetError(f"{path}: no clip")
    label_of = {emotion: names.find(emotion) for emotion in EMOTIONS8}
    unknown = {clip.emotion for clip in clips.values() if label_of[clip.emotion] is None}
    if unknown:
        raise DatasetError(
            f"{path}: clips have the labels {', '.join(sorted(unknown))}, allowed:"
            f" {names.describe()}"
        )
    kept = [index for index, clip in enumerate(clips.values()) if label_of[clip.emotion]]
    rows = [clip for clip in clips.values() if label_of[clip.emotion]]
    return ActionUnits(
        list(UNITS),
        [clip.recording_id for clip in rows],
        np.array(values, np.float32)[kept],
        np.array([EMOTIONS8.index(clip.emotion) for clip in rows], np.int64),
        np.array([names.labels.index(label_of[clip.emotion] or "") for clip in rows], np.int64),
        np.array([clip.actor for clip in rows], np.int64),
    )


def _check_columns(path: Path, columns: list[str]) -> None:
    wanted = ("clip", *UNITS)
    for problem, names in (
        ("missing", set(wanted) - set(columns)),
        ("unknown", set(columns) - set(wanted)),
        ("duplicate", {name for name in columns if columns.count(name) > 1}),
    ):
        if names:
            raise DatasetError(f"{path} line 1: columns {problem}: {', '.join(sorted(names))}")


def _parse_value(where: str, column: str, cell: str | None) -> float:
    try:
        value = float(cell or "")
    except ValueError:
        value = math.nan
    top = _MAX_OF[column]
    if not -_TOLERANCE <= value <= top + _TOLERANCE:
        raise DatasetError(f"{where} column {column}: {cell!r}, allowed: 0 to {top:g}")
    return value


def pair(voices: VoiceSet, units: ActionUnits) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Match recordings -> indices into `voices` and indices into `units`, both (M,), in the order
    of `voices`. Raises DatasetError when no recording is in both."""
    row_of = {recording_id: row for row, recording_id in enumerate(units.recording_ids)}
    # A file name is the modality and the recording's identity: 03-01-... (`Clip.recording_id`).
    rows = [row_of.get(name[3:], -1) for name in voices.names]
    voice_rows = np.flatnonzero(np.array(rows, np.int64) >= 0)
    if voice_rows.size == 0:
        raise DatasetError("no recording has both a voice and action units")
    return voice_rows, np.array(rows, np.int64)[voice_rows]
