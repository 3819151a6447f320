"""A microphone through PyAudio (PortAudio), with the capture time of its converter.

PortAudio's callback only copies: samples into a preallocated ring, with the sample index and the
converter's time. `read` does the rest in the reader's thread.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...kernels.channel_mixer import ChannelMixer
from ..clock import Clock
from ..messages import AudioChunk, Float32, SourceError
from .audio_devices import find_input, import_pyaudio, suppress_stderr

_LOG = logging.getLogger(__name__)

_SLOTS = 100  # buffers
MAX_CHANNELS = 8
"""A device with more is read as stereo."""
_STALL_S = 1.0
_POLL_S = 0.1
"""Interval between checks of a stream that delivers nothing."""
_MAX_AGE_NS = 2_000_000_000
_FUTURE_NS = 5_000_000


@dataclass(frozen=True, slots=True)
class _BufferInfo:
    """Index and times of one buffer in the ring."""

    first: int
    """Index of its first sample, at the device's rate, with overwritten buffers counted."""
    frames: int
    adc_s: float
    """The stream's own clock at its first sample; 0 if the host does not provide it."""
    returned_ns: int
    """Monotonic time of the callback."""
    overflowed: bool
    """Whether the host lost audio before this buffer."""


class Microphone:
    """An AudioSource over one input device: 16 kHz mono in chunks of `chunk_ms`.

    `device`: None for the system's default, an index, or a part of a device's name.
    Raises SourceError if it cannot be opened, stops, or delivers nothing for a second.
    """

    sample_rate_hz = 16_000

    def __init__(
        self,
        clock: Clock,
        *,
        device: str | int | None = None,
        chunk_ms: float = 10,
        stall_s: float = _STALL_S,
    ) -> None:
        self.overruns = 0
        """Buffers overwritten because `read` was late."""
        self.overflows = 0
        """Number of buffers before which the host lost audio."""
        self._clock = clock
        self._chunk_ms = chunk_ms
        self._stall_s = stall_s
        self._warned = False
        self._closed = False
        self._changed = threading.Condition()
        self._written = self._consumed = self._next_sample = 0
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
        self._mixer = ChannelMixer(self._channels, self._rate_hz)
        self._converter = None
        if self._rate_hz != self.sample_rate_hz:
            from .resampling import ChunkResampler

            self._converter = ChunkResampler(self._rate_hz, self.sample_rate_hz)

    def read(self) -> AudioChunk | None:
        """Return the next chunk, or None when closed."""
        while True:
            buffer = self._take()
            if buffer is None:
                return None
            info, audio = buffer
            t_ns = self._capture_time_ns(info)
            if info.overflowed:
                self._lost += self._host_gap(t_ns)
            first = info.first + self._lost
            self._expected_ns = t_ns + info.frames * 1_000_000_000 // self._rate_hz
            mono = self._mixer.mix(audio)
            if self._converter is None:
                return AudioChunk(t_ns, first, mono)
            chunk = self._converter.push(first, t_ns, mono)
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
                with contextlib.suppress(OSError):  # it may be gone
                    step()
        self._ring.fill(0)

    def __enter__(self) -> Microphone:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, device: str | int | None) -> None:
        info = find_input(self._pa, device)
        self.name = str(info["name"])
        own_hz, channels = round(info["defaultSampleRate"]), int(info["maxInputChannels"])
        # A sound server offers 32 or more, all made of the one or two that the microphone has.
        own = max(1, channels if channels <= MAX_CHANNELS else 2)
        reasons = []
        formats = [(hz, count) for count in (own, 1) for hz in (self.sample_rate_hz, own_hz)]
        for rate_hz, channels in dict.fromkeys(formats):
            self._rate_hz, self._channels = rate_hz, channels
            buffer = round(rate_hz * self._chunk_ms / 1e3)
            self._ring = np.zeros((_SLOTS, buffer, channels), np.float32)
            self._infos: list[_BufferInfo | None] = [None] * _SLOTS
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
        """PortAudio's callback. Copies and returns."""
        now_ns = self._clock.now_ns()
        audio = np.frombuffer(data, np.float32).reshape(-1, self._channels)
        with self._changed:
            slot = self._written % _SLOTS
            size = min(frames, self._ring.shape[1])
            self._ring[slot, :size] = audio[:size]
            lost = bool(flags & self._pyaudio.paInputOverflow)
            adc_s = times.get("input_buffer_adc_time", 0.0)
            self._infos[slot] = _BufferInfo(self._next_sample, size, adc_s, now_ns, lost)
            self._next_sample += frames
            self._written += 1
            if self._written - self._consumed > _SLOTS:
                self._consumed += 1
                self.overruns += 1
            self._changed.notify_all()
        return None, self._pyaudio.paContinue

    def _take(self) -> tuple[_BufferInfo, Float32] | None:
        """Wait for the oldest buffer in the ring and return a copy."""
        give_up_s = time.monotonic() + self._stall_s
        with self._changed:
            while self._written == self._consumed and not self._closed:
                if not self._changed.wait(min(_POLL_S, self._stall_s)):
                    self._check_alive(give_up_s)
            if self._closed:
                return None
            slot = self._consumed % _SLOTS
            self._consumed += 1
            info = self._infos[slot]
            assert info is not None
            return info, self._ring[slot, : info.frames].copy()

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

    def _capture_time_ns(self, info: _BufferInfo) -> int:
        """Return the monotonic capture time of the buffer's first sample."""
        if info.adc_s > 0:
            t_ns = round(info.adc_s * 1e9) + self._stream_offset_ns()
            if -_FUTURE_NS <= info.returned_ns - t_ns <= _MAX_AGE_NS:
                return t_ns
        if not self._warned:
            self._warned = True
            _LOG.warning(
                "microphone %s: no usable capture times (%.6f s); using the time of arrival "
                "minus the buffer's length",
                self.name,
                info.adc_s,
            )
        return info.returned_ns - info.frames * 1_000_000_000 // self._rate_hz

    def _stream_offset_ns(self) -> int:
        """Return the monotonic clock minus the stream's.

        Measured for each buffer: on ALSA the stream's clock may be the wall clock, which can be
        set. The narrowest of three tries counts, because a thread may be preempted in between.
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
        """Return the samples that the host lost before this buffer, by the clock; at least one."""
        self.overflows += 1
        late_ns = t_ns - self._expected_ns if self._expected_ns else 0
        return max(1, round(late_ns * self._rate_hz / 1e9))
