"""Data sets of made-up people, in the layouts that real ones have.

In: a folder. Out: pictures, recordings and films of every person and expression in it, with a
manifest or with the file names of RAVDESS. The same call writes the same data.
"""

from __future__ import annotations

import csv
import wave
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from ..data import EMOTIONS8
from .people import EXPRESSIONS, RATE_HZ, SIZE_PX, draw_face, make_person, open_mouth, speak

SPLIT_OF = ("train", "train", "train", "train", "train", "train", "valid", "valid", "test", "test")
"""Split of each person of the folder."""
FPS = 10
FILM_S = 0.8
RECORDING_S = 0.8
NUM_PICTURES = 3
NUM_RECORDINGS = 2
"""Of each person and expression; each also has one film."""
FILM = "film.mp4"
"""A film of someone else, to try a bundle on."""
DEMO_S = 4.0
"""Its length."""


def write_folder(root: Path) -> None:
    """Write a folder with `manifest.csv` of ten people, and `FILM` of another one."""
    rows = []
    for number, split in enumerate(SPLIT_OF):
        person, rng = make_person(number), np.random.default_rng([3, number])
        for label, expression in EXPRESSIONS.items():
            names = []
            for take in range(NUM_PICTURES):
                names.append(f"pictures/{number}-{label}-{take}.png")
                write_picture(root / names[-1], draw_face(person, expression, rng))
            for take in range(NUM_RECORDINGS):
                names.append(f"recordings/{number}-{label}-{take}.wav")
                write_recording(root / names[-1], speak(person, expression, RECORDING_S, rng))
            names.append(f"films/{number}-{label}.mp4")
            write_film(root / names[-1], number, [label], FILM_S)
            rows += [(name, label, f"person-{number}", split) for name in names]
    with (root / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("file", "label", "subject", "split"))
        table.writerows(rows)
    write_film(root / FILM, len(SPLIT_OF), list(EXPRESSIONS), DEMO_S)


def write_ravdess(root: Path, actors: Sequence[int], films: bool = True) -> None:
    """Write recordings, and films of the same recordings, with the names and folders of RAVDESS."""
    for actor in actors:
        for label in EXPRESSIONS:
            code = f"01-{EMOTIONS8.index(label) + 1:02}-01-01-01-{actor:02}"
            folder = f"Actor_{actor:02}"
            rng = np.random.default_rng([4, actor, EMOTIONS8.index(label)])
            audio = speak(make_person(actor), EXPRESSIONS[label], FILM_S, rng)
            sounds = root / "Audio_Speech_Actors_01-24" / folder
            write_recording(sounds / f"03-{code}.wav", audio)
            if films:
                videos = root / f"Video_Speech_{folder}" / folder
                write_film(videos / f"01-{code}.mp4", actor, [label], FILM_S, audio)


def write_picture(path: Path, image: NDArray[np.uint8]) -> None:
    """Write an RGB image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes())


def write_recording(path: Path, audio: NDArray[np.float32]) -> None:
    """Write audio (n,) in -1..1 as WAV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(np.round(audio * 32_767).astype("<i2").tobytes())


def write_film(
    path: Path,
    number: int,
    labels: Sequence[str],
    seconds: float,
    audio: NDArray[np.float32] | None = None,
) -> None:
    """Write a film of a person who shows the expressions `labels` one after another."""
    person, rng = make_person(number), np.random.default_rng([5, number, len(labels)])
    part_s = seconds / len(labels)
    if audio is None:
        parts = [speak(person, EXPRESSIONS[label], part_s, rng) for label in labels]
        audio = np.concatenate(parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("mpeg4", rate=FPS)
        video.width, video.height, video.pix_fmt = SIZE_PX, SIZE_PX, "yuv420p"
        video.bit_rate = 1_500_000
        track: Any = container.add_stream("aac", rate=RATE_HZ, layout="mono")
        for n in range(round(seconds * FPS)):
            expression = EXPRESSIONS[labels[min(int(n / FPS / part_s), len(labels) - 1)]]
            image = draw_face(person, expression, rng, open_mouth(expression, n / FPS))
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = n, Fraction(1, FPS)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        pcm = np.round(audio * 32_767).astype(np.int16)[None]
        block = av.AudioFrame.from_ndarray(pcm, format="s16", layout="mono")
        block.sample_rate, block.pts, block.time_base = RATE_HZ, 0, Fraction(1, RATE_HZ)
        container.mux(track.encode(block))
        container.mux(track.encode(None))
