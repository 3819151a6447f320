"""Where estimates go: the console, files, a screen, a serial port, a page, a broker, plug-ins.

In: the names given to --output, and the configuration. Out: open sinks, which take estimates.
Only the sink for a broker connects to the network; the page's listens on the address it is given.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from typing import Any

from msgspec.structs import replace

from ..config import Config, ConfigError, Web
from ..messages import (
    BackgroundWorker,
    Estimate,
    OutputError,
    Recorder,
    RunDisplay,
    RunObserver,
    Screen,
    Sender,
    Sink,
    SinkClosed,
)
from .jsonl import encode_estimate
from .summary import describe_summary
from .tally import Shares, Summary, summarize

__all__ = [
    "NullSink",
    "Shares",
    "SinkClosed",
    "Sinks",
    "Summary",
    "describe_summary",
    "encode_estimate",
    "open_sinks",
    "raise_losses",
    "summarize",
]

ALLOWED = (
    "console, jsonl:FILE, csv:FILE, summary:FILE (- as FILE is standard output), screen,"
    " screen:/dev/dri/cardN, serial:DEVICE, web, web:PORT,"
    " mqtt://HOST[:PORT][/TOPIC], mqtts://HOST[:PORT][/TOPIC], null"
)
NOWHERE = "nothing is recorded or sent"
FILE_KINDS = ("jsonl", "csv", "summary")


@dataclass(frozen=True, slots=True)
class Sinks:
    """The open sinks, and which of them can do more than publish."""

    publishers: tuple[Sink, ...] = ()
    """All of them."""
    workers: tuple[BackgroundWorker, ...] = ()
    screens: tuple[Screen, ...] = ()
    displays: tuple[RunDisplay, ...] = ()
    observers: tuple[RunObserver, ...] = ()
    recorders: tuple[Recorder, ...] = ()
    senders: tuple[Sender, ...] = ()

    @property
    def capabilities(self) -> dict[str, Any]:
        """All fields but the publishers, as `LiveRun` takes them."""
        names = [field.name for field in fields(self)]
        return {name: getattr(self, name) for name in names if name != "publishers"}

    def __add__(self, other: Sinks) -> Sinks:
        return Sinks(
            self.publishers + other.publishers,
            self.workers + other.workers,
            self.screens + other.screens,
            self.displays + other.displays,
            self.observers + other.observers,
            self.recorders + other.recorders,
            self.senders + other.senders,
        )


class NullSink:
    """Discards every estimate."""

    def publish(self, estimate: Estimate) -> None:
        pass

    def close(self) -> None:
        pass


@contextmanager
def open_sinks(
    specs: Sequence[str],
    config: Config = Config(),  # noqa: B008  frozen
    *,
    replay: bool = False,
    others: bool = False,
) -> Iterator[Sinks]:
    """Open the sinks named by `specs`, each one of `ALLOWED` or a plug-in. Files are checked, and
    opened when they begin.

    A `replay` waits for slow readers. With `others`, estimates go somewhere else too, so a reader
    that closes its pipe does not end the run. Raises ConfigError for an unknown name, a target that
    cannot be written or must not be, and a missing library; OutputError for a plug-in that fails,
    ListenError for a port that is taken.
    """
    ends_run = not others and len([spec for spec in specs if spec != "null"]) == 1
    with ExitStack() as stack:
        sinks = Sinks()
        for number, spec in enumerate(specs):
            try:
                notice = describe_destinations([*specs[:number], *specs[number + 1 :]], config)
                opened = _open(spec, config, notice, replay=replay, ends_run=ends_run)
            except ConfigError:
                raise
            except ValueError as error:
                raise ConfigError(str(error)) from error
            for sink in opened.publishers:
                stack.callback(sink.close)
            sinks += opened
        _check_targets(specs, sinks, config)
        yield sinks


def raise_losses(recorders: Sequence[Recorder]) -> None:
    """Raise OutputError if any of them, which are closed, has lost estimates."""
    losses = [recorder.loss for recorder in recorders if recorder.loss]
    if losses:
        raise OutputError("; ".join(losses))


def describe_destinations(specs: Sequence[str], config: Config) -> str:
    """Return in a few words what goes where, for the sinks that show it."""
    shown_only = {"console", "screen", "null"}
    places = [_show(spec) for spec in specs if spec.partition(":")[0] not in shown_only]
    parts = [f"estimates go to {', '.join(places)}"] if places else []
    if config.metrics.port:
        parts.append(f"metrics are served at {config.metrics.address}:{config.metrics.port}")
    if config.trace.folder:
        parts.append(f"traces go to {config.trace.folder}")
    if not parts:
        return NOWHERE
    if config.web.picture and any(spec.partition(":")[0] == "web" for spec in places):
        return f"{', '.join(parts)}, the page with the camera's image; no audio is recorded or sent"
    return f"{', '.join(parts)}; no image or audio is recorded or sent"


def _open(spec: str, config: Config, notice: str, *, replay: bool, ends_run: bool) -> Sinks:
    """`notice` says where estimates go besides. A sink's module is imported only when it is used.
    Raises ValueError and OutputError."""
    kind, _, target = spec.partition(":")
    if spec == "null":
        return Sinks((NullSink(),))
    if spec == "console":
        from . import console

        if console.is_terminal():
            terminal = console.ConsoleSink(config.budget_ms, notice)
            return Sinks((terminal,), observers=(terminal,))
        kind, target = spec, "-"
    if kind == "screen":
        from .screen.sink import ScreenSink

        text = config.screen.notice
        if notice != NOWHERE:
            text = f"{text} {notice[0].upper()}{notice[1:]}."
        screen = ScreenSink(target, text, config.budget_ms)
        return Sinks((screen,), workers=(screen,), screens=(screen,), observers=(screen,))
    if kind == "serial" and target:
        from .serial_line import SerialSink

        serial = SerialSink(target, config.serial)
        return Sinks((serial,), workers=(serial,))
    if spec == "web" or (kind == "web" and target):
        from ..web.sink import WebSink, print_url

        web = read_port(target, config.web) if target else config.web
        page = WebSink(web, config.budget_ms, encode_estimate, realtime=config.realtime.priority)
        print_url(page.url)
        return Sinks((page,), workers=(page,), displays=(page,), observers=(page,))
    if kind in (*FILE_KINDS, "console") and target:
        from .file_sink import open_file_sink

        file = open_file_sink(kind, target, config.output, notice, replay=replay, ends_run=ends_run)
        return Sinks((file,), observers=(file,), recorders=(file,))
    if kind in ("mqtt", "mqtts"):
        from .mqtt import MqttSink, parse_address

        broker = MqttSink(parse_address(spec), config.mqtt, realtime=config.realtime.priority)
        return Sinks((broker,), workers=(broker,), senders=(broker,))
    from .plug_in import find_plug_in, list_plug_ins, open_plug_in

    plug_in = find_plug_in(kind)
    if plug_in is not None:
        guarded = open_plug_in(plug_in, target, replay=replay)
        return Sinks((guarded,), recorders=(guarded,))
    allowed = ", ".join([ALLOWED, *list_plug_ins()])
    raise ValueError(f"output {_show(spec)!r} is not one of: {allowed}")


def _show(spec: str) -> str:
    """Return an output as it may be shown: what may be a password is not repeated."""
    kind, _, target = spec.partition(":")
    return f"{kind}:…" if target.startswith("//") and "@" in target else spec


def _check_targets(specs: Sequence[str], sinks: Sinks, config: Config) -> None:
    """Refuse the source and a file of two sinks. Raises ConfigError."""
    from .file_sink import FileSink
    from .output_file import find_source, identify_stdout

    source = find_source(config.source.name)
    taken: dict[object, str] = {}
    for spec, sink in zip(specs, sinks.publishers, strict=True):
        if isinstance(sink, FileSink):
            sink.file.check(source)
            target = sink.file.identify()
        elif spec == "console":
            target = identify_stdout()
        else:
            continue
        if target is not None and target in taken:
            raise ConfigError(f"outputs {taken[target]!r} and {spec!r} are one file")
        taken[target] = spec


def read_port(text: str, settings: Web) -> Web:
    """Return `settings` with the port of "web:PORT". Raises ValueError."""
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise ValueError(f"output 'web:{text}': the port must be a number from 0 to 65535")
    return replace(settings, port=int(text))
