"""Synthetic speech of many languages and voices, by the program espeak-ng.

In: languages. Out: recordings of invented words and of numbers, in random voices, pitches and
paces. Debian's package `espeak-ng` has the program.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import wave
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.signal import resample_poly

from ..errors import DatasetError


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


LANGUAGES = _words(
    "af an ar az ba bg bn bs ca cmn cs cy da de en-029 en-gb en-us eo es et eu fa fr-fr ga gd "
    "gu he hr hu hy id is it ka kk kn ko ku ky la lb lt lv mk ml mr ms mt my ne nl or pa pl "
    "pt-br pt ro sd si sk sl sq sr sv ta te tn tt uk ur uz yue"
)
"""For training."""
HELD_OUT_LANGUAGES = ("el", "fi", "hi", "ja", "nb", "ru", "sw", "th", "tr", "vi")
"""For evaluation."""
VOICES = _words(
    "m1 m2 m3 m4 m5 m6 m7 m8 f1 f2 f3 f4 f5 croak klatt klatt2 klatt3 klatt4 Alex Alicia Andrea "
    "Annie Denis Diogo Gene Henrique Hugo Jacky Lee Marco Mario Michael Nguyen adam anika "
    "announcer antonio aunty belinda benjamin boris caleb david ed edward iven john linda "
    "marcelo max michel miguel norbert pablo paul pedro quincy rob robert sandro shelby steph "
    "travis victor zac"
)
ONSETS = _words("b ch d f g h j k l m n p r s sh t v w y z br gr tr st sp kl pl p t k m n s l")
NUCLEI = _words("a e i o u a e i o ai au ou ei")
CODAS = ("", "", "", "", "n", "m", "s", "r", "l", "t", "k")


def synthesise_speech(
    languages: Sequence[str], num_clips: int, seed: int, sample_rate_hz: int
) -> Iterator[NDArray[np.float32]]:
    """Yield recordings (n,). Raises DatasetError without espeak-ng."""
    program = shutil.which("espeak-ng")
    if program is None:
        raise DatasetError("espeak-ng is missing: install the package espeak-ng")
    for number in range(num_clips):
        rng = np.random.default_rng((seed, number))
        language = languages[number % len(languages)]
        voice = f"{language}+{rng.choice(VOICES)}"
        options = ["-v", voice, "-s", str(rng.integers(90, 320)), "-p", str(rng.integers(5, 95))]
        command = [program, *options, "--stdout", invent_text(rng)]
        done = subprocess.run(command, capture_output=True, check=False, timeout=60)
        if done.returncode or len(done.stdout) < 100:
            raise DatasetError(f"{' '.join(command[:3])}: {done.stderr.decode().strip()}")
        with wave.open(io.BytesIO(done.stdout)) as file:
            rate_hz = file.getframerate()
        samples = np.frombuffer(done.stdout[44:], "<i2", len(done.stdout[44:]) // 2)
        audio = resample_poly(samples / 32768.0, sample_rate_hz, rate_hz)
        yield audio.astype(np.float32)


def invent_text(rng: np.random.Generator) -> str:
    """Return a sentence of invented words and numbers, which every language can say."""
    words = []
    for _ in range(int(rng.integers(1, 12))):
        if rng.random() < 0.3:
            words.append(str(rng.integers(0, 10 ** int(rng.integers(1, 6)))))
            continue
        syllables = [
            f"{rng.choice(ONSETS)}{rng.choice(NUCLEI)}{rng.choice(CODAS)}"
            for _ in range(int(rng.integers(1, 5)))
        ]
        words.append("".join(syllables) + ("," if rng.random() < 0.12 else ""))
    return " ".join(words) + str(rng.choice([".", ".", "?", "!"]))
