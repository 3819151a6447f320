"""`emotion-edge analyze`: files and folders of recordings, one result each.

In: names. Out: a line for each clip, and where asked a page (`--html`) and files (`--out`) with all
estimates.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

from ...engines.storage import atomic_write
from ..capture import show_source
from ..command_line import EXIT_ENVIRONMENT, build_config
from ..config import Config, ConfigError
from ..messages import Estimate, OutputError, RunInfo, SourceError
from ..replay import run_replay
from ..sinks import describe_summary, encode_estimate, summarize
from .clip_report import Clip, is_report, list_row, render_clips, require_libraries

SUFFIXES = (
    *(".3gp", ".aac", ".avi", ".flac", ".flv", ".m4a", ".m4v", ".mkv", ".mov", ".mp3", ".mp4"),
    *(".mpeg", ".mpg", ".mts", ".oga", ".ogg", ".ogv", ".opus", ".ts", ".wav", ".webm", ".wma"),
    ".wmv",
)
"""Of the files of a folder that are analyzed. A file that is named may have any."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A file to analyze, and the name it is shown and stored by."""

    path: Path
    name: str


def run_analyze(args: argparse.Namespace) -> int:
    """Analyze each file. One that cannot be read is named, and the others go on.

    Raises ConfigError, OutputError, EngineError and BundleError."""
    config = build_config(args)
    recordings = list_recordings(args.files)
    check_outputs(recordings, args.html, args.out)
    clips: list[Clip] = []
    failures: list[str] = []
    with open_progress(len(recordings)) as progress:
        progress.print_row(("clip", "length", "most of the time", "changes", "abstained", "faces"))
        for recording in recordings:
            progress.begin(recording)
            try:
                clip = analyze_clip(recording, config, progress.advance)
            except SourceError as error:
                failures.append(str(error))
                print(error, file=sys.stderr)
                continue
            progress.print_row(list_row(clip))
            if args.out is not None:
                write_results(clip, args.out)
            if args.html is not None:
                clips.append(clip)
    if args.html is not None:
        facts = {
            "program": f"emotion-edge {version('emotion-edge')}",
            "models": config.bundle or "the bundle in use",
        }
        write_file(args.html, render_clips(clips, failures, facts).encode())
    return EXIT_ENVIRONMENT if failures else 0


def list_recordings(names: Sequence[Path]) -> list[Recording]:
    """Return the files, and those of each folder, sorted. Raises ConfigError for a folder without
    recordings, and for two of one name."""
    recordings: list[Recording] = []
    for name in names:
        if not name.is_dir():
            recordings.append(Recording(name, show_source(name.name)))
            continue
        found = sorted(
            path for path in name.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()
        )
        if not found:
            raise ConfigError(f"{show_source(str(name))}: the folder has no recordings")
        recordings += [Recording(path, show_source(str(path.relative_to(name)))) for path in found]
    seen: dict[str, Path] = {}
    for recording in recordings:
        other = seen.setdefault(recording.name, recording.path)
        if other is not recording.path:
            raise ConfigError(f"{other} and {recording.path} would have one name in the results")
    return recordings


def check_outputs(recordings: Sequence[Recording], html: Path | None, out: Path | None) -> None:
    """Refuse what would overwrite anything, before the first clip. Raises ConfigError."""
    if html is not None:
        require_libraries()
        if not html.resolve().parent.is_dir():
            raise ConfigError(f"--html {html}: there is no such folder")
        try:
            with html.open("rb") as report:
                head = report.read(1024).decode(errors="replace")
        except FileNotFoundError:
            head = ""
        except OSError as error:
            raise ConfigError(f"--html {html}: {error.strerror}") from error
        if head and not is_report(head):
            raise ConfigError(f"--html {html}: exists and is no report; it is not overwritten")
    if out is not None:
        for recording in recordings:
            for file in name_results(recording.name, out):
                if file.exists():
                    raise ConfigError(f"--out {out}: {file} exists; it is not overwritten")


def name_results(name: str, out: Path) -> tuple[Path, Path]:
    return out / f"{name}.jsonl", out / f"{name}.summary.json"


def analyze_clip(recording: Recording, config: Config, advance: Callable[[float], None]) -> Clip:
    """Replay a file. `advance` is called with its time in seconds. Raises SourceError."""
    collection = Collection(advance)
    source = msgspec.structs.replace(config.source, name=str(recording.path.absolute()))
    runtime = run_replay(
        msgspec.structs.replace(config, source=source), [collection], observers=[collection]
    )
    runtime.require_estimates(recording.name)
    estimates = collection.estimates
    return Clip(recording.name, collection.labels, estimates, summarize(estimates))


class Collection:
    """A sink that keeps all estimates."""

    def __init__(self, advance: Callable[[float], None]) -> None:
        self.estimates: list[Estimate] = []
        self.labels: tuple[str, ...] = ()
        self._advance = advance

    def begin(self, info: RunInfo) -> None:
        self.labels = info.labels

    def publish(self, estimate: Estimate) -> None:
        self.estimates.append(estimate)
        if len(self.estimates) % 10 == 0:
            self._advance(estimate.t_ns / 1e9)

    def close(self) -> None: ...


def write_results(clip: Clip, out: Path) -> None:
    """Write all estimates of a clip and its summary. Raises OutputError."""
    lines, summary = name_results(clip.name, out)
    write_file(lines, b"".join(map(encode_estimate, clip.estimates)))
    described = {"source": clip.name, **describe_summary(clip.summary, clip.labels)}
    write_file(summary, msgspec.json.format(msgspec.json.encode(described)) + b"\n")


def write_file(file: Path, content: bytes) -> None:
    """Raises OutputError."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(file, content)
    except OSError as error:
        raise OutputError(f"cannot write {str(file)!r}: {error.strerror}") from error


class ClipProgress:
    """A bar over all clips, on a terminal: of the length of a clip that states one."""

    def __init__(self, bar: Progress, num_clips: int) -> None:
        self._bar = bar
        self._num_clips = num_clips
        self._done = -1
        self._duration_s: float | None = None
        self._task = bar.add_task("", total=num_clips)

    def begin(self, recording: Recording) -> None:
        """The clip before is done, this one comes."""
        from ..capture.media_container import read_duration_s

        self._done += 1
        self._duration_s = read_duration_s(recording.path)
        text = f"{self._done + 1}/{self._num_clips} {recording.name}"
        self._bar.update(self._task, completed=self._done, description=text)

    def print_row(self, cells: Sequence[str]) -> None:
        """Print one clip in one line: the name last, since it may be long."""
        name, length, most, changes, abstained, faces = cells
        text = f"{length:>8}  {most:<14} {changes:>7} {abstained:>9} {faces:>5}  {name}"
        if self._bar.disable or not sys.stdout.isatty():
            print(text, flush=True)
        else:  # above the bar
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def advance(self, t_s: float) -> None:
        """So much of the clip is done."""
        if self._duration_s:
            share = min(1.0, t_s / self._duration_s)
            self._bar.update(self._task, completed=self._done + share)


@contextmanager
def open_progress(num_clips: int) -> Iterator[ClipProgress]:
    """Show the progress on standard error, where that is a terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", table_column=Column(no_wrap=True, ratio=1)),
        BarColumn(bar_width=20),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns,
        console=console,
        disable=not console.is_terminal,
        transient=True,
        expand=True,
        redirect_stdout=False,
    ) as bar:
        yield ClipProgress(bar, num_clips)
