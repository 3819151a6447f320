"""One audio-video file, decoded by PyAV (FFmpeg).

Out: frames and 16 kHz mono audio on one time line. It begins with the file's earliest frame or
sample, so that the container's offset between the two is preserved.
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
"""Times that deviate more from the expected ones are a gap. Matroska rounds them to 1 ms."""

# Packets that are read at most to find out the length of a file.
_MAX_SCAN = 2_000_000


class MediaFile:
    """A file with video, audio or both, as `Media`.

    Each iterator opens the file for itself and closes it at its end. So frames never wait for audio
    or the reverse. Raises SourceError for anything that cannot be played.
    """

    sample_rate_hz = 16_000

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.corrupt_packets = 0
        """Skipped packets that could not be decoded, in all iterators so far."""
        self.copies_per_frame = 2
        """Decoding and conversion to bgr8; a rotated video needs one more."""
        _check_file(self.path)
        video = self._first("video")
        audio = self._first("audio")
        self.has_video = video is not None
        self.has_audio = audio is not None
        if video is None and audio is None:
            raise SourceError(f"{self.path} has neither video nor audio")
        starts = [_time_s(frame) for frame in (video, audio) if frame is not None]
        self._origin_s = min(starts)
        self._audio_start_s = _time_s(audio) - self._origin_s if audio is not None else Fraction(0)
        self._period: int | None = None

    def frames(self, *, loop: bool = False) -> Iterator[VideoFrame]:
        """Yield each frame, bgr8, at its own time from the start of the clip."""
        index = 0
        shift_ns = 0
        while True:
            begin = index
            for t_ns, shown_ns, image in self._decode_frames():
                if loop and t_ns >= self._period_ns():
                    break
                yield VideoFrame(shift_ns + t_ns, index, image, shown_ns=shown_ns)
                index += 1
            if not loop or index == begin:
                return
            shift_ns += self._period_ns()

    def chunks(self, *, loop: bool = False) -> Iterator[AudioChunk]:
        """Yield the audio in chunks of 10 ms, shorter only before a gap and at the end."""
        size = int(self.sample_rate_hz * _CHUNK_S)
        start_ns = round(self._audio_start_s * 1_000_000_000)
        pieces = self._loop_audio() if loop else self._decode_audio()
        for first, samples in split_chunks(pieces, size):
            t_ns = start_ns + first * 1_000_000_000 // self.sample_rate_hz
            yield AudioChunk(t_ns, first, samples)

    def _decode_frames(self) -> Iterator[tuple[int, int, NDArray[np.uint8]]]:
        """Yield the time of each frame, how long the file states that it is shown, its image."""
        last_ns = shift_ns = 0
        step_ns = 1_000_000_000 // 30  # until two frames show the file's own
        for count, frame in enumerate(self._decode("video")):
            t_ns = last_ns + step_ns
            if frame.pts is not None:
                t_ns = shift_ns + round((_time_s(frame) - self._origin_s) * 1_000_000_000)
            if count and t_ns <= last_ns:  # times of a corrupt file may go back, frames may not
                shift_ns += last_ns + step_ns - t_ns
                t_ns = last_ns + step_ns
            if count:
                step_ns = t_ns - last_ns
            last_ns = t_ns
            image = frame.to_ndarray(format="bgr24")
            # Phones store portrait clips sideways, with the rotation (PyAV >= 14 reads it).
            turns = round(getattr(frame, "rotation", 0) / 90) % 4
            self.copies_per_frame = 3 if turns else 2
            # Rows of an odd width are padded.
            yield t_ns, _shown_ns(frame) or step_ns, np.ascontiguousarray(np.rot90(image, turns))

    def _decode_audio(self) -> Iterator[tuple[int, Float32]]:
        """Yield (index of the first sample, samples). A jump of the index is a gap."""
        resampler = Resampler(self.sample_rate_hz)
        shift_s = -self._origin_s - self._audio_start_s  # from the file's times to the first sample
        expected_s = Fraction(0)
        at = 0
        for frame in self._decode("audio"):
            off_s = _time_s(frame) + shift_s - expected_s if frame.pts is not None else Fraction(0)
            if off_s < -_GAP_S:  # times of a corrupt file may go back, samples may not
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
        """Yield rounds of exactly one period: truncated, or padded with silence."""
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
        """Return the length of one round of the loop, in whole samples."""
        if self._period is None:
            with self._open() as container:
                # Without a stated duration the file must be read to its end.
                if container.duration:
                    end_s = Fraction(container.duration, av.time_base)
                else:
                    end_s = _scan_end_s(container) - self._origin_s
            self._period = max(1, round(end_s * self.sample_rate_hz))
        return self._period

    def _open(self) -> Any:
        try:
            # The absolute path, because in "a:b.mp4" FFmpeg sees a protocol. Only files, because
            # a playlist must not open a connection.
            container = av.open(str(self.path.absolute()), options={"protocol_whitelist": "file"})
        except (av.FFmpegError, OSError, ValueError) as error:
            raise self._unreadable(getattr(error, "strerror", None) or error) from error
        if container.format.name == "tty":  # FFmpeg renders a text file as video
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
        """Yield the first stream's decoded frames; corrupt packets are counted and skipped."""
        with self._open() as container:
            stream = _pick_stream(container, kind)
            if stream is None:
                return
            if kind == "video":
                self._check_size(stream.codec_context)
                # Measured on a 1280x720 H.264 clip: one thread needs 7 ms of CPU per frame and
                # 71 MB in all, two threads the same CPU and up to 9 MB more. Frames are decoded
                # ahead, so the models need the second core more.
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
            _LOG.warning("%s: skipping packets that cannot be decoded: %s", self.path, error)
        self.corrupt_packets += 1

    def _check_size(self, image: Any) -> None:
        if max(image.width, image.height) > MAX_SIDE_PX:
            raise SourceError(
                f"{self.path}: frames of {image.width}x{image.height} are too large, "
                f"the limit is {MAX_SIDE_PX}x{MAX_SIDE_PX}"
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
        # The cover of a music album is a "video" too. PyAV < 13 has no disposition.
        disposition = getattr(stream, "disposition", None)
        if disposition is not None and disposition & 0x400:
            continue
        if stream.codec_context is not None:
            return stream
    return None


def _shown_ns(frame: Any) -> int:
    """Return how long the file states that a frame is shown, 0 if it does not."""
    return round((frame.duration or 0) * Fraction(frame.time_base) * 1_000_000_000)


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
