"""Sinks by name: which one, and with what of the configuration."""

from __future__ import annotations

import sys

import pytest

from emotion_edge.runtime import config
from emotion_edge.runtime.config import Config, load_config
from emotion_edge.runtime.sinks import NullSink, console, open_sink, serial_line
from emotion_edge.runtime.sinks.screen import sink as screen

ALLOWED = "console, jsonl:FILE, jsonl:-, screen, screen:/dev/dri/cardN, serial:DEVICE, null"


class RecordingSink:
    """Stands for a sink and keeps what it was made with."""

    def __init__(self, *given: object, **options: object) -> None:
        self.given = (*given, *options.values())


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> Config:
    """None of the sinks opens anything."""
    for module, name in (
        (console, "ConsoleSink"),
        (screen, "ScreenSink"),
        (serial_line, "SerialSink"),
    ):
        monkeypatch.setattr(module, name, RecordingSink)
    settings = ["budget_ms=33", "screen.notice=Mind the camera", "serial.baud=9600"]
    return load_config(None, [*settings, "serial.format=binary", "serial.max_hz=5"])


SERIAL = config.Serial(baud=9600, format="binary", max_hz=5)


@pytest.mark.parametrize(
    ("spec", "given"),
    [
        ("console", (33.0,)),
        ("screen", ("", "Mind the camera", 33.0)),
        ("screen:/dev/dri/card1", ("/dev/dri/card1", "Mind the camera", 33.0)),
        ("serial:/dev/ttyUSB0", ("/dev/ttyUSB0", SERIAL)),
        ("serial:/dev/serial/by-path/pci:1", ("/dev/serial/by-path/pci:1", SERIAL)),
    ],
)
def test_each_sink_gets_its_settings(
    configured: Config, spec: str, given: tuple[object, ...]
) -> None:
    """Its device from the name, the rest from its section of the configuration."""
    sink = open_sink(spec, configured)
    assert isinstance(sink, RecordingSink)
    assert sink.given == given


def test_null() -> None:
    """It needs nothing."""
    assert isinstance(open_sink("null"), NullSink)


@pytest.mark.parametrize("spec", ["serial", "serial:", "serials:/dev/x", "screens", "console:", ""])
def test_unknown_names(spec: str) -> None:
    """One line with what was given and all that is allowed."""
    with pytest.raises(ValueError, match=r"^output ") as error:
        open_sink(spec)
    assert str(error.value) == f"output {spec!r} is not one of: {ALLOWED}"


@pytest.mark.parametrize(
    ("spec", "library", "extra"),
    [("screen", "PIL", "screen"), ("serial:/dev/ttyUSB0", "serial", "serial")],
)
def test_library_that_is_missing(
    monkeypatch: pytest.MonkeyPatch, spec: str, library: str, extra: str
) -> None:
    """One line with what to install."""
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ValueError, match="pip install") as error:
        open_sink(spec)
    assert f"emotion-edge[{extra}]" in str(error.value)
    assert "\n" not in str(error.value)
