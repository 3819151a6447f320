"""A real face and voice in front of the device's camera and microphone, through the networks that
ship: the whole product in one."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_edge.engines.bundles.manifest import LABELS
from emotion_edge.runtime.__main__ import main

from .device import Device
from .film import write_replay, write_video

CLIPS = ("01-01-08-01-01-02-01.mp4", "01-01-01-01-01-01-01.mp4")
FPS = 15
REPEATS = 200
"""Ten minutes, more than the test takes."""
REPLAYED = 4
COUNT = 40
FULL_MS = 4000
"""After so long the voice network hears as much as it wants."""
NEAR = 0.1
"""The fusion network looks back at the last faces; here they are further apart than on a PC."""
MOST = 0.9


@dataclass(frozen=True)
class Opinion:
    """Of face and voice together."""

    label: str | None
    shares: NDArray[np.float64]


def replay(file: Path, folder: Path) -> list[Opinion]:
    """What the same program says on this machine."""
    lines = folder / "replay.jsonl"
    options = ["--set", "level=high", "--set", "output.smoothing_s=0"]
    sink = ["--output", f"jsonl:{lines}"]
    assert main(["run", "--source", str(file), "--pace", "max", *options, *sink]) == 0
    return [
        Opinion(said["label"], np.array([said["probabilities"][label] for label in LABELS]))
        for said in map(json.loads, lines.read_text().splitlines())
        if said["face"] and said["voice"]
    ]


@pytest.mark.parametrize("name", CLIPS)
def test_same_as_the_file(device: Device, shared_data: Path, tmp_path: Path, name: str) -> None:
    """Played into camera and microphone, over and over, it gives what the file gives: the same
    label most of the time, and probabilities that the file has somewhere, too."""
    film, sound = write_video(shared_data / "clips" / name, tmp_path, fps=FPS, repeats=REPEATS)
    file = write_replay(film, sound, tmp_path / "film.nut", fps=FPS, repeats=REPLAYED)
    on_pc = replay(file, tmp_path)
    device.play_both(film, sound, FPS)
    device.configure(
        ("/dev/emotion-edge-camera", "/dev/video0"),
        ('name: "null"', "name: onnx"),
        ("budget_ms: 2000", "budget_ms: 2000\\nlevel: high"),
        ("sinks:", "smoothing_s: 0\\n  sinks:"),
        ("320", "640"),
        ("180", "480"),
    )
    device.wait_ready(180)
    both = (said for said in device.estimates(180) if said["face"] > 0 and said["voice"] > 0)
    begin_ms = next(both)["t_ms"]
    settled = itertools.dropwhile(lambda said: said["t_ms"] < begin_ms + FULL_MS, both)
    said = list(itertools.islice(settled, COUNT))
    assert len(said) == COUNT, device.explain()
    on_device = [Opinion(one["label"], np.array(one["probabilities"])) for one in said]
    labels = {opinion.label for opinion in on_pc}
    same = [opinion.label in labels for opinion in on_device]
    assert np.mean(same) >= MOST, (labels, [opinion.label for opinion in on_device])
    away = [min(np.abs(it.shares - one.shares).max() for one in on_pc) for it in on_device]
    assert np.mean(np.array(away) < NEAR) >= MOST, sorted(away)
