"""Media of a scenario, to the frame and the sample."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest

from emotion_edge.runtime.bench.scenarios import Phase
from emotion_edge.runtime.bench.staged_media import (
    PreloadedMedia,
    StagedMedia,
    blank_image,
    tile_image,
)
from emotion_edge.runtime.capture.playback import Playback
from emotion_edge.runtime.clock import FakeClock
from emotion_edge.runtime.messages import AudioChunk, VideoFrame

SECOND = 1_000_000_000
MS = 1_000_000
RATE = 16_000


class Clip:
    """Three frames, 40 ms apart, in a loop, and audio in chunks of 100 ms."""

    sample_rate_hz = 1000
    has_video = has_audio = True
    copies_per_frame = 0

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.images = [rng.integers(0, 256, (6, 8, 3), np.uint8) for _ in range(3)]

    def frames(self, *, loop: bool = False, due_ns: object = None) -> Iterator[VideoFrame]:
        for index in range(10_000 if loop else 3):
            yield VideoFrame(index * 40_000_000, index, self.images[index % 3], shown_ns=40_000_000)

    def chunks(self, *, loop: bool = False) -> Iterator[AudioChunk]:
        for number in range(1000 if loop else 1):
            first = number * 100
            yield AudioChunk(first * 1_000_000, first, np.zeros(100, np.float32))


def test_frames_come_at_the_rate() -> None:
    """The clip's times are replaced. Its images are not copied."""
    clip = Clip()
    frames = list(islice(StagedMedia(clip, 10.0, [Phase("steady", 0, 9)]).frames(loop=True), 5))
    assert [frame.t_ns for frame in frames] == [n * SECOND // 10 for n in range(5)]
    assert [frame.index for frame in frames] == list(range(5))
    assert all(frame.image is clip.images[n % 3] for n, frame in enumerate(frames))


def test_video_stops_and_resumes() -> None:
    """The gap is in the times and not in the numbers."""
    phases = [Phase("both", 0, 1), Phase("no frames", 1, 2, video=False), Phase("both", 2, 3)]
    frames = list(islice(StagedMedia(Clip(), 10.0, phases).frames(loop=True), 25))
    # The warm-up of 1 s comes before the first phase.
    assert [frame.t_ns * 10 // SECOND for frame in frames] == [*range(20), *range(30, 35)]
    assert [frame.index for frame in frames] == list(range(25))
    assert {frame.shown_ns for frame in frames} == {0}


def test_audio_stops_and_resumes() -> None:
    """Missing samples are counted, as with a microphone."""
    phases = [Phase("both", 0, 1), Phase("no audio", 1, 2, audio=False), Phase("both", 2, 3)]
    chunks = list(islice(StagedMedia(Clip(), 10.0, phases).chunks(loop=True), 22))
    assert [chunk.first_sample for chunk in chunks] == [*range(0, 2000, 100), 3000, 3100]
    assert [chunk.t_ns for chunk in chunks] == [c.first_sample * 1_000_000 for c in chunks]


def test_faces_in_turn() -> None:
    """No face, the clip's, four faces. The images are made in advance."""
    clip = Clip()
    phases = [Phase("0", 0, 1, faces=0), Phase("1", 1, 2, faces=1), Phase("4", 2, 3, faces=4)]
    media = StagedMedia(clip, 10.0, phases)
    assert media.generated_bytes == 4 * 6 * 8 * 3
    frames = list(islice(media.frames(loop=True), 40))
    assert all(np.array_equal(f.image, blank_image(clip.images[0])) for f in frames[:20])
    assert all(f.image is clip.images[n % 3] for n, f in enumerate(frames[20:30], 20))
    assert all(
        np.array_equal(f.image, tile_image(clip.images[n % 3]))
        for n, f in enumerate(frames[30:], 30)
    )
    assert frames[30].image is frames[33].image


def test_blank_image_has_one_color() -> None:
    image = np.zeros((2, 2, 3), np.uint8)
    image[0] = (10, 20, 31)
    blank = blank_image(image)
    assert blank.shape == image.shape
    assert np.unique(blank.reshape(-1, 3), axis=0).tolist() == [[5, 10, 16]]


@pytest.mark.parametrize("shape", [(6, 8, 3), (7, 9, 3)])
def test_tiled_image_holds_four_images(shape: tuple[int, ...]) -> None:
    """Each is half as large. An odd row or column is black."""
    image = np.full(shape, 200, np.uint8)
    image[:2, :2] = 100
    tiled = tile_image(image)
    assert tiled.shape == shape
    corners = [(y, x) for y in range(6) for x in range(8) if (tiled[y, x] == 100).all()]
    assert corners == [(0, 0), (0, 4), (3, 0), (3, 4)]
    assert not tiled[6:].any()
    assert not tiled[:, 8:].any()


class Recorded:
    """Ten frames a second and audio in chunks of 10 ms, with sample n at n / 1e6."""

    sample_rate_hz = RATE
    copies_per_frame = 2

    def __init__(self, images: int = 5, chunks: int = 45) -> None:
        self._decode_frames, self._chunks = images, chunks
        self.has_video, self.has_audio = images > 0, chunks > 0

    def frames(self, *, loop: bool = False, due_ns: object = None) -> Iterator[VideoFrame]:
        for n in range(self._decode_frames):
            yield VideoFrame(n * 100 * MS, n, np.full((4, 4, 3), n, np.uint8))

    def chunks(self, *, loop: bool = False) -> Iterator[AudioChunk]:
        for n in range(self._chunks):
            samples = np.arange(n * 160, (n + 1) * 160, dtype=np.float32) / 1e6
            yield AudioChunk(n * 10 * MS, n * 160, samples)


def test_frames_loop() -> None:
    """Numbers and times continue at the clip's rate."""
    preloaded = PreloadedMedia(Recorded())
    frames = list(islice(preloaded.frames(loop=True), 12))
    assert [frame.index for frame in frames] == list(range(12))
    assert [frame.t_ns for frame in frames] == [n * 100 * MS for n in range(12)]
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [0, 1, 2, 3, 4] * 2 + [0, 1]
    assert len(list(preloaded.frames())) == 5


def test_audio_loops_with_the_frames() -> None:
    """A loop takes half a second. Missing audio is silence."""
    preloaded = PreloadedMedia(Recorded())
    chunks = list(islice(preloaded.chunks(loop=True), 120))
    assert [chunk.first_sample for chunk in chunks] == [n * 160 for n in range(120)]
    audio = np.concatenate([chunk.samples for chunk in chunks])
    once = np.concatenate([np.arange(7200, dtype=np.float32) / 1e6, np.zeros(800, np.float32)])
    np.testing.assert_array_equal(audio[:16000], np.tile(once, 2))
    assert sum(chunk.samples.size for chunk in preloaded.chunks()) == 8000


@pytest.mark.parametrize("chunks", [1, 45])
def test_audio_alone(chunks: int) -> None:
    """A clip without frames is its audio, however short."""
    preloaded = PreloadedMedia(Recorded(images=0, chunks=chunks))
    assert not preloaded.has_video
    assert sum(chunk.samples.size for chunk in preloaded.chunks()) == chunks * 160
    assert len(list(islice(preloaded.chunks(loop=True), 3))) == 3


def test_memory_limit() -> None:
    preloaded = PreloadedMedia(Recorded(), max_bytes=100)
    assert len(list(preloaded.frames())) == 3
    assert preloaded.preloaded_bytes == 3 * 48
    assert sum(chunk.samples.size for chunk in preloaded.chunks()) == 4800


def test_played_without_background() -> None:
    """Playback reads it like other media."""
    with Playback(PreloadedMedia(Recorded()), FakeClock(), background=False) as playback:
        assert playback.video is not None
        frames = [playback.video.read() for _ in range(5)]
        assert playback.video.read() is None
    assert [frame.index for frame in frames if frame is not None] == [0, 1, 2, 3, 4]
