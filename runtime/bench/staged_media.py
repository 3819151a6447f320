"""Media of a scenario: a preloaded clip, and its frames at an exact rate, removed or changed.

In: a clip or the demo, and the scenario's phases. Out: media that cost nothing while they play. A
camera's frames do not come later on a busy processor, but a file's do, because of the decoder. So a
benchmark decodes before it begins, and makes all changed images before the run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ..capture import DueTime, Media, merge_events
from ..messages import AudioChunk, Float32, VideoFrame
from .recorder import WARM_UP_S
from .scenarios import Phase, find_phase

Image = NDArray[np.uint8]

MAX_PRELOAD_BYTES = 400_000_000
"""About five seconds at 1280x720."""
MAX_PRELOAD_NS = 20_000_000_000
_CHUNK_S = 0.01


class PreloadedMedia:
    """The beginning of `media`, decoded into memory, as much as fits."""

    copies_per_frame = 0

    def __init__(self, media: Media, max_bytes: int = MAX_PRELOAD_BYTES) -> None:
        self.sample_rate_hz = media.sample_rate_hz
        self._frames: list[VideoFrame] = []
        pieces: list[Float32] = []
        audio_start_ns = 0
        self.preloaded_bytes = 0
        end_ns = 0
        for event in merge_events(media):
            if event.t_ns >= MAX_PRELOAD_NS or self.preloaded_bytes >= max_bytes:
                break
            if isinstance(event, VideoFrame):
                self._frames.append(event)
                self.preloaded_bytes += event.image.nbytes
            else:
                if not pieces:
                    audio_start_ns = event.t_ns
                pieces.append(event.samples)
                end_ns = event.t_ns + round(event.samples.size / self.sample_rate_hz * 1e9)
        self.has_video, self.has_audio = bool(self._frames), bool(pieces)
        if self.has_video:  # a loop ends one frame after the last
            times = [frame.t_ns for frame in self._frames]
            step_ns = (times[-1] - times[0]) // max(1, len(times) - 1) or 1_000_000_000 // 30
            end_ns = times[-1] + step_ns
        self._period_ns = end_ns
        self._audio = np.zeros(round(end_ns * self.sample_rate_hz / 1e9), np.float32)
        if pieces:
            audio = np.concatenate(pieces)
            first = min(len(self._audio), round(audio_start_ns * self.sample_rate_hz / 1e9))
            self._audio[first : first + len(audio)] = audio[: len(self._audio) - first]

    def frames(self, *, loop: bool = False, due_ns: DueTime | None = None) -> Iterator[VideoFrame]:
        del due_ns  # no frame takes long
        index = shift_ns = 0
        while True:
            for frame in self._frames:
                yield replace(frame, t_ns=shift_ns + frame.t_ns, index=index)
                index += 1
            if not loop:
                return
            shift_ns += self._period_ns

    def chunks(self, *, loop: bool = False) -> Iterator[AudioChunk]:
        size = round(self.sample_rate_hz * _CHUNK_S)
        first, total = 0, len(self._audio)
        while loop or first < total:
            samples = self._audio.take(range(first, first + size), mode="wrap")
            t_ns = first * 1_000_000_000 // self.sample_rate_hz
            yield AudioChunk(t_ns, first, samples if loop else samples[: total - first])
            first += size


class StagedMedia:
    """Media with `fps` frames per second, changed in each phase.

    Removed frames have no number and the one before is not shown meanwhile, as with a camera that
    is unplugged. Removed audio samples are
    counted, as with a microphone.
    """

    def __init__(self, media: Media, fps: float, phases: Sequence[Phase]) -> None:
        self.sample_rate_hz = media.sample_rate_hz
        self.has_video, self.has_audio = media.has_video, media.has_audio
        self.copies_per_frame = media.copies_per_frame
        self._media = media
        self._fps = fps
        self._phases = phases
        self._blank: Image | None = None
        self._four: dict[int, Image] = {}
        """Tiled images by the identity of their original, which `media` keeps alive."""
        if any(phase.faces is not None for phase in phases):
            for frame in media.frames():
                if self._blank is None:
                    self._blank = blank_image(frame.image)
                self._four[id(frame.image)] = tile_image(frame.image)

    @property
    def generated_bytes(self) -> int:
        """Memory of the generated images."""
        blank = self._blank.nbytes if self._blank is not None else 0
        return blank + sum(image.nbytes for image in self._four.values())

    def frames(self, *, loop: bool = False, due_ns: DueTime | None = None) -> Iterator[VideoFrame]:
        del due_ns  # no frame takes long
        index = 0
        for number, frame in enumerate(self._media.frames(loop=loop)):
            t_ns = round(number * 1e9 / self._fps)
            phase = self._phase_at(t_ns)
            if phase.video:
                image = self._change(frame.image, phase.faces)
                yield replace(frame, t_ns=t_ns, index=index, image=image, shown_ns=0)
                index += 1

    def chunks(self, *, loop: bool = False) -> Iterator[AudioChunk]:
        for chunk in self._media.chunks(loop=loop):
            if self._phase_at(chunk.t_ns).audio:
                yield chunk

    def _phase_at(self, t_ns: int) -> Phase:
        return find_phase(self._phases, t_ns / 1e9 - WARM_UP_S)

    def _change(self, image: Image, faces: int | None) -> Image:
        if faces == 0 and self._blank is not None:
            return self._blank
        return self._four[id(image)] if faces == 4 else image


def blank_image(image: Image) -> Image:
    """Return an image of the same size in the mean color."""
    mean = image.reshape(-1, image.shape[-1]).mean(axis=0).round().astype(np.uint8)
    return np.broadcast_to(mean, image.shape).copy()


def tile_image(image: Image) -> Image:
    """Return an image of the same size with four copies at half size. Odd sizes end in black."""
    height, width = image.shape[0] // 2, image.shape[1] // 2
    even = image[: 2 * height, : 2 * width]
    small = np.asarray(cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    tiled = np.zeros_like(image)
    tiled[: 2 * height, : 2 * width] = np.tile(small, (2, 2, 1))
    return tiled
