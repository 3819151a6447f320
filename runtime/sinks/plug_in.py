"""Sinks that are not the project's own: handed over in Python, or installed as an entry point.

In: any object with `publish(estimate)` and `close()`. Out: a sink that runs it on a thread of its
own, so that one that raises or blocks harms nothing else.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points

from ..config import ConfigError
from ..faults import FaultLog
from ..messages import Estimate, OutputError, RunInfo, Sink

log = logging.getLogger(__name__)

GROUP = "emotion_edge.sinks"
"""Entry points of this group are functions that take the text after the colon of an output
("" without one) and return a sink."""
MAX_WAITING = 256
"""Estimates that wait for a slow sink, nine seconds of a camera. Then the oldest are lost."""
OPEN_TIMEOUT_S = 5.0
CLOSE_TIMEOUT_S = 2.0
REPLAY_TIMEOUT_S = 10.0
_ANY_ERROR = (Exception, SystemExit)
"""What a sink raises harms nothing else. SystemExit would end its thread silently."""


class PlugInSink:
    """Passes estimates to a sink that may raise or block, in order, on its thread."""

    def __init__(self, name: str, open_sink: Callable[[], Sink], *, replay: bool = False) -> None:
        """Call `open_sink` on the thread and wait for it for a while. A `replay` waits for a slow
        sink, once; a live run loses estimates instead.

        Raises ConfigError when `open_sink` raises ValueError, and OutputError for another error."""
        self.name = name
        self.loss = ""
        """After `close`: what was lost and why, in one line; "" for nothing."""
        self.lost = 0
        self._replay = replay
        self._waiting: deque[Estimate] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._busy = True
        """An estimate is being taken, or the sink is being opened."""
        self._cause = ""
        self._refusals: list[BaseException] = []
        self._faults = FaultLog(log, f"output {name} works again")
        self._thread = threading.Thread(
            target=self._run, args=(open_sink,), name=f"sink-{name}"[:15], daemon=True
        )
        self._thread.start()
        with self._changed:
            opened = self._changed.wait_for(lambda: not self._busy, OPEN_TIMEOUT_S)
        if not opened:
            self._report("does not open")
        for refusal in self._refusals:
            self._thread.join(CLOSE_TIMEOUT_S)
            kind = ConfigError if isinstance(refusal, ValueError) else OutputError
            raise kind(f"output {name}: {_explain(refusal)}") from refusal

    @property
    def fault(self) -> str:
        """As `Faultable` has it."""
        return self._faults.fault

    def begin(self, info: RunInfo) -> None:
        """Do nothing: it is open."""

    def publish(self, estimate: Estimate) -> None:
        """Hand the estimate to the thread."""
        with self._changed:
            if self._closing:
                return
            if len(self._waiting) >= MAX_WAITING:
                self._make_room()
            self._waiting.append(estimate)
            self._changed.notify_all()

    def close(self) -> None:
        """Let the sink take what waits, for a while, and close it. May be called twice."""
        with self._changed:
            if self._closing:
                return
            self._closing = True
            self._changed.notify_all()
        self._thread.join(REPLAY_TIMEOUT_S if self._replay else CLOSE_TIMEOUT_S)
        with self._changed:
            if self._thread.is_alive():
                self.lost += len(self._waiting) + self._busy
                self._waiting.clear()
                self._cause = self._cause or "does not return"
            if self.lost:
                self.loss = f"output {self.name}: {self._cause}; {self.lost} estimates are lost"
            elif self._cause:
                self.loss = f"output {self.name}: {self._cause}"

    def _make_room(self) -> None:
        """Lose the oldest estimate, unless a replay finds room in time. The lock is held."""
        if self._replay and not self.fault:
            room = self._changed.wait_for(
                lambda: len(self._waiting) < MAX_WAITING, REPLAY_TIMEOUT_S
            )
            if room:
                return
        self._waiting.popleft()
        self.lost += 1
        self._report("does not keep up")

    def _report(self, cause: str) -> None:
        self._cause = self._cause or cause
        fault = f"output {self.name}: {cause}; estimates are lost"
        self._faults.log_transition(fault, logging.ERROR)

    def _run(self, open_sink: Callable[[], Sink]) -> None:
        try:
            sink = open_sink()
            if not (callable(getattr(sink, "publish", None)) and hasattr(sink, "close")):
                raise TypeError(f"{type(sink).__name__} has no publish and close")
        except _ANY_ERROR as error:
            with self._changed:
                self._refusals.append(error)
                self._busy = False
                self._changed.notify_all()
                if self.fault:  # too late for the opener to raise it
                    self._report(_explain(error))
            return
        while (estimate := self._take()) is not None:
            self._pass_on(sink, estimate)
        try:
            sink.close()
        except _ANY_ERROR as error:
            self._cause = self._cause or _explain(error)
        self._busy = False

    def _take(self) -> Estimate | None:
        """Wait for the next estimate. None when there is none and the sink is to be closed."""
        with self._changed:
            self._busy = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._waiting or self._closing)
            if not self._waiting:
                return None
            self._busy = True
            return self._waiting.popleft()

    def _pass_on(self, sink: Sink, estimate: Estimate) -> None:
        try:
            sink.publish(estimate)
        except _ANY_ERROR as error:
            with self._changed:
                self.lost += 1
                self._report(_explain(error))
        else:
            if self.fault:
                with self._changed:
                    if len(self._waiting) < MAX_WAITING // 2:
                        self._faults.log_transition("", logging.INFO)


def find_plug_in(name: str) -> EntryPoint | None:
    """Return the installed entry point of this name."""
    return next(iter(entry_points(group=GROUP, name=name)), None)


def list_plug_ins() -> tuple[str, ...]:
    """Return the names of the installed entry points."""
    return tuple(sorted(entry_points(group=GROUP).names))


def open_plug_in(entry: EntryPoint, target: str, *, replay: bool) -> PlugInSink:
    """Open an installed plug-in. Raises ConfigError and OutputError."""
    return PlugInSink(entry.name, lambda: entry.load()(target), replay=replay)


def _explain(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
