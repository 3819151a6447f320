"""The microphone on a fake PyAudio, and on the real PortAudio where it is installed.

The fake follows PyAudio's documentation: `open` starts the stream and raises OSError for an
unsupported rate, the callback gets (bytes, frames, times, flags), times are on the stream's own
clock, which `get_time` returns.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emotion_edge.runtime.capture.audio_devices import list_microphones
from emotion_edge.runtime.capture.microphone import Microphone
from emotion_edge.runtime.clock import FakeClock
from emotion_edge.runtime.messages import SourceError

from .reading import read_many, read_next

MS = 1_000_000
STREAM_AHEAD_S = 1.7e9
"""The fake's stream clock is the wall clock, as on ALSA."""
TONE = np.sin(2 * np.pi * np.arange(160) / 16).astype(np.float32) / 2
"""10 ms, whole periods: without DC."""


class FakeStream:
    """A stream whose buffers the test sends."""

    def __init__(self, clock: FakeClock, callback: Callable[..., Any], **options: Any) -> None:
        self.clock, self.callback, self.options = clock, callback, options
        self.active = True
        self.closed = False
        self.ahead_s = STREAM_AHEAD_S

    def send(self, samples: np.ndarray, *, late_ns: int = 0, flags: int = 0) -> None:
        """Call the callback `late_ns` after the capture of these samples, (n,) for all channels or
        (n, channels)."""
        if samples.ndim == 1:
            samples = np.repeat(samples[:, None], self.options["channels"], axis=1)
        begin_ns = self.clock.now_ns() - len(samples) * 10**9 // self.options["rate"]
        adc_s = begin_ns / 1e9 + self.ahead_s
        self.clock.advance(late_ns)
        times = {"input_buffer_adc_time": adc_s, "current_time": self.get_time()}
        data = samples.astype(np.float32).tobytes()
        self.callback(data, len(samples), times, flags)

    def get_time(self) -> float:
        return self.clock.now_ns() / 1e9 + self.ahead_s

    def is_active(self) -> bool:
        return self.active

    def stop_stream(self) -> None:
        self.active = False

    def close(self) -> None:
        if self.closed:
            raise OSError("Stream closed")
        self.closed = True


class FakePyAudio:
    """The module and its PyAudio class in one."""

    paFloat32 = 1  # noqa: N815 - PyAudio's names
    paInputOverflow = 2  # noqa: N815
    paContinue = 0  # noqa: N815

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.rates = {16000}
        self.devices = [
            {"index": 0, "name": "Screen", "maxInputChannels": 0, "defaultSampleRate": 48000.0},
            {"index": 1, "name": "USB Mic", "maxInputChannels": 2, "defaultSampleRate": 48000.0},
        ]
        self.stream: FakeStream
        self.terminated = 0

    def PyAudio(self) -> FakePyAudio:  # noqa: N802
        return self

    def get_device_count(self) -> int:
        return len(self.devices)

    def get_device_info_by_index(self, index: int) -> dict[str, Any]:
        return self.devices[index]

    def get_default_input_device_info(self) -> dict[str, Any]:
        for info in self.devices:
            if info["maxInputChannels"]:
                return info
        raise OSError("No Default Input Device Available")

    def open(self, *, rate: int, stream_callback: Callable[..., Any], **rest: Any) -> FakeStream:
        if rate not in self.rates:
            raise OSError(-9997, "Invalid sample rate")
        self.stream = FakeStream(self.clock, stream_callback, rate=rate, **rest)
        return self.stream

    def terminate(self) -> None:
        self.terminated += 1


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(50_000 * MS)


@pytest.fixture
def pa(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> FakePyAudio:
    fake = FakePyAudio(clock)
    monkeypatch.setitem(sys.modules, "pyaudio", fake)
    return fake


# Times


def test_chunks_carry_the_time_of_the_converter(pa: FakePyAudio, clock: FakeClock) -> None:
    """A callback that is late by 0..20 ms does not move the time of its samples."""
    with Microphone(clock) as microphone:
        assert microphone.sample_rate_hz == 16000
        for index, late_ms in enumerate([0, 20, 3, 11]):
            clock.advance(50_000 * MS + (index + 1) * 50 * MS - clock.now_ns())
            pa.stream.send(TONE, late_ns=late_ms * MS)
            chunk = read_next(microphone)
            assert abs(chunk.t_ns - (50_040 + 50 * index) * MS) < 1000  # a double holds 0.24 us
            assert chunk.first_sample == 160 * index
            assert chunk.samples.shape == TONE.shape
            if index:  # in the first periods the filter of DC settles
                np.testing.assert_allclose(chunk.samples, TONE, atol=0.05)


def test_stream_clock_may_be_set(pa: FakePyAudio, clock: FakeClock) -> None:
    """ALSA's stream time may be the wall clock; an hour of correction does not move our times."""
    with Microphone(clock) as microphone:
        for shift_s in (0, 3600, -7200):
            pa.stream.ahead_s += shift_s
            pa.stream.send(TONE)
            assert abs(read_next(microphone).t_ns - (clock.now_ns() - 10 * MS)) < 1000


@pytest.mark.parametrize("adc_s", [0.0, 12.5, STREAM_AHEAD_S + 500])
def test_unusable_times_fall_back_to_arrival(
    pa: FakePyAudio, clock: FakeClock, caplog: pytest.LogCaptureFixture, adc_s: float
) -> None:
    """0, too old, in the future: arrival minus the buffer's length, and one warning."""
    with Microphone(clock) as microphone:
        for _ in range(2):
            clock.advance(10 * MS)
            pa.stream.callback(bytes(160 * 2 * 4), 160, {"input_buffer_adc_time": adc_s}, 0)
            assert read_next(microphone).t_ns == clock.now_ns() - 10 * MS
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


# Samples


@pytest.mark.parametrize(("chunk_ms", "count"), [(5, 80), (10, 160), (40, 640), (12.5, 200)])
def test_length_of_a_chunk(pa: FakePyAudio, clock: FakeClock, chunk_ms: float, count: int) -> None:
    with Microphone(clock, chunk_ms=chunk_ms) as microphone:
        assert pa.stream.options["frames_per_buffer"] == count
        pa.stream.send(np.full(count, 0.5, np.float32))
        assert read_next(microphone).samples.shape == (count,)


def test_audio_is_overwritten_on_close(pa: FakePyAudio, clock: FakeClock) -> None:
    """Read or not."""
    microphone = Microphone(clock)
    pa.stream.send(np.full(160, 0.5, np.float32))
    pa.stream.send(np.full(160, 0.25, np.float32))
    read_next(microphone)
    ring = microphone._ring
    assert ring.any()
    microphone.close()
    microphone.close()
    assert not ring.any()


def test_overflow_in_the_host_is_a_gap(pa: FakePyAudio, clock: FakeClock) -> None:
    """The host lost 30 ms: the sample index jumps by 480, once."""
    with Microphone(clock) as microphone:
        pa.stream.send(TONE)
        clock.advance(40 * MS)
        pa.stream.send(TONE, flags=pa.paInputOverflow)
        clock.advance(10 * MS)
        pa.stream.send(TONE)
        assert [chunk.first_sample for chunk in read_many(microphone, 3)] == [0, 640, 800]
        assert microphone.overflows == 1


def test_late_reader_loses_the_oldest_audio(pa: FakePyAudio, clock: FakeClock) -> None:
    """Of 130 unread buffers the ring has the newest 100; the index has a gap."""
    with Microphone(clock) as microphone:
        for index in range(130):
            clock.advance(10 * MS)
            pa.stream.send(TONE * index / 200)
        chunks = read_many(microphone, 100)
        assert [chunk.first_sample for chunk in chunks] == list(range(4800, 20800, 160))
        assert chunks[0].samples.max() == pytest.approx(0.5 * 30 / 200, rel=0.1)
        assert microphone.overruns == 30


def test_other_rate_and_stereo_are_resampled_with_their_times(
    pa: FakePyAudio, clock: FakeClock
) -> None:
    """A device with 48 kHz stereo only: a click keeps its time within 0.1 ms."""
    pa.rates = {48000}
    with Microphone(clock) as microphone:
        assert pa.stream.options["channels"] == 2
        for index in range(40):
            clock.advance(10 * MS)
            audio = np.zeros((480, 2), np.float32)
            if index == 20:
                audio[240] = 0.9
                click_ns = clock.now_ns() - 5 * MS
            pa.stream.send(audio)
        chunks = read_many(microphone, 39)
    samples = np.concatenate([chunk.samples for chunk in chunks])
    firsts = [chunk.first_sample for chunk in chunks]
    assert firsts == np.cumsum([0] + [chunk.samples.size for chunk in chunks[:-1]]).tolist()
    peak = int(np.argmax(np.abs(samples)))
    at = int(np.searchsorted(firsts, peak, side="right")) - 1
    peak_ns = chunks[at].t_ns + (peak - firsts[at]) * 62_500
    assert abs(peak_ns - click_ns) < 100_000


@pytest.mark.parametrize(("offered", "opened"), [(1, 1), (2, 2), (6, 6), (8, 8), (32, 2), (128, 2)])
def test_all_channels_are_opened(
    pa: FakePyAudio, clock: FakeClock, offered: int, opened: int
) -> None:
    """But two of a sound server, which offers as many as one likes."""
    pa.devices[1]["maxInputChannels"] = offered
    with Microphone(clock):
        assert pa.stream.options["channels"] == opened


def test_one_channel_of_many_is_heard(pa: FakePyAudio, clock: FakeClock) -> None:
    """A microphone in input 5 of 8, with an offset; the others are open."""
    pa.devices[1]["maxInputChannels"] = 8
    with Microphone(clock) as microphone:
        for _ in range(20):
            clock.advance(10 * MS)
            audio = np.zeros((160, 8), np.float32)
            audio[:, 4] = 0.05 + TONE
            pa.stream.send(audio)
        chunks = read_many(microphone, 20)
    for chunk in chunks[2:]:
        assert chunk.samples.max() == pytest.approx(0.5, rel=0.05)
        assert abs(chunk.samples.mean()) < 0.005


def test_gap_at_another_rate_stays_a_gap(pa: FakePyAudio, clock: FakeClock) -> None:
    """100 ms lost at 48 kHz are 1600 samples at 16 kHz, and the times after it are right."""
    pa.rates = {48000}
    with Microphone(clock) as microphone:
        for index in range(20):
            clock.advance(110 * MS if index == 10 else 10 * MS)
            flags = pa.paInputOverflow if index == 10 else 0
            pa.stream.send(np.zeros((480, 2), np.float32), flags=flags)
        chunks = read_many(microphone, 20)
    assert chunks[10].first_sample == 160 * 20
    for chunk in chunks:
        assert abs(chunk.t_ns - 50_000 * MS - chunk.first_sample * 62_500) < 100_000


# Failures


def test_vanished_microphone_raises(pa: FakePyAudio, clock: FakeClock) -> None:
    """A stream that delivers nothing, and one that stops. What was captured before is delivered."""
    with Microphone(clock, stall_s=0.02) as microphone:
        with pytest.raises(SourceError, match=r"USB Mic.* 0\.02 s"):
            microphone.read()
        pa.stream.send(TONE)
        pa.stream.active = False
        read_next(microphone)
        with pytest.raises(SourceError, match="USB Mic has stopped"):
            microphone.read()


def test_close_wakes_a_waiting_read(pa: FakePyAudio, clock: FakeClock) -> None:
    """close may be called twice."""
    microphone = Microphone(clock, stall_s=3_600)
    results: list[object] = []
    reader = threading.Thread(target=lambda: results.append(microphone.read()))
    reader.start()
    microphone.close()
    reader.join()
    microphone.close()
    assert results == [None]
    assert pa.stream.closed
    assert pa.terminated == 1


# Devices


def test_devices_by_number_and_by_name(pa: FakePyAudio, clock: FakeClock) -> None:
    """Only inputs are offered; the error for a wrong name lists them."""
    for device in ("usb", 1, "1"):
        with Microphone(clock, device=device) as microphone:
            assert microphone.name == "USB Mic"
    with pytest.raises(SourceError, match=r"microphone screen.*1 \(USB Mic\)"):
        Microphone(clock, device="screen")
    assert list_microphones() == ["USB Mic"]
    assert pa.terminated == 5


def test_number_takes_precedence_over_a_name_with_digits(pa: FakePyAudio, clock: FakeClock) -> None:
    """Device 1 is not the first whose name has a 1 in it."""
    pa.devices[0] = {**pa.devices[1], "index": 0, "name": "HDA Intel PCH: ALC1150 (hw:1,0)"}
    for device, name in ((1, "USB Mic"), ("1", "USB Mic"), ("1150", pa.devices[0]["name"])):
        with Microphone(clock, device=device) as microphone:
            assert microphone.name == name


def test_missing_microphone(pa: FakePyAudio, clock: FakeClock) -> None:
    """No input device opens, with the rates that were tried, or none exists."""
    pa.rates = set()
    with pytest.raises(SourceError, match=r"USB Mic.*16000.*48000"):
        Microphone(clock)
    pa.devices = []
    with pytest.raises(SourceError, match="microphone"):
        Microphone(clock)


def test_missing_pyaudio_names_the_package(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyaudio", None)
    with pytest.raises(SourceError, match="sudo apt install portaudio19-dev"):
        Microphone(clock)


def test_portaudios_messages_stay_out_of_the_terminal(
    pa: FakePyAudio, clock: FakeClock, capfd: pytest.CaptureFixture[str]
) -> None:
    """What ALSA prints while PortAudio searches is hidden, what others print is not."""

    def print_errors() -> FakePyAudio:
        os.write(2, b"ALSA lib pcm.c:2666: Unknown PCM default\nout of memory\n")
        return pa

    pa.PyAudio = print_errors  # type: ignore[method-assign]
    Microphone(clock).close()
    assert capfd.readouterr().err == "out of memory\n"


REAL = textwrap.dedent(
    """
    import os, sys, threading
    import numpy as np
    from emotion_edge.runtime.clock import MonotonicClock
    from emotion_edge.runtime.capture.microphone import Microphone

    clock = MonotonicClock()

    # A sound card in a pipe: 10 ms of a square wave, every 10 ms, for ever. It says that it has 128
    # channels, so it is read as stereo. Opened for reading too, so that it stays when PortAudio
    # closes its end after trying the device.
    pipe = os.open(sys.argv[1], os.O_RDWR)

    def feed():
        stop, begin_ns, index = threading.Event(), clock.now_ns(), 0
        while True:
            clock.sleep_until_ns(begin_ns + index * 10_000_000, stop)
            wave = (np.arange(index * 160, index * 160 + 160) % 16 < 8) - 0.5
            os.write(pipe, np.repeat(wave, 2).astype(np.float32).tobytes())
            index += 1

    with Microphone(clock, device="piped") as microphone:
        threading.Thread(target=feed, daemon=True).start()
        chunks = [microphone.read() for _ in range(30)]
    samples = np.concatenate([c.samples for c in chunks])
    assert [c.first_sample for c in chunks] == list(range(0, 4800, 160))
    edges = np.flatnonzero(np.abs(np.diff(samples)) > 0.5)
    assert (np.diff(edges) == 8).all() and len(edges) > 500, edges
    assert 0 < chunks[-1].t_ns - chunks[0].t_ns and chunks[-1].t_ns <= clock.now_ns()
    print(samples.size)
    """
)


def test_real_portaudio(tmp_path: Path) -> None:
    """PyAudio itself, recording from an ALSA device that reads a pipe."""
    pytest.importorskip("pyaudio", reason="PyAudio is not installed")
    pipe = tmp_path / "audio"
    os.mkfifo(pipe)
    config = tmp_path / "asound.conf"
    config.write_text(
        "pcm.silent { type null }\n"
        f'pcm.piped {{ type file slave.pcm "silent" file "/dev/null" infile "{pipe}" '
        'format "raw" hint { show on } }\n'
        "pcm.!default { type null }\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", REAL, str(pipe)],
        env={
            **os.environ,
            "ALSA_CONFIG_PATH": str(config),
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "4800\n"
