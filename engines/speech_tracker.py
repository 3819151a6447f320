"""Follows speech in one audio stream, from its samples.

In: samples as they come. Out: a `Speech` for any recent moment: how likely speech is, and whether
the voice may be read. The device feeds it beside the hot path, the evaluation in step with a clip;
for the same samples both get the same answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..kernels import LogMel, open_log_mel
from ..kernels.spec import MelSpec
from .bandwidth import BandwidthMeter
from .base import EngineError
from .bundles import DEFAULT_BUNDLE, Bundle, load_bundle
from .golden import check_golden_speech, golden_mel
from .voice_activity import GateRule, SpeechGate, VoiceActivityDetector

STEP_COLUMNS = 3
"""Columns from one run of the network to the next (30 ms), on an absolute grid."""
NUM_STEPS = 128
"""Steps in memory (3.8 s), for moments older than the newest audio."""
MAX_LAG_STEPS = 10
"""A moment that lies further behind the newest step is without speech: no audio came for it."""
MIN_SPEECH = 0.5
"""Probability of speech from which a column counts for the bandwidth."""
_PIECE_SAMPLES = 8_000


class Detector(Protocol):
    """`voice_activity.VoiceActivityDetector`."""

    @property
    def num_columns(self) -> int: ...
    def probability(self, mel: NDArray[np.float32]) -> float: ...
    def wipe(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Speech:
    """What the audio up to one moment says about speech."""

    activity: float
    """Probability of speech in the last moments, 0..1."""
    is_usable: bool
    """Enough of it is recent, and wide-band, to read an emotion from the voice."""
    narrow_band: bool = False
    """The source carries nothing above 4 kHz, and the voice network does not know such voices."""


NO_SPEECH = Speech(0.0, False)
ALL_SPEECH = Speech(1.0, True)
"""Of audio that nobody examines."""


class SpeechTracker:
    """Runs the voice-activity network on its own log-mel of a stream, every `STEP_COLUMNS`.

    One thread calls `push`, `restart` and `wipe`; another may call `find`.
    """

    def __init__(self, detector: Detector, spec: MelSpec, rule: GateRule | None = None) -> None:
        """`spec` is that of the detector's bundle. Raises EngineError for one without a logarithm,
        in which `BandwidthMeter` measures."""
        if spec.compression:
            kind = type(spec.compression).__name__.lower()
            raise EngineError(f"the voice-activity network reads no log-mel: its mel is {kind}")
        self._detector = detector
        self.spec = msgspec.structs.replace(spec, num_frames=detector.num_columns)
        self._mel: LogMel = open_log_mel(self.spec)
        self._gate = SpeechGate(rule)
        self._bandwidth = BandwidthMeter(self.spec)
        self._activity = np.zeros(NUM_STEPS)
        self._is_usable = np.zeros(NUM_STEPS, np.bool_)
        self._is_narrow = np.zeros(NUM_STEPS, np.bool_)
        self._span = 0, 0
        """First step since the last gap, and the next one. Replaced as a whole."""

    @property
    def next_sample(self) -> int:
        """Number of the next sample of the stream."""
        return self._mel.next_sample

    def restart(self, first_sample: int) -> None:
        """Begin anew after a gap; the next sample pushed has the number `first_sample`."""
        self._mel.restart(first_sample)
        self._gate.reset()
        begin = -(-self._mel.first_column // STEP_COLUMNS)
        self._span = begin, begin

    def push(self, samples: NDArray[np.float32]) -> None:
        """Take the next samples (n,)."""
        for at in range(0, len(samples), _PIECE_SAMPLES):
            self._mel.push(samples[at : at + _PIECE_SAMPLES])
            while (self._span[1] + 1) * STEP_COLUMNS <= self._mel.num_columns:
                self._take_step()

    def find(self, sample: float) -> Speech:
        """Return what the audio before sample number `sample` says."""
        begin, end = self._span
        num_columns = (sample - self.spec.window) // self.spec.hop + 1
        wanted = int(num_columns // STEP_COLUMNS)
        step = min(wanted, end) - 1
        if step < max(begin, end - NUM_STEPS) or wanted - end > MAX_LAG_STEPS:
            return NO_SPEECH
        at = step % NUM_STEPS
        return Speech(
            float(self._activity[at]), bool(self._is_usable[at]), bool(self._is_narrow[at])
        )

    def wipe(self) -> None:
        """Forget all audio and what was computed from it."""
        self._mel.wipe()
        self._detector.wipe()
        self.restart(0)
        self._bandwidth.reset()
        for array in (self._activity, self._is_usable, self._is_narrow):
            array.fill(0)

    def _take_step(self) -> None:
        begin, step = self._span
        end_column = (step + 1) * STEP_COLUMNS
        mel, _ = self._mel.window(end_column)
        speech = self._detector.probability(mel)
        end_sample = (end_column - 1) * self.spec.hop + self.spec.window
        self._gate.update(speech, end_sample * 1_000_000_000 // self.spec.sample_rate_hz)
        if speech >= MIN_SPEECH or self._gate.is_open:
            self._bandwidth.update(mel[0, :, -STEP_COLUMNS:])
        at = step % NUM_STEPS
        self._activity[at] = self._gate.activity
        self._is_usable[at] = self._gate.is_open and not self._bandwidth.is_doubtful
        self._is_narrow[at] = self._bandwidth.is_narrow
        self._span = begin, step + 1


def open_speech_tracker(bundle: Bundle) -> SpeechTracker:
    """Open and verify the voice-activity network of `bundle`, else that of the bundle that ships.

    It reads a log-mel of its own, that of its bundle; both hear the same samples. Raises
    BundleError and EngineError.
    """
    if bundle.manifest.voice_activity is None:
        rate_hz, path = bundle.manifest.mel.sample_rate_hz, bundle.path
        bundle = load_bundle(DEFAULT_BUNDLE)
        if bundle.manifest.mel.sample_rate_hz != rate_hz:
            raise EngineError(
                f"{path}: mel.sample_rate_hz is {rate_hz}, allowed without a voice_activity of its"
                f" own: {bundle.manifest.mel.sample_rate_hz}, which that of the bundle that ships"
                " hears"
            )
    entry, mel = bundle.manifest.voice_activity, bundle.manifest.mel
    if entry is None:
        raise EngineError(f"{bundle.path}: no network for speech (voice_activity in bundle.json)")
    path = bundle.path / entry.file
    detector = VoiceActivityDetector(path, bundle.read(entry.file))
    if (detector.num_mels, detector.num_columns) != (mel.num_mels, entry.columns):
        raise EngineError(
            f"{path}: reads {detector.num_mels} mels x {detector.num_columns} columns, bundle.json"
            f" says {mel.num_mels} (mel.num_mels) x {entry.columns} (voice_activity.columns)"
        )
    golden = golden_mel(mel, entry.columns)
    detector.warm_up(golden)
    speech = detector.probability(golden)
    check_golden_speech(speech, entry.golden_speech, path)
    rule = GateRule(open_above=entry.threshold, close_below=entry.threshold / 2)
    return SpeechTracker(detector, mel, rule)
