"""A real face and voice in front of the device's camera and microphone, through the networks that
ship: the whole product in one."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_edge.engines.bundle import LABELS
from emotion_edge.runtime.__main__ import main

from .device import Device
from .film import write_film

CLIPS = ("01-01-08-01-01-02-01.mp4", "01-01-01-01-01-01-01.mp4")
LEVEL = "low"
FPS = 15
SECONDS = 600
COUNT = 40
NEAR = 0.1


def average(shares: list[list[float]]) -> NDArray[np.float64]:
    """Mean probability of each label."""
    return np.mean(shares, axis=0)


def read_file(clip: Path, folder: Path) -> tuple[set[str], NDArray[np.float64]]:
    """Labels that face and voice together have on a PC, and their mean probabilities."""
    lines = folder / f"{clip.stem}.jsonl"
    options = ["--pace", "max", "--set", f"level={LEVEL}", "--output", f"jsonl:{lines}"]
    assert main(["run", "--source", str(clip), *options]) == 0
    both = [
        estimate
        for estimate in map(json.loads, lines.read_text().splitlines())
        if estimate["face"] and estimate["voice"]
    ]
    shares = [[estimate["probabilities"][label] for label in LABELS] for estimate in both]
    return {estimate["label"] for estimate in both}, average(shares)


@pytest.mark.parametrize("name", CLIPS)
def test_same_as_the_file(device: Device, shared_data: Path, tmp_path: Path, name: str) -> None:
    """Played into camera and microphone it has the labels that the file has on a PC."""
    clip = shared_data / "clips" / name
    labels, wanted = read_file(clip, tmp_path)
    film, sound = write_film(clip, tmp_path, fps=FPS, repeats=SECONDS // 3)
    device.play_film(film, FPS)
    device.play_sound(sound)
    device.configure(
        ("/dev/emotion-edge-camera", "/dev/video0"),
        ('name: "null"', "name: onnx"),
        ("budget_ms: 2000", f"budget_ms: 2000\\nlevel: {LEVEL}"),
        ("320", "640"),
        ("180", "480"),
    )
    device.wait_ready(180)
    both = (e for e in device.estimates(120) if e["face"] > 0 and e["voice"] > 0)
    estimates = list(itertools.islice(both, COUNT))
    assert len(estimates) == COUNT, device.explain()
    assert {estimate["label"] for estimate in estimates} <= labels
    seen = average([estimate["probabilities"] for estimate in estimates])
    assert np.abs(seen - wanted).max() < NEAR
