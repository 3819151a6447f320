"""A run on a thread of its own, whose estimates another thread reads.

In: a request that has been checked. Out: a `Run`, which is an iterator and a context manager.
"""

from __future__ import annotations

import atexit
import logging
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

from .capture import Sources
from .config import Config
from .live import LiveRun, StoppedDuringStart
from .mailbox import Mailbox
from .messages import Estimate, Health, Sink, SinkClosed
from .replay import run_replay
from .session import Runtime
from .sinks import Sinks, open_sinks, raise_losses

log = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 30.0

Pace = Literal["real", "max"]


@dataclass(frozen=True, slots=True)
class RunRequest:
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

    def __init__(self, request: RunRequest) -> None:
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
        sinks += Sinks((self._mailbox,), observers=(self._mailbox,))
        self._live = LiveRun(
            self._request.config,
            sinks.publishers,
            **sinks.capabilities,
            given_sources=self._request.sources,
            on_health=self._note_health,
        )
        if self._mailbox.closing:
            self._live.stop()
        return self._live.run(self._request.seconds)

    def _note_health(self, health: Health) -> None:
        self._health = health


def _guard(sink: Sink, stack: ExitStack, *, replay: bool) -> Sinks:
    from .sinks.plug_in import PlugInSink

    guarded = PlugInSink(type(sink).__name__, lambda: sink, replay=replay)
    stack.callback(guarded.close)
    return Sinks((guarded,), recorders=(guarded,))
