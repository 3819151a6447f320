"""Audio and video frames of a media file, decoded by PyAV (FFmpeg).

In: a file. Out: mono audio at a given rate, or frames with their times. Times count from the
earliest frame or sample of the file, so that the container's offset between the two is preserved.
"""

from __future__ import annotations

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
    resampled if needed, and the time of its first sample in seconds. Raises DatasetError."""
    parts: list[NDArray[np.float32]] = []
    first_s: float | None = None
    with _open_media(path, "audio") as container:
        stream = _pick_track(container.streams.audio)
        if stream is None:
            raise DatasetError(f"{path}: no audio")
        resampler = av.AudioResampler("flt", "mono", sample_rate_hz)
        mixer: ChannelMixer | None = None
        for frame in container.decode(stream):
            num_channels = len(frame.layout.channels)
            if mixer is None or num_channels != mixer.num_channels:
                mixer = ChannelMixer(num_channels, frame.sample_rate)
            if first_s is None:
                first_s = float(frame.time or 0) - _start_s(container)
            mixed = mixer.mix(to_float(frame.to_ndarray(), num_channels))
            mono = av.AudioFrame.from_ndarray(mixed[None], format="flt", layout="mono")
            mono.sample_rate = frame.sample_rate
            parts += [r.to_ndarray()[0] for r in resampler.resample(mono)]
        if first_s is None:
            raise DatasetError(f"{path}: no audio")
        parts += [r.to_ndarray()[0] for r in resampler.resample(None)]
    return np.concatenate(parts), first_s


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
            if max(frame.width, frame.height) > MAX_SIDE_PX:
                raise DatasetError(
                    f"{path}: frames of {frame.width}x{frame.height}, allowed: up to"
                    f" {MAX_SIDE_PX}x{MAX_SIDE_PX}"
                )
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


def _to_square_pixels(frame: Any, stream: Any) -> NDArray[np.uint8]:
    """Return the image in RGB. Like the runtime's, it grows in the direction of longer pixels."""
    width, height = frame.width, frame.height
    aspect = stream.sample_aspect_ratio
    if aspect and 1 / _MAX_ASPECT <= aspect <= _MAX_ASPECT:
        width, height = round(width * max(1, aspect)), round(height / min(1, aspect))
    image: NDArray[np.uint8] = frame.to_ndarray(format="rgb24", width=width, height=height)
    return image


def _pick_track(streams: Any) -> Any | None:
    """Return the default track, else the first that is no cover."""
    tracks = [stream for stream in streams if not _flags(stream) & _HAS_COVER]
    return next((each for each in tracks if _flags(each) & _IS_DEFAULT), next(iter(tracks), None))


def _flags(stream: Any) -> int:
    return int(getattr(stream, "disposition", 0) or 0)  # PyAV < 13 has none
