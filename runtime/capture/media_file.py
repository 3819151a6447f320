"""One audio-video file, decoded by PyAV (FFmpeg).

Out: frames and 16 kHz mono audio on one time line. It begins with the file's earliest frame or
sample, so that the container's offset between the two is preserved.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from ..messages import AudioChunk, Float32, SourceError, VideoFrame
from .catching_up import CatchUp, DueTime
from .media_container import MAX_PIXELS, check_file, explain_unreadable, open_container
from .media_image import UPRIGHT, MatrixReader, to_image, turn_upright
from .media_packets import (
    EncryptedError,
    PacketFaults,
    decode_track,
    duration_ns,
    find_key_gap,
    time_ns,
)
from .media_timeline import AudioTimes, FrameTimes, Nearby, Repairs
from .media_tracks import AUTO, list_candidates
from .resampling import Resampler, split_chunks
from .source_name import show_source

_LOG = logging.getLogger(__name__)

_CHUNK_S = Fraction(1, 100)
_USUAL_FPS = 30
_MAX_FPS = 240
_STILL_NS = 24 * 3600 * 1_000_000_000
"""A track of one frame shows it to the end, unless it states more than `_NOMINAL_NS`."""
_NOMINAL_NS = 1_000_000_000
"""A shorter duration of an only frame is the period of a frame rate that means nothing."""

# Packets that are read at most to find out the length of a file.
_MAX_SCAN = 2_000_000


@dataclass(frozen=True, slots=True)
class _Track:
    """A track that is played."""

    kind: str
    number: int
    """Among the tracks of its kind."""
    start_ns: int
    """Time of its first frame in the file."""


class MediaFile:
    """A file with video, audio or both, as `Media`.

    Each iterator opens the file for itself and closes it at its end. So frames never wait for audio
    or the reverse. Raises SourceError for anything that cannot be played.
    """

    sample_rate_hz = 16_000

    def __init__(
        self, path: str | Path, *, video_track: int = AUTO, audio_track: int = AUTO
    ) -> None:
        """`video_track`, `audio_track`: as in the configuration."""
        self.path = Path(path)
        self._name = show_source(str(path))
        self.corrupt_packets = 0
        """Skipped packets that could not be decoded, in all iterators so far."""
        self.copies_per_frame = 2
        """Decoding and conversion to bgr8; a rotated video needs one more."""
        check_file(self.path)
        self._problems: dict[str, str] = {}
        self._video = self._choose("video", video_track)
        self._audio = self._choose("audio", audio_track)
        self.has_video = self._video is not None
        self.has_audio = self._audio is not None
        if self._video is None and self._audio is None:
            raise self._unplayable()
        for kind, problem in self._problems.items():
            _LOG.warning("%s: playing without its %s, which %s", self._name, kind, problem)
        self._origin_ns = min(t.start_ns for t in (self._video, self._audio) if t is not None)
        self._period: int | None = None
        self._key_gap_ns: int | None = None

    def frames(self, *, loop: bool = False, due_ns: DueTime | None = None) -> Iterator[VideoFrame]:
        """Yield each frame, bgr8, at its own time from the start of the clip. `due_ns`: see
        `Media`."""
        index = 0
        shift_ns = 0
        while True:
            begin = index
            catch_up = None if due_ns is None else self._make_catch_up(due_ns, shift_ns)
            for t_ns, image, shown_ns in self._decode_frames(catch_up):
                if loop and t_ns >= self._period_ns():
                    break
                if image is not None:
                    yield VideoFrame(shift_ns + t_ns, index, image, shown_ns=shown_ns)
                index += 1
            if not loop or index == begin:
                return
            shift_ns += self._period_ns()

    def chunks(self, *, loop: bool = False) -> Iterator[AudioChunk]:
        """Yield the audio in chunks of 10 ms, shorter only before a gap and at the end."""
        if self._audio is None:
            return
        size = int(self.sample_rate_hz * _CHUNK_S)
        start_ns = self._audio.start_ns - self._origin_ns
        pieces = self._loop_audio() if loop else self._decode_audio()
        for first, samples in split_chunks(pieces, size):
            t_ns = start_ns + first * 1_000_000_000 // self.sample_rate_hz
            yield AudioChunk(t_ns, first, samples)

    def _decode_frames(
        self, catch_up: CatchUp | None
    ) -> Iterator[tuple[int, NDArray[np.uint8] | None, int]]:
        """Yield (time since the start, image, how long it is shown). The image is None where
        `catch_up` left the frame out."""
        if self._video is None:
            return
        with open_container(self.path) as container:
            stream = self._stream(container, self._video)
            is_still = container.format.name.endswith("_pipe") or container.format.name == "image2"
            matrices = MatrixReader(self.path if is_still else None)
            times = FrameTimes(_frame_period_ns(stream))
            for frame, near in self._decode(container, self._video, times.repairs, catch_up):
                t_ns = times.place(time_ns(frame.pts, frame.time_base), near, duration_ns(frame))
                shown_ns = duration_ns(frame) or times.step_ns
                only = times.repairs.frames == 1 and not near.ahead
                if only and shown_ns <= _NOMINAL_NS:
                    shown_ns = _STILL_NS
                if catch_up is not None:
                    catch_up.shift_ns = times.repairs.shift_ns
                    for _ in range(catch_up.take_left_out()):
                        yield t_ns - self._origin_ns, None, 0
                    if catch_up.is_late(t_ns, shown_ns):
                        yield t_ns - self._origin_ns, None, 0
                        continue
                matrix = matrices.read(frame)
                self.copies_per_frame = 2 if matrix == UPRIGHT else 3
                image = to_image(frame, stream.sample_aspect_ratio)
                yield t_ns - self._origin_ns, turn_upright(image, matrix), shown_ns
            for _ in range(catch_up.take_left_out() if catch_up is not None else 0):
                yield 0, None, 0

    def _decode_audio(self) -> Iterator[tuple[int, Float32]]:
        """Yield (index of the first sample, samples). A jump of the index is a gap."""
        if self._audio is None:
            return
        resampler = Resampler(self.sample_rate_hz)
        times = AudioTimes()
        at = 0
        end_ns = self._audio.start_ns
        with open_container(self.path) as container:
            for frame, near in self._decode(container, self._audio, times.repairs):
                length_ns = _length_ns(frame)
                t_ns = times.place(time_ns(frame.pts, frame.time_base), near, length_ns)
                if t_ns != end_ns:
                    yield at, resampler.flush()
                    at = round((t_ns - self._audio.start_ns) * self.sample_rate_hz / 1e9)
                end_ns = t_ns + length_ns
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

    def _make_catch_up(self, due_ns: DueTime, shift_ns: int) -> CatchUp:
        if self._key_gap_ns is None:
            with open_container(self.path) as container:
                track = self._stream(container, self._video)
                self._key_gap_ns = 0 if track is None else find_key_gap(container, track)
        return CatchUp(lambda: due_ns() - shift_ns + self._origin_ns, self._key_gap_ns)

    def _period_ns(self) -> int:
        return self._period_samples() * 1_000_000_000 // self.sample_rate_hz

    def _period_samples(self) -> int:
        """Return the length of one round of the loop, in whole samples."""
        if self._period is None:
            with open_container(self.path) as container:
                # Without a stated duration the file must be read to its end.
                if container.duration:
                    end_s = Fraction(container.duration, av.time_base)
                else:
                    end_s = _scan_end_s(container) - Fraction(self._origin_ns, 1_000_000_000)
            self._period = max(1, round(end_s * self.sample_rate_hz))
        return self._period

    def _choose(self, kind: str, wanted: int) -> _Track | None:
        """Return the best track of `kind` of which a frame can be decoded."""
        with open_container(self.path) as container:
            candidates = list_candidates(container, kind, wanted, self._name)
        for number in candidates:
            faults = PacketFaults()
            try:
                start_ns = self._find_start(kind, number, faults)
            except EncryptedError:
                self._problems.setdefault(kind, "is encrypted")
                continue
            if start_ns is not None:
                self._problems.pop(kind, None)
                return _Track(kind, number, start_ns)
            self._problems.setdefault(kind, faults.explain())
        return None

    def _find_start(self, kind: str, number: int, faults: PacketFaults) -> int | None:
        """Return the time of a track's first frame, None if there is none."""
        with open_container(self.path) as container:
            stream = getattr(container.streams, kind)[number]
            if kind == "video":
                self._check_size(stream.codec_context)
                if stream.codec_context.width == 0:  # the limit of pixels, or no header
                    faults.first_error = f"broken or over {MAX_PIXELS // 1_000_000} megapixels"
            for frame, near in decode_track(container, stream, None, faults):
                stated_ns = time_ns(frame.pts, frame.time_base)
                if kind == "video":
                    return FrameTimes(_frame_period_ns(stream)).place(stated_ns, near)
                return AudioTimes().place(stated_ns, near, _length_ns(frame))
        return None

    def _unplayable(self) -> SourceError:
        if "is encrypted" in self._problems.values():
            return SourceError(f"{self._name} is encrypted, and the program has no key")
        if not self._problems:
            return SourceError(f"{self._name} has neither video nor audio")
        reasons = ", ".join(f"its {kind} {why}" for kind, why in self._problems.items())
        return explain_unreadable(self.path, reasons)

    def _stream(self, container: Any, track: _Track | None) -> Any:
        return None if track is None else getattr(container.streams, track.kind)[track.number]

    def _decode(
        self, container: Any, track: _Track, repairs: Repairs, catch_up: CatchUp | None = None
    ) -> Iterator[tuple[Any, Nearby]]:
        """Yield a track's frames. Corrupt packets are counted, and warned of at the first and at
        the end, as are repaired timestamps."""
        faults = PacketFaults()
        stream = self._stream(container, track)
        other = self._stream(container, self._audio if track.kind == "video" else self._video)
        try:
            for frame, near in decode_track(container, stream, other, faults, catch_up):
                self._note_corrupt(track, faults)
                if track.kind == "video":
                    self._check_size(frame)
                yield frame, near
        except EncryptedError:
            _LOG.warning("%s: its %s is encrypted from here on", self._name, track.kind)
        finally:
            self._note_corrupt(track, faults)
            if faults.corrupt > 1:
                _LOG.warning(
                    "%s: %d of %d %s packets could not be decoded",
                    self._name,
                    faults.corrupt,
                    faults.packets,
                    track.kind,
                )
            if faults.joins:
                times = "once" if faults.joins == 1 else f"{faults.joins} times"
                _LOG.warning("%s: %s timestamps start anew %s", self._name, track.kind, times)
            if repaired := repairs.describe():
                _LOG.warning("%s: %s timestamps repaired: %s", self._name, track.kind, repaired)

    def _note_corrupt(self, track: _Track, faults: PacketFaults) -> None:
        if faults.corrupt and not faults.noted:
            _LOG.warning(
                "%s: skipping %s packets that cannot be decoded: %s",
                self._name,
                track.kind,
                faults.first_error,
            )
        self.corrupt_packets += faults.corrupt - faults.noted
        faults.noted = faults.corrupt

    def _check_size(self, image: Any) -> None:
        if image.width * image.height > MAX_PIXELS:
            raise SourceError(
                f"{self._name}: frames of {image.width}x{image.height} are too large, "
                f"the limit is {MAX_PIXELS // 1_000_000} megapixels"
            )


def _frame_period_ns(stream: Any) -> int:
    """Return the time from one frame to the next, as the file states it."""
    for rate in (stream.guessed_rate, stream.average_rate):
        if rate and Fraction(1, 100) <= rate <= _MAX_FPS:
            return round(1_000_000_000 / rate)
    return 1_000_000_000 // _USUAL_FPS


def _length_ns(frame: Any) -> int:
    return int(frame.samples) * 1_000_000_000 // int(frame.sample_rate)


def _scan_end_s(container: Any) -> Fraction:
    end_s = Fraction(0)
    for count, packet in enumerate(container.demux()):
        if packet.pts is not None:
            end_s = max(end_s, (packet.pts + (packet.duration or 0)) * packet.time_base)
        if count > _MAX_SCAN:
            break
    return end_s
