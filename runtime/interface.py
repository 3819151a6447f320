"""The program from Python: `stream`, `open` and `analyze` of the package `emotion_edge`.

In: a source, sinks and settings. Out: estimates. The pipeline runs on threads of its own.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from ..engines.config_file import Section, quote
from .capture import Sources, show_source
from .config import Config, ConfigError, load_config
from .live import LiveRun, StoppedDuringStart
from .mailbox import Mailbox
from .messages import (
    AudioSource,
    CapturePath,
    Estimate,
    Health,
    Sink,
    SinkClosed,
    VideoFrame,
    VideoSource,
)
from .replay import run_replay
from .session import Runtime
from .sinks import Sinks, open_sinks, raise_losses

log = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 30.0

Pace = Literal["real", "max"]
SourceName = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class _Request:
    """What a run was asked for, checked."""

    config: Config
    sinks: tuple[Sink | str, ...]
    sources: Sources | None
    pace: Pace
    seconds: float | None


class Run:
    """A run in the background: an iterator of estimates and a context manager, made by `open`.

    Iterate from one thread; everything else is safe from any.
    """

    def __init__(self, request: _Request) -> None:
        self._request = request
        self._mailbox = Mailbox(replay=request.pace == "max")
        self._health: Health | None = None
        self._error: Exception | None = None
        self._live: LiveRun | None = None
        self._thread = threading.Thread(target=self._work, name="emotion-edge", daemon=True)
        self._thread.start()
        atexit.register(self._stop)
        try:
            opened = self._mailbox.wait_until_open()
        except BaseException:  # Ctrl-C
            self._stop()
            raise
        if not opened:
            self.close()

    @property
    def source(self) -> str:
        """Name of the source in use, such as "demo", "/dev/video0" or a file's."""
        return self._mailbox.info.source if self._mailbox.info else ""

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that estimates have, in the order of the bundle."""
        return self._mailbox.info.labels if self._mailbox.info else ()

    @property
    def newest(self) -> Estimate | None:
        """The newest estimate, read or not; None before the first."""
        return self._mailbox.newest

    @property
    def health(self) -> Health | None:
        """Latency (ms), losses and faults, measured twice a second. None before the first time, and
        always with `pace="max"`."""
        return self._health

    @property
    def lost(self) -> int:
        """Number of estimates that were never read because the reader was too slow."""
        return self._mailbox.lost

    def __iter__(self) -> Run:
        return self

    def __next__(self) -> Estimate:
        """Wait for the next estimate. The iteration ends with the source, at `seconds`, or by
        `close`. Raises the error that ended the run, an `emotion_edge.Error` or one of a source of
        your own, and `OutputError` where a sink has lost estimates."""
        estimate = self._mailbox.take()
        if estimate is None:
            self.close()
            raise StopIteration
        return estimate

    def close(self) -> None:
        """End the run and wait for it. May be called twice. Raises the run's error, once."""
        self._stop()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: object, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._stop()

    def _stop(self) -> None:
        self._mailbox.stop()
        if self._live is not None:
            self._live.stop()
        self._thread.join(CLOSE_TIMEOUT_S)
        if self._thread.is_alive():
            log.error("the run did not stop in %.0f s", CLOSE_TIMEOUT_S)
        atexit.unregister(self._stop)

    def _work(self) -> None:
        """Body of the thread."""
        try:
            self._run()
        except (StoppedDuringStart, SinkClosed) as stopped:
            log.debug("%s", stopped)
        except Exception as error:  # noqa: BLE001  the reader gets it
            self._error = error
        finally:
            self._mailbox.end()

    def _run(self) -> None:
        request, replay = self._request, self._request.pace == "max"
        names = [sink for sink in request.sinks if isinstance(sink, str)]
        with ExitStack() as stack:
            sinks = stack.enter_context(
                open_sinks(names, request.config, replay=replay, others=True)
            )
            for sink in request.sinks:
                if not isinstance(sink, str):
                    sinks += _guard(sink, stack, replay=replay)
            runtime = self._replay(sinks) if replay else self._play(sinks)
        raise_losses(sinks.recorders)
        if request.seconds is None and not self._mailbox.closing:
            runtime.require_estimates(self.source)

    def _replay(self, sinks: Sinks) -> Runtime:
        return run_replay(
            self._request.config,
            (*sinks.publishers, self._mailbox),
            self._request.seconds,
            observers=(*sinks.observers, self._mailbox),
        )

    def _play(self, sinks: Sinks) -> Runtime:
        self._live = LiveRun(
            self._request.config,
            (*sinks.publishers, self._mailbox),
            workers=sinks.workers,
            screens=sinks.screens,
            observers=(*sinks.observers, self._mailbox),
            recorders=sinks.recorders,
            given_sources=self._request.sources,
            on_health=self._note_health,
        )
        if self._mailbox.closing:
            self._live.stop()
        return self._live.run(self._request.seconds)

    def _note_health(self, health: Health) -> None:
        self._health = health


def stream(
    source: SourceName | None = None,
    *,
    video: VideoSource | None = None,
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
    video: VideoSource | None = None,
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
    `sample_rate_hz` too.
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

    def __init__(self, video: VideoSource) -> None:
        self._video = video

    def read(self) -> VideoFrame | None:
        return self._video.read()

    def close(self) -> None:
        self._video.close()


def _check(
    source: SourceName | None,
    video: VideoSource | None,
    audio: AudioSource | None,
    sinks: Sequence[Sink | str],
    pace: Pace,
    seconds: float | None,
    config_file: SourceName | None,
    settings: dict[str, Any],
) -> _Request:
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
    own = None if video is None else _OwnVideo(video)
    sources = Sources(own, audio, "Python") if given else None
    return _Request(config, tuple(sinks), sources, pace, seconds)


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


def _guard(sink: Sink, stack: ExitStack, *, replay: bool) -> Sinks:
    from .sinks.plug_in import PlugInSink

    guarded = PlugInSink(type(sink).__name__, lambda: sink, replay=replay)
    stack.callback(guarded.close)
    return Sinks((guarded,), recorders=(guarded,))
