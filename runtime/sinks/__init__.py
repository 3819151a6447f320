"""Where estimates go: the console, a JSON file, a screen, a serial port, an MQTT broker.

In: the names given to --output, and the configuration. Out: open sinks, which take estimates.
Only the sink for a broker uses the network.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from ..config import Config, ConfigError
from ..messages import BackgroundWorker, Estimate, Screen, Sender, Sink, SinkClosed

__all__ = ["NullSink", "SinkClosed", "Sinks", "open_sinks"]

ALLOWED = (
    "console, jsonl:FILE, jsonl:-, screen, screen:/dev/dri/cardN, serial:DEVICE,"
    " mqtt://HOST[:PORT][/TOPIC], mqtts://HOST[:PORT][/TOPIC], null"
)


@dataclass(frozen=True, slots=True)
class Sinks:
    """The open sinks, and which of them can do more than publish."""

    publishers: tuple[Sink, ...] = ()
    """All of them."""
    workers: tuple[BackgroundWorker, ...] = ()
    screens: tuple[Screen, ...] = ()
    senders: tuple[Sender, ...] = ()

    def __add__(self, other: Sinks) -> Sinks:
        return Sinks(
            self.publishers + other.publishers,
            self.workers + other.workers,
            self.screens + other.screens,
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
) -> Iterator[Sinks]:
    """Open the sinks named by `specs`, each one of `ALLOWED`; "jsonl:-" is standard output.

    Raises ConfigError for an unknown name, a file that cannot be written or a missing library.
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
    if kind in ("mqtt", "mqtts"):
        from .mqtt import MqttSink, parse_address

        broker = MqttSink(parse_address(spec), config.mqtt, realtime=config.realtime.priority)
        return Sinks((broker,), workers=(broker,), senders=(broker,))
    if kind == "jsonl" and target:
        from .jsonl import JsonlSink

        try:
            return Sinks((JsonlSink(target),))
        except OSError as error:
            raise ValueError(f"cannot write {target!r}: {error.strerror}") from error
    # What may be a password is not repeated.
    shown = f"{kind}:…" if "://" in spec and "@" in spec else spec
    raise ValueError(f"output {shown!r} is not one of: {ALLOWED}")
