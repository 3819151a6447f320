"""The program from Python: `stream`, `open` and `analyze` of the package `emotion_edge`.

In: a source, sinks and settings. Out: estimates. The pipeline runs on threads of its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..engines.config_file import Section, quote
from .background_run import Pace, Run, RunRequest
from .capture import Sources, show_source
from .config import Config, ConfigError, load_config
from .messages import AudioChunk, AudioSource, CapturePath, Estimate, Sink, VideoFrame
from .replay import run_replay

SAMPLE_RATE_HZ = 16_000
"""Of every audio source."""

SourceName = str | os.PathLike[str]


class FrameReader(Protocol):
    """A video source of the caller's."""

    def read(self) -> VideoFrame | None: ...

    def close(self) -> None: ...


def stream(
    source: SourceName | None = None,
    *,
    video: FrameReader | None = None,
    audio: AudioSource | None = None,
    sinks: Sequence[Sink | str] = (),
    pace: Pace = "real",
    seconds: float | None = None,
    config: SourceName | None = None,
    **settings: Any,
) -> Iterator[Estimate]:
    """Yield an `Estimate` for each frame, as long as the source lasts.

    The run starts with the first estimate that is asked for, and closing the generator stops it, as
    leaving a `for` loop by `break` does at once in CPython. Parameters and errors are those of
    `open`; wrong settings are reported by this call.
    """
    request = _check(source, video, audio, sinks, pace, seconds, config, settings)

    def run_and_yield() -> Iterator[Estimate]:
        with Run(request) as run:
            yield from run

    return run_and_yield()


def open(  # noqa: A001  it is called emotion_edge.open
    source: SourceName | None = None,
    *,
    video: FrameReader | None = None,
    audio: AudioSource | None = None,
    sinks: Sequence[Sink | str] = (),
    pace: Pace = "real",
    seconds: float | None = None,
    config: SourceName | None = None,
    **settings: Any,
) -> Run:
    """Start a run and return it once its source is open: iterate over it, and close it.

    `source`: "camera", "/dev/video0", "demo", "none" (a microphone alone), a file, or a URL, as the
    setting `source.name` has them; default: a camera if there is one, else the demo.
    `video`, `audio`: sources of your own instead, each an object with `read` and `close`. `read`
    waits for the next `VideoFrame` or `AudioChunk` and returns None at the end; `audio` has
    `sample_rate_hz`, which is 16000, too. Their `t_ns` is that of `time.monotonic_ns` at capture.
    `sinks`: outputs by name ("jsonl:talk.jsonl") or of your own, each an object with
    `publish(estimate)` and `close()`. Each of yours is called on one thread; one that raises or
    blocks loses its own estimates and harms nothing else.
    `pace`: "real", or "max" for a file as fast as possible, where `t_ns` is the file's own time.
    A live run loses the oldest estimates when the reader is slower; "max" waits for it.
    `seconds`: end after so many seconds from the first frame.
    `config`: a YAML file of settings. Its `output.sinks` is not used.
    `settings`: any setting as a keyword, its dot as an underscore: `output_smoothing_s=1`.

    Raises `ConfigError` for a wrong setting, `SourceError` for a source that does not open,
    `OutputError` for an output that does not, each an `emotion_edge.Error` as others are.
    """
    return Run(_check(source, video, audio, sinks, pace, seconds, config, settings))


def analyze(
    file: SourceName, *, config: SourceName | None = None, **settings: Any
) -> list[Estimate]:
    """Return the estimates of a whole file, one for each frame, as fast as possible.

    The same file gives the same estimates; `t_ns` is its own time in nanoseconds from 0. `config`
    and `settings` are those of `open`. Raises `SourceError` for a file that cannot be read or has
    nothing to estimate, and `ConfigError`.
    """
    request = _check(file, None, None, (), "max", None, config, settings)
    collected = _Collection()
    runtime = run_replay(request.config, [collected])
    runtime.require_estimates(show_source(request.config.source.name))
    return collected.estimates


class _Collection:
    """A sink that keeps all estimates."""

    def __init__(self) -> None:
        self.estimates: list[Estimate] = []

    def publish(self, estimate: Estimate) -> None:
        self.estimates.append(estimate)

    def close(self) -> None: ...


class _OwnVideo:
    """A video source of the caller's, of which nothing else is known."""

    path = CapturePath(1, "given", "none")

    def __init__(self, video: FrameReader) -> None:
        self._video = video

    def read(self) -> VideoFrame | None:
        return self._video.read()

    def close(self) -> None:
        self._video.close()


class _OwnAudio:
    """A microphone of the caller's, whose samples are checked."""

    def __init__(self, audio: AudioSource) -> None:
        self._audio = audio
        self.sample_rate_hz = audio.sample_rate_hz

    def read(self) -> AudioChunk | None:
        """Raises ConfigError for samples of another kind."""
        chunk = self._audio.read()
        if chunk is not None and (chunk.samples.dtype != np.float32 or chunk.samples.ndim != 1):
            kind = f"{chunk.samples.dtype}{list(chunk.samples.shape)}"
            raise ConfigError(f"audio delivers samples of {kind}, wanted: float32[n], -1 to 1")
        return chunk

    def close(self) -> None:
        self._audio.close()


def _check(
    source: SourceName | None,
    video: FrameReader | None,
    audio: AudioSource | None,
    sinks: Sequence[Sink | str],
    pace: Pace,
    seconds: float | None,
    config_file: SourceName | None,
    settings: dict[str, Any],
) -> RunRequest:
    """Raises ConfigError."""
    if pace not in ("real", "max"):
        raise ConfigError(f"pace is {pace!r}, allowed: real, max")
    if seconds is not None and not 0 < seconds < 1e9:
        raise ConfigError(f"seconds is {seconds!r}, allowed: a positive number")
    if isinstance(sinks, str):
        raise ConfigError(f"sinks is {sinks!r}, allowed: a list of names and objects")
    if "output_sinks" in settings:
        raise ConfigError("output_sinks is the program's; give sinks=[...]")
    given = video is not None or audio is not None
    if given and (source is not None or pace == "max"):
        raise ConfigError("video and audio are given: allowed are no source and pace='real'")
    overrides = [_write_setting(name, value) for name, value in settings.items()]
    if source is not None:
        overrides.append(f"source.name={quote(os.fspath(source))}")
    config = load_config(Path(config_file) if config_file is not None else None, overrides)
    if audio is not None and audio.sample_rate_hz != SAMPLE_RATE_HZ:
        raise ConfigError(
            f"audio.sample_rate_hz is {audio.sample_rate_hz}, allowed: {SAMPLE_RATE_HZ}"
        )
    own_video = None if video is None else _OwnVideo(video)
    own_audio = None if audio is None else _OwnAudio(audio)
    sources = Sources(own_video, own_audio, "Python") if given else None
    return RunRequest(config, tuple(sinks), sources, pace, seconds)


def _write_setting(name: str, value: Any) -> str:
    """Return "a.b=value" for a keyword such as `a_b`. Raises ConfigError."""
    first, _, rest = name.partition("_")
    if rest and isinstance(getattr(Config(), first, None), Section):
        name = f"{first}.{rest}"
    return f"{name}={_write_value(name, value)}"


def _write_value(name: str, value: Any) -> str:
    if isinstance(value, str | os.PathLike):
        return quote(os.fspath(value))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(_write_value(name, item) for item in value)}]"
    if value is None or isinstance(value, dict):
        raise ConfigError(f"{name} is {value!r}, allowed: a text, a number, True or False")
    return str(value)
