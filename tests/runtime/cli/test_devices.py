"""`emotion-edge devices` on machines that exist only here."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from emotion_edge.runtime.capture import InputDevice, v4l2_device
from emotion_edge.runtime.capture.v4l2_device import Mode, list_modes
from emotion_edge.runtime.cli.devices import list_lines, show_modes
from emotion_edge.runtime.clock import FakeClock
from emotion_edge.runtime.config import load_config
from emotion_edge.runtime.messages import AudioChunk, AudioSource, SourceError

from ..capture.v4l2_fake import FakeDriver


class Tone:
    """A tenth of a second of a tone at a time, then nothing."""

    sample_rate_hz = 16_000

    def __init__(self, amplitude: float, seconds: float = 9.0) -> None:
        self.left = round(seconds * 10)
        self.first = 0
        self.amplitude = amplitude
        self.closed = False

    def read(self) -> AudioChunk | None:
        if not self.left:
            return None
        self.left -= 1
        t = np.arange(1600, dtype=np.float32)
        chunk = AudioChunk(0, self.first, (self.amplitude * np.sin(t)).astype(np.float32))
        self.first += 1600
        return chunk

    def close(self) -> None:
        self.closed = True


def read(
    microphone: AudioSource, cameras: list[str] | None = None, settings: list[str] | None = None
) -> list[str]:
    inputs = [InputDevice(3, "USB", 48_000, 2)]
    config = load_config(None, settings or [])
    text = "".join(list_lines(config, lambda: cameras or [], lambda: inputs, lambda: microphone))
    return text.splitlines()


@pytest.mark.parametrize(("amplitude", "shown"), [(0.1, "-23 dB"), (0.0, "silence")])
def test_level(amplitude: float, shown: str) -> None:
    """Two seconds are listened to, and the loudest moment is named."""
    tone = Tone(amplitude)
    cameras, microphones, microphone, level = read(tone)
    assert "none" in cameras
    assert microphones == "microphones"
    assert microphone == "  3  USB: 48000 Hz, 2 channels"
    assert shown in level
    assert tone.closed
    assert tone.first == 2 * 16_000


def test_indicator_comes_first() -> None:
    """With a capture indicator nothing is listened to: it would be off."""
    tone = Tone(0.1)
    lines = read(tone, settings=["indicator.kind=file", "indicator.file=/sys/class/leds/x"])
    assert tone.first == 0
    assert "indicator" in lines[-1]


def test_what_cannot_be_asked(tmp_path: Path) -> None:
    """A camera without permission, no PyAudio, and a microphone that does not open are named."""

    def fail() -> list[InputDevice]:
        raise SourceError("no PyAudio")

    gone = str(tmp_path / "video7")
    text = "".join(list_lines(load_config(None), lambda: [gone], fail))
    assert gone in text
    assert text.endswith("no PyAudio\n")


def test_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its formats with sizes and rates, the largest first."""
    driver = FakeDriver(FakeClock())
    driver.formats = {
        "YUYV": {(640, 480): 30.0, (1280, 720): 10.0},
        "MJPG": {(1920, 1080): 30.0},
    }
    monkeypatch.setattr(driver, "close", lambda: None)
    monkeypatch.setattr(v4l2_device, "Handle", lambda _: driver)
    assert list_modes(driver) == [  # type: ignore[arg-type]
        Mode("MJPG", 1920, 1080, 30.0),
        Mode("YUYV", 1280, 720, 10.0),
        Mode("YUYV", 640, 480, 30.0),
    ]
    lines = read(Tone(0.1), ["/dev/video0"])
    assert lines[1].startswith("  /dev/video0")
    assert lines[2:4] == [
        "    MJPG: 1920x1080 30 fps",
        "    YUYV: 1280x720 10 fps, 640x480 30 fps",
    ]


def test_many_sizes() -> None:
    """A range of rates that is not stated has no number; the smallest sizes are counted."""
    modes = [Mode("YUYV", 100 * n, 100, float("inf")) for n in range(8, 0, -1)]
    assert show_modes(modes) == "800x100, 700x100, 600x100, 500x100, 400x100 and 3 smaller"
    assert os.linesep not in show_modes(modes)
