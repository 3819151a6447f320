"""Scores a clip with face and voice as the device would: the same estimator, fed in the same order.

In: the open networks of a bundle, and a clip's faces, frame times and audio. Out: a prediction for
each frame, or four a second where a clip has no frames, and their mean.

The voice is read while there is speech, as on the device. Differences from a live run: Nothing is
smoothed over time, because the mean over the clip does that. At every level each frame counts, and
`load_pair` searches for the face at the best level's rate.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ...engines.base import Arrays
from ...engines.estimator import MAX_AUDIO_AGE_NS, Estimator, Prediction
from ...engines.speech_tracker import ALL_SPEECH, NO_SPEECH, Speech
from ..augment import Audio
from ..data import WINDOW_EVERY_S
from .material import ExampleMedia
from .networks import FaceOutputs, Networks, read_faces_cached

MIN_FILLED = 0.5
"""Predictions count from the time at which the voice window is filled by this much, so that all
faces of a clip count and not only those of its last second."""


def score_clip(networks: Networks, media: ExampleMedia) -> NDArray[np.float64]:
    """Return the probabilities (K, L) of the predictions that count; those without face and voice
    are left out."""
    predictions = list(predict_clip(networks, media))
    first_ns = 0
    if media.audio is not None and predictions:
        spec = networks.manifest.mel
        min_samples = min(len(media.audio), round(MIN_FILLED * spec.window_samples))
        first_ns = round((media.audio_t_s + min_samples / spec.sample_rate_hz) * 1e9)
        first_ns = min(first_ns, predictions[-1][0])
    rows = [p.probabilities for t_ns, p in predictions if t_ns >= first_ns and p.probabilities]
    return np.array(rows).reshape(-1, len(networks.manifest.labels))


def predict_clip(networks: Networks, media: ExampleMedia) -> Iterator[tuple[int, Prediction]]:
    """Yield (time in ns, prediction) for each frame; without frames, for each 0.25 s of audio."""
    estimator = Estimator(networks.manifest, networks.engines, networks.level)
    faces = _FaceReader(networks, media) if media.frame_times_s else None
    voice = _VoiceReader(networks, media.audio, media.audio_t_s)
    for t_s in media.frame_times_s or _audio_times_s(networks, media):
        t_ns = round(t_s * 1e9)
        if faces is not None:
            estimator.update_faces(t_ns, *faces.read(t_ns))
        speech = voice.advance(t_ns)
        if estimator.is_voice_due(t_ns):
            estimator.update_voice(t_ns, voice.read() if speech.is_usable else None)
        elif not speech.is_usable:
            estimator.drop_voice()
        yield t_ns, estimator.estimate(t_ns)


def _audio_times_s(networks: Networks, media: ExampleMedia) -> tuple[float, ...]:
    if media.audio is None:
        return ()
    end_s = media.audio_t_s + len(media.audio) / networks.manifest.mel.sample_rate_hz
    return tuple(WINDOW_EVERY_S * n for n in range(1, int(end_s / WINDOW_EVERY_S) + 1))


class _FaceReader:
    """The face network's outputs, frame by frame; they are computed in batches."""

    def __init__(self, networks: Networks, media: ExampleMedia) -> None:
        self._outputs: FaceOutputs | None = None
        self._rows = {round(face.t_s * 1e9): (row, face.id) for row, face in enumerate(media.faces)}
        if media.faces:
            self._outputs = read_faces_cached(networks, media.faces)

    def read(self, t_ns: int) -> tuple[Sequence[str], Arrays | None]:
        """Id of the face in the frame of `t_ns`, and the outputs for it; none without a face."""
        row, face_id = self._rows.get(t_ns, (-1, ""))
        if self._outputs is None or row < 0:
            return (), None
        return (face_id,), {
            "logits": self._outputs.logits[row : row + 1],
            "embedding": self._outputs.embeddings[row : row + 1],
        }


class _VoiceReader:
    """The voice network's outputs for windows that end later and later."""

    def __init__(self, networks: Networks, audio: Audio | None, audio_t_s: float) -> None:
        self._networks = networks
        self._audio = np.empty(0, np.float32) if audio is None else audio
        self._begin_ns = round(audio_t_s * 1e9)
        self._pushed = 0
        networks.preprocessor.mel.restart(0)
        if networks.speech is not None:
            networks.speech.wipe()

    def advance(self, t_ns: int) -> Speech:
        """Take the audio up to `t_ns`. Return whether there is speech at its end."""
        mel, tracker = self._networks.preprocessor.mel, self._networks.speech
        rate_hz = mel.spec.sample_rate_hz
        # One sample of grace for the rounding of times, as in `perception.Synchroniser`.
        wanted = (t_ns - self._begin_ns) * rate_hz // 1_000_000_000 + 1
        end = min(wanted, len(self._audio))
        end_ns = self._begin_ns + end * 1_000_000_000 // rate_hz
        if end < mel.spec.window or t_ns - end_ns >= MAX_AUDIO_AGE_NS:
            return NO_SPEECH
        samples, self._pushed = self._audio[self._pushed : end], end
        mel.push(samples)
        if tracker is None:
            return ALL_SPEECH
        tracker.push(samples)
        return tracker.find(wanted)

    def read(self) -> Arrays:
        """Return the outputs for the window that ends with the audio taken."""
        window, mask = self._networks.preprocessor.mel.window()
        return self._networks.engines["voice"].infer({"mel": window, "mask": mask})
