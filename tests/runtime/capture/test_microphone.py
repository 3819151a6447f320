"""The microphone on a stand-in for PyAudio, and on the real PortAudio where it is installed.

The stand-in keeps to PyAudio's documented behaviour: `open` starts the stream and raises OSError
for a rate the device does not have, the callback gets (bytes, frames, times, flags), times are on
the stream's own clock, which `get_time` tells and which is not ours.
"""

from __future__ import annotations

import builtins
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

from emotion_edge.runtime.capture.microphone import Microphone
from emotion_edge.runtime.clock import FakeClock
from emotion_edge.runtime.messages import SourceError

MS = 1_000_000
STREAM_AHEAD_S = 1.7e9
"""The stand-in's stream clock is the wall clock, as on ALSA."""


class StandInStream:
    """A stream whose buffers the test sends."""

    def __init__(self, clock: FakeClock, callback: Callable[..., Any], **options: Any) -> None:
        self.clock, self.callback, self.options = clock, callback, options
        self.active = True
        self.closed = False
        self.ahead_s = STREAM_AHEAD_S

    def send(
        self, samples: np.ndarray, *, late_ns: int = 0, flags: int = 0, adc: bool = True
    ) -> None:
        """The sound was captured just now; the callback comes `late_ns` after that."""
        begin_ns = self.clock.now_ns() - len(samples) * 10**9 // self.options["rate"]
        adc_s = begin_ns / 1e9 + self.ahead_s if adc else 0.0
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


class StandIn:
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
        self.stream: StandInStream
        self.terminated = 0

    def PyAudio(self) -> StandIn:  # noqa: N802
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

    def open(self, *, rate: int, stream_callback: Callable[..., Any], **rest: Any) -> StandInStream:
        if rate not in self.rates:
            raise OSError(-9997, "Invalid sample rate")
        self.stream = StandInStream(self.clock, stream_callback, rate=rate, **rest)
        return self.stream

    def terminate(self) -> None:
        self.terminated += 1


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(50_000 * MS)


@pytest.fixture
def pa(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    fake = StandIn(clock)
    monkeypatch.setitem(sys.modules, "pyaudio", fake)
    return fake


RAMP = np.arange(160, dtype=np.float32) / 160


def test_chunks_carry_the_time_of_the_converter(pa: StandIn, clock: FakeClock) -> None:
    """A callback that is late by 0..20 ms does not move the time of its samples."""
    with Microphone(clock) as microphone:
        assert microphone.sample_rate_hz == 16000
        assert pa.stream.options["frames_per_buffer"] == 160
        for index, late_ms in enumerate([0, 20, 3, 11]):
            clock.advance(50_000 * MS + (index + 1) * 50 * MS - clock.now_ns())
            pa.stream.send(RAMP, late_ns=late_ms * MS)
            chunk = microphone.read()
            assert chunk is not None
            assert abs(chunk.t_ns - (50_040 + 50 * index) * MS) < 1000  # a double holds 0.24 us
            assert chunk.first_sample == 160 * index
            assert np.array_equal(chunk.samples, RAMP)


@pytest.mark.parametrize(("chunk_ms", "count"), [(5, 80), (40, 640), (12.5, 200)])
def test_length_of_a_chunk(pa: StandIn, clock: FakeClock, chunk_ms: float, count: int) -> None:
    """As the driver is asked for, and as it is read."""
    with Microphone(clock, chunk_ms=chunk_ms) as microphone:
        assert pa.stream.options["frames_per_buffer"] == count
        pa.stream.send(np.full(count, 0.5, np.float32))
        chunk = microphone.read()
        assert chunk is not None
        assert chunk.samples.shape == (count,)


def test_audio_is_overwritten_on_close(pa: StandIn, clock: FakeClock) -> None:
    """What the driver handed over, read or not."""
    microphone = Microphone(clock)
    pa.stream.send(np.full(160, 0.5, np.float32))
    pa.stream.send(np.full(160, 0.25, np.float32))
    assert microphone.read() is not None
    ring = microphone._ring
    assert ring.any()
    microphone.close()
    microphone.close()
    assert not ring.any()


def test_a_stream_clock_that_is_set_does_not_matter(pa: StandIn, clock: FakeClock) -> None:
    """ALSA's stream time may be the wall clock; an hour of correction leaves our times alone."""
    with Microphone(clock) as microphone:
        for shift_s in (0, 3600, -7200):
            pa.stream.ahead_s += shift_s
            pa.stream.send(RAMP)
            chunk = microphone.read()
            assert chunk is not None
            assert abs(chunk.t_ns - (clock.now_ns() - 10 * MS)) < 1000


@pytest.mark.parametrize("fault", ["zero", "old", "future"])
def test_unusable_times_fall_back_to_arrival(
    pa: StandIn, clock: FakeClock, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    """Hosts that give 0 or nonsense: arrival minus the buffer's length, and one warning."""
    with Microphone(clock) as microphone, caplog.at_level(logging.WARNING):
        for _ in range(2):
            clock.advance(10 * MS)
            now_ns = clock.now_ns()
            if fault == "old":
                pa.stream.callback(RAMP.tobytes(), 160, {"input_buffer_adc_time": 12.5}, 0)
            elif fault == "future":
                times = {"input_buffer_adc_time": pa.stream.get_time() + 60}
                pa.stream.callback(RAMP.tobytes(), 160, times, 0)
            else:
                pa.stream.send(RAMP, adc=False)
            chunk = microphone.read()
            assert chunk is not None
            assert chunk.t_ns == now_ns - 10 * MS
    assert len(caplog.records) == 1


def test_overflow_in_the_host_shows_as_a_gap(pa: StandIn, clock: FakeClock) -> None:
    """The host lost 30 ms: the sample index jumps by 480, and once only."""
    with Microphone(clock) as microphone:
        pa.stream.send(RAMP)
        clock.advance(40 * MS)
        pa.stream.send(RAMP, flags=pa.paInputOverflow)
        clock.advance(10 * MS)
        pa.stream.send(RAMP)
        firsts = [chunk.first_sample for chunk in (microphone.read() for _ in range(3)) if chunk]
        assert firsts == [0, 640, 800]
        assert microphone.overflows == 1


def test_late_reader_loses_the_oldest_and_it_shows(pa: StandIn, clock: FakeClock) -> None:
    """Of 130 buffers unread, the ring keeps the newest 100; the index tells what is missing."""
    with Microphone(clock) as microphone:
        for index in range(130):
            clock.advance(10 * MS)
            pa.stream.send(np.full(160, index / 200))
        chunks = [microphone.read() for _ in range(100)]
        assert [chunk.first_sample for chunk in chunks if chunk] == [
            160 * index for index in range(30, 130)
        ]
        assert chunks[0] is not None
        assert chunks[0].samples[0] == np.float32(30 / 200)
        assert microphone.overruns == 30


def test_other_rate_and_stereo_are_converted_with_their_times(
    pa: StandIn, clock: FakeClock
) -> None:
    """A device with 48 kHz stereo only: a click keeps its time within a tenth of a millisecond."""
    pa.rates = {48000}
    with Microphone(clock) as microphone:
        assert pa.stream.options["channels"] == 2
        chunks = []
        for index in range(40):
            clock.advance(10 * MS)
            sound = np.zeros((480, 2), np.float32)
            if index == 20:
                sound[240] = 0.9
                click_ns = clock.now_ns() - 5 * MS
            pa.stream.send(sound)
        for _ in range(39):
            chunk = microphone.read()
            assert chunk is not None
            chunks.append(chunk)
    samples = np.concatenate([chunk.samples for chunk in chunks])
    firsts = [chunk.first_sample for chunk in chunks]
    assert firsts == np.cumsum([0] + [chunk.samples.size for chunk in chunks[:-1]]).tolist()
    peak = int(np.argmax(np.abs(samples)))
    at = int(np.searchsorted(firsts, peak, side="right")) - 1
    peak_ns = chunks[at].t_ns + (peak - firsts[at]) * 62_500
    assert abs(peak_ns - click_ns) < 100_000


def test_gap_at_another_rate_stays_a_gap(pa: StandIn, clock: FakeClock) -> None:
    """100 ms lost at 48 kHz are 1600 samples at 16 kHz, and the times stay right after it."""
    pa.rates = {48000}
    with Microphone(clock) as microphone:
        for index in range(20):
            clock.advance(110 * MS if index == 10 else 10 * MS)
            flags = pa.paInputOverflow if index == 10 else 0
            pa.stream.send(np.zeros((480, 2), np.float32), flags=flags)
        chunks = [microphone.read() for _ in range(20)]
    good = [chunk for chunk in chunks if chunk is not None]
    assert good[10].first_sample == 160 * 20
    for chunk in good:
        on_line_ns = 50_000 * MS + chunk.first_sample * 62_500
        assert abs(chunk.t_ns - on_line_ns) < 100_000


def test_vanished_microphone_raises(pa: StandIn, clock: FakeClock) -> None:
    """A stream that stops, and one that sends nothing more, are both told by name."""
    with Microphone(clock, stall_s=0.02) as microphone:
        with pytest.raises(SourceError, match=r"microphone USB Mic has sent nothing for 0.02 s"):
            microphone.read()
        pa.stream.active = False
        with pytest.raises(SourceError, match=r"microphone USB Mic has stopped"):
            microphone.read()


def test_audio_before_the_failure_is_delivered(pa: StandIn, clock: FakeClock) -> None:
    """The ring is emptied first."""
    with Microphone(clock, stall_s=0.02) as microphone:
        pa.stream.send(RAMP)
        pa.stream.active = False
        assert microphone.read() is not None
        with pytest.raises(SourceError):
            microphone.read()


def test_close_wakes_a_waiting_read(pa: StandIn, clock: FakeClock) -> None:
    """A reader that waits for sound is let go; close may be called twice."""
    microphone = Microphone(clock, stall_s=3_600)
    got: list[object] = []
    reader = threading.Thread(target=lambda: got.append(microphone.read()))
    reader.start()
    microphone.close()
    reader.join()
    microphone.close()
    assert got == [None]
    assert pa.stream.closed
    assert pa.terminated == 1


def test_devices_are_found_by_number_and_by_name(pa: StandIn, clock: FakeClock) -> None:
    """Only inputs are offered; a wrong name is answered with what there is."""
    for device in ("usb", 1, "1"):
        with Microphone(clock, device=device) as microphone:
            assert microphone.name == "USB Mic"
    with pytest.raises(SourceError, match=r"microphone screen: .* there are: 1 \(USB Mic\)"):
        Microphone(clock, device="screen")
    assert pa.terminated == 4


def test_number_goes_before_a_name_with_digits(pa: StandIn, clock: FakeClock) -> None:
    """Device 1 is not the first whose name has a 1 in it."""
    pa.devices[0] = {**pa.devices[1], "index": 0, "name": "HDA Intel PCH: ALC1150 (hw:1,0)"}
    for device, name in ((1, "USB Mic"), ("1", "USB Mic"), ("1150", pa.devices[0]["name"])):
        with Microphone(clock, device=device) as microphone:
            assert microphone.name == name


def test_no_microphone_at_all(pa: StandIn, clock: FakeClock) -> None:
    """No input device, or none that opens: one line each."""
    pa.rates = set()
    with pytest.raises(SourceError, match=r"USB Mic cannot be opened \(16000 Hz x 1: .*48000"):
        Microphone(clock)
    pa.devices = []
    with pytest.raises(SourceError, match="there is no microphone"):
        Microphone(clock)


def test_missing_pyaudio_names_the_package(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without PyAudio the message is the command that installs it."""
    real = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name == "pyaudio":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.delitem(sys.modules, "pyaudio", raising=False)
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(SourceError, match="sudo apt install portaudio19-dev"):
        Microphone(clock)


def test_portaudios_noise_stays_out_of_the_terminal(
    pa: StandIn, clock: FakeClock, capfd: pytest.CaptureFixture[str]
) -> None:
    """What ALSA prints while devices are looked for is kept away, what others print is not."""

    def noisy() -> StandIn:
        os.write(2, b"ALSA lib pcm.c:2666: Unknown PCM default\nout of memory\n")
        return pa

    pa.PyAudio = noisy  # type: ignore[method-assign]
    Microphone(clock).close()
    assert capfd.readouterr().err == "out of memory\n"


REAL = textwrap.dedent(
    """
    import os, sys, threading
    import numpy as np
    from emotion_edge.runtime.clock import MonotonicClock
    from emotion_edge.runtime.capture.microphone import Microphone

    clock = MonotonicClock()

    # A sound card in a pipe: 10 ms of a ramp, every 10 ms, for ever. Opened for reading too, so
    # that it stays when PortAudio closes its end after trying the device.
    pipe = os.open(sys.argv[1], os.O_RDWR)

    def feed():
        stop, begin_ns, index = threading.Event(), clock.now_ns(), 0
        while True:
            clock.sleep_until_ns(begin_ns + index * 10_000_000, stop)
            ramp = np.arange(index * 160, index * 160 + 160) % 30_000 / 32768
            os.write(pipe, ramp.astype(np.float32).tobytes())
            index += 1

    with Microphone(clock, device="piped") as microphone:
        threading.Thread(target=feed, daemon=True).start()
        chunks = [microphone.read() for _ in range(30)]
        ages_ms = [(clock.now_ns() - chunks[-1].t_ns) / 1e6]
    samples = np.rint(np.concatenate([c.samples for c in chunks]) * 32768).astype(int)
    assert [c.first_sample for c in chunks] == list(range(0, 4800, 160))
    assert (np.diff(samples) % 30_000 == 1).all(), samples
    assert 0 <= ages_ms[0] < 5000, ages_ms  # the pipe holds some back
    steps_ms = np.diff([c.t_ns for c in chunks]) / 1e6
    assert abs(np.mean(steps_ms[5:]) - 10) < 3, steps_ms
    print("heard", samples.size)
    """
)


def test_real_portaudio(tmp_path: Path) -> None:
    """PyAudio itself, recording from an ALSA device that reads a pipe."""
    pytest.importorskip("pyaudio", reason="PyAudio is not installed")
    pipe = tmp_path / "sound"
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
    assert done.stdout == "heard 4800\n"
