"""Decodes a container in one pass: what a pipe or a network stream delivers cannot be sought.

In: a PyAV container. Out: frames and 16 kHz mono audio in media time, which begins with the stream.
Times only go forward: a timestamp that goes back, or jumps by more than `_JUMP_NS`, is the place
where the stream was cut, and the times go on without the jump.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np

from ..messages import AudioChunk, SourceError, VideoFrame
from .media_image import MatrixReader, to_image, turn_upright
from .media_packets import duration_ns, is_encrypted, time_ns
from .media_tracks import list_candidates
from .resampling import Resampler
from .stream_input import explain

_LOG = logging.getLogger(__name__)

RATE_HZ = 16_000
_JUMP_NS = 10_000_000_000
_GAP_NS = 20_000_000
"""Times that deviate more from the expected ones are a gap. Matroska rounds them to 1 ms."""
_MAX_HELD_BYTES = 64_000_000
"""Packets of one track that are held while the other one is read."""


class StreamDecoder:
    """The best video and audio track of a container, which it closes.

    Each track may be read by a thread of its own, or both by one.
    """

    def __init__(self, container: Any, name: str, tracks: tuple[int, int]) -> None:
        """`name` is for messages. `tracks`: the configured video and audio track.

        Raises SourceError for a track that does not exist, or without any.
        """
        self.corrupt_packets = 0
        self.failure = ""
        """Why the stream ended before its end."""
        self._container = container
        self._name = name
        self._matrices = MatrixReader()
        self._origin_ns: int | None = None
        if container.start_time is not None:
            self._origin_ns = container.start_time * 1_000_000_000 // av.time_base
        self._video = _pick_track(container, "video", tracks[0], name)
        self._audio = _pick_track(container, "audio", tracks[1], name)
        streams = [track for track in (self._video, self._audio) if track is not None]
        if not streams:  # such as a cover alone, or subtitles
            container.close()
            raise SourceError(f"source {name} has neither video nor audio")
        if self._video is not None:
            self._video.thread_type = "NONE"  # more threads would delay each frame
            self._video.codec_context.thread_count = 1
        self._streams = streams
        self._packets = container.demux(streams)
        self._flushing = False
        self._held: dict[int, deque[Any]] = {track.index: deque() for track in streams}
        self._held_bytes = 0
        self._changed = threading.Condition()
        self._is_reading = self._ended = False
        self._frames = _FrameTimes()
        self._samples = _SampleTimes()

    def close(self) -> None:
        """Close the container, which no thread reads any more."""
        self._held.clear()
        self._packets.close()
        self._container.close()

    def items(self) -> Iterator[VideoFrame | AudioChunk]:
        """Yield both tracks in the order of the stream. Raises SourceError where it fails."""
        while (packet := self._demux()) is not None:
            is_video = self._video is not None and packet.stream_index == self._video.index
            yield from (self._decode_video if is_video else self._decode_audio)(packet)
        yield from self._samples.flush()

    def frames(self) -> Iterator[VideoFrame]:
        """Yield the video. A failure ends it."""
        for packet in self._take(self._video):
            yield from self._decode_video(packet)

    def chunks(self) -> Iterator[AudioChunk]:
        """Yield the audio. A failure ends it."""
        for packet in self._take(self._audio):
            yield from self._decode_audio(packet)
        yield from self._samples.flush()

    def _demux(self) -> Any | None:
        while True:
            try:
                packet = next(self._packets, None)
            except (av.FFmpegError, OSError) as error:
                raise SourceError(f"source {self._name}: {explain(error)}") from None
            except IndexError:  # PyAV 18: a track that begins later
                if self._flushing:
                    return None
                self._packets = self._container.demux(self._streams)
                continue
            self._flushing = packet is not None and not packet.size
            return packet

    def _take(self, track: Any | None) -> Iterator[Any]:
        """Yield the packets of one track; those of the other one are held for it."""
        if track is None:
            return
        own = self._held[track.index]
        while True:
            with self._changed:
                self._changed.wait_for(lambda: own or self._ended or not self._is_reading)
                if own:
                    packet = own.popleft()
                    self._held_bytes -= packet.size
                elif self._ended:
                    return
                else:
                    packet, self._is_reading = None, True
            if packet is not None:
                yield packet
            else:
                self._hold_next()

    def _hold_next(self) -> None:
        packet = None
        try:
            packet = self._demux()
        except SourceError as error:
            self.failure = str(error)
        finally:
            with self._changed:
                self._is_reading = False
                self._ended = packet is None
                if packet is not None:
                    self._held[packet.stream_index].append(packet)
                    self._held_bytes += packet.size
                self._changed.notify_all()
        if self._held_bytes > _MAX_HELD_BYTES:
            raise SourceError(f"source {self._name}: its audio and video lie too far apart")

    def _decode(self, packet: Any) -> list[Any]:
        if is_encrypted(packet):
            raise SourceError(f"source {self._name} is encrypted, and the program has no key")
        try:
            return list(packet.decode())
        except av.EOFError:  # the decoder was empty
            return []
        except av.FFmpegError as error:
            if not self.corrupt_packets:
                reason = explain(error)
                _LOG.warning("%s: skipping packets that cannot be decoded: %s", self._name, reason)
            self.corrupt_packets += 1
            return []

    def _decode_video(self, packet: Any) -> Iterator[VideoFrame]:
        assert self._video is not None
        for frame in self._decode(packet):
            t_ns = self._frames.place(self._time_ns(frame))
            image = to_image(frame, self._video.sample_aspect_ratio)
            image = turn_upright(image, self._matrices.read(frame))
            yield VideoFrame(t_ns, self._frames.count - 1, image, shown_ns=duration_ns(frame))

    def _decode_audio(self, packet: Any) -> Iterator[AudioChunk]:
        for frame in self._decode(packet):
            yield from self._samples.push(frame, self._time_ns(frame))

    def _time_ns(self, frame: Any) -> int | None:
        stated_ns = time_ns(frame.pts, frame.time_base)
        if stated_ns is None:
            return None
        if self._origin_ns is None:  # the stream did not say it
            self._origin_ns = stated_ns
        return stated_ns - self._origin_ns


class _FrameTimes:
    """Times of the frames, strictly increasing."""

    def __init__(self) -> None:
        self.count = 0
        self._shift_ns = 0
        self._last_ns = -1
        self._step_ns = 1_000_000_000 // 30  # until two frames show the stream's own

    def place(self, stated_ns: int | None) -> int:
        expected_ns = self._last_ns + self._step_ns if self.count else 0
        t_ns = expected_ns if stated_ns is None else max(0, stated_ns + self._shift_ns)
        if self.count and not self._last_ns < t_ns < self._last_ns + _JUMP_NS:
            self._shift_ns += expected_ns - t_ns
            t_ns = expected_ns
        elif self.count:
            self._step_ns = t_ns - self._last_ns
        t_ns = max(t_ns, self._last_ns + 1)
        self.count += 1
        self._last_ns = t_ns
        return t_ns


class _SampleTimes:
    """Resampled audio, numbered without a gap where there is none."""

    def __init__(self) -> None:
        self._resampler = Resampler(RATE_HZ)
        self._shift_ns = 0
        self._first_ns: int | None = None  # media time of sample 0
        self._expected_s = Fraction(0)  # since sample 0
        self._at = 0

    def push(self, frame: Any, stated_ns: int | None) -> Iterator[AudioChunk]:
        if self._first_ns is None:
            self._first_ns = max(0, stated_ns or 0)
        expected_ns = self._first_ns + round(self._expected_s * 1_000_000_000)
        off_ns = 0 if stated_ns is None else stated_ns + self._shift_ns - expected_ns
        if off_ns < -_GAP_NS or off_ns > _JUMP_NS:
            self._shift_ns -= off_ns
        elif off_ns > _GAP_NS:
            yield from self.flush()
            self._expected_s += Fraction(off_ns, 1_000_000_000)
            self._at = round(self._expected_s * RATE_HZ)
        self._expected_s += Fraction(frame.samples, frame.sample_rate)
        yield from self._number(self._resampler.push(frame))

    def flush(self) -> Iterator[AudioChunk]:
        """Yield the samples that the resampler holds back."""
        yield from self._number(self._resampler.flush())

    def _number(self, samples: Any) -> Iterator[AudioChunk]:
        if samples.size and self._first_ns is not None:
            t_ns = self._first_ns + self._at * 1_000_000_000 // RATE_HZ
            yield AudioChunk(t_ns, self._at, np.ascontiguousarray(samples))
            self._at += samples.size


def _pick_track(container: Any, kind: str, wanted: int, name: str) -> Any | None:
    numbers = list_candidates(container, kind, wanted, name)
    return getattr(container.streams, kind)[numbers[0]] if numbers else None
