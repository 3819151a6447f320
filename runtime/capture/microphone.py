"""A microphone through PyAudio (PortAudio), with the time at which its converter took each sample.

PortAudio's callback only copies: samples into a ring that exists beforehand, and a note of the
sample index and the converter's time. `read` does the rest in the reader's own thread.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..clock import Clock
from ..messages import AudioChunk, Float32, SourceError
from .audio_devices import find_input, import_pyaudio, suppress_stderr

_LOG = logging.getLogger(__name__)

_SLOTS = 100  # buffers
_STALL_S = 1.0
_POLL_S = 0.1
"""While nothing arrives, how often to ask whether the stream is still alive."""
_MAX_AGE_NS = 2_000_000_000
_FUTURE_NS = 5_000_000


@dataclass(frozen=True, slots=True)
class _ChunkInfo:
    """What is known of one buffer in the ring."""

    first: int
    """Index of its first sample, at the device's rate, lost buffers counted."""
    frames: int
    adc_s: float
    """The stream's own clock at its first sample; 0 where the host does not say."""
    returned_ns: int
    """Our clock when the callback ran."""
    overflowed: bool
    """The host lost sound before this buffer."""


class Microphone:
    """An AudioSource over one input device: 16 kHz mono in chunks of `chunk_ms`.

    `device`: None for the system's default, an index, or a part of a device's name.
    Raises SourceError when it cannot be opened, stops, or is silent for a second.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        device: str | int | None = None,
        sample_rate_hz: int = 16000,
        chunk_ms: float = 10,
        stall_s: float = _STALL_S,
    ) -> None:
        self.sample_rate_hz = sample_rate_hz
        self.overruns = 0
        """Buffers overwritten because `read` was late."""
        self.overflows = 0
        """Times the host said it lost sound."""
        self._clock = clock
        self._chunk_ms = chunk_ms
        self._stall_s = stall_s
        self._warned = False
        self._closed = False
        self._changed = threading.Condition()
        self._written = self._taken = self._next_sample = 0
        self._lost = 0  # samples at the device's rate that the host lost, so far
        self._ring = np.zeros((0, 0, 0), np.float32)
        self._pa: Any = None
        self._stream: Any = None
        self._expected_ns = 0
        self._pyaudio = import_pyaudio()
        try:
            with suppress_stderr():
                self._pa = self._pyaudio.PyAudio()
                self._open(device)
        except BaseException:
            self.close()
            raise
        self._converter = None
        if (self._rate_hz, self._channels) != (sample_rate_hz, 1):
            from .resampling import ChunkResampler

            self._converter = ChunkResampler(self._rate_hz, self._channels, sample_rate_hz)

    def read(self) -> AudioChunk | None:
        """The next chunk. None when closed."""
        while True:
            taken = self._take()
            if taken is None:
                return None
            chunk_info, audio = taken
            t_ns = self._capture_time_ns(chunk_info)
            if chunk_info.overflowed:
                self._lost += self._host_gap(t_ns)
            first = chunk_info.first + self._lost
            self._expected_ns = t_ns + chunk_info.frames * 1_000_000_000 // self._rate_hz
            if self._converter is None:
                return AudioChunk(t_ns, first, audio.reshape(-1))
            chunk = self._converter.push(first, t_ns, audio)
            if chunk is not None:
                return chunk

    def close(self) -> None:
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
        stream, self._stream = self._stream, None
        for step in (
            stream.stop_stream if stream is not None else None,
            stream.close if stream is not None else None,
            self._pa.terminate if self._pa is not None else None,
        ):
            if step is not None:
                with contextlib.suppress(OSError):  # it may be gone already
                    step()
        self._ring.fill(0)

    def __enter__(self) -> Microphone:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, device: str | int | None) -> None:
        info = find_input(self._pa, device)
        self.name = str(info["name"])
        own = (round(info["defaultSampleRate"]), max(1, min(2, int(info["maxInputChannels"]))))
        reasons = []
        for rate_hz, channels in dict.fromkeys(((self.sample_rate_hz, 1), own, (own[0], 1))):
            self._rate_hz, self._channels = rate_hz, channels
            buffer = round(rate_hz * self._chunk_ms / 1e3)
            self._ring = np.zeros((_SLOTS, buffer, channels), np.float32)
            self._notes: list[_ChunkInfo | None] = [None] * _SLOTS
            try:
                self._stream = self._pa.open(
                    rate=rate_hz,
                    channels=channels,
                    format=self._pyaudio.paFloat32,
                    input=True,
                    input_device_index=int(info["index"]),
                    frames_per_buffer=buffer,
                    stream_callback=self._on_audio,
                )
            except (OSError, ValueError) as error:
                reasons.append(f"{rate_hz} Hz x {channels}: {error}")
                continue
            _LOG.info("microphone %s: %d Hz, %d channels", self.name, rate_hz, channels)
            return
        raise SourceError(f"microphone {self.name} cannot be opened ({'; '.join(reasons)})")

    def _on_audio(
        self, data: bytes, frames: int, times: dict[str, float], flags: int
    ) -> tuple[None, int]:
        """PortAudio's callback: copies and returns."""
        now_ns = self._clock.now_ns()
        audio = np.frombuffer(data, np.float32).reshape(-1, self._channels)
        with self._changed:
            slot = self._written % _SLOTS
            kept = min(frames, self._ring.shape[1])
            self._ring[slot, :kept] = audio[:kept]
            lost = bool(flags & self._pyaudio.paInputOverflow)
            adc_s = times.get("input_buffer_adc_time", 0.0)
            self._notes[slot] = _ChunkInfo(self._next_sample, kept, adc_s, now_ns, lost)
            self._next_sample += frames
            self._written += 1
            if self._written - self._taken > _SLOTS:
                self._taken += 1
                self.overruns += 1
            self._changed.notify_all()
        return None, self._pyaudio.paContinue

    def _take(self) -> tuple[_ChunkInfo, Float32] | None:
        """Wait for the oldest buffer in the ring; a copy of it."""
        give_up_s = time.monotonic() + self._stall_s
        with self._changed:
            while self._written == self._taken and not self._closed:
                if not self._changed.wait(min(_POLL_S, self._stall_s)):
                    self._check_alive(give_up_s)
            if self._closed:
                return None
            slot = self._taken % _SLOTS
            self._taken += 1
            chunk_info = self._notes[slot]
            assert chunk_info is not None
            return chunk_info, self._ring[slot, : chunk_info.frames].copy()

    def _check_alive(self, give_up_s: float) -> None:
        try:
            alive = self._stream is not None and self._stream.is_active()
        except OSError:
            alive = False
        if self._closed:
            return
        if not alive:
            raise SourceError(f"microphone {self.name} has stopped")
        if time.monotonic() >= give_up_s:
            raise SourceError(f"microphone {self.name} has sent nothing for {self._stall_s:g} s")

    def _capture_time_ns(self, chunk_info: _ChunkInfo) -> int:
        """When the buffer's first sample was taken, on our clock."""
        if chunk_info.adc_s > 0:
            t_ns = round(chunk_info.adc_s * 1e9) + self._stream_offset_ns()
            if -_FUTURE_NS <= chunk_info.returned_ns - t_ns <= _MAX_AGE_NS:
                return t_ns
        if not self._warned:
            self._warned = True
            _LOG.warning(
                "microphone %s: no usable capture times (%.6f s); taking the time of arrival "
                "minus the buffer's length",
                self.name,
                chunk_info.adc_s,
            )
        return chunk_info.returned_ns - chunk_info.frames * 1_000_000_000 // self._rate_hz

    def _stream_offset_ns(self) -> int:
        """Our clock minus the stream's.

        Asked for anew each time: on ALSA the stream's clock may be the wall clock, which can be
        set. The narrowest of three tries, because a thread may be put aside between two clocks.
        """
        best: tuple[int, int] | None = None
        for _ in range(3):
            before_ns = self._clock.now_ns()
            try:
                stream_s = self._stream.get_time()
            except (OSError, AttributeError):  # closed meanwhile
                return 0
            after_ns = self._clock.now_ns()
            width_ns = after_ns - before_ns
            if best is None or width_ns < best[0]:
                best = (width_ns, before_ns + width_ns // 2 - round(stream_s * 1e9))
            if width_ns < 100_000:
                break
        assert best is not None
        return best[1]

    def _host_gap(self, t_ns: int) -> int:
        """Samples the host lost before this buffer, by the clock; at least one: it must show."""
        self.overflows += 1
        late_ns = t_ns - self._expected_ns if self._expected_ns else 0
        return max(1, round(late_ns * self._rate_hz / 1e9))
