"""Runs of the program with a broker as its output."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from emotion_edge.runtime import live as live_module
from emotion_edge.runtime.__main__ import main
from emotion_edge.runtime.capture import Sources
from emotion_edge.runtime.command_line import EXIT_USAGE
from emotion_edge.runtime.config import Config
from emotion_edge.runtime.live import LiveRun
from emotion_edge.runtime.messages import Health
from emotion_edge.runtime.sinks import open_sinks

from ...devices import FakeCamera, FakeMicrophone
from .broker import Broker, Subscriber, find_ports


@pytest.fixture
def null_engine(null_bundle: Path) -> list[str]:
    return ["--bundle", str(null_bundle), "--set", "engines.name=null"]


def test_replay_to_a_broker(
    broker: Broker, subscribe: Callable[..., Subscriber], null_engine: list[str]
) -> None:
    """A file as fast as possible: all its summaries have arrived when the program ends."""
    pytest.importorskip("paho.mqtt.enums", reason="paho-mqtt 2 is in the mqtt extra")
    broker.start()
    subscriber = subscribe(broker.port)
    code = main(
        [
            *("run", "--source", "demo", "--pace", "max", "--seconds", "1.1", *null_engine),
            *("--set", "mqtt.record_interval_s=0.5", "--output"),
            f"mqtt://127.0.0.1:{broker.port}/shop",
        ]
    )
    assert code == 0
    records = subscriber.wait_for_records(3)
    assert sum(record["estimates"] for record in records) == 33


def test_live_run_without_its_broker(
    configure: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, no_thread_left: None
) -> None:
    """It goes on; the broker is a fault of its health, and what could be lost is counted there."""
    pytest.importorskip("paho.mqtt.enums", reason="paho-mqtt 2 is in the mqtt extra")
    sources = Sources(FakeCamera(), FakeMicrophone(), "fake")
    monkeypatch.setattr(live_module, "open_sources", lambda *_, **__: sources)
    config = configure("camera")
    (port,) = find_ports(1)
    seen: list[Health] = []

    def on_health(health: Health) -> None:
        if health.faults and health.frames > 10:
            seen.append(health)
            run.stop()

    with open_sinks([f"mqtt://127.0.0.1:{port}"], config) as sinks:
        run = LiveRun(
            config,
            sinks.publishers,
            workers=sinks.workers,
            senders=sinks.senders,
            on_health=on_health,
        )
        run.run()
    assert f":{port}/" in seen[0].faults[0]
    assert seen[0].drops["mqtt_full"] == 0


@pytest.mark.parametrize(
    ("spec", "named"), [("mqtt://broker:99999", "99999"), ("mqtt://u:hunter2@broker", "mqtt.")]
)
def test_usage_error(
    null_engine: list[str], capsys: pytest.CaptureFixture[str], spec: str, named: str
) -> None:
    """It is one line and code 2."""
    assert main(["run", "--source", "demo", *null_engine, "--output", spec]) == EXIT_USAGE
    line = capsys.readouterr().err
    assert named in line
    assert line.count("\n") == 1
    assert "hunter2" not in line


def test_without_the_library(
    null_engine: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The line names the extra to install."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "paho"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "paho", None)
    options = ["run", "--source", "demo", *null_engine, "--output", "mqtt://broker"]
    assert main(options) == EXIT_USAGE
    assert "emotion-edge[mqtt]" in capsys.readouterr().err
