"""Sound and pictures of one media file, decoded by PyAV (FFmpeg).

In: a file. Out: mono sound at a given rate, or pictures with their times. Times count from the
file's earliest picture or sample, so that the container's offset between the two survives.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from ..errors import DatasetError

MAX_SIDE_PX = 4096
_HAS_COVER = 0x400
"""FFmpeg's mark of a "video" that is the cover of an album."""


@contextmanager
def _open_media(path: Path, what: str) -> Iterator[Any]:
    """An open container; whatever goes wrong inside becomes a DatasetError that names `path`."""
    try:
        if path.stat().st_size == 0:
            raise DatasetError(f"{path}: is empty")
        # The absolute path, because FFmpeg takes "a:b.wav" for a protocol. Only files: a play list
        # must not make us open a connection.
        options = {"protocol_whitelist": "file"}
        with av.open(str(path.absolute()), options=options) as container:
            if container.format.name == "tty":  # FFmpeg would draw the letters of a text file
                raise DatasetError(f"{path}: not a {what} file but a text file")
            yield container
    except (av.FFmpegError, OSError, ValueError) as error:
        if isinstance(error, DatasetError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise DatasetError(f"{path}: not a {what} file that can be decoded: {reason}") from error


def _start_s(container: Any) -> float:
    return float(container.start_time or 0) / av.time_base


def decode_audio(path: Path, sample_rate_hz: int) -> tuple[NDArray[np.float32], float]:
    """The first sound track -> mono (n,) in -1..1 at `sample_rate_hz`, whatever rate it was stored
    at, and the time of its first sample in seconds. Raises DatasetError."""
    parts: list[NDArray[np.int32]] = []
    first_s: float | None = None
    with _open_media(path, "sound") as container:
        if not container.streams.audio:
            raise DatasetError(f"{path}: holds no sound")
        # Integers, as in the runtime: with floats FFmpeg makes two equal channels 1.41 times
        # too loud.
        resampler = av.AudioResampler("s32", "mono", sample_rate_hz)
        for frame in container.decode(audio=0):
            if first_s is None:
                first_s = float(frame.time or 0) - _start_s(container)
            parts += [r.to_ndarray()[0] for r in resampler.resample(frame)]
        if first_s is None:
            raise DatasetError(f"{path}: holds no sound")
        parts += [r.to_ndarray()[0] for r in resampler.resample(None)]
    return np.concatenate(parts).astype(np.float32) / np.float32(2**31), first_s


def decode_frames(path: Path, every_s: float = 0.0) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Pictures in order, at least `every_s` apart: (time in seconds, uint8 (H, W, 3) red first).

    Raises DatasetError, also in the middle of a file that breaks off.
    """
    due_s = float("-inf")
    index = -1
    with _open_media(path, "video") as container:
        stream = next((s for s in container.streams.video if not _is_cover(s)), None)
        if stream is None:
            raise DatasetError(f"{path}: holds no pictures")
        start_s = _start_s(container)
        period_s = 1.0 / float(stream.average_rate or 30)
        for index, frame in enumerate(container.decode(stream)):
            if max(frame.width, frame.height) > MAX_SIDE_PX:
                raise DatasetError(
                    f"{path}: pictures of {frame.width}x{frame.height}, allowed: up to"
                    f" {MAX_SIDE_PX}x{MAX_SIDE_PX}"
                )
            # A broken file may not say when.
            t_s = index * period_s if frame.time is None else max(0.0, frame.time - start_s)
            if t_s < due_s:
                continue
            # Half a millisecond less, as containers round times to 1 ms.
            due_s = t_s + every_s - 0.0005
            # Phones store portrait clips sideways, with a note how to turn them (PyAV >= 14).
            turns = round(getattr(frame, "rotation", 0) / 90) % 4
            yield t_s, np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns))
    if index < 0:
        raise DatasetError(f"{path}: holds no pictures")


def _is_cover(stream: Any) -> bool:
    # PyAV < 13 cannot tell.
    return bool(int(getattr(stream, "disposition", 0) or 0) & _HAS_COVER)
