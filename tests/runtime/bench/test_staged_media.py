"""Media on their way into a scenario: what is shown and heard, to the picture and the sample."""

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
    """Three pictures, 40 ms apart, that start over; sound in chunks of 100 ms."""

    sample_rate_hz = 1000
    has_video = has_audio = True
    copies_per_frame = 0

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.images = [rng.integers(0, 256, (6, 8, 3), np.uint8) for _ in range(3)]

    def frames(self, *, loop: bool = False) -> Iterator[VideoFrame]:
        for index in range(10_000 if loop else 3):
            yield VideoFrame(index * 40_000_000, index, self.images[index % 3])

    def chunks(self, *, loop: bool = False) -> Iterator[AudioChunk]:
        for number in range(1000 if loop else 1):
            first = number * 100
            yield AudioChunk(first * 1_000_000, first, np.zeros(100, np.float32))


def test_frames_come_at_the_rate() -> None:
    """The clip's own times do not matter; its pictures are shown as they are, again and again."""
    clip = Clip()
    frames = list(islice(StagedMedia(clip, 10.0, [Phase("steady", 0, 9)]).frames(loop=True), 5))
    assert [frame.t_ns for frame in frames] == [n * SECOND // 10 for n in range(5)]
    assert [frame.index for frame in frames] == list(range(5))
    assert all(frame.image is clip.images[n % 3] for n, frame in enumerate(frames))


def test_video_stops_and_resumes() -> None:
    """The gap is in the times and not in the numbers: nobody took those pictures."""
    phases = [Phase("both", 0, 1), Phase("no pictures", 1, 2, video=False), Phase("both", 2, 3)]
    frames = list(islice(StagedMedia(Clip(), 10.0, phases).frames(loop=True), 25))
    # The warm-up of 1 s comes before the first phase.
    assert [frame.t_ns * 10 // SECOND for frame in frames] == [*range(20), *range(30, 35)]
    assert [frame.index for frame in frames] == list(range(25))


def test_audio_stops_and_resumes() -> None:
    """The samples that were not heard are missing from the count, as with a real microphone."""
    phases = [Phase("both", 0, 1), Phase("no sound", 1, 2, audio=False), Phase("both", 2, 3)]
    chunks = list(islice(StagedMedia(Clip(), 10.0, phases).chunks(loop=True), 22))
    assert [chunk.first_sample for chunk in chunks] == [*range(0, 2000, 100), 3000, 3100]
    assert [chunk.t_ns for chunk in chunks] == [c.first_sample * 1_000_000 for c in chunks]


def test_faces_in_turn() -> None:
    """None, the clip's own, four of them; made before the first picture is asked for."""
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


def test_blank_image_has_one_colour() -> None:
    """The mean of each channel."""
    image = np.zeros((2, 2, 3), np.uint8)
    image[0] = (10, 20, 31)
    empty = blank_image(image)
    assert empty.shape == image.shape
    assert np.unique(empty.reshape(-1, 3), axis=0).tolist() == [[5, 10, 16]]


@pytest.mark.parametrize("shape", [(6, 8, 3), (7, 9, 3)])
def test_tiled_image_holds_four_images(shape: tuple[int, ...]) -> None:
    """Four times the same at half its size; an odd row or column is black."""
    image = np.full(shape, 200, np.uint8)
    image[:2, :2] = 100
    tiled = tile_image(image)
    assert tiled.shape == shape
    corners = [(y, x) for y in range(6) for x in range(8) if (tiled[y, x] == 100).all()]
    assert corners == [(0, 0), (0, 4), (3, 0), (3, 4)]
    assert not tiled[6:].any()
    assert not tiled[:, 8:].any()


class Recorded:
    """Ten pictures a second and 10 ms of sound at a time; sample n is n / 1e6."""

    sample_rate_hz = RATE
    copies_per_frame = 2

    def __init__(self, images: int = 5, chunks: int = 45) -> None:
        self._decode_frames, self._chunks = images, chunks
        self.has_video, self.has_audio = images > 0, chunks > 0

    def frames(self, *, loop: bool = False) -> Iterator[VideoFrame]:
        for n in range(self._decode_frames):
            yield VideoFrame(n * 100 * MS, n, np.full((4, 4, 3), n, np.uint8))

    def chunks(self, *, loop: bool = False) -> Iterator[AudioChunk]:
        for n in range(self._chunks):
            samples = np.arange(n * 160, (n + 1) * 160, dtype=np.float32) / 1e6
            yield AudioChunk(n * 10 * MS, n * 160, samples)


def test_frames_loop() -> None:
    """Numbered on, at the clip's rate, also from the last to the first."""
    preloaded = PreloadedMedia(Recorded())
    found = list(islice(preloaded.frames(loop=True), 12))
    assert [frame.index for frame in found] == list(range(12))
    assert [frame.t_ns for frame in found] == [n * 100 * MS for n in range(12)]
    assert [int(frame.image[0, 0, 0]) for frame in found] == [0, 1, 2, 3, 4] * 2 + [0, 1]
    assert len(list(preloaded.frames())) == 5


def test_audio_loops_with_the_frames() -> None:
    """Half a second a round: what the clip's sound lacks of that is silence."""
    preloaded = PreloadedMedia(Recorded())
    chunks = list(islice(preloaded.chunks(loop=True), 120))
    assert [chunk.first_sample for chunk in chunks] == [n * 160 for n in range(120)]
    audio = np.concatenate([chunk.samples for chunk in chunks])
    once = np.concatenate([np.arange(7200, dtype=np.float32) / 1e6, np.zeros(800, np.float32)])
    np.testing.assert_array_equal(audio[:16000], np.tile(once, 2))
    assert sum(chunk.samples.size for chunk in preloaded.chunks()) == 8000


@pytest.mark.parametrize("chunks", [1, 45])
def test_audio_alone(chunks: int) -> None:
    """All of it, however short."""
    preloaded = PreloadedMedia(Recorded(images=0, chunks=chunks))
    assert not preloaded.has_video
    assert sum(chunk.samples.size for chunk in preloaded.chunks()) == chunks * 160
    assert len(list(islice(preloaded.chunks(loop=True), 3))) == 3


def test_no_more_than_fits() -> None:
    """Pictures end where the memory does, and the sound with them."""
    preloaded = PreloadedMedia(Recorded(), max_bytes=100)
    assert len(list(preloaded.frames())) == 3
    assert preloaded.preloaded_bytes == 3 * 48
    assert sum(chunk.samples.size for chunk in preloaded.chunks()) == 4800


def test_played_without_background() -> None:
    """At the times of the clip, like any other media."""
    with Playback(PreloadedMedia(Recorded()), FakeClock(), background=False) as playback:
        assert playback.video is not None
        frames = [playback.video.read() for _ in range(5)]
        assert playback.video.read() is None
    assert [frame.index for frame in frames if frame is not None] == [0, 1, 2, 3, 4]
