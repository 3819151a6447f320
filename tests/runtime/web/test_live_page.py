"""A live run with a page: both go on whatever happens to the other."""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from emotion_edge.runtime import config
from emotion_edge.runtime import live as live_module
from emotion_edge.runtime.capture import Sources
from emotion_edge.runtime.config import Config
from emotion_edge.runtime.live import LiveRun
from emotion_edge.runtime.messages import Health
from emotion_edge.runtime.sinks.jsonl import encode_estimate
from emotion_edge.runtime.web.sink import WebSink
from emotion_edge.runtime.web.wire import HEALTH

from ..devices import FACE, FakeCamera, FakeMicrophone

if TYPE_CHECKING:
    from ..conftest import Collector


def test_the_run_survives_its_page(
    configure: Callable[..., Config],
    collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
    no_thread_left: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The page's process is killed: estimates go on, the fault is named once in the log and in the
    health, and the process is started again. It is told the source and the frame's size."""
    sources = Sources(FakeCamera(), FakeMicrophone(), "rtsp://user:secret@host/live")  # type: ignore[arg-type]
    monkeypatch.setattr(live_module, "open_sources", lambda *_, **__: sources)
    counts: list[int] = []
    told: list[dict[str, Any]] = []

    def on_health(health: Health) -> None:
        server = page._process
        named = any("signal 9" in fault for fault in health.faults)
        if not counts and server.pid is not None and told:
            counts.append(len(collector.estimates))
            os.kill(server.pid, signal.SIGKILL)
        elif len(counts) == 1 and named:
            counts.append(len(collector.estimates))
        elif len(counts) == 2 and not health.faults:
            counts.append(len(collector.estimates))
            run.stop()

    def send(message: bytes) -> bool:
        if message[:1] == HEALTH:
            told.append(json.loads(message[1:]))
        return real_send(message)

    with (
        caplog.at_level(logging.WARNING),
        WebSink(config.Web(port=0), 45.0, encode_estimate) as page,
    ):
        real_send = page._process.send
        monkeypatch.setattr(page._process, "send", send)
        run = LiveRun(
            configure("camera"),
            [collector, page],
            workers=[page],
            displays=[page],
            observers=[page],
            on_health=on_health,
        )
        run.run()
    assert counts == sorted(set(counts))
    assert len([record for record in caplog.records if "signal 9" in record.getMessage()]) == 1
    assert "secret" not in told[0]["source"]
    height, width = FACE.shape[:2]
    assert [width, height] in [message["frame"] for message in told]  # none at the end
