"""Speech along a stream of samples: what is known at which sample, and which network says it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_edge.engines import speech_tracker
from emotion_edge.engines.base import EngineError
from emotion_edge.engines.bundles import Bundle
from emotion_edge.engines.speech_tracker import (
    NO_SPEECH,
    NUM_STEPS,
    STEP_COLUMNS,
    SpeechTracker,
    open_speech_tracker,
)
from emotion_edge.kernels.spec import MelSpec, Pcen

from .conftest import write_bundle_folder
from .speech_network import add_voice_activity, write_speech_network

RATE = 16_000
STEP_SAMPLES = STEP_COLUMNS * 160
Audio = NDArray[np.float32]


class Loudness:
    """Takes loud audio for certain speech."""

    num_columns = 10

    def __init__(self) -> None:
        self.runs = 0

    def probability(self, mel: NDArray[np.float32]) -> float:
        assert mel.shape == (1, 64, self.num_columns)
        self.runs += 1
        return float(mel[0, :, -STEP_COLUMNS:].mean() > 0)

    def wipe(self) -> None: ...


def make_noise(*seconds: float) -> Audio:
    """Silence and loud white noise in turns, each for its seconds."""
    rng = np.random.default_rng(0)
    parts = [
        0.3 * (index % 2) * rng.standard_normal(round(length * RATE))
        for index, length in enumerate(seconds)
    ]
    return np.concatenate(parts).astype(np.float32)


@pytest.fixture
def tracker() -> SpeechTracker:
    return SpeechTracker(Loudness(), MelSpec())


def find_every(tracker: SpeechTracker, samples: Audio, size: int = 160) -> list[tuple[float, bool]]:
    """Push pieces of `size` and note after each what is known at its end."""
    found = []
    for at in range(0, len(samples), size):
        tracker.push(samples[at : at + size])
        speech = tracker.find(at + size)
        found.append((speech.activity, speech.is_usable))
    return found


def test_speech_begins_and_ends(tracker: SpeechTracker) -> None:
    """Used soon after it begins, and given up within 0.6 s after it ends."""
    found = find_every(tracker, make_noise(1.0, 2.0, 2.0))
    usable = [usable for _, usable in found]
    begin, end = usable.index(True) / 100, (len(usable) - usable[::-1].index(True)) / 100
    assert 1.0 < begin < 1.5
    assert 3.0 < end < 3.6
    assert all(usable[round(begin * 100) : round(end * 100)])
    assert found[299][0] > 0.95
    assert found[-1][0] < 0.05


def test_a_bark_is_not_enough(tracker: SpeechTracker) -> None:
    """A tenth of a second each second."""
    found = find_every(tracker, make_noise(*[0.9, 0.1] * 5, 0.5))
    assert not any(usable for _, usable in found)


def test_cut_of_the_stream_does_not_matter(tracker: SpeechTracker) -> None:
    """Piece by piece or at once, the network runs once for each 30 ms, with the same results."""
    samples = make_noise(0.5, 0.8, 0.4, 0.9, 0.3)
    stepwise = find_every(tracker, samples)
    for size in (37, 480, 5_000, len(samples)):
        other = SpeechTracker(detector := Loudness(), MelSpec())
        for at in range(0, len(samples), size):
            other.push(samples[at : at + size])
        columns = (len(samples) - 400) // 160 + 1
        assert detector.runs == columns // STEP_COLUMNS
        found = [other.find(end) for end in range(160, len(samples) + 1, 160)]
        assert [(speech.activity, speech.is_usable) for speech in found] == stepwise


def test_gap_forgets_what_was_before(tracker: SpeechTracker) -> None:
    """Nothing is known right after it, at any sample before or after."""
    tracker.push(make_noise(0.0, 1.0))
    assert tracker.find(RATE).is_usable
    tracker.restart(RATE + 77)
    assert tracker.next_sample == RATE + 77
    assert tracker.find(RATE) == tracker.find(RATE + 500) == NO_SPEECH
    tracker.push(make_noise(0.0, 0.5))
    assert tracker.find(1.5 * RATE).is_usable
    assert tracker.find(RATE) == NO_SPEECH


def test_moments_without_audio(tracker: SpeechTracker) -> None:
    """Before the first, long after the last, and no longer in memory."""
    tracker.push(make_noise(0.0, 5.0))
    assert tracker.find(5 * RATE).is_usable
    assert tracker.find(5 * RATE + 2_000).is_usable
    assert tracker.find(5 * RATE + 8_000) == NO_SPEECH
    assert tracker.find(0) == tracker.find(500) == NO_SPEECH
    oldest = 5 * RATE - NUM_STEPS * STEP_SAMPLES
    assert tracker.find(oldest - 2_000) == NO_SPEECH
    assert tracker.find(oldest + 2_000).is_usable


def test_narrow_band_speech_is_not_usable(tracker: SpeechTracker) -> None:
    """It is speech all the same."""
    noise = make_noise(0.0, 3.0)
    spectrum = np.fft.rfft(noise)
    spectrum[np.fft.rfftfreq(len(noise), 1 / RATE) > 3_400] = 0
    tracker.push(1.2 * np.fft.irfft(spectrum).astype(np.float32))
    speech = tracker.find(3 * RATE)
    assert speech.narrow_band
    assert speech.activity > 0.9
    assert not speech.is_usable


def test_wipe(tracker: SpeechTracker) -> None:
    tracker.push(make_noise(0.0, 1.0))
    tracker.wipe()
    assert tracker.find(RATE) == NO_SPEECH
    assert tracker.next_sample == 0


def test_network_of_the_bundle(bundle: Bundle) -> None:
    """It is verified, and hears loud audio."""
    tracker = open_speech_tracker(add_voice_activity(bundle))
    tracker.push(make_noise(0.5, 1.0))
    assert tracker.find(1.5 * RATE).is_usable


def test_bundle_without_one(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of the default bundle is used."""
    default = write_bundle_folder(tmp_path / "default")
    monkeypatch.setattr(speech_tracker, "DEFAULT_BUNDLE", default.path)
    with pytest.raises(EngineError, match="voice_activity"):
        open_speech_tracker(bundle)
    add_voice_activity(default)
    assert open_speech_tracker(bundle).next_sample == 0


def test_bundle_with_another_mel(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default bundle's network keeps the log-mel it was made for. It cannot hear another sample
    rate, and a log-mel is needed to measure the bandwidth."""
    default = write_bundle_folder(tmp_path / "default")
    monkeypatch.setattr(speech_tracker, "DEFAULT_BUNDLE", default.path)
    add_voice_activity(default)

    def use(mel: MelSpec) -> SpeechTracker:
        manifest = msgspec.structs.replace(bundle.manifest, mel=mel)
        return open_speech_tracker(Bundle(bundle.path, manifest, ""))

    tracker = use(MelSpec(num_mels=40, hop=200, compression=Pcen()))
    assert msgspec.structs.replace(tracker.spec, num_frames=300) == default.manifest.mel
    tracker.push(make_noise(0.5, 1.0))
    assert tracker.find(1.5 * RATE).is_usable
    with pytest.raises(EngineError, match=r"mel\.sample_rate_hz is 8000.*16000"):
        use(MelSpec(sample_rate_hz=8_000, high_hz=4_000.0))
    with pytest.raises(EngineError, match="pcen"):
        SpeechTracker(Loudness(), MelSpec(compression=Pcen()))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"golden_speech": 0.99}, ["voice_activity.onnx", "voice_activity.golden_speech"]),
        ({"columns": 63}, ["voice_activity.onnx", "63", "voice_activity.columns"]),
    ],
)
def test_wrong_network_is_refused(
    bundle: Bundle, fields: dict[str, float], words: list[str]
) -> None:
    heard = add_voice_activity(bundle, **fields)
    with pytest.raises(EngineError) as caught:
        open_speech_tracker(heard)
    assert all(word in str(caught.value) for word in words)


def test_threshold_of_the_bundle_opens(bundle: Bundle) -> None:
    """A network that is never sure opens at a low threshold only."""
    heard = add_voice_activity(bundle)
    entry = heard.manifest.voice_activity
    assert entry is not None
    noise = make_noise(0.5, 1.0)
    usable = []
    for threshold in (0.5, 0.999):
        entry = msgspec.structs.replace(entry, threshold=threshold)
        manifest = msgspec.structs.replace(heard.manifest, voice_activity=entry)
        tracker = open_speech_tracker(Bundle(heard.path, manifest, ""))
        tracker.push(noise)
        usable.append(tracker.find(len(noise)).is_usable)
    assert usable == [True, False]


def test_made_network_fits(tmp_path: Path) -> None:
    """The tests' own network has the shape of the contract."""
    assert write_speech_network(tmp_path / "v.onnx").stat().st_size < 10_000
