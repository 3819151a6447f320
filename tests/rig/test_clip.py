"""A real face and voice at the camera and microphone of the device, with the default bundle."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_edge.engines.bundles import LABELS
from emotion_edge.runtime.__main__ import main

from .device import Device
from .media import write_replay, write_video

CLIPS = ("01-01-08-01-01-02-01.mp4", "01-01-01-01-01-01-01.mp4")
FPS = 15
REPEATS = 200
"""Ten minutes, more than the test takes."""
REPLAYED = 4
COUNT = 40
FULL_MS = 4000
"""After this time the window of the voice network is full."""
NEAR = 0.1
"""Tolerance of a probability: the fusion network attends to the last faces, which are further apart
here than on a PC."""
MOST = 0.9


@dataclass(frozen=True)
class Fused:
    """An estimate from both modalities."""

    label: str | None
    probabilities: NDArray[np.float64]


def replay(file: Path, folder: Path) -> list[Fused]:
    """Return the estimates of the same program on this machine."""
    lines = folder / "replay.jsonl"
    options = ["--set", "level=high", "--set", "output.smoothing_s=0"]
    sink = ["--output", f"jsonl:{lines}"]
    assert main(["run", "--source", str(file), "--pace", "max", *options, *sink]) == 0
    return [
        Fused(line["label"], np.array([line["probabilities"][label] for label in LABELS]))
        for line in map(json.loads, lines.read_text().splitlines())
        if line["face"] and line["voice"]
    ]


@pytest.mark.parametrize("name", CLIPS)
def test_same_as_the_file(device: Device, shared_data: Path, tmp_path: Path, name: str) -> None:
    """A clip repeated at camera and microphone gives the estimates of a replay: mostly the same
    label, and probabilities that occur in the replay."""
    yuyv, wav = write_video(shared_data / "clips" / name, tmp_path, fps=FPS, repeats=REPEATS)
    file = write_replay(yuyv, wav, tmp_path / "clip.nut", fps=FPS, repeats=REPLAYED)
    on_pc = replay(file, tmp_path)
    device.play_both(yuyv, wav, FPS)
    device.configure(
        ("/dev/emotion-edge-camera", "/dev/video0"),
        ('name: "null"', "name: onnx"),
        ("budget_ms: 2000", "budget_ms: 2000\\nlevel: high"),
        ("sinks:", "smoothing_s: 0\\n  sinks:"),
        ("320", "640"),
        ("180", "480"),
    )
    device.wait_ready(180)
    both = (line for line in device.estimates(360) if line["face"] > 0 and line["voice"] > 0)
    begin_ms = next(both)["t_ms"]
    settled = itertools.dropwhile(lambda line: line["t_ms"] < begin_ms + FULL_MS, both)
    lines = list(itertools.islice(settled, COUNT))
    assert len(lines) == COUNT, device.explain()
    on_device = [Fused(line["label"], np.array(line["probabilities"])) for line in lines]
    labels = {estimate.label for estimate in on_pc}
    same = [estimate.label in labels for estimate in on_device]
    assert np.mean(same) >= MOST, (labels, [estimate.label for estimate in on_device])
    known = np.array([estimate.probabilities for estimate in on_pc])
    away = [np.abs(known - it.probabilities).max(axis=1).min() for it in on_device]
    assert np.mean(np.array(away) < NEAR) >= MOST, sorted(away)
