"""Makes each estimate one row of a table (CSV, RFC 4180), for spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from ..messages import Estimate, RunInfo
from .utc import TimeFinder

FIRST_COLUMN = "t_ns"
FACTS = ("index", "label", "confidence", "abstained")
MORE = ("face_weight", "voice_weight", "faces", "voice_activity", "latency_ms", "level")


class CsvRows:
    """The encoder of `csv:FILE`: time, label, a column for each label of the bundle, the rest."""

    def __init__(self, find_time: TimeFinder | None = None) -> None:
        """`find_time` fills a column `utc`; without it there is none."""
        self._find_time = find_time
        self._labels: tuple[str, ...] = ()
        self._header = b""

    def header(self, info: RunInfo) -> bytes:
        """Return the names of the columns. Only a table of the same columns is continued."""
        self._labels = info.labels
        times = [FIRST_COLUMN] if self._find_time is None else [FIRST_COLUMN, "utc"]
        probabilities = [f"p_{label}" for label in self._labels]
        self._header = _write_row([*times, *FACTS, *probabilities, *MORE])
        return self._header

    def is_own(self, first_line: bytes) -> bool:
        """Return whether it has the same columns; before they are known, whether it may."""
        if self._header:
            return first_line.rstrip(b"\r") == self._header.rstrip()
        return first_line.startswith(f"{FIRST_COLUMN},".encode()) and b",label," in first_line

    def encode(self, estimate: Estimate) -> bytes:
        """Return one row. What is unknown is an empty cell."""
        times: list[object] = [estimate.t_ns]
        if self._find_time is not None:
            times.append(self._find_time(estimate.t_ns))
        return _write_row(
            [
                *times,
                estimate.index,
                estimate.label,
                round(float(estimate.confidence), 6),
                int(estimate.abstained),
                *(_round(estimate.probabilities.get(label)) for label in self._labels),
                _round(estimate.modalities.get("face")),
                _round(estimate.modalities.get("voice")),
                len(estimate.faces),
                round(float(estimate.voice_activity), 3),
                round(float(estimate.latency_us) / 1e3, 3),
                estimate.level,
            ]
        )

    def finish(self) -> bytes:
        """Return nothing: every row is complete."""
        return b""


def _round(probability: float | None) -> float | None:
    return None if probability is None else round(float(probability), 6)


def _write_row(cells: Sequence[object]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode()
