"""A clip in memory: the same pictures and sounds, round after round."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest

from emotion_edge.runtime.bench.staged_media import PreloadedMedia
from emotion_edge.runtime.capture.playback import Playback
from emotion_edge.runtime.clock import FakeClock
from emotion_edge.runtime.messages import AudioChunk, VideoFrame

RATE = 16_000
MS = 1_000_000


class Clip:
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
    preloaded = PreloadedMedia(Clip())
    found = list(islice(preloaded.frames(loop=True), 12))
    assert [frame.index for frame in found] == list(range(12))
    assert [frame.t_ns for frame in found] == [n * 100 * MS for n in range(12)]
    assert [int(frame.image[0, 0, 0]) for frame in found] == [0, 1, 2, 3, 4] * 2 + [0, 1]
    assert len(list(preloaded.frames())) == 5


def test_audio_loops_with_the_frames() -> None:
    """Half a second a round: what the clip's sound lacks of that is silence."""
    preloaded = PreloadedMedia(Clip())
    chunks = list(islice(preloaded.chunks(loop=True), 120))
    assert [chunk.first_sample for chunk in chunks] == [n * 160 for n in range(120)]
    audio = np.concatenate([chunk.samples for chunk in chunks])
    once = np.concatenate([np.arange(7200, dtype=np.float32) / 1e6, np.zeros(800, np.float32)])
    np.testing.assert_array_equal(audio[:16000], np.tile(once, 2))
    assert sum(chunk.samples.size for chunk in preloaded.chunks()) == 8000


@pytest.mark.parametrize("chunks", [1, 45])
def test_audio_alone(chunks: int) -> None:
    """All of it, however short."""
    preloaded = PreloadedMedia(Clip(images=0, chunks=chunks))
    assert not preloaded.has_video
    assert sum(chunk.samples.size for chunk in preloaded.chunks()) == chunks * 160
    assert len(list(islice(preloaded.chunks(loop=True), 3))) == 3


def test_no_more_than_fits() -> None:
    """Pictures end where the memory does, and the sound with them."""
    preloaded = PreloadedMedia(Clip(), max_bytes=100)
    assert len(list(preloaded.frames())) == 3
    assert preloaded.preloaded_bytes == 3 * 48
    assert sum(chunk.samples.size for chunk in preloaded.chunks()) == 4800


def test_played_without_background() -> None:
    """At the times of the clip, like any other media."""
    with Playback(PreloadedMedia(Clip()), FakeClock(), background=False) as playback:
        assert playback.video is not None
        frames = [playback.video.read() for _ in range(5)]
        assert playback.video.read() is None
    assert [frame.index for frame in frames if frame is not None] == [0, 1, 2, 3, 4]
