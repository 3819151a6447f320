"""What the fusion network is shown: the faces of the last second, the newest voice, no more."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_edge.runtime.embeddings import MAX_FACE_AGE_NS, EmbeddingMemory

MS = 1_000_000
NUM_FACES = 4
SPACING_MS = MAX_FACE_AGE_NS // NUM_FACES // MS


def embedding(value: float) -> NDArray[np.float32]:
    return np.full((1, 256), value, np.float32)


def shown(memory: EmbeddingMemory, t_ms: float) -> list[float]:
    """The values of the faces that the mask shows, oldest first; the rest must be zeros."""
    feed = memory.feed(round(t_ms * MS), voice=False)
    faces, mask = feed["faces"][0], feed["face_mask"][0]
    assert faces.shape == (NUM_FACES, 256)
    assert (faces == faces[:, :1]).all()
    assert not faces[mask == 0].any()
    assert sorted(mask) == list(mask), "the newest are last"
    return [float(face[0]) for face in faces[mask == 1]]


def fill(memory: EmbeddingMemory, times_ms: list[float]) -> None:
    """A face at each time, whose value is the time."""
    for t_ms in times_ms:
        memory.add("face", round(t_ms * MS), embedding(t_ms))


def test_nothing_at_first() -> None:
    """All zeros, all masked."""
    feed = EmbeddingMemory(NUM_FACES).feed(0, voice=False)
    assert {name: array.shape for name, array in feed.items()} == {
        "faces": (1, 4, 256),
        "face_mask": (1, 4),
        "voice": (1, 256),
        "voice_mask": (1, 1),
    }
    assert all(array.dtype == np.float32 and not array.any() for array in feed.values())


def test_newest_is_last_and_the_oldest_leaves() -> None:
    """The last `num_faces`, in order."""
    memory = EmbeddingMemory(NUM_FACES)
    seen = []
    for n in range(1, 7):
        fill(memory, [n * SPACING_MS])
        seen.append([round(t / SPACING_MS) for t in shown(memory, n * SPACING_MS)])
    assert seen == [[1], [1, 2], [1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5], [3, 4, 5, 6]]


@pytest.mark.parametrize("fps", [5, 15, 29.97, 60])
def test_faces_cover_the_second_at_any_rate(fps: float) -> None:
    """The newest is the picture of now, the others are spread over the second before it."""
    memory = EmbeddingMemory(NUM_FACES)
    times_ms = [n * 1000 / fps for n in range(round(3 * fps))]
    for n, t_ms in enumerate(times_ms):
        fill(memory, [t_ms])
        held = shown(memory, t_ms)
        assert held[-1] == pytest.approx(t_ms)
        if n > 2 * fps:
            assert len(held) == NUM_FACES
            assert np.diff(held).max() <= SPACING_MS
            assert t_ms - held[0] > 0.45 * MAX_FACE_AGE_NS / MS
            assert t_ms - held[0] <= MAX_FACE_AGE_NS / MS


def test_faces_grow_old() -> None:
    """After a second they are gone, one by one, and what they held is zeros."""
    memory = EmbeddingMemory(NUM_FACES)
    fill(memory, [0, 400, 800])
    assert shown(memory, 1000) == [0, 400, 800]
    assert shown(memory, 1000.001) == [400, 800]
    assert shown(memory, 1500) == [800]
    assert shown(memory, 1801) == []
    fill(memory, [2000])
    assert shown(memory, 2000) == [2000]


def test_forgotten_faces() -> None:
    """The next face starts afresh, the voice stays."""
    memory = EmbeddingMemory(NUM_FACES)
    fill(memory, [100, 400])
    memory.add("voice", 0, embedding(7))
    memory.forget_faces()
    assert shown(memory, 400) == []
    fill(memory, [433])
    assert shown(memory, 433) == [433]
    assert memory.feed(433 * MS, voice=True)["voice"][0, 0] == 7


def test_voice() -> None:
    """The newest, shown only when asked for."""
    memory = EmbeddingMemory(NUM_FACES)
    for value in (1, 2):
        memory.add("voice", 0, embedding(value))
    feed = memory.feed(0, voice=True)
    assert feed["voice_mask"].tolist() == [[1]]
    assert (feed["voice"] == 2).all()
    assert memory.feed(0, voice=False)["voice_mask"].tolist() == [[0]]


def test_forgotten_voice() -> None:
    """Nothing of it is left, and the faces stay."""
    memory = EmbeddingMemory(NUM_FACES)
    fill(memory, [100])
    memory.add("voice", 0, embedding(7))
    memory.forget_voice()
    assert not memory.feed(100 * MS, voice=False)["voice"].any()
    assert shown(memory, 100) == [100]


def test_embeddings_are_copied() -> None:
    """Engines use their output buffers again."""
    memory = EmbeddingMemory(NUM_FACES)
    buffer = embedding(1)
    memory.add("face", 0, buffer)
    memory.add("voice", 0, buffer)
    buffer[:] = 9
    feed = memory.feed(0, voice=True)
    assert feed["faces"][0, -1, 0] == 1
    assert feed["voice"][0, 0] == 1


def test_wiped() -> None:
    """Nothing of anybody is left."""
    memory = EmbeddingMemory(NUM_FACES)
    fill(memory, [0, 400])
    memory.add("voice", 0, embedding(3))
    memory.wipe()
    assert not any(array.any() for array in memory.feed(400 * MS, voice=False).values())


def test_no_memory_is_taken_on_the_way() -> None:
    """Half a second at 60 pictures fills arrays that were there before."""
    memory = EmbeddingMemory(64)
    face = embedding(1)
    fill(memory, [n * 16.0 for n in range(60)])
    tracemalloc.start()
    try:
        for n in range(60, 90):
            memory.add("face", n * 16 * MS, face)
            memory.feed(n * 16 * MS, voice=True)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * 256 * 4, "far less than the 63 embeddings that move"
