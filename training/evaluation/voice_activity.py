"""Scores voice activity with the network and the rule of the device.

In: recordings of speech, and sounds without speech. Out: how much of the time without speech the
voice is used, which recordings are missed, and how long the voice is used after speech has ended.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ...engines.speech_tracker import STEP_COLUMNS, SpeechTracker
from ..augment import Audio, add_noise, make_noise
from ..data import load_audio
from ..errors import DatasetError

QUIET_PEAK_DB = -45.0
SNRS_DB = (5.0, 0.0)
MAX_S = 30.0
"""Length of a recording that is used."""
FLOOR_DB = -75.0
"""Level of the noise that follows the speech when its end is measured."""
TAIL_S = 2.0
BLOCK_S, ACTIVE_DB = 0.02, 25.0
"""Speech ends with the last block within this level of the loud ones."""


@dataclass(frozen=True, slots=True)
class Hearing:
    """How a recording of speech reaches the device."""

    name: str
    noise: str = ""
    """ "real", "white", or none."""
    snr_db: float = 0.0
    peak_db: float | None = None
    """Peak of the recording; None leaves it."""

    def apply(
        self, audio: Audio, noises: Sequence[Audio], rate_hz: int, rng: np.random.Generator
    ) -> Audio:
        """Return the recording as heard."""
        if self.peak_db is not None:
            gain = 10 ** (self.peak_db / 20) / max(float(np.abs(audio).max()), 1e-9)
            return audio * np.float32(gain)
        if not self.noise:
            return audio
        if self.noise == "real":
            noise = noises[int(rng.integers(len(noises)))]
        else:
            noise = make_noise(self.noise, len(audio), rng)
        return add_noise(audio, noise, self.snr_db, rate_hz, rng)


HEARINGS = (
    Hearing("clean"),
    Hearing(f"peak {QUIET_PEAK_DB:g} dB", peak_db=QUIET_PEAK_DB),
    *(
        Hearing(f"{noise} noise, {snr_db:g} dB", noise, snr_db)
        for snr_db in SNRS_DB
        for noise in ("real", "white")
    ),
)


def trace_usage(audio: Audio, tracker: SpeechTracker) -> NDArray[np.bool_]:
    """Return whether the voice may be used after each step of 30 ms of a recording (n,), on a
    device that has just started. Step k knows the samples before `step_end(k, tracker)`."""
    tracker.wipe()
    spec = tracker.spec
    num_steps = max(0, (len(audio) - spec.window) // spec.hop + 1) // STEP_COLUMNS
    used = np.zeros(num_steps, bool)
    done = 0
    for step in range(num_steps):
        end = step_end(step, tracker)
        tracker.push(audio[done:end])
        used[step] = tracker.find(end).is_usable
        done = end
    return used


def step_end(step: int, tracker: SpeechTracker) -> int:
    """Return the number of samples that complete a step."""
    return ((step + 1) * STEP_COLUMNS - 1) * tracker.spec.hop + tracker.spec.window


def find_speech_end(audio: Audio, rate_hz: int) -> int:
    """Return the sample after the last loud block of speech."""
    size = round(BLOCK_S * rate_hz)
    power = np.square(audio[: len(audio) // size * size].reshape(-1, size)).mean(axis=1)
    loud = np.percentile(power, 95) * 10 ** (-ACTIVE_DB / 10)
    return int(np.flatnonzero(power >= loud)[-1] + 1) * size


def measure_release(audio: Audio, tracker: SpeechTracker, rng: np.random.Generator) -> float | None:
    """Return for how long the voice is used after the end of speech, in seconds; None when it was
    not used at all."""
    rate_hz = tracker.spec.sample_rate_hz
    end = find_speech_end(audio, rate_hz)
    tail = make_noise("white", round(TAIL_S * rate_hz), rng) * np.float32(10 ** (FLOOR_DB / 20))
    steps = np.flatnonzero(trace_usage(np.concatenate([audio[:end], tail]), tracker))
    if not len(steps):
        return None
    return max(0.0, (step_end(int(steps[-1]) + 1, tracker) - end) / rate_hz)


def load_sounds(files: Sequence[Path]) -> dict[str, list[Audio]]:
    """Load sounds by the name of their folder, which is their class. Raises DatasetError."""
    classes: dict[str, list[Audio]] = {}
    for path in files:
        classes.setdefault(path.parent.name, []).extend(load_audio([path], MAX_S))
    classes = {name: sounds for name, sounds in classes.items() if sounds}
    if not classes:
        raise DatasetError("no readable sound without speech")
    return classes


def evaluate_voice_activity(
    tracker: SpeechTracker,
    speech: Mapping[str, Sequence[Audio]],
    sounds: Mapping[str, Sequence[Audio]],
    seed: int = 0,
) -> dict[str, Any]:
    """Score the tracker -> by class of sounds the share of time in which the voice is used; by set
    of recordings the share missed in each of `HEARINGS`, and the release times in seconds."""
    noises = [audio for group in sounds.values() for audio in group]
    used = {
        name: float(np.mean(np.concatenate([trace_usage(audio, tracker) for audio in group])))
        for name, group in tqdm(sounds.items(), "sounds", leave=False, disable=None)
    }
    return {
        "dataset": "voice_activity",
        "used": used,
        "used_mean": float(np.mean(list(used.values()))),
        "speech": {
            name: _score_speech(recordings, noises, tracker, seed)
            for name, recordings in speech.items()
        },
        "sounds": len(noises),
        "seed": seed,
    }


def _score_speech(
    recordings: Sequence[Audio], noises: Sequence[Audio], tracker: SpeechTracker, seed: int
) -> dict[str, Any]:
    missed: dict[str, float] = {}
    for hearing in HEARINGS:
        heard = []
        for number, audio in enumerate(tqdm(recordings, hearing.name, leave=False, disable=None)):
            rng = np.random.default_rng((seed, zlib.crc32(hearing.name.encode()), number))
            as_heard = hearing.apply(audio, noises, tracker.spec.sample_rate_hz, rng)
            heard.append(bool(trace_usage(as_heard, tracker).any()))
        missed[hearing.name] = 1.0 - float(np.mean(heard))
    times = [
        measure_release(audio, tracker, np.random.default_rng((seed, number)))
        for number, audio in enumerate(recordings)
    ]
    known = [time for time in times if time is not None]
    percentiles = {"median": 50, "p95": 95, "max": 100}
    release_s = {name: float(np.percentile(known, q)) for name, q in percentiles.items() if known}
    return {"n": len(recordings), "missed": missed, "release_s": release_s}


def format_table(results: Mapping[str, Any]) -> str:
    """Return the results as lines of text."""
    rows = [("voice used without speech", results["used_mean"])]
    rows += [(f"  {name}", share) for name, share in sorted(results["used"].items())]
    lines = [f"{name:<34}{100 * share:6.1f} %" for name, share in rows]
    for name, scores in results["speech"].items():
        lines.append(f"missed of {scores['n']} recordings, {name}")
        lines += [f"  {how:<32}{100 * share:6.1f} %" for how, share in scores["missed"].items()]
        times = ", ".join(f"{which} {value:.2f}" for which, value in scores["release_s"].items())
        lines.append(f"  used after speech, seconds: {times or 'never used'}")
    return "\n".join(lines)
