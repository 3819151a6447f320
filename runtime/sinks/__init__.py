"""Where estimates go: the console, a JSON file, a screen, a serial port, a page.

In: the names given to --output, and the configuration. Out: open sinks, which take estimates.
No sink uses the network, except that the page's listens on the address it is given.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from msgspec.structs import replace

from ..config import Config, ConfigError, Web
from ..messages import BackgroundWorker, Estimate, RunDisplay, Screen, Sink, SinkClosed

__all__ = ["NullSink", "SinkClosed", "Sinks", "open_sinks"]

ALLOWED = (
    "console, jsonl:FILE, jsonl:-, screen, screen:/dev/dri/cardN, serial:DEVICE, web, web:PORT,"
    " null"
)


@dataclass(frozen=True, slots=True)
class Sinks:
    """The open sinks, and which of them can do more than publish."""

    publishers: tuple[Sink, ...] = ()
    """All of them."""
    workers: tuple[BackgroundWorker, ...] = ()
    screens: tuple[Screen, ...] = ()
    displays: tuple[RunDisplay, ...] = ()

    def __add__(self, other: Sinks) -> Sinks:
        return Sinks(
            self.publishers + other.publishers,
            self.workers + other.workers,
            self.screens + other.screens,
            self.displays + other.displays,
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
) -> Iterator[Sinks]:
    """Open the sinks named by `specs`, each one of `ALLOWED`; "jsonl:-" is standard output.

    Raises ConfigError for an unknown name, a file that cannot be written or a missing library, and
    ListenError for a port that is taken.
    """
    with ExitStack() as stack:
        sinks = Sinks()
        for spec in specs:
            try:
                opened = _open(spec, config)
            except ValueError as error:
                raise ConfigError(str(error)) from error
            for sink in opened.publishers:
                stack.callback(sink.close)
            sinks += opened
        yield sinks


def _open(spec: str, config: Config) -> Sinks:
    """Raises ValueError. A sink's module is imported only when it is used."""
    kind, _, target = spec.partition(":")
    if spec == "null":
        return Sinks((NullSink(),))
    if spec == "console":
        from .console import ConsoleSink

        return Sinks((ConsoleSink(budget_ms=config.budget_ms),))
    if kind == "screen":
        from .screen.sink import ScreenSink

        screen = ScreenSink(target, config.screen.notice, config.budget_ms)
        return Sinks((screen,), workers=(screen,), screens=(screen,))
    if kind == "serial" and target:
        from .serial_line import SerialSink

        serial = SerialSink(target, config.serial)
        return Sinks((serial,), workers=(serial,))
    if spec == "web" or (kind == "web" and target):
        from ..web.sink import WebSink, print_url
        from .jsonl import encode_estimate

        web = read_port(target, config.web) if target else config.web
        page = WebSink(web, config.budget_ms, encode_estimate, realtime=config.realtime.priority)
        print_url(page.url)
        return Sinks((page,), workers=(page,), displays=(page,))
    if kind == "jsonl" and target:
        from .jsonl import JsonlSink

        try:
            return Sinks((JsonlSink(target),))
        except OSError as error:
            raise ValueError(f"cannot write {target!r}: {error.strerror}") from error
    raise ValueError(f"output {spec!r} is not one of: {ALLOWED}")


def read_port(text: str, settings: Web) -> Web:
    """Return `settings` with the port of "web:PORT". Raises ValueError."""
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise ValueError(f"output 'web:{text}': the port must be a number from 0 to 65535")
    return replace(settings, port=int(text))
