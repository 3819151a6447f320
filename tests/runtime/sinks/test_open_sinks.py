"""Sinks by name: their settings, their capabilities and what is refused."""

from __future__ import annotations

from inspect import signature
from pathlib import Path

import pytest
from msgspec.structs import replace

from emotion_edge.runtime import config
from emotion_edge.runtime.config import Config, ConfigError, load_config
from emotion_edge.runtime.live import LiveRun
from emotion_edge.runtime.sinks import NullSink, Sinks, console, mqtt, open_sinks, serial_line
from emotion_edge.runtime.sinks.jsonl import encode_estimate
from emotion_edge.runtime.sinks.screen import sink as screen
from emotion_edge.runtime.web import sink as web

from .estimates import ESTIMATE


class RecordingSink:
    """Records the arguments of its constructor, and whether it was closed."""

    url = ""

    def __init__(self, *given: object, **options: object) -> None:
        self.given = (*given, *options.values())
        self.closed = False

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> Config:
    """None of the sinks opens anything."""
    for module, name in (
        (console, "ConsoleSink"),
        (screen, "ScreenSink"),
        (serial_line, "SerialSink"),
        (web, "WebSink"),
        (mqtt, "MqttSink"),
    ):
        monkeypatch.setattr(module, name, RecordingSink)
    monkeypatch.setattr(console, "is_terminal", lambda: True)
    settings = [
        "web.port=8123",
        "web.picture=true",
        "budget_ms=33",
        "screen.notice=Camera in use",
        "serial.baud=9600",
        "mqtt.device=hall",
    ]
    return load_config(None, [*settings, "serial.format=binary", "serial.max_hz=5"])


def test_a_run_takes_all_that_sinks_can() -> None:
    assert Sinks().capabilities.keys() <= signature(LiveRun).parameters.keys()


WEB = config.Web(port=8123, picture=True)
SERIAL = config.Serial(baud=9600, format="binary", max_hz=5)


@pytest.mark.parametrize(
    ("spec", "given", "workers", "screens"),
    [
        ("console", (33.0, "nothing is recorded or sent"), 0, 0),
        ("screen", ("", "Camera in use", 33.0), 1, 1),
        ("screen:/dev/dri/card1", ("/dev/dri/card1", "Camera in use", 33.0), 1, 1),
        ("serial:/dev/ttyUSB0", ("/dev/ttyUSB0", SERIAL), 1, 0),
        ("serial:/dev/serial/by-path/pci:1", ("/dev/serial/by-path/pci:1", SERIAL), 1, 0),
        ("web", (WEB, 33.0, encode_estimate, True), 1, 0),
        ("web:0", (replace(WEB, port=0), 33.0, encode_estimate, True), 1, 0),
    ],
)
def test_each_sink_gets_its_settings(
    configured: Config, spec: str, given: tuple[object, ...], workers: int, screens: int
) -> None:
    """The device comes from the name, the rest from the sink's section of the configuration."""
    with open_sinks([spec], configured) as sinks:
        (sink,) = sinks.publishers
        assert isinstance(sink, RecordingSink)
        assert sink.given == given
        assert sinks.workers == (sink,) * workers
        assert sinks.screens == (sink,) * screens
        assert sinks.displays == (sink,) * spec.startswith("web")
        assert not sink.closed
    assert sink.closed


def test_a_broker_gets_its_settings(configured: Config) -> None:
    """The address comes from the name, the rest from `mqtt`. It is told the run's health."""
    with open_sinks(["mqtts://broker/shop"], configured) as sinks:
        (sink,) = sinks.publishers
        assert isinstance(sink, RecordingSink)
        address = mqtt.Address("broker", 8883, True, "shop")
        assert sink.given == (address, config.Mqtt(device="hall"), True)
        assert sinks.workers == sinks.senders == (sink,)


def test_several_sinks(configured: Config) -> None:
    """They keep their order, in every list."""
    specs = ["null", "serial:/dev/ttyUSB0", "screen", "console"]
    with open_sinks(specs, configured) as sinks:
        _, serial, monitor, _ = sinks.publishers
        assert sinks.workers == (serial, monitor)
        assert sinks.screens == (monitor,)
        assert isinstance(monitor, RecordingSink)
        assert "estimates go to serial:/dev/ttyUSB0" in str(monitor.given[1]).lower().replace(
            "ttyusb", "ttyUSB"
        )


def test_a_refused_sink_closes_the_others(
    configured: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    sinks: list[RecordingSink] = []

    class Listed(RecordingSink):
        def __init__(self, *given: object, **options: object) -> None:
            super().__init__(*given, **options)
            sinks.append(self)

    monkeypatch.setattr(console, "ConsoleSink", Listed)
    with pytest.raises(ConfigError), open_sinks(["console", "consol"], configured):
        pytest.fail("was opened")
    assert [sink.closed for sink in sinks] == [True]


@pytest.mark.parametrize("port", ["65536", "-1", "x", "80.0", "8080/", "²"])
def test_wrong_port(port: str) -> None:
    """A usage error that names the port and what is allowed."""
    with (
        pytest.raises(ConfigError, match=f"web:{port}.*65535"),
        open_sinks([f"web:{port}"]),
    ):
        pytest.fail("was opened")


def test_null() -> None:
    """It accepts every estimate, and a second close."""
    with open_sinks(["null"]) as sinks:
        (sink,) = sinks.publishers
        assert isinstance(sink, NullSink)
        sink.publish(ESTIMATE)
    sink.close()


@pytest.mark.parametrize(
    "spec",
    [
        "serial",
        "serial:",
        "serials:/dev/x",
        "screens",
        "console:",
        "",
        "jsonl",
        "jsonl:",
        "null:x",
        "web:",
    ],
)
def test_unknown_names(spec: str) -> None:
    """The error is one line with the name that was given."""
    with pytest.raises(ConfigError, match=f"^output {spec!r} ") as error, open_sinks([spec]):
        pytest.fail("was opened")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("target", [".", "missing/out.jsonl"])
def test_file_that_cannot_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    """A folder, or a file in a missing folder, is a usage error."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=f"'{target}'"), open_sinks([f"jsonl:{target}"]):
        pytest.fail("was opened")
