"""A sink that writes what an encoder makes of each estimate: JSON lines, CSV, summaries, text."""

from __future__ import annotations

from typing import Protocol

from ..config import Output
from ..messages import Estimate, RunInfo
from .output_file import REPLAY_WAIT_MS, OutputFile
from .utc import TimeFinder, find_no_utc, find_utc


class Encoder(Protocol):
    """What the lines of one kind of file are. All return whole lines, or nothing."""

    def header(self, info: RunInfo) -> bytes:
        """Return the first line of a new file of this run."""

    def is_own(self, first_line: bytes) -> bool:
        """Return whether a file that begins with this line may be appended to. It is asked before
        and after `header` is called."""

    def encode(self, estimate: Estimate) -> bytes: ...

    def finish(self) -> bytes:
        """Return the last line."""


class FileSink:
    """Writes estimates to an `OutputFile`."""

    def __init__(self, file: OutputFile, encoder: Encoder) -> None:
        self.file = file
        self._encoder = encoder
        self._pending = 0
        """Estimates that no line has reported on yet."""
        self._begun = False

    @property
    def fault(self) -> str:
        return self.file.fault

    @property
    def loss(self) -> str:
        return self.file.loss

    def begin(self, info: RunInfo) -> None:
        """Open the file. Raises ConfigError, OutputError and SinkClosed."""
        self.file.open(self._encoder.header(info))
        self._begun = True

    def publish(self, estimate: Estimate) -> None:
        """Write what there is to write. Raises SinkClosed when the reader has closed the pipe."""
        line = self._encoder.encode(estimate)
        self._pending += 1
        if line:
            pending, self._pending = self._pending, 0
            self.file.write(line, pending)

    def close(self) -> None:
        """Write the last line, where there was a first one, and close. May be called twice."""
        if not self._begun:
            return
        self._begun = False
        line = self._encoder.finish()
        if line:
            self.file.write(line, self._pending)
        self.file.close()


def open_file_sink(
    kind: str, target: str, settings: Output, notice: str, *, replay: bool, ends_run: bool
) -> FileSink:
    """Return the sink of `kind`, which opens nothing yet. The console shows `notice`."""
    find_time = None
    if settings.clock == "utc":
        find_time = find_no_utc if replay else find_utc
    encoder = _make_encoder(kind, find_time, settings, notice)
    wait_ms = REPLAY_WAIT_MS if replay else 0
    file = OutputFile(target, encoder.is_own, wait_ms=wait_ms, ends_run=ends_run)
    return FileSink(file, encoder)


def _make_encoder(
    kind: str, find_time: TimeFinder | None, settings: Output, notice: str
) -> Encoder:
    if kind == "console":
        from .console import PlainLines

        return PlainLines(notice)
    if kind == "csv":
        from .csv_rows import CsvRows

        return CsvRows(find_time)
    if kind == "summary":
        from .summary import SummaryLines

        return SummaryLines(settings.summary_s, find_time)
    from .jsonl import JsonLines

    return JsonLines(find_time)
