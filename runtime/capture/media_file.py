"""One audio-video file, decoded by PyAV (FFmpeg).

Out: pictures and 16 kHz mono sound on one time line that begins with the file's earliest picture
or sample, so that the container's offset between the two survives.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from ..messages import AudioChunk, Float32, SourceError, VideoFrame
from .resampling import Resampler, split_chunks

_LOG = logging.getLogger(__name__)

MAX_SIDE_PX = 4096
_CHUNK_S = Fraction(1, 100)
_GAP_S = 0.02
"""Sound times may waver by this much (Matroska rounds them to 1 ms) before they mean a gap."""

# A file of two million packets is scanned to its end at most, to learn its length.
_MAX_SCAN = 2_000_000


class MediaFile:
    """A file that was found to hold pictures, sound or both.

    It keeps nothing open: each iterator opens the file for itself and closes it when it ends, so
    that the pictures never wait for the sound or the other way round.
    Raises SourceError, in one line, for anything that cannot be played.
    """

    def __init__(self, path: str | Path, sample_rate_hz: int = 16000) -> None:
        self.path = Path(path)
        self.sample_rate_hz = sample_rate_hz
        self.corrupt_packets = 0
        """Packets that could not be decoded and were passed over, in all iterators so far."""
        self.copies_per_frame = 2
        """Decoded and converted to bgr8; a picture that lies on its side is turned as well."""
        _check_file(self.path)
        video = self._first("video")
        audio = self._first("audio")
        self.has_video = video is not None
        self.has_audio = audio is not None
        if video is None and audio is None:
            raise SourceError(f"{self.path} holds neither picture nor sound")
        starts = [_time_s(frame) for frame in (video, audio) if frame is not None]
        self._origin_s = min(starts)
        self._audio_start_s = _time_s(audio) - self._origin_s if audio is not None else Fraction(0)
        self._period: int | None = None

    def frames(self, *, loop: bool = False) -> Iterator[VideoFrame]:
        """Each picture, bgr8, at its own time from the start of the clip."""
        index = 0
        shift_ns = 0
        while True:
            begin = index
            for t_ns, image in self._decode_frames():
                if loop and t_ns >= self._period_ns():
                    break
                yield VideoFrame(shift_ns + t_ns, index, image)
                index += 1
            if not loop or index == begin:
                return
            shift_ns += self._period_ns()

    def chunks(self, *, loop: bool = False) -> Iterator[AudioChunk]:
        """The sound in chunks of 10 ms; shorter ones only before a gap and at the end."""
        size = int(self.sample_rate_hz * _CHUNK_S)
        start_ns = round(self._audio_start_s * 1_000_000_000)
        pieces = self._loop_audio() if loop else self._decode_audio()
        for first, samples in split_chunks(pieces, size):
            t_ns = start_ns + first * 1_000_000_000 // self.sample_rate_hz
            yield AudioChunk(t_ns, first, samples)

    def _decode_frames(self) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        last_ns = shift_ns = 0
        step_ns = 1_000_000_000 // 30  # until the file has shown its own
        for count, frame in enumerate(self._decode("video")):
            t_ns = last_ns + step_ns
            if frame.pts is not None:
                t_ns = shift_ns + round((_time_s(frame) - self._origin_s) * 1_000_000_000)
            if count and t_ns <= last_ns:  # a broken file may go back in time; we may not
                shift_ns += last_ns + step_ns - t_ns
                t_ns = last_ns + step_ns
            if count:
                step_ns = t_ns - last_ns
            last_ns = t_ns
            image = frame.to_ndarray(format="bgr24")
            # Phones store portrait clips sideways, with a note how to turn them (PyAV >= 14).
            turns = round(getattr(frame, "rotation", 0) / 90) % 4
            self.copies_per_frame = 3 if turns else 2
            # An odd width leaves padding at the end of each row.
            yield t_ns, np.ascontiguousarray(np.rot90(image, turns))

    def _decode_audio(self) -> Iterator[tuple[int, Float32]]:
        """(index of the first sample, samples), in order; a jump of the index is a gap."""
        resampler = Resampler(self.sample_rate_hz)
        shift_s = -self._origin_s - self._audio_start_s  # from the file's times to the first sample
        expected_s = Fraction(0)
        at = 0
        for frame in self._decode("audio"):
            off_s = _time_s(frame) + shift_s - expected_s if frame.pts is not None else Fraction(0)
            if off_s < -_GAP_S:  # a broken file may go back in time; we may not
                shift_s -= off_s
            elif off_s > _GAP_S:
                yield at, resampler.flush()
                expected_s += off_s
                at = round(expected_s * self.sample_rate_hz)
            expected_s += Fraction(frame.samples, frame.sample_rate)
            samples = resampler.push(frame)
            yield at, samples
            at += samples.size
        yield at, resampler.flush()

    def _loop_audio(self) -> Iterator[tuple[int, Float32]]:
        """Round after round of exactly one period: cut, or filled up with silence."""
        base = 0
        period = self._period_samples()
        silence = np.zeros(int(self.sample_rate_hz * _CHUNK_S), np.float32)
        while True:
            end = 0
            for first, samples in self._decode_audio():
                fitting = samples[: max(0, period - first)]
                yield base + first, fitting
                end = max(end, min(period, first + samples.size))
            for at in range(end, period, silence.size):
                yield base + at, silence[: period - at]
            base += period

    def _period_ns(self) -> int:
        return self._period_samples() * 1_000_000_000 // self.sample_rate_hz

    def _period_samples(self) -> int:
        """How long one round of the loop is: whole samples, so that the sound stays seamless."""
        if self._period is None:
            with self._open() as container:
                # With a duration of its own, a long file need not be read to its end first.
                if container.duration:
                    end_s = Fraction(container.duration, av.time_base)
                else:
                    end_s = _scan_end_s(container) - self._origin_s
            self._period = max(1, round(end_s * self.sample_rate_hz))
        return self._period

    def _open(self) -> Any:
        try:
            # The absolute path, because FFmpeg takes "a:b.mp4" for a protocol. Only files: a play
            # list must not make us open a connection.
            container = av.open(str(self.path.absolute()), options={"protocol_whitelist": "file"})
        except (av.FFmpegError, OSError, ValueError) as error:
            raise self._unreadable(getattr(error, "strerror", None) or error) from error
        if container.format.name == "tty":  # FFmpeg would draw the letters of a text file
            container.close()
            raise self._unreadable("a text file")
        return container

    def _unreadable(self, reason: object) -> SourceError:
        return SourceError(f"{self.path} is not an audio or video file PyAV can read: {reason}")

    def _first(self, kind: str) -> Any | None:
        frames = self._decode(kind)
        try:
            return next(frames, None)
        finally:
            frames.close()

    def _decode(self, kind: str) -> Any:
        """Decoded frames of the first stream of `kind`; a broken packet is counted and skipped."""
        with self._open() as container:
            stream = _pick_stream(container, kind)
            if stream is None:
                return
            if kind == "video":
                self._check_size(stream.codec_context)
                # Measured on a 1280x720 H.264 clip: one thread needs 7 ms of CPU per picture and
                # 71 MB in all, two threads the same CPU and up to 9 MB more. Pictures are decoded
                # ahead, so the second core is better left to the models.
                stream.thread_type = "NONE"
                stream.codec_context.thread_count = 1
            packets = container.demux(stream)
            while True:
                try:
                    packet = next(packets, None)
                except av.FFmpegError as error:
                    self._count_corrupt(error)
                    return
                if packet is None:
                    return
                try:
                    frames = packet.decode()
                except av.FFmpegError as error:
                    self._count_corrupt(error)
                    continue
                for frame in frames:
                    if kind == "video":
                        self._check_size(frame)
                    yield frame

    def _count_corrupt(self, error: Exception) -> None:
        if self.corrupt_packets == 0:
            _LOG.warning("%s: passing over what cannot be decoded: %s", self.path, error)
        self.corrupt_packets += 1

    def _check_size(self, picture: Any) -> None:
        if max(picture.width, picture.height) > MAX_SIDE_PX:
            raise SourceError(
                f"{self.path}: pictures of {picture.width}x{picture.height} are too large, "
                f"at most {MAX_SIDE_PX}x{MAX_SIDE_PX} are read"
            )


def _check_file(path: Path) -> None:
    try:
        if not path.exists():
            raise SourceError(f"{path}: no such file")
        if path.is_dir():
            raise SourceError(f"{path} is a folder, not a file")
        if path.stat().st_size == 0 and path.is_file():
            raise SourceError(f"{path} is empty")
        with path.open("rb"):
            pass
    except SourceError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise SourceError(f"{path} cannot be read: {error}") from error


def _pick_stream(container: Any, kind: str) -> Any | None:
    for stream in getattr(container.streams, kind):
        # The cover of a music album is a "video" too. (PyAV < 13 cannot tell.)
        disposition = getattr(stream, "disposition", None)
        if disposition is not None and disposition & 0x400:
            continue
        if stream.codec_context is not None:
            return stream
    return None


def _time_s(frame: Any) -> Fraction:
    return Fraction(0) if frame.pts is None else frame.pts * Fraction(frame.time_base)


def _scan_end_s(container: Any) -> Fraction:
    end_s = Fraction(0)
    for count, packet in enumerate(container.demux()):
        if packet.pts is not None:
            end_s = max(end_s, (packet.pts + (packet.duration or 0)) * packet.time_base)
        if count > _MAX_SCAN:
            break
    return end_s
