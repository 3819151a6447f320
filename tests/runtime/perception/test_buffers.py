"""The buffers between the threads, against a plain list."""

from __future__ import annotations

import threading

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from emotion_edge.runtime.messages import AudioChunk, VideoFrame
from emotion_edge.runtime.perception.buffers import AudioRing, FrameRing


def make_frame(index: int) -> VideoFrame:
    return VideoFrame(index, index, np.zeros((1, 1, 3), np.uint8))


def make_chunk(first: int, count: int) -> AudioChunk:
    """Samples whose value is their number."""
    return AudioChunk(0, first, np.arange(first, first + count, dtype=np.float32))


def test_newest_frame_wins() -> None:
    """A slow reader gets the newest frame and the number of frames it missed; then nothing."""
    ring = FrameRing()
    assert ring.take(0) == (None, 0)
    for index in range(4):
        ring.put(make_frame(index))
    frame, dropped = ring.take(0)
    assert frame is not None
    assert (frame.index, dropped) == (3, 3)
    assert ring.take(0) == (None, 0)
    assert ring.newest() is frame
    ring.put(make_frame(4))
    assert ring.take(0)[1] == 0


def test_end_wakes_the_reader() -> None:
    """A waiting reader returns; a frame not yet taken is still given."""
    ring = FrameRing()
    taken: list[object] = []
    reader = threading.Thread(target=lambda: taken.append(ring.take(30.0)))
    reader.start()
    ring.end()
    reader.join()
    assert taken == [(None, 0)]
    assert ring.ended
    ring = FrameRing()
    ring.put(make_frame(7))
    ring.end()
    assert ring.take(30.0)[0] is ring.newest()
    assert ring.take(30.0) == (None, 0)


def test_no_frame_after_the_end() -> None:
    """A frame put after the end is not stored, as nothing would overwrite it."""
    ring = FrameRing()
    ring.end()
    ring.put(make_frame(7))
    assert ring.newest() is None
    assert ring.take(0) == (None, 0)


def test_frame_is_wiped() -> None:
    """It is overwritten in place and dropped, taken or not. A second wipe does nothing. A read-only
    frame is the source's to overwrite."""
    for take in (False, True):
        ring = FrameRing()
        frame = VideoFrame(0, 0, np.full((4, 5, 3), 200, np.uint8))
        ring.put(frame)
        if take:
            ring.take(0)
        ring.wipe()
        ring.wipe()
        assert not frame.image.any()
        assert ring.newest() is None
        assert ring.take(0) == (None, 0)
    mapped = np.full((4, 5, 3), 200, np.uint8)
    mapped.flags.writeable = False
    ring.put(VideoFrame(0, 0, mapped))
    ring.wipe()
    assert ring.newest() is None


@given(
    capacity=st.integers(1, 40),
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("put"), st.integers(0, 90), st.just(0)),
            st.tuples(st.just("read"), st.integers(0, 300), st.integers(0, 50)),
        ),
        max_size=40,
    ),
)
def test_audio_ring_keeps_the_newest_samples(
    capacity: int, steps: list[tuple[str, int, int]]
) -> None:
    """A read equals that of a list of the last `capacity` samples, whatever was put and read."""
    ring = AudioRing(capacity)
    model: list[float] = []
    for what, number, room in steps:
        if what == "put":
            ring.put(make_chunk(len(model), number))
            model.extend(range(len(model), len(model) + number))
            assert ring.end_sample == len(model)
            continue
        into = np.full(room, -1, np.float32)
        got_first, count = ring.read(number, into)
        assert got_first == max(number, len(model) - capacity)
        assert count == min(room, max(0, len(model) - got_first))
        assert into[:count].tolist() == model[got_first : got_first + room]
        assert (into[count:] == -1).all()


def test_waiting_for_audio() -> None:
    """True at once for samples in the ring, later for new ones, False without them."""
    ring = AudioRing(100)
    ring.put(make_chunk(0, 10))
    assert ring.wait_for(10, 30.0)
    assert not ring.wait_for(11, 0.001)
    answers: list[bool] = []
    reader = threading.Thread(target=lambda: answers.append(ring.wait_for(20, 30.0)))
    reader.start()
    ring.put(make_chunk(10, 10))
    reader.join()
    assert answers == [True]


def test_clear_zeroes_the_audio() -> None:
    """No audio is left in memory."""
    ring = AudioRing(8)
    ring.put(make_chunk(1, 8))
    ring.clear()
    into = np.ones(8, np.float32)
    assert ring.read(0, into) == (0, 8)
    assert not into.any()
