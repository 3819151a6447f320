"""Turns frames of a camera that is mounted sideways or upside down, or shows a mirror image.

In: frames in any pixel format. Out: the same frames, rotated clockwise and then mirrored, in memory
of their own. The GPU cannot read that memory in place, so it gets a staged copy of the face.

A quarter turn of YUYV gives NV12: two pixels side by side share their chroma, and afterwards they
would lie above each other. Encoding and range stay; so does the luma, which the face network reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ...kernels.pixels import find_format
from ..messages import AudioChunk, CapturePath, VideoFrame, VideoSource
from .catching_up import DueTime
from .playback import Media

Bytes = NDArray[np.uint8]

_ROTATIONS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


@dataclass(frozen=True, slots=True)
class Turn:
    """How to turn a picture: clockwise by `rotate` degrees (0, 90, 180, 270), then mirrored."""

    rotate: int = 0
    mirror: bool = False

    @property
    def is_none(self) -> bool:
        return self.rotate == 0 and not self.mirror

    def apply(self, frame: VideoFrame) -> VideoFrame:
        """Return a turned copy of a frame."""
        layout = find_format(frame.format).layout
        if layout == "nv12":
            return self._replace(frame, self._turn_nv12(*_split_nv12(frame.image)))
        if layout != "yuyv":
            return self._replace(frame, self._turn_plane(frame.image))
        if self.rotate in (90, 270):
            image = self._turn_nv12(*_separate_yuyv(frame.image))
            return self._replace(frame, image, frame.format.replace("yuyv", "nv12"))
        return self._replace(frame, self._turn_yuyv(frame.image))

    def _replace(self, frame: VideoFrame, image: Bytes, pixel_format: str = "") -> VideoFrame:
        return replace(frame, image=image, format=pixel_format or frame.format, device_ptr=0)

    def _turn_plane(self, plane: Bytes) -> Bytes:
        """Turn an image (height, width) or (height, width, channels) with a value per pixel."""
        if self.rotate:
            plane = np.asarray(cv2.rotate(plane, _ROTATIONS[self.rotate]), np.uint8)
        return np.asarray(cv2.flip(plane, 1), np.uint8) if self.mirror else plane

    def _turn_nv12(self, luma: Bytes, chroma: Bytes) -> Bytes:
        luma, chroma = self._turn_plane(luma), self._turn_plane(chroma)
        return np.concatenate((luma, chroma.reshape(-1, luma.shape[1])))

    def _turn_yuyv(self, image: Bytes) -> Bytes:
        """Turn by 0 or 180 degrees and mirror; the two pixels of a pair change places."""
        height, width, _ = image.shape
        pairs = self._turn_plane(image.reshape(height, width // 2, 4))
        if self.mirror != (self.rotate == 180):
            pairs = np.asarray(cv2.cvtColor(pairs, cv2.COLOR_BGRA2RGBA), np.uint8)
        return pairs.reshape(height, width, 2)


class TurnedVideo:
    """A VideoSource whose frames are turned."""

    def __init__(self, source: VideoSource, turn: Turn) -> None:
        self._source = source
        self._turn = turn

    @property
    def path(self) -> CapturePath:
        """One more copy, which the GPU does not read in place."""
        path = self._source.path
        return replace(path, copies_per_frame=path.copies_per_frame + 1, zero_copy="none")

    def read(self) -> VideoFrame | None:
        frame = self._source.read()
        return None if frame is None else self._turn.apply(frame)

    def close(self) -> None:
        self._source.close()


class TurnedMedia:
    """Media whose frames are turned."""

    def __init__(self, media: Media, turn: Turn) -> None:
        self._media = media
        self._turn = turn
        self.sample_rate_hz = media.sample_rate_hz
        self.has_video, self.has_audio = media.has_video, media.has_audio

    @property
    def copies_per_frame(self) -> int:
        return self._media.copies_per_frame + 1

    def frames(self, *, loop: bool = False, due_ns: DueTime | None = None) -> Iterator[VideoFrame]:
        return map(self._turn.apply, self._media.frames(loop=loop, due_ns=due_ns))

    def chunks(self, *, loop: bool = False) -> Iterator[AudioChunk]:
        return self._media.chunks(loop=loop)


def _split_nv12(image: Bytes) -> tuple[Bytes, Bytes]:
    """Return luma (height, width) and chroma (height / 2, width / 2, 2)."""
    height = image.shape[0] // 3 * 2
    return image[:height], image[height:].reshape(height // 2, -1, 2)


def _separate_yuyv(image: Bytes) -> tuple[Bytes, Bytes]:
    """Return luma (height, width), and chroma (height / 2, width / 2, 2) as the mean of two rows.
    The last row of an odd height is left out."""
    height = image.shape[0] // 2 * 2
    pairs = image[:height].reshape(height, -1, 4)
    chroma = np.ascontiguousarray(pairs[:, :, 1::2])
    means = cv2.addWeighted(chroma[0::2], 0.5, chroma[1::2], 0.5, 0)
    luma = cv2.extractChannel(image[:height], 0)
    return np.asarray(luma, np.uint8), np.asarray(means, np.uint8)
