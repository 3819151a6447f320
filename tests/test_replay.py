"""Golden replays: the whole program on a short film against what it said before.

`tests/golden/demo.jsonl` holds every sixth estimate of the demo's first three seconds, made with
the null engine (the smoothing carries the others into them), less the timing fields. A change that
is meant to change the answers writes it anew:

    EMOTION_EDGE_WRITE_GOLDEN=1 .venv/bin/python -m pytest tests/test_replay.py -k golden
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from emotion_edge.engines.bundles.manifest import DEFAULT_BUNDLE
from emotion_edge.runtime.__main__ import main

GOLDEN = Path(__file__).parent / "golden" / "demo.jsonl"
EVERY = 6
TIMING = ("latency_ms", "stages_ms")
TOLERANCE = 1e-3
"""Of a probability: another CPU adds in another order."""
DETECTOR_TOLERANCES = {"box": 1.0, "score": 0.03}
"""Pixels, and a probability: OpenCV 4 and 5 reduce the frame to pixels that differ by one."""


def replay(out: Path, source: str, *options: str) -> list[str]:
    """The lines of a run at full speed, as they were written, less the timing fields, and with the
    number of a face in the run instead of its random id."""
    arguments = ["run", "--source", source, "--pace", "max", "--output", f"jsonl:{out}", *options]
    assert main(arguments) == 0
    lines = []
    ids: dict[str, int] = {}
    for line in out.read_text().splitlines():
        fields = json.loads(line)
        for name in TIMING:
            del fields[name]
        for face in fields["faces"]:
            face["id"] = str(ids.setdefault(face["id"], len(ids)))
        lines.append(json.dumps(fields))
    return lines


def assert_alike(found: Any, wanted: Any, where: str, tolerance: float = TOLERANCE) -> None:
    """Equal, but for the last digits of numbers that are not whole."""
    if isinstance(wanted, dict):
        assert list(found) == list(wanted), where
        for name, value in wanted.items():
            allowed = DETECTOR_TOLERANCES.get(name, TOLERANCE)
            assert_alike(found[name], value, f"{where}.{name}", allowed)
    elif isinstance(wanted, list):
        assert len(found) == len(wanted), where
        for number, (one, other) in enumerate(zip(found, wanted, strict=True)):
            assert_alike(one, other, f"{where}[{number}]", tolerance)
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, abs=tolerance), where
    else:
        assert found == wanted, where


@pytest.fixture
def demo_lines(tmp_path: Path, null_bundle: Path) -> list[str]:
    options = ["--seconds", "3", "--bundle", str(null_bundle), "--set", "engines.name=null"]
    first = replay(tmp_path / "first.jsonl", "demo", *options)
    assert replay(tmp_path / "again.jsonl", "demo", *options) == first
    return first


def test_demo_is_as_golden(demo_lines: list[str]) -> None:
    """The same answers twice, and those of before."""
    assert len(demo_lines) == 90
    kept = demo_lines[::EVERY]
    if os.environ.get("EMOTION_EDGE_WRITE_GOLDEN"):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text("\n".join(kept) + "\n")
        pytest.skip(f"{GOLDEN} was written")
    golden = GOLDEN.read_text().splitlines()
    assert len(kept) == len(golden)
    for number, (line, before) in enumerate(zip(kept, golden, strict=True)):
        assert_alike(json.loads(line), json.loads(before), f"line {number}")


def test_real_clip_repeats(shared_data: Path, tmp_path: Path) -> None:
    """A real face and voice through the networks that ship: twice the same, an estimate for each
    frame, a face in nearly all, a voice once it spoke, and numbers that are probabilities."""
    clip = shared_data / "clips" / "01-01-08-01-01-02-01.mp4"
    if not clip.is_file():
        pytest.skip(f"no {clip}")
    if not (DEFAULT_BUNDLE / "bundle.json").is_file():
        pytest.skip(f"no bundle in {DEFAULT_BUNDLE} yet")
    lines = replay(tmp_path / "first.jsonl", str(clip))
    assert replay(tmp_path / "again.jsonl", str(clip)) == lines
    estimates = [json.loads(line) for line in lines]
    assert [e["index"] for e in estimates] == list(range(97))
    period_ns = 1_001_000_000 / 30
    for e in estimates:
        assert e["t_ns"] - estimates[0]["t_ns"] == pytest.approx(e["index"] * period_ns, abs=1e6)
    assert sum(e["face"] is not None for e in estimates) > 0.95 * 97
    # The sentence lasts from about 1.2 to 2.3 seconds, and the voice is used half a second longer.
    heard = [e["voice"] is not None for e in estimates]
    assert sum(heard[48:75]) > 0.9 * 27
    assert not any(heard[:30] + heard[90:])
    for e in estimates:
        assert abs(e["skew_ms"]) < 50
        if e["probabilities"]:
            assert sum(e["probabilities"].values()) == pytest.approx(1, abs=1e-5)
            assert e["confidence"] == max(e["probabilities"].values())
            assert sum(e["modalities"].values()) == pytest.approx(1, abs=1e-5)
        assert (e["face"] is None) == (e["modalities"]["face"] == 0)
        assert (e["voice"] is None) == (e["modalities"]["voice"] == 0)
