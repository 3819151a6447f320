"""`emotion-edge profile` on the command line, and the figures of its table."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import emotion_edge.kernels
from emotion_edge.engines.bundles.manifest import DEFAULT_BUNDLE, Level, load_bundle
from emotion_edge.kernels.cpu.preprocessor import CpuPreprocessor
from emotion_edge.runtime.__main__ import main
from emotion_edge.runtime.cli.profile import list_figures, print_table
from emotion_edge.runtime.clock import FakeClock
from emotion_edge.runtime.config import load_config
from emotion_edge.runtime.quality import profiling
from emotion_edge.runtime.quality.controller import LevelCost
from emotion_edge.runtime.quality.profiling import ProfileSetup, profile_levels
from emotion_edge.runtime.session import open_runtime

from ...engines.fake_tensorrt import use_fake_tensorrt

MS = ("base_ms", "face_ms", "voice_ms")


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A cache of the test's own, and a short measurement."""
    monkeypatch.setattr(profiling, "COMMAND_S", 0.05)
    monkeypatch.delenv("CACHE_DIRECTORY", raising=False)
    monkeypatch.setenv("EMOTION_EDGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def null_engine(null_bundle: Path) -> list[str]:
    return ["--bundle", str(null_bundle), "--set", "engines.name=null"]


def profile(
    capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[int, list[str], list[str]]:
    code = main(["profile", *map(str, arguments)])
    printed = capsys.readouterr()
    return code, printed.out.splitlines(), printed.err.splitlines()


def find_row(lines: list[str], level: str) -> list[str]:
    (row,) = (line for line in lines if line.startswith("│") and level in line)
    return [cell.strip() for cell in row.strip("│").split("│")]


def test_shipped_bundle(capsys: pytest.CaptureFixture[str], tmp_path: Path, cache: Path) -> None:
    """A row for each level, the same figures in both files, and the name of the stored one."""
    out = tmp_path / "figures.json"
    code, lines, errors = profile(capsys, "--json", out)
    assert (code, errors) == (0, [])
    (file,) = cache.iterdir()
    assert f"stored in {file}" in lines
    stored, figures = json.loads(file.read_bytes()), json.loads(out.read_bytes())
    assert stored["measured"] == "command"
    assert stored["measured_of"] == figures["measured_of"]
    assert figures["budget_ms"] == 45
    levels = load_bundle(DEFAULT_BUNDLE).manifest.levels
    assert [row["name"] for row in figures["levels"]] == [level.name for level in levels]
    for level, row, entry in zip(levels, figures["levels"], stored["levels"], strict=True):
        assert entry == {name: row[name] for name in ("name", *MS, "more_face_ms")}
        assert find_row(lines, level.name)[1:4] == [f"{row[name]:.2f}" for name in MS]
        assert level.voice or row["voice_ms"] == 0
        assert row["full_ms"] == pytest.approx(sum(row[name] for name in MS), abs=1e-3)


def test_run_uses_the_stored_profile(
    capsys: pytest.CaptureFixture[str], null_engine: list[str], null_bundle: Path, cache: Path
) -> None:
    """A run has the same key, and reads what the command measured."""
    profile(capsys, *null_engine)
    (file,) = cache.iterdir()
    clock = FakeClock()
    config = load_config(None, [f"bundle='{null_bundle}'", "engines.name=null"])
    with open_runtime(config, clock, controlled=True) as runtime:
        manifest = runtime.bundle.manifest
        preprocessor = CpuPreprocessor(manifest.image, manifest.mel)
        costs = profile_levels(ProfileSetup(runtime.bundle, runtime.levels, preprocessor, 0, clock))
    assert list(cache.iterdir()) == [file]
    stored = json.loads(file.read_bytes())["levels"]
    assert [asdict(cost) for cost in costs] == [{**entry, "max_faces": 4} for entry in stored]


def test_profile_is_always_measured_again(
    capsys: pytest.CaptureFixture[str], null_engine: list[str], cache: Path
) -> None:
    """A stored profile is not read."""
    profile(capsys, *null_engine)
    (file,) = cache.iterdir()
    file.write_text("rubbish")
    code, _, errors = profile(capsys, *null_engine)
    assert (code, errors) == (0, [])
    assert json.loads(file.read_bytes())["measured"] == "command"


def test_every_level_of_a_pinned_configuration(
    capsys: pytest.CaptureFixture[str], null_engine: list[str], tmp_path: Path
) -> None:
    """All levels are measured where the configuration pins one."""
    (tmp_path / "edge.yaml").write_text("level: low\n")
    code, lines, _ = profile(capsys, *null_engine, "--config", tmp_path / "edge.yaml")
    assert code == 0
    assert find_row(lines, "high")
    assert find_row(lines, "low")[3] == "0.00"


def test_folder_that_cannot_be_written(
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    null_engine: list[str],
    cache: Path,
) -> None:
    """The figures are printed."""
    cache.touch()
    code, lines, _ = profile(capsys, *null_engine)
    assert (code, lines[-1]) == (0, "not stored")
    assert "EMOTION_EDGE_CACHE" in caplog.text


def test_full_disk(capsys: pytest.CaptureFixture[str], null_engine: list[str]) -> None:
    """One line names the file."""
    code, _, errors = profile(capsys, *null_engine, "--json", "/dev/full")
    assert (code, len(errors)) == (4, 1)
    assert "--json /dev/full" in errors[0]


def test_budget_that_nothing_holds(
    capsys: pytest.CaptureFixture[str], null_engine: list[str]
) -> None:
    """A line names the budget. The figures are stored all the same."""
    code, lines, _ = profile(capsys, *null_engine, "--set", "budget_ms=0.001")
    assert code == 0
    assert find_row(lines, "high")[-1] == "no"
    assert any("0.001 ms" in line for line in lines[-2:])


def test_tensorrt(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path
) -> None:
    """The profile has the GPU and the version of TensorRT, both stand-ins. It is stored beside the
    engines."""
    monkeypatch.setattr(emotion_edge.kernels, "has_gpu", lambda: False)
    use_fake_tensorrt(monkeypatch, cache)
    out = tmp_path / "figures.json"
    code, _, _ = profile(capsys, "--json", out, "--set", "engines.name=tensorrt")
    assert code == 0
    measured_of = json.loads(out.read_bytes())["measured_of"]
    assert "multiprocessors" in measured_of["gpu"]
    assert measured_of["tensorrt"]
    assert "tensorrt fp16" in measured_of["levels"]
    assert {file.suffix for file in cache.glob("default-*")} == {".engine", ".json"}
    assert len(list(cache.glob("levels-default-*.json"))) == 1


@pytest.mark.parametrize(
    ("arguments", "names", "code"),
    [
        (["--bundle", "nowhere"], "nowhere", 4),
        (["--set", "engines.name=magic"], "engines.name is 'magic'", 2),
        (["--set", "budget=1"], "budget", 2),
        (["--set", "level=low", "--json", "/nowhere/x.json"], "--json /nowhere/x.json", 2),
    ],
)
def test_user_errors(
    capsys: pytest.CaptureFixture[str],
    null_engine: list[str],
    arguments: list[str],
    names: str,
    code: int,
) -> None:
    """One line names the value: code 2 for a usage error, 4 for a missing part."""
    left, _, errors = profile(capsys, *null_engine, *arguments)
    assert (left, len(errors)) == (code, 1)
    assert names in errors[0]


def figures(*pairs: tuple[Level, LevelCost], budget_ms: float = 45.0) -> list[dict[str, Any]]:
    levels, costs = zip(*pairs, strict=True)
    return list_figures(levels, costs, budget_ms)


HIGH = Level("high", 64), LevelCost("high", 1, 6, 3)


def test_load_of_a_level() -> None:
    """A second of frames at the level's rate, and of the voice at its hop, at most once a frame."""
    slow = Level("slow", 64, camera_fps=4.0, voice_hop_ms=200), LevelCost("slow", 1, 6, 3)
    mute = Level("mute", 64, camera_fps=10.0, voice=False), LevelCost("mute", 1, 6, 0)
    rows = figures(HIGH, slow, mute)
    assert [row["load_ms_per_s"] for row in rows] == [30 * 7 + 5 * 3, 4 * 7 + 4 * 3, 10 * 7]
    assert [row["full_ms"] for row in rows] == [10, 10, 7]
    crowd = Level("crowd", 64), LevelCost("crowd", 1, 6, 3, 5, 3)
    assert [row["full_faces_ms"] for row in figures(crowd, mute)] == [20, 7]


@pytest.mark.parametrize(
    ("level", "cost", "no_gain"),
    [
        (Level("low", 48), LevelCost("low", 1, 6, 3), True),
        (Level("low", 48), LevelCost("low", 1, 7, 3), True),
        (Level("low", 48), LevelCost("low", 1, 5, 3), False),
        (Level("low", 48, voice_hop_ms=400), LevelCost("low", 1, 6, 3), False),
        (Level("low", 48, camera_fps=15), LevelCost("low", 1, 7, 3), False),
        (Level("low", 48, voice=False), LevelCost("low", 1, 6, 0), False),
    ],
)
def test_level_that_gains_nothing(
    capsys: pytest.CaptureFixture[str], level: Level, cost: LevelCost, no_gain: bool
) -> None:
    """A level that is no cheaper per frame nor per second is named."""
    rows = figures(HIGH, (level, cost))
    assert [row["no_gain"] for row in rows] == [False, no_gain]
    print_table(rows, 45.0, None)
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("level low") for line in lines) is no_gain


def test_budget_counts_a_full_frame() -> None:
    """A level fits if face and voice together do."""
    rows = figures(HIGH, (Level("low", 48), LevelCost("low", 1, 5, 3)), budget_ms=9.0)
    assert [row["fits"] for row in rows] == [False, True]


def test_markup_in_names(capsys: pytest.CaptureFixture[str]) -> None:
    name = "[/red]"
    rows = figures(HIGH, (Level(name, 64), LevelCost(name, 1, 6, 3)))
    print_table(rows, 45.0, Path("/a/[bold]"))
    printed = capsys.readouterr().out
    assert find_row(printed.splitlines(), name)
    assert f"level {name} " in printed
    assert "stored in /a/[bold]" in printed


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    """The help names every option, and none of a run."""
    with pytest.raises(SystemExit) as ended:
        main(["profile", "--help"])
    printed = capsys.readouterr().out
    assert ended.value.code == 0
    for option in ("--bundle", "--config", "--set", "--json"):
        assert option in printed
    assert "--source" not in printed
