"""One example, one answer: what the device would say, averaged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_edge.engines.bundles import EMBEDDING_SIZE, Bundle
from emotion_edge.training.evaluation import scorers
from emotion_edge.training.evaluation.material import ExampleMedia, Face, whole_face
from emotion_edge.training.evaluation.scorers import (
    Networks,
    average,
    fuse_clip,
    read_faces,
    read_partial_voice,
    read_voice,
    score_clips,
    score_faces,
    score_voices,
)

Audio = NDArray[np.float32]
Open = Callable[[Bundle, str], Networks]


def make_faces(count: int, every_s: float = 0.1, start: int = 0) -> tuple[Face, ...]:
    rng = np.random.default_rng(start)
    return tuple(
        whole_face(i * every_s, rng.integers(0, 256, (48, 48), dtype=np.uint8))
        for i in range(count)
    )


class Recorder:
    """An engine that keeps what it was fed and says the same to everything."""

    inputs = outputs = ()

    def __init__(self, **answer: NDArray[np.float32]) -> None:
        self.answer = answer
        self.fed: dict[str, NDArray[np.float32]] = {}

    def infer(self, feed: Any) -> dict[str, NDArray[np.float32]]:
        self.fed = {name: array.copy() for name, array in feed.items()}
        count = len(next(iter(feed.values())))
        return {name: np.repeat(row[None], count, axis=0) for name, row in self.answer.items()}


def with_engines(networks: Networks, **engines: Any) -> Networks:
    return replace(networks, engines={**networks.engines, **engines}, last={})


def test_faces_of_several_examples_stay_apart(bundle: Bundle, open_null: Open) -> None:
    """One call for all gives what each gives alone, over more than one batch of the network."""
    networks = open_null(bundle, "face")
    counts = (3, 0, 70, 1)
    materials = [ExampleMedia(make_faces(n, start=n)) for n in counts]
    together = score_faces(networks, materials)
    assert together[1] is None
    for material, got in zip(materials, together, strict=True):
        if material.faces:
            (alone,) = score_faces(networks, [material])
            assert got is not None
            np.testing.assert_allclose(got, alone, rtol=1e-6)
            rows = read_faces(networks, material.faces).probabilities
            np.testing.assert_allclose(got, rows.mean(axis=0))


def test_nobody_has_a_face(bundle: Bundle, open_null: Open) -> None:
    assert score_faces(open_null(bundle, "face"), [ExampleMedia(), ExampleMedia()]) == [None, None]


def test_voice_is_the_mean_of_its_windows(bundle: Bundle, open_null: Open, voice: Audio) -> None:
    """Four seconds: windows of three, a quarter of a second apart, the last at the end."""
    networks = open_null(bundle, "voice")
    reading = read_voice(networks, voice)
    np.testing.assert_allclose(reading.t_s[-1], 4.0)
    np.testing.assert_allclose(np.diff(reading.t_s), 0.25)
    assert reading.t_s[0] < 3.26
    got = score_voices(networks, [ExampleMedia(audio=voice), ExampleMedia()])
    np.testing.assert_allclose(got[0], reading.probabilities.mean(axis=0))
    assert got[1] is None


@pytest.mark.parametrize("num_samples", [0, 100, 399])
def test_too_short_audio_is_no_voice(bundle: Bundle, open_null: Open, num_samples: int) -> None:
    """Not even one column of the log-mel."""
    audio = np.ones(num_samples, np.float32)
    assert score_voices(open_null(bundle, "voice"), [ExampleMedia(audio=audio)]) == [None]
    assert score_clips(open_null(bundle, "fusion"), [ExampleMedia(audio=audio)]) == [None]


def test_rows_without_numbers_are_left_out() -> None:
    rows = np.array([[0.2, 0.8], [np.nan, np.nan], [0.4, 0.6]])
    np.testing.assert_allclose(average(rows), [0.3, 0.7])
    assert average(rows[1:2]) is None


def test_late_fusion_weighs_the_newest_of_each(
    bundle: Bundle, open_null: Open, voice: Audio
) -> None:
    """At the end of each window: the face of that moment and the window, half and half."""
    networks = open_null(bundle, "fusion")
    faces = make_faces(41)  # 0.0 to 4.0 s
    seen = read_faces(networks, faces)
    heard = read_partial_voice(networks, voice)
    got = fuse_clip(networks, ExampleMedia(faces, voice))
    newest = [np.flatnonzero(seen.t_s <= t_s + 1e-6)[-1] for t_s in heard.t_s]
    want = (seen.probabilities[newest] + heard.probabilities) / 2
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_expired_face_is_ignored(bundle: Bundle, open_null: Open, voice: Audio) -> None:
    """Only the first second shows a face: later it is the voice alone."""
    networks = open_null(bundle, "fusion")
    got = fuse_clip(networks, ExampleMedia(make_faces(10), voice))
    np.testing.assert_allclose(got, read_partial_voice(networks, voice).probabilities)


def test_fusion_with_one_missing_is_the_other(
    bundle: Bundle, open_null: Open, voice: Audio
) -> None:
    """Late fusion of one opinion is that opinion."""
    networks = open_null(bundle, "fusion")
    np.testing.assert_allclose(
        fuse_clip(networks, ExampleMedia(audio=voice)),
        read_partial_voice(networks, voice).probabilities,
    )
    faces = make_faces(11)
    seen = read_faces(networks, faces).probabilities
    got = fuse_clip(networks, ExampleMedia(faces))
    np.testing.assert_allclose(got[-1], seen[-1])
    assert len(got) == 5, "every quarter of the second"
    assert score_clips(networks, [ExampleMedia()]) == [None]


def test_late_audio_is_paired_with_later_faces(
    bundle: Bundle, open_null: Open, voice: Audio
) -> None:
    """Its first sample was taken at 0.5 s: the last window belongs to the face at 4.5 s."""
    networks = open_null(bundle, "fusion")
    faces = make_faces(46)
    got = fuse_clip(networks, ExampleMedia(faces, voice, audio_t_s=0.5))
    seen, heard = read_faces(networks, faces), read_partial_voice(networks, voice)
    want = (seen.probabilities[45] + heard.probabilities[-1]) / 2
    np.testing.assert_allclose(got[-1], want, rtol=1e-6)


def test_fusion_network_is_fed_as_on_the_device(
    write_bundle: Callable[..., Bundle], open_null: Open, voice: Audio
) -> None:
    """The last four faces of the second before, newest last, masks where there is something."""
    logits = np.arange(7, dtype=np.float32)
    recorder = Recorder(logits=logits, weights=np.array([0.5, 0.5], np.float32))
    networks = with_engines(open_null(write_bundle(fusion=True), "fusion"), fusion=recorder)
    faces = make_faces(29)  # the last at 2.8 s
    got = fuse_clip(networks, ExampleMedia(faces, voice))
    seen, heard = read_faces(networks, faces), read_partial_voice(networks, voice)
    np.testing.assert_allclose(heard.t_s, np.arange(1.75, 4.01, 0.25))
    for row in (-4, -3):  # faces of 2.25 s and of 2.5 s on
        np.testing.assert_array_equal(recorder.fed["faces"][row], seen.embeddings[-4:])
    np.testing.assert_array_equal(
        recorder.fed["face_mask"][-4:], [[1, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]]
    )
    np.testing.assert_array_equal(recorder.fed["faces"][-2, -1], seen.embeddings[-1])
    assert not recorder.fed["faces"][-2, :-1].any()
    np.testing.assert_array_equal(recorder.fed["voice"], heard.embeddings)
    np.testing.assert_array_equal(recorder.fed["voice_mask"], 1)
    want = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(got, np.repeat(want[None], len(got), axis=0), rtol=1e-6)


def test_embedding_without_numbers_is_left_out(
    write_bundle: Callable[..., Bundle], open_null: Open, voice: Audio
) -> None:
    """Its mask is 0, as on the device."""
    fusion = Recorder(logits=np.zeros(7, np.float32), weights=np.zeros(2, np.float32))
    bad = Recorder(
        embedding=np.full(EMBEDDING_SIZE, np.nan, np.float32), logits=np.zeros(7, np.float32)
    )
    networks = open_null(write_bundle(fusion=True), "fusion")
    networks = with_engines(networks, fusion=fusion, face=bad)
    fuse_clip(networks, ExampleMedia(make_faces(40), voice))
    assert not fusion.fed["face_mask"].any()
    assert np.isfinite(fusion.fed["faces"]).all()


def test_unchanged_faces_are_read_once(
    bundle: Bundle, open_null: Open, voice: Audio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A condition that spoils the sound costs no second run of the face network; other faces do."""
    networks = open_null(bundle, "fusion")
    runs: list[int] = []

    def read_counting(networks: Networks, faces: tuple[Face, ...]) -> scorers.Predictions:
        runs.append(len(faces))
        return read_faces(networks, faces)

    monkeypatch.setattr(scorers, "read_faces", read_counting)
    material = ExampleMedia(make_faces(40), voice)
    score_clips(networks, [material, replace(material, audio=voice * 0.5)])
    assert len(runs) == 1
    score_clips(networks, [replace(material, faces=make_faces(40))])
    assert len(runs) == 2
