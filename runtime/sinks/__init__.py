"""Where estimates go: `open_sink` turns what stands after --output into a sink."""

from __future__ import annotations

from ..messages import Estimate, Sink


class SinkClosed(Exception):
    """Nobody reads a sink any more (a closed pipe): the run is over, and that is no error."""


class NullSink:
    """Takes every estimate and does nothing with it."""

    def publish(self, estimate: Estimate) -> None:
        pass

    def close(self) -> None:
        pass


def open_sink(spec: str, budget_ms: float = 45.0) -> Sink:
    """The sink that `spec` names: "console", "jsonl:FILE" ("jsonl:-" is stdout) or "null".

    `budget_ms` is what the console compares latency with. A spec that names no sink, or a file
    that cannot be written, is a ValueError of one line.
    """
    kind, _, target = spec.partition(":")
    if spec == "null":
        return NullSink()
    if spec == "console":
        from .console import ConsoleSink

        return ConsoleSink(budget_ms=budget_ms)
    if kind == "jsonl" and target:
        from .jsonl import JsonlSink

        try:
            return JsonlSink(target)
        except OSError as error:
            raise ValueError(f"cannot write {target!r}: {error.strerror}") from error
    raise ValueError(f"output {spec!r} is not one of: console, jsonl:FILE, jsonl:-, null")
