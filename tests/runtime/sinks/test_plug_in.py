"""Sinks of others: what they get, and that one that raises or blocks harms nothing else."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from types import SimpleNamespace
from typing import Any

import pytest

from emotion_edge.runtime.config import ConfigError
from emotion_edge.runtime.messages import Estimate, OutputError
from emotion_edge.runtime.sinks import open_sinks, plug_in, raise_losses
from emotion_edge.runtime.sinks.plug_in import PlugInSink

from .estimates import ESTIMATE

pytestmark = pytest.mark.usefixtures("no_thread_left")


class Recording:
    """Records what it gets, and does what `on_publish` does."""

    def __init__(self, on_publish: Callable[[Estimate], object] = lambda _: None) -> None:
        self.indices: list[int] = []
        self.closed = 0
        self.on_publish = on_publish

    def publish(self, estimate: Estimate) -> None:
        self.on_publish(estimate)
        self.indices.append(estimate.index)

    def close(self) -> None:
        self.closed += 1


def publish(sink: PlugInSink, count: int) -> None:
    for index in range(count):
        sink.publish(replace(ESTIMATE, index=index))


def test_it_gets_everything_in_order() -> None:
    """On one thread; what waits at the end too. It is closed once."""
    threads = set()
    sink = Recording(lambda _: threads.add(threading.current_thread().name))
    guarded = PlugInSink("mine", lambda: sink, replay=True)
    publish(guarded, 3 * plug_in.MAX_WAITING)
    guarded.close()
    guarded.close()
    publish(guarded, 1)
    assert sink.indices == list(range(3 * plug_in.MAX_WAITING))
    assert (sink.closed, threads, guarded.loss) == (1, {"sink-mine"}, "")


def test_sink_that_raises(caplog: pytest.LogCaptureFixture) -> None:
    """It is named once and goes on to get estimates; those it lost are counted."""

    def fail_twice(estimate: Estimate) -> None:
        if estimate.index < 2:
            raise SystemExit("no\nmore")

    sink = Recording(fail_twice)
    with caplog.at_level(logging.WARNING):
        guarded = PlugInSink("mine", lambda: sink)
        publish(guarded, 4)
        guarded.close()
    assert (sink.indices, guarded.lost, guarded.fault) == ([2, 3], 2, "")
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 1
    assert caplog.messages[0].startswith("output mine: SystemExit: no more")
    with pytest.raises(OutputError, match="mine"):
        raise_losses([guarded])


def test_sink_that_blocks(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The oldest estimates are lost, nothing waits for it, and it is left behind at the end."""
    monkeypatch.setattr(plug_in, "CLOSE_TIMEOUT_S", 0.01)
    go_on = threading.Event()
    sink = Recording(lambda _: go_on.wait())
    guarded = PlugInSink("mine", lambda: sink)
    publish(guarded, plug_in.MAX_WAITING + 11)
    assert guarded.fault
    guarded.close()
    assert guarded.lost == plug_in.MAX_WAITING + 11
    assert str(guarded.lost) in guarded.loss
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 1
    go_on.set()
    guarded._thread.join()
    assert sink.closed == 1


def test_sink_that_does_not_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run begins without it, and it gets estimates when it is open."""
    monkeypatch.setattr(plug_in, "OPEN_TIMEOUT_S", 0.01)
    go_on = threading.Event()
    sink = Recording()

    def open_slowly() -> Recording:
        go_on.wait()
        return sink

    guarded = PlugInSink("mine", open_slowly)
    assert "mine" in guarded.fault
    publish(guarded, 3)
    go_on.set()
    guarded.close()
    assert sink.indices == [0, 1, 2]


@pytest.mark.parametrize(
    ("opener", "error"),
    [
        (lambda: int("x"), ConfigError),
        (lambda: 1 / 0, OutputError),
        (object, OutputError),
        (lambda: SimpleNamespace(publish=3, close=4), OutputError),
    ],
)
def test_sink_that_is_refused(opener: Callable[[], Any], error: type[Exception]) -> None:
    """A usage error where it says that its target is wrong, else one of the environment."""
    with pytest.raises(error, match=r"^output mine: "):
        PlugInSink("mine", opener)


TARGETS: list[str] = []


def open_recording(target: str) -> Recording:
    TARGETS.append(target)
    return Recording()


def test_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sink of an installed package is opened by its name, with what follows the colon, and named
    where an output is unknown."""
    entry = metadata.EntryPoint("lamp", f"{__name__}:open_recording", plug_in.GROUP)
    monkeypatch.setattr(entry.__class__, "load", lambda _: open_recording)
    installed = metadata.EntryPoints([entry])
    monkeypatch.setattr(plug_in, "entry_points", installed.select)
    with open_sinks(["lamp:kitchen:2", "null"]) as sinks:
        (lamp,) = sinks.recorders
        assert lamp is sinks.publishers[0]
    assert TARGETS == ["kitchen:2"]
    with pytest.raises(ConfigError, match="lamp"), open_sinks(["lump:kitchen"]):
        pytest.fail("was opened")
