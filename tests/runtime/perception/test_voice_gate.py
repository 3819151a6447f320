"""May the voice network run on a window?"""

from __future__ import annotations

import logging

import numpy as np
import pytest

from emotion_edge.engines.speech_tracker import NO_SPEECH, Speech
from emotion_edge.kernels import open_log_mel
from emotion_edge.kernels.spec import MelSpec
from emotion_edge.runtime.messages import Window
from emotion_edge.runtime.perception.voice_gate import NARROW_BAND, VoiceGate

SPEECH = Speech(0.9, True)
NARROW = Speech(0.9, False, narrow_band=True)


class ScriptedTracker:
    """Always says `speech`."""

    def __init__(self, speech: Speech = SPEECH) -> None:
        self.speech = speech
        self.samples: list[float] = []

    def find(self, sample: float) -> Speech:
        self.samples.append(sample)
        return self.speech


def make_gate(
    tracker: ScriptedTracker, level: float = 0.1, min_level_db: float = -100
) -> VoiceGate:
    """With three seconds of noise in the log-mel."""
    mel = open_log_mel(MelSpec())
    noise = level * np.random.default_rng(0).standard_normal(48_240)
    mel.push(noise.astype(np.float32))
    return VoiceGate(mel, tracker, min_level_db)  # type: ignore[arg-type]


def window(audio: bool = True, due: bool = True) -> Window:
    end = 300 if audio else None
    return Window(3 * 10**9, None, None, 48_000.5 if audio else None, end, 0, 0, due)


@pytest.mark.parametrize("due", [True, False])
def test_the_tracker_is_asked_for_every_window(due: bool) -> None:
    """At the sample of its capture, whether the voice network is due or not."""
    tracker = ScriptedTracker()
    assert make_gate(tracker).check(window(due=due)) == SPEECH
    assert tracker.samples == [48_000.5]


def test_window_without_audio() -> None:
    assert make_gate(ScriptedTracker()).check(window(audio=False)) == NO_SPEECH


@pytest.mark.parametrize(
    ("level", "min_level_db", "usable"),
    [(1e-5, -100.0, True), (0.01, -39.0, False), (0.01, -41.0, True), (0.01, -99.0, True)],
)
def test_level_floor(level: float, min_level_db: float, usable: bool) -> None:
    """Softer speech is not used, though it is speech. By default nothing is too soft."""
    gate = make_gate(ScriptedTracker(), level, min_level_db)
    speech = gate.check(window())
    assert (speech.activity, speech.is_usable) == (0.9, usable)


def test_narrow_band_is_a_fault(caplog: pytest.LogCaptureFixture) -> None:
    """Said once, until the audio is wide-band again."""
    tracker = ScriptedTracker()
    gate = make_gate(tracker)
    with caplog.at_level(logging.INFO):
        for speech in (SPEECH, NARROW, NARROW, NARROW):
            tracker.speech = speech
            assert gate.check(window()).is_usable == (speech is SPEECH)
            assert gate.fault == ("" if speech is SPEECH else NARROW_BAND)
        assert len(caplog.records) == 1
        tracker.speech = SPEECH
        gate.check(window())
    assert gate.fault == ""
    assert len(caplog.records) == 2
