"""What the fusion network is shown: each face's last second, the newest voice, no more."""

from __future__ import annotations

import itertools
import random
import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_edge.engines.base import Arrays
from emotion_edge.engines.embeddings import (
    MAX_FACE_AGE_NS,
    MIN_GAP_NS,
    FaceMemory,
    FusionInput,
)

MS = 1_000_000
NUM_FACES = 4
SPACING_MS = MAX_FACE_AGE_NS // (NUM_FACES - 1) / MS
SECOND_MS = MAX_FACE_AGE_NS / MS


def embedding(value: float) -> NDArray[np.float32]:
    return np.full(256, value, np.float32)


def read_faces(memory: FaceMemory, t_ms: float, num_faces: int = NUM_FACES) -> list[float]:
    """Return the values of the unmasked faces, oldest first; the others must be zeros."""
    feed = FusionInput(num_faces, 1).fill(round(t_ms * MS), [memory], voice=False)
    return list_faces(feed, 0, num_faces)


def list_faces(feed: Arrays, row: int, num_faces: int = NUM_FACES) -> list[float]:
    faces, mask = feed["faces"][row], feed["face_mask"][row]
    assert faces.shape == (num_faces, 256)
    assert (faces == faces[:, :1]).all()
    assert not faces[mask == 0].any()
    assert sorted(mask) == list(mask), "the newest are last"
    return [float(face[0]) for face in faces[mask == 1]]


def fill(memory: FaceMemory, times_ms: list[float]) -> None:
    """Add a face at each time, whose value is the time."""
    for t_ms in times_ms:
        memory.add(round(t_ms * MS), embedding(t_ms))


def test_input_is_empty_at_first() -> None:
    """All zeros, all masked, a row for each face."""
    for rows in (1, 2):
        feed = FusionInput(NUM_FACES, 2).fill(0, [FaceMemory(NUM_FACES)] * rows, voice=False)
        assert {name: array.shape for name, array in feed.items()} == {
            "faces": (rows, 4, 256),
            "face_mask": (rows, 4),
            "voice": (rows, 256),
            "voice_mask": (rows, 1),
        }
        assert all(array.dtype == np.float32 and not array.any() for array in feed.values())


def test_newest_is_last_and_the_oldest_leaves() -> None:
    """The last `num_faces`, in order."""
    memory = FaceMemory(NUM_FACES)
    seen = []
    for n in range(1, 7):
        fill(memory, [n * SPACING_MS])
        seen.append([round(t / SPACING_MS) for t in read_faces(memory, n * SPACING_MS)])
    assert seen == [[1], [1, 2], [1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5], [3, 4, 5, 6]]


@pytest.mark.parametrize("jitter", [0.0, 0.2])
@pytest.mark.parametrize("fps", [5, 10, 15, 29.97, 60, 120])
@pytest.mark.parametrize("num_faces", [4, 8])
def test_faces_span_the_second_at_any_rate(num_faces: int, fps: float, jitter: float) -> None:
    """From the newest face back to one second before it. Each gap is the grid spacing to within one
    frame period, or one frame period where that is longer."""
    noise = random.Random(1)
    times_ms = [(n + noise.uniform(-jitter, jitter)) * 1000 / fps for n in range(round(4 * fps))]
    longest_ms = max(b - a for a, b in itertools.pairwise(times_ms))
    resolution_ms = longest_ms + MIN_GAP_NS / MS * (fps > 50)
    spacing_ms = SECOND_MS / (num_faces - 1)
    memory = FaceMemory(num_faces)
    for t_ms in times_ms:
        fill(memory, [t_ms])
        held = read_faces(memory, t_ms, num_faces)
        assert held[-1] == pytest.approx(t_ms)
        assert t_ms - held[0] <= SECOND_MS + 1e-3
        gaps_ms = np.diff(held)
        assert (gaps_ms <= max(spacing_ms, longest_ms) + resolution_ms + 1e-3).all()
        if longest_ms < spacing_ms:
            # Only the oldest face may be nearer than a period.
            assert (gaps_ms[1:] >= spacing_ms - resolution_ms - 1e-3).all()
        if t_ms > 2 * SECOND_MS:
            assert t_ms - held[0] >= SECOND_MS - resolution_ms
            assert len(held) >= min(num_faces - 1, int(SECOND_MS / longest_ms) + 1)


@pytest.mark.parametrize(
    ("fps", "ages_ms"),
    [
        (5, [1000, 800, 600, 400, 200, 0]),
        (10, [1000, 900, 700, 600, 400, 300, 100, 0]),
        (30, [1000, 867, 700, 567, 433, 300, 133, 0]),
    ],
)
def test_faces_chosen(fps: int, ages_ms: list[int]) -> None:
    """Eight, each nearest to its point a seventh of a second before the next; all faces of a slow
    camera."""
    memory = FaceMemory(8)
    fill(memory, [n * 1000 / fps for n in range(2 * fps + 1)])
    held = read_faces(memory, 2000, 8)
    assert [2000 - t_ms for t_ms in held] == pytest.approx(ages_ms, abs=0.5)


def test_timestamps_that_go_back_clear_the_faces() -> None:
    """They come from another camera."""
    memory = FaceMemory(NUM_FACES)
    fill(memory, [5000, 5400, 1000, 1400])
    assert read_faces(memory, 1400) == [1000, 1400]


def test_faces_expire() -> None:
    """After a second, one by one, and their rows are zeros."""
    memory = FaceMemory(NUM_FACES)
    fill(memory, [0, 400, 800])
    assert read_faces(memory, 1000) == [0, 400, 800]
    assert read_faces(memory, 1000.001) == [400, 800]
    assert read_faces(memory, 1500) == [800]
    assert read_faces(memory, 1801) == []
    fill(memory, [2000])
    assert read_faces(memory, 2000) == [2000]


def test_cleared_faces() -> None:
    """The next face is alone."""
    memory = FaceMemory(NUM_FACES)
    fill(memory, [100, 400])
    memory.clear()
    assert read_faces(memory, 400) == []
    fill(memory, [433])
    assert read_faces(memory, 433) == [433]


def test_input_without_faces() -> None:
    """The stored faces stay for the next input."""
    memory, fusion_input = FaceMemory(NUM_FACES), FusionInput(NUM_FACES, 1)
    fill(memory, [100, 400])
    assert list_faces(fusion_input.fill(400 * MS, [memory], voice=False), 0) == [100, 400]
    feed = fusion_input.fill(500 * MS, [None], voice=True)
    assert not feed["faces"].any()
    assert not feed["face_mask"].any()
    assert list_faces(fusion_input.fill(600 * MS, [memory], voice=False), 0) == [100, 400]


def test_each_face_has_a_row() -> None:
    """Its own memory, and the voice is only in the first row; a row that is not needed any more is
    zeros."""
    memories = [FaceMemory(NUM_FACES) for _ in range(3)]
    for number, memory in enumerate(memories, 1):
        memory.add(0, embedding(number))
        memory.add(300 * MS, embedding(10 * number))
    fusion_input = FusionInput(NUM_FACES, 3)
    fusion_input.set_voice(embedding(7))
    three = fusion_input.fill(300 * MS, memories, voice=True)
    assert [list_faces(three, row) for row in range(3)] == [[1, 10], [2, 20], [3, 30]]
    assert three["voice"][:, 0].tolist() == [7, 0, 0]
    assert three["voice_mask"][:, 0].tolist() == [1, 0, 0]
    two = fusion_input.fill(300 * MS, [None, memories[2]], voice=True)
    assert [list_faces(two, row) for row in range(2)] == [[], [3, 30]]
    assert not three["faces"][2].any()
    assert fusion_input.fill(300 * MS, memories[:2], voice=True)["faces"] is two["faces"]


def test_voice() -> None:
    """The newest one, masked on request."""
    fusion_input = FusionInput(NUM_FACES, 1)
    for value in (1, 2):
        fusion_input.set_voice(embedding(value))
    feed = fusion_input.fill(0, [None], voice=True)
    assert feed["voice_mask"].tolist() == [[1]]
    assert (feed["voice"] == 2).all()
    assert fusion_input.fill(0, [None], voice=False)["voice_mask"].tolist() == [[0]]
    fusion_input.clear_voice()
    assert not feed["voice"].any()


def test_embeddings_are_copied() -> None:
    """Engines reuse their output buffers."""
    memory, fusion_input = FaceMemory(NUM_FACES), FusionInput(NUM_FACES, 1)
    buffer = embedding(1)
    memory.add(0, buffer)
    fusion_input.set_voice(buffer)
    buffer[:] = 9
    feed = fusion_input.fill(0, [memory], voice=True)
    assert feed["faces"][0, -1, 0] == 1
    assert feed["voice"][0, 0] == 1


@pytest.mark.parametrize("wipe", ["wipe", "clear_faces"])
def test_wiped(wipe: str) -> None:
    """No embedding is left in the input; `clear_faces` leaves the voice."""
    memory, fusion_input = FaceMemory(NUM_FACES), FusionInput(NUM_FACES, 2)
    fill(memory, [0, 400])
    fusion_input.set_voice(embedding(3))
    feed = fusion_input.fill(400 * MS, [memory, memory], voice=True)
    getattr(fusion_input, wipe)()
    assert not feed["faces"].any()
    assert feed["voice"].any() == (wipe == "clear_faces")


def test_no_allocation_per_frame() -> None:
    """Two seconds at 60 frames a second fill preallocated arrays."""
    memory, fusion_input = FaceMemory(64), FusionInput(64, 1)
    face, rows = embedding(1), [memory]
    fill(memory, [n * 16.0 for n in range(60)])
    tracemalloc.start()
    try:
        for n in range(60, 180):
            memory.add(n * 16 * MS, face)
            fusion_input.fill(n * 16 * MS, rows, voice=True)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * 256 * 4, "far less than the 64 embeddings of the input"
