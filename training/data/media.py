"""Audio and video frames of a media file, decoded by PyAV (FFmpeg).

In: a file. Out: mono audio at a given rate, or frames with their times. Times count from the
earliest frame or sample of the file, so that the container's offset between the two is preserved.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from ...kernels.channel_mixer import ChannelMixer, to_float
from ..errors import DatasetError

MAX_SIDE_PX = 4096
"""Larger images are shrunk to this: the face detector works on 320 px anyway."""
MIN_COMPLETE = 0.9
"""Share of the stated duration below which a file counts as truncated."""
UNKNOWN_SIZE = 0xFFFF0000
"""Programs that write to a pipe state about this size."""
EXACT_DURATION = {"w64", "aiff", "flac"}
"""Formats whose header states the number of samples."""
_IS_DEFAULT, _HAS_COVER = 0x1, 0x400
"""FFmpeg's flags of a default track, and of a video stream that is an album cover."""
_MAX_ASPECT = 8
"""A pixel that is longer than this is a mistake of the file."""


@contextmanager
def _open_media(path: Path, kind: str) -> Iterator[Any]:
    """Open a container. Errors inside the `with` block become DatasetErrors that name `path`."""
    try:
        if path.stat().st_size == 0:
            raise DatasetError(f"{path}: empty file")
        # The absolute path, because FFmpeg takes "a:b.wav" for a protocol. Only files, because a
        # playlist must not open a connection.
        options = {"protocol_whitelist": "file"}
        file = str(path.absolute())
        # Titles may be in any encoding.
        with av.open(file, options=options, metadata_errors="replace") as container:
            if container.format.name == "tty":  # FFmpeg renders text files
                raise DatasetError(f"{path}: not a {kind} file but a text file")
            yield container
    except (av.FFmpegError, OSError, ValueError) as error:
        if isinstance(error, DatasetError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise DatasetError(f"{path}: not a decodable {kind} file: {reason}") from error


def _start_s(container: Any) -> float:
    return float(container.start_time or 0) / av.time_base


def decode_audio(path: Path, sample_rate_hz: int) -> tuple[NDArray[np.float32], float]:
    """Decode the default audio track, else the first -> mono (n,) in -1..1 at `sample_rate_hz`,
    mixed as on the device and resampled if needed, and the time of its first sample in seconds.
    Raises DatasetError, also for a file that holds less than its header states, or samples that
    are not finite."""
    parts: list[NDArray[np.float32]] = []
    first_s: float | None = None
    with _open_media(path, "audio") as container:
        stream = _pick_track(container.streams.audio)
        if stream is None:
            raise DatasetError(f"{path}: no audio")
        stated_s = _stated_duration_s(path, container)
        resampler = av.AudioResampler("flt", "mono", sample_rate_hz)
        mixer: ChannelMixer | None = None
        for frame in container.decode(stream):
            num_channels = len(frame.layout.channels)
            if mixer is None or num_channels != mixer.num_channels:
                mixer = ChannelMixer(num_channels, frame.sample_rate)
            if first_s is None:
                first_s = float(frame.time or 0) - _start_s(container)
            samples = to_float(frame.to_ndarray(), num_channels)
            if not np.isfinite(samples).all():
                raise DatasetError(f"{path}: holds samples that are not finite numbers")
            mono = av.AudioFrame.from_ndarray(mixer.mix(samples)[None], "flt", "mono")
            mono.sample_rate = frame.sample_rate
            parts += [r.to_ndarray()[0] for r in resampler.resample(mono)]
        if first_s is None:
            raise DatasetError(f"{path}: no audio")
        parts += [r.to_ndarray()[0] for r in resampler.resample(None)]
    audio = np.concatenate(parts)
    held_s = len(audio) / sample_rate_hz
    if held_s < MIN_COMPLETE * stated_s:
        raise DatasetError(
            f"{path}: truncated: holds {held_s:.2f} s, its header states {stated_s:.2f} s"
        )
    return audio, first_s


def decode_frames(path: Path, every_s: float = 0.0) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Yield frames in order, at least `every_s` apart: (time in seconds, RGB uint8 (H, W, 3)).

    Raises DatasetError, also in the middle of a truncated file.
    """
    due_s = float("-inf")
    index = -1
    with _open_media(path, "video") as container:
        stream = _pick_track(container.streams.video)
        if stream is None:
            raise DatasetError(f"{path}: no video")
        start_s = _start_s(container)
        period_s = 1.0 / float(stream.average_rate or 30)
        for index, frame in enumerate(container.decode(stream)):
            # Damaged files can lack times.
            t_s = index * period_s if frame.time is None else max(0.0, frame.time - start_s)
            if t_s < due_s:
                continue
            # Half a millisecond less, because containers round times to 1 ms.
            due_s = t_s + every_s - 0.0005
            # Phones store portrait clips rotated, with a rotation tag (PyAV >= 14).
            turns = round(getattr(frame, "rotation", 0) / 90) % 4
            yield t_s, np.ascontiguousarray(np.rot90(_to_square_pixels(frame, stream), turns))
    if index < 0:
        raise DatasetError(f"{path}: no video")


def _stated_duration_s(path: Path, container: Any) -> float:
    """Return the duration that the header states, 0 where it states none."""
    if container.format.name == "wav":
        # FFmpeg corrects the duration of a file that ends early, so the header is read here.
        return _read_wav_duration_s(path)
    if container.format.name in EXACT_DURATION:
        return float(container.duration or 0) / av.time_base
    return 0.0


def _read_wav_duration_s(path: Path) -> float:
    """Return the length of the chunk "data" over the bytes per second of the chunk "fmt "."""
    bytes_per_s = 0
    with path.open("rb") as file:
        if file.read(4) != b"RIFF":  # RF64 of large files
            return 0.0
        file.seek(12)
        while len(head := file.read(8)) == 8:
            name, size = struct.unpack("<4sI", head)
            if name == b"data":
                stated = 0 if size >= UNKNOWN_SIZE else size  # a stream of unknown length
                return stated / bytes_per_s if bytes_per_s else 0.0
            if name == b"fmt ":
                bytes_per_s = int.from_bytes(file.read(min(size, 12))[8:12], "little")
                size -= min(size, 12)
            file.seek(size + size % 2, 1)
    return 0.0


def fit_size(width: int, height: int) -> tuple[int, int]:
    """Return width and height, shrunk to `MAX_SIDE_PX` if one is longer."""
    scale = min(1.0, MAX_SIDE_PX / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _to_square_pixels(frame: Any, stream: Any) -> NDArray[np.uint8]:
    """Return the image in RGB. Like the runtime's, it grows in the direction of longer pixels,
    and is shrunk to `MAX_SIDE_PX` if it is larger."""
    width, height = frame.width, frame.height
    aspect = stream.sample_aspect_ratio
    if aspect and 1 / _MAX_ASPECT <= aspect <= _MAX_ASPECT:
        width, height = round(width * max(1, aspect)), round(height / min(1, aspect))
    width, height = fit_size(width, height)
    image: NDArray[np.uint8] = frame.to_ndarray(format="rgb24", width=width, height=height)
    return image


def _pick_track(streams: Any) -> Any | None:
    """Return the default track, else the first that is no cover."""
    tracks = [stream for stream in streams if not _flags(stream) & _HAS_COVER]
    return next((each for each in tracks if _flags(each) & _IS_DEFAULT), next(iter(tracks), None))


def _flags(stream: Any) -> int:
    return int(getattr(stream, "disposition", 0) or 0)  # PyAV < 13 has none
