"""The folds keep people apart: by their numbers, by takes and by what the files hold."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emotion_edge.kernels.spec import MelSpec
from emotion_edge.training.data.ravdess import TEST_FOLDS, find_voice_clips, split_actors
from emotion_edge.training.data.voices import VoiceSet, load_voices

FOLDS = range(len(TEST_FOLDS))
EVERYONE = [actor for actors in TEST_FOLDS for actor in actors]


@pytest.mark.parametrize("fold", FOLDS)
def test_splits_share_no_actor(fold: int) -> None:
    """Training, validation and test share no actor, and together are everyone of the folds."""
    training, validation, test = split_actors(fold)
    together = [*training, *validation, *test]
    assert len(set(together)) == len(together)
    assert sorted(together) == sorted(EVERYONE)
    assert 1 not in together
    assert len(validation) == 4
    assert set(test) == set(TEST_FOLDS[fold])


def test_everyone_is_tested_once() -> None:
    """Over the folds, each of the 20 actors; actor 1 in none."""
    tested = Counter(actor for fold in FOLDS for actor in split_actors(fold)[2])
    assert len(tested) == 20
    assert set(tested.values()) == {1}
    assert 1 not in tested


def sides(voices: VoiceSet) -> Iterator[tuple[VoiceSet, VoiceSet, VoiceSet]]:
    for fold in FOLDS:
        training, validation, test = (voices.select(actors) for actors in split_actors(fold))
        yield training, validation, test


def recording_ids(voices: VoiceSet) -> set[str]:
    return {name[3:] for name in voices.names}


def hashes(voices: VoiceSet) -> set[bytes]:
    return {hashlib.sha256(audio.tobytes()).digest() for audio in voices.audio_clips}


@given(st.lists(st.tuples(st.integers(1, 24), st.integers(0, 7)), min_size=1, max_size=80))
def test_splits_share_no_recording(clips: list[tuple[int, int]]) -> None:
    """Whatever clips there are: each is on exactly one side of each fold, if its actor is in the
    folds, and tested exactly once."""
    num = len(clips)
    voices = VoiceSet(
        [np.full(4, n, np.float32) for n in range(num)],
        np.array([label % 7 for _, label in clips]),
        np.array([label for _, label in clips]),
        np.array([actor for actor, _ in clips]),
        [f"03-{n}" for n in range(num)],
    )
    tested: Counter[str] = Counter()
    for training, validation, test in sides(voices):
        together = [*training.names, *validation.names, *test.names]
        assert len(together) == len(set(together))
        known = [f"03-{n}" for n, (actor, _) in enumerate(clips) if actor in EVERYONE]
        assert sorted(together) == sorted(known)
        for side, actors in zip((training, test), (training.actors, test.actors), strict=True):
            for name, actor, audio in zip(side.names, actors, side.audio_clips, strict=True):
                assert clips[int(name[3:])][0] == actor
                assert audio[0] == int(name[3:])
        tested.update(test.names)
    assert set(tested.values()) <= {1}


def test_real_recordings_do_not_leak(shared_data: Path) -> None:
    """No take and no samples of a test actor are in training or validation."""
    clips = find_voice_clips(shared_data / "ravdess" / "audio", EVERYONE)
    voices = load_voices(clips, MelSpec())
    assert len(voices.audio_clips) == 1_199
    assert (voices.skipped, voices.duplicates) == (0, 1)
    assert len(hashes(voices)) == len(voices.audio_clips)
    num_tested = 0
    for training, validation, test in sides(voices):
        for one, other in ((training, test), (validation, test), (training, validation)):
            assert recording_ids(one).isdisjoint(recording_ids(other))
            assert hashes(one).isdisjoint(hashes(other))
        num_tested += len(test.names)
    assert num_tested == 1_199
