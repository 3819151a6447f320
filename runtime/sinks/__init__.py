"""Where estimates go: `open_sink` turns what stands after --output into a sink."""

from __future__ import annotations

from ..config import Config
from ..messages import Estimate, Sink, SinkClosed

__all__ = ["NullSink", "SinkClosed", "open_sink"]


class NullSink:
    """Takes every estimate and does nothing with it."""

    def publish(self, estimate: Estimate) -> None:
        pass

    def close(self) -> None:
        pass


def open_sink(spec: str, config: Config = Config()) -> Sink:  # noqa: B008 - frozen
    """The sink that `spec` names: "console", "jsonl:FILE" ("jsonl:-" is stdout), "screen",
    "screen:/dev/dri/cardN", "serial:DEVICE" or "null".

    A spec that names no sink, a file that cannot be written or a library that is missing is a
    ValueError of one line.
    """
    kind, _, target = spec.partition(":")
    if spec == "null":
        return NullSink()
    if spec == "console":
        from .console import ConsoleSink

        return ConsoleSink(budget_ms=config.budget_ms)
    if kind == "screen":
        from .screen.sink import ScreenSink

        return ScreenSink(target, config.screen.notice, config.budget_ms)
    if kind == "serial" and target:
        from .serial_line import SerialSink

        return SerialSink(target, config.serial)
    if kind == "jsonl" and target:
        from .jsonl import JsonlSink

        try:
            return JsonlSink(target)
        except OSError as error:
            raise ValueError(f"cannot write {target!r}: {error.strerror}") from error
    allowed = "console, jsonl:FILE, jsonl:-, screen, screen:/dev/dri/cardN, serial:DEVICE, null"
    raise ValueError(f"output {spec!r} is not one of: {allowed}")
