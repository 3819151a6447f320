"""`emotion-bench` on the command line with null networks: every figure exists, and they agree."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from emotion_edge.runtime import live
from emotion_edge.runtime.bench import __main__ as command
from emotion_edge.runtime.bench import micro, session
from emotion_edge.runtime.bench.throttle import SimulatedSlowdown
from emotion_edge.runtime.capture import Playback, Sources, open_media
from emotion_edge.runtime.capture.demo import draw_face, synthesize_speech
from emotion_edge.runtime.clock import Clock
from emotion_edge.runtime.config import Source
from emotion_edge.runtime.telemetry.latency import STAGES

from ... import processes

TIMEOUT_S = 500
RUN = (sys.executable, "-m", "emotion_edge.runtime.bench")


@pytest.fixture
def null_engine(null_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Options of a run without networks, with a cache of its own."""
    monkeypatch.setenv("EMOTION_EDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(micro, "WARM_UP_NS", 0)
    return ["--bundle", str(null_bundle), "--set", "engines.name=null"]


@pytest.fixture
def clip(make_video: Callable[..., Path]) -> Path:
    """0.6 s of the demo, quick to decode."""
    frames = [(n / 30, draw_face(n / 30)) for n in range(18)]
    return make_video("clip.mkv", frames, synthesize_speech(0, 9600)[None], audio="pcm_s16le")


@pytest.fixture
def measure(tmp_path: Path, null_engine: list[str], clip: Path) -> Callable[..., dict[str, Any]]:
    """A function that runs with options and returns the report."""

    def run(*options: str) -> dict[str, Any]:
        file = tmp_path / "bench.json"
        arguments = ["--source", str(clip), "--json", str(file), *options, *null_engine]
        assert command.main(arguments) == 0
        return dict(json.loads(file.read_text()))

    return run


def refuse(capsys: pytest.CaptureFixture[str], *options: str, code: int = 2) -> str:
    """Run, expect an error, and return its one line."""
    assert command.main([*options]) == code
    out, errors = capsys.readouterr()
    assert out == ""
    assert len(errors.splitlines()) == 1
    return errors.strip()


def test_report(
    measure: Callable[..., dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """The report has its keys, and its figures agree."""
    trace = tmp_path / "trace.json"
    report = measure("--seconds", "0.7", "--fps", "20", "--repeats", "2", "--trace", str(trace))
    assert (report["format"], report["scenario"], report["level"]) == (2, "steady", "auto")
    assert (report["source"], report["fps"], report["seconds"]) == ("clip.mkv", 20.0, 0.7)
    latency = report["latency_ms"]
    assert list(latency) == ["p50", "p90", "p95", "p99", "p99.9", "max", "mean"]
    assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["max"]
    assert list(report["stages_ms"]) == list(STAGES)
    assert all(list(figures) == ["p50", "p99"] for figures in report["stages_ms"].values())
    assert set(report["misses_by_cause"]) == set(STAGES)
    assert report["budget_ms"] == 45.0
    assert report["estimates"] + report["dropped"] + report["passed_over"] == report["frames"]
    assert 0 < report["frames"] <= 0.7 * 20 + 2
    assert sum(report["level_time_s"].values()) > 0
    assert [phase["name"] for phase in report["phases"]] == ["steady"]
    assert len(report["series"]["t_s"]) == len(report["series"]["latency_ms"])
    assert len(report["percentile_curve"]["rank"]) == len(report["percentile_curve"]["latency_ms"])
    assert len(report["repeats"]) == 2
    assert report["beside"] == {}
    assert 0 < report["accounting_us"]["p50"] <= report["accounting_us"]["p99"]
    assert list(report["models"]) == ["face 64 px fp32", "voice fp32", "face 48 px fp32"]
    assert len(report["bundle"]) == 64
    assert report["versions"]["numpy"] == np.__version__
    assert report["rss_mb"] > 30
    assert report["held_mb"] == pytest.approx(18 * 640 * 360 * 3 / 1e6, abs=0.1)
    assert set(report["capture"]) == {"copies_per_frame", "clock_domain", "zero_copy"}
    assert report["capture"]["copies_per_frame"] == 0
    assert report["engines"] == {"face": "null fp32", "voice": "null fp32"}
    assert report["preprocessor"] == "cpu"
    assert report["machine"]["cores"] >= 1
    assert set(report["sensors"]) == {"before", "after", "throttle_events"}
    assert report["load_average_before"] >= 0
    assert json.loads(trace.read_text())["traceEvents"]
    assert "capture to result" in " ".join(capsys.readouterr().out.split())


def test_contended(measure: Callable[..., dict[str, Any]]) -> None:
    """Two phases of load, each with a recovery, and a run pinned to the best level. No process is
    left."""
    report = measure("--scenario", "contended", "--seconds", "2.5", "--hogs", "2")
    assert [p["name"] for p in report["phases"]] == ["quiet", "hogs", "quiet", "hogs", "quiet"]
    assert len(report["back_at_top_s"]) == 2
    disturbance = report["disturbance"]
    assert (disturbance["hogs"], disturbance["kind"]) == (2, "as the results")
    assert report["beside"]["pinned"]["level"] == "high"
    assert report["beside"]["pinned"]["level_switches"] == []
    assert report["beside"]["pinned"]["frames"] > 0
    commands = [" ".join(child.cmdline()) for child in psutil.Process().children()]
    assert not any("load_process" in line for line in commands)


def test_throttled(measure: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulated quota works on every machine. A pinned level has no pinned run beside it."""
    monkeypatch.setattr(session, "open_bandwidth", SimulatedSlowdown)
    options = ("--scenario", "throttled", "--seconds", "2.5", "--quota", "0.2")
    report = measure(*options, "--set", "level=low")
    assert report["disturbance"] == {"by": "simulated", "quota_cores": 0.2}
    assert [p["name"] for p in report["phases"]][1::2] == ["throttled", "throttled"]
    assert report["level"] == "low"
    assert report["passed_over"] == 0
    assert report["beside"] == {}


def test_modality_loss(measure: Callable[..., dict[str, Any]]) -> None:
    """Estimates continue without frames, and without audio."""
    report = measure("--scenario", "modality-loss", "--seconds", "3")
    both, _, _, no_frames, again = report["phases"]
    assert both["frames"] > 0
    assert (no_frames["frames"], no_frames["with_face"]) == (0, 0)
    assert no_frames["estimates"] > 0
    assert again["frames"] > 0


def test_faces(measure: Callable[..., dict[str, Any]]) -> None:
    """The blank image has no face. The report has the memory of the generated images."""
    report = measure("--scenario", "faces", "--seconds", "1.8")
    assert [p["name"] for p in report["phases"]] == ["0 faces", "1 face", "4 faces"]
    assert report["phases"][0]["with_face"] == 0
    assert report["held_mb"] == pytest.approx(37 * 640 * 360 * 3 / 1e6, abs=0.1)


def test_soak(measure: Callable[..., dict[str, Any]]) -> None:
    """Nothing is lost, and samples are taken."""
    soak = measure("--scenario", "soak", "--seconds", "2")["soak"]
    assert soak["lost_estimates"] == 0
    assert len(soak["t_s"]) >= 1
    assert all(memory > 0 for memory in soak["rss_mb"])


def test_camera_is_not_preloaded(
    tmp_path: Path, clip: Path, null_engine: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is opened as in any run, at its configured rate."""

    def open_camera(source: Source, *, clock: Clock, **_: object) -> Sources:
        playback = Playback(open_media(Source(str(clip))), clock, loop=True)
        return Sources(playback.video, None, source.name)

    monkeypatch.setattr(live, "open_sources", open_camera)
    file = tmp_path / "bench.json"
    options = ["--source", "/dev/video9", "--seconds", "0.5", "--json", str(file)]
    assert command.main([*options, "--set", "source.camera_fps=25", *null_engine]) == 0
    report = json.loads(file.read_text())
    assert (report["source"], report["fps"], report["held_mb"]) == ("video9", 25.0, 0.0)
    assert report["frames"] > 0


def test_compared_with_itself(
    measure: Callable[..., dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run reads the report of an earlier one, and prints a table."""
    measure("--seconds", "0.3")
    old = tmp_path / "old.json"
    (tmp_path / "bench.json").rename(old)
    capsys.readouterr()
    measure("--seconds", "0.3", "--compare", str(old))
    assert "latency p99, ms" in capsys.readouterr().out


def test_over_budget(
    null_engine: list[str], clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Code 1, and a line with the figure and the budget."""
    options = ["--source", str(clip), "--seconds", "0.3", "--assert-budget"]
    assert command.main([*options, "--set", "budget_ms=0.001", *null_engine]) == 1
    assert "0.001 ms" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--scenario", "windy"], "--scenario windy"),
        (["--scenario", "contended", "--hogs", "0"], "--hogs 0"),
        (["--hogs", "3"], "--hogs 3"),
        (["--scenario", "throttled", "--quota", "0"], "--quota 0"),
        (["--scenario", "throttled", "--quota", "999"], "--quota 999"),
        (["--scenario", "throttled", "--quota", "nan"], "--quota nan"),
        (["--scenario", "faces", "--seconds", "1"], "--seconds 1"),
        (["--repeats", "0"], "--repeats 0"),
        (["--source", "camera", "--fps", "20"], "--fps 20.0"),
        (["--source", "camera", "--scenario", "faces"], "--scenario faces"),
        (["--json", "/nowhere/x.json"], "--json /nowhere/x.json"),
        (["--trace", "/nowhere/x.json"], "--trace /nowhere/x.json"),
        (["--compare", "/nowhere.json"], "/nowhere.json"),
    ],
)
def test_usage_errors(
    null_engine: list[str], capsys: pytest.CaptureFixture[str], options: list[str], names: str
) -> None:
    """One line and code 2, before anything is measured."""
    assert names in refuse(capsys, *options, *null_engine)


def test_missing_clip(null_engine: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert "none.mp4" in refuse(capsys, "--source", "none.mp4", *null_engine, code=4)


def test_scenario_needs_the_modalities_it_removes(
    make_video: Callable[..., Path], null_engine: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A clip without audio is refused."""
    silent = make_video("silent.mp4", [(n / 30, draw_face(0.0)) for n in range(3)])
    options = ("--source", str(silent), "--scenario", "modality-loss")
    assert "--scenario modality-loss" in refuse(capsys, *options, *null_engine)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 130), (signal.SIGINT, 130), (signal.SIGKILL, -9)]
)
def test_stopped_from_outside(
    null_bundle: Path,
    clip: Path,
    tmp_path: Path,
    interruptible: None,
    number: signal.Signals,
    code: int,
) -> None:
    """Its processes end with it, whether it ends in order or is killed."""
    command = [*RUN, "--source", str(clip), "--bundle", str(null_bundle), "--scenario", "contended"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        ready.settimeout(TIMEOUT_S)
        ready.bind(str(tmp_path / "ready"))
        environment = {
            "EMOTION_EDGE_CACHE": str(tmp_path),
            "NOTIFY_SOCKET": str(tmp_path / "ready"),
        }
        with processes.start(
            [*command, "--hogs", "1", "--set", "engines.name=null"],
            env={**os.environ, **environment},
            stderr=subprocess.DEVNULL,
        ) as process:
            while b"READY=1" not in ready.recv(4096):
                pass
            children = psutil.Process(process.pid).children()
            assert len(children) == 1
            process.send_signal(number)
            assert process.wait(TIMEOUT_S) == code
    processes.wait_gone(children)
