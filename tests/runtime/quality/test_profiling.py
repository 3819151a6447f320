"""The profile of the levels: when it is measured, read, replaced and dropped."""

from __future__ import annotations

import errno
import json
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from emotion_edge.engines.base import EngineError
from emotion_edge.engines.bundles.manifest import Bundle, Level
from emotion_edge.engines.cpus import count_cpus
from emotion_edge.engines.tensorrt.cache import find_cache_folder
from emotion_edge.kernels.cpu.preprocessor import CpuPreprocessor
from emotion_edge.runtime.clock import FakeClock
from emotion_edge.runtime.quality import profiling
from emotion_edge.runtime.quality.controller import LevelCost
from emotion_edge.runtime.quality.levels import RunLevel
from emotion_edge.runtime.quality.profiling import (
    COMMAND_S,
    MAX_BYTES,
    MAX_PROFILES,
    START_S,
    ProfileSetup,
    profile_levels,
    remeasure_levels,
)

from .timed_engine import MS, TimedEngine

VOICE_MS = 11
LEVELS = [Level("high", 64), Level("low", 48, voice=False)]
LOGGER = profiling.__name__


class Machine:
    """A machine with a folder for profiles, whose networks take `slow_down` times their cost."""

    def __init__(self, bundle: Bundle, folder: Path) -> None:
        self.slow_down = 1.0
        self.folder = folder
        self.clock = FakeClock()
        self.face = self._open(bundle, "face", lambda side: side / 8)
        self.voice = self._open(bundle, "voice", lambda _: VOICE_MS)
        engines = {"face": self.face, "voice": self.voice}
        preprocessor = CpuPreprocessor(bundle.manifest.image, bundle.manifest.mel)
        levels = [RunLevel(level, engines) for level in LEVELS]
        self.setup = ProfileSetup(bundle, levels, preprocessor, 0, self.clock)

    def _open(self, bundle: Bundle, network: str, takes_ms: Callable[[int], float]) -> TimedEngine:
        return TimedEngine(
            bundle.manifest,
            network,
            self.clock,
            lambda side, _: self.slow_down * takes_ms(side),
        )

    def start(self) -> tuple[LevelCost, ...]:
        """Return the costs at the start of a run."""
        return profile_levels(self.setup, folder=self.folder)

    def command(self) -> tuple[LevelCost, ...]:
        """Return the costs by `emotion-edge profile`."""
        costs, file = remeasure_levels(self.setup, folder=self.folder)
        assert file == self.file
        return costs

    @property
    def files(self) -> list[Path]:
        return sorted(self.folder.iterdir()) if self.folder.exists() else []

    @property
    def file(self) -> Path:
        (file,) = self.files
        return file

    @property
    def stored(self) -> Any:
        return json.loads(self.file.read_bytes())

    def measures(self) -> bool:
        """Return whether the next start measures; its costs are right in either case."""
        before = self.face.num_runs
        assert self.start() == costs(self.slow_down if self.face.num_runs > before else 1)
        return self.face.num_runs > before


def costs(slow_down: float = 1.0) -> tuple[LevelCost, ...]:
    return (
        LevelCost("high", 0.001, 8 * slow_down, VOICE_MS * slow_down, 0, 4),
        LevelCost("low", 0.001, 6 * slow_down, 0, 0, 4),
    )


@pytest.fixture
def machine(bundle: Bundle, tmp_path: Path) -> Machine:
    return Machine(bundle, tmp_path / "cache" / "engines")


# Measuring


def test_measured_once(
    machine: Machine, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first start measures for `START_S` with one line in the log; the next one reads."""
    monkeypatch.setattr(profiling, "START_S", START_S)
    with caplog.at_level(logging.INFO, LOGGER):
        assert machine.start() == costs()
        assert START_S <= machine.clock.now_ns() / 1e9 < START_S + 0.1
        runs = machine.face.num_runs
        machine.slow_down = 3.0
        assert machine.start() == costs()
    assert machine.face.num_runs == runs
    assert [record.levelno for record in caplog.records] == [logging.INFO]


def test_what_is_stored(machine: Machine) -> None:
    """The costs, the parts of the key and the way of measuring, in a private folder."""
    machine.start()
    assert machine.file.name.startswith("levels-null-")
    assert machine.folder.stat().st_mode & 0o777 == 0o700
    stored = machine.stored
    assert (stored["measured"], stored["format"]) == ("start", 2)
    assert stored["levels"][1] == {
        "name": "low",
        "base_ms": 0.001,
        "face_ms": 6,
        "voice_ms": 0,
        "more_face_ms": 0,
    }
    assert stored["measured_of"]["cores_usable"] == str(count_cpus())
    assert "null fp32" in stored["measured_of"]["levels"]


def test_stored_beside_the_engines(machine: Machine, tmp_path: Path) -> None:
    """By default the folder is the cache of built engines."""
    environment = {"EMOTION_EDGE_CACHE": str(tmp_path / "elsewhere")}
    profile_levels(machine.setup, environment=environment)
    (file,) = find_cache_folder(environment).iterdir()
    assert file.name.startswith("levels-null-")


def test_command_measures_longer(machine: Machine) -> None:
    """`COMMAND_S` for each size and precision, even with a valid profile."""
    machine.command()
    assert machine.clock.now_ns() / 1e9 >= 2 * COMMAND_S
    machine.slow_down = 2.0
    assert machine.command() == costs(2.0)
    assert machine.stored["measured"] == "command"


def test_command_replaces_start_and_not_the_other_way_round(machine: Machine) -> None:
    """The command replaces the profile of a start; a start reads the command's."""
    machine.slow_down = 3.0
    assert machine.start() == costs(3.0)
    machine.slow_down = 1.0
    assert machine.command() == costs()
    machine.slow_down = 3.0
    assert machine.start() == costs()
    assert machine.stored["measured"] == "command"


def test_profile_stored_during_the_measurement(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the command stores one while a start measures, the start uses it."""
    measure = profiling.measure_levels

    def meanwhile(*what: Any) -> tuple[LevelCost, ...]:
        monkeypatch.setattr(profiling, "measure_levels", measure)
        machine.command()
        machine.slow_down = 5.0
        return measure(*what)

    monkeypatch.setattr(profiling, "measure_levels", meanwhile)
    assert machine.start() == costs()
    assert machine.stored["measured"] == "command"


# The key


def change_machine(monkeypatch: pytest.MonkeyPatch, name: str, value: object) -> None:
    machine = {**profiling.describe_machine(), name: value}
    monkeypatch.setattr(profiling, "describe_machine", lambda: machine)


@pytest.mark.parametrize(
    ("name", "value"),
    [("cpu", "another"), ("cores_usable", 1), ("board", "NVIDIA Orin"), ("power_mode", "15W")],
)
def test_another_machine(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    """Two machines share a folder: each measures once and finds its own profile later."""
    machine.start()
    with monkeypatch.context() as patch:
        change_machine(patch, name, value)
        assert machine.measures()
        assert not machine.measures()
    assert not machine.measures()
    assert len(machine.files) == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [("cpu_freq_mhz", [1234.5]), ("cpu_max_freq_mhz", 900.0), ("memory_mb", 7), ("kernel", "x")],
)
def test_changes_without_effect_on_the_key(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    """Heat lowers clocks; the profile stays valid."""
    machine.start()
    change_machine(monkeypatch, name, value)
    assert not machine.measures()


@pytest.mark.parametrize("package", ["emotion-edge", "onnxruntime"])
def test_another_version(machine: Machine, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """The levels are measured again."""
    machine.start()
    real = profiling.version
    monkeypatch.setattr(profiling, "version", lambda name: "99" if name == package else real(name))
    assert machine.measures()


def test_another_setup(machine: Machine) -> None:
    """Another bundle, number of threads, set of levels or precision is measured again."""
    machine.start()
    setup = machine.setup
    best = setup.levels[0]
    other_bundle = replace(setup.bundle, sha256="0" * 64)
    for change in ({"bundle": other_bundle}, {"num_threads": 2}, {"levels": [best]}):
        machine.setup = replace(setup, **change)
        runs = machine.face.num_runs
        machine.start()
        assert machine.face.num_runs > runs
    machine.setup = setup
    assert not machine.measures()
    machine.face.precision = "int8"
    assert machine.measures()


def cost(**fields: object) -> dict[str, object]:
    return {"name": "high", "base_ms": 1, "face_ms": 1, "voice_ms": 1, **fields}


LOW = cost(name="low")


@pytest.mark.parametrize(
    "fields",
    [
        {"key": "0" * 64},
        {"format": 1},
        {"levels": [LOW, cost()]},
        {"levels": [cost()]},
        {"levels": []},
        {"levels": [cost(base_ms=0), LOW]},
        {"levels": [cost(face_ms=-1), LOW]},
        {"levels": [cost(voice_ms=1e9), LOW]},
        {"levels": [cost(face_ms=float("nan")), LOW]},
        {"levels": [cost(face_ms=float("inf")), LOW]},
        {"levels": [cost(face_ms="1"), LOW]},
        {"levels": [cost(more=1), LOW]},
        {"levels": None},
        {"measured": "guessed"},
        {"path": "/etc/passwd"},
    ],
)
def test_profile_with_an_invalid_field(
    machine: Machine, caplog: pytest.LogCaptureFixture, fields: dict[str, object]
) -> None:
    """One warning; the levels are measured, and the profile is replaced."""
    machine.start()
    machine.file.write_text(json.dumps({**machine.stored, **fields}))
    assert_measured_again(machine, caplog)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\0" * 4096,
        b"[1, 2]",
        b"\xff\xfe{}",
        b'{"measured_of": {"a": "\xff"}}',
        b"[" * 50_000,
        b" " * (MAX_BYTES + 1),
        b'{"levels": [{"base_ms": 1e999}]}',
        None,
    ],
)
def test_corrupted_profile(
    machine: Machine, caplog: pytest.LogCaptureFixture, data: bytes | None
) -> None:
    """The same for any other content, and for a profile (None) that is cut off at its end."""
    machine.start()
    machine.file.write_bytes(machine.file.read_bytes()[:-3] if data is None else data)
    assert_measured_again(machine, caplog)


def test_pipe_in_place_of_the_profile(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    """Reading it does not block."""
    machine.start()
    file = machine.file
    file.unlink()
    os.mkfifo(file)
    assert_measured_again(machine, caplog)


def assert_measured_again(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    """The next start measures with one warning, which has the file and a reason; the one after
    reads the new profile."""
    with caplog.at_level(logging.WARNING, LOGGER):
        assert machine.measures()
        assert not machine.measures()
    (record,) = caplog.records
    assert len(record.getMessage().splitlines()) == 1
    file, reason = record.args or ((), ())
    assert file == machine.file
    assert reason


def test_folder_in_place_of_the_profile(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    """One warning that it cannot be read and one that it cannot be stored; no file is left."""
    machine.start()
    file = machine.file
    file.unlink()
    (file / "inside").mkdir(parents=True)
    with caplog.at_level(logging.WARNING, LOGGER):
        assert machine.start() == costs()
    assert [record.args and record.args[0] for record in caplog.records] == [file, file.parent]
    assert machine.files == [file]


# Storing


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC])
@pytest.mark.parametrize("method", ["mkdir", "write", "replace"])
def test_folder_that_cannot_be_written(
    machine: Machine,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    number: int,
) -> None:
    """The run goes on with the measured costs. One warning has the reason and names the setting;
    no file is left."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, method, refuse)
    with caplog.at_level(logging.WARNING, LOGGER):
        assert machine.start() == costs()
        assert remeasure_levels(machine.setup, folder=machine.folder) == (costs(), None)
    assert len(caplog.records) == 2
    for record in caplog.records:
        assert record.args == (machine.folder, os.strerror(number))
        assert "EMOTION_EDGE_CACHE" in record.getMessage()
    assert machine.files == []


def test_folder_below_a_file(
    machine: Machine, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """The folder cannot exist; the run goes on."""
    (tmp_path / "file").touch()
    machine.folder = tmp_path / "file" / "cache"
    with caplog.at_level(logging.WARNING, LOGGER):
        assert machine.start() == costs()
    assert caplog.records[-1].args == (machine.folder, os.strerror(errno.ENOTDIR))


def test_without_a_home(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start measures without storing; the command names the setting to use."""

    def fail() -> Path:
        raise RuntimeError

    monkeypatch.setattr(Path, "home", fail)
    assert profile_levels(machine.setup, environment={}) == costs()
    with pytest.raises(EngineError, match="EMOTION_EDGE_CACHE"):
        remeasure_levels(machine.setup, environment={})


def test_network_that_fails(machine: Machine) -> None:
    """Its error is raised, and nothing is stored."""
    machine.voice.fails = True
    with pytest.raises(EngineError):
        machine.start()
    assert machine.files == []


def test_old_profiles_are_dropped(machine: Machine) -> None:
    """The newest `MAX_PROFILES` of this bundle stay, and all files of others."""
    machine.folder.mkdir(parents=True)
    old = [f"levels-null-{n:016x}.json" for n in range(MAX_PROFILES + 2)]
    draft = f"levels-null-{99:016x}.json.4711.part"
    foreign = [
        f"levels-null-two-{1:016x}.json",
        f"null-face-fp16-{1:016x}.engine",
        f"null-face-fp16-{1:016x}.json",
        "levels-null-notes.json",
    ]
    for age, name in enumerate([draft, *old, *foreign]):
        (machine.folder / name).touch()
        os.utime(machine.folder / name, (1000 + age, 1000 + age))
    machine.start()
    left = {file.name for file in machine.files}
    assert left >= {*foreign, *old[-(MAX_PROFILES - 1) :]}
    assert len(left) == len(foreign) + MAX_PROFILES
    assert not machine.measures()


def test_any_name_of_a_bundle(machine: Machine) -> None:
    """Even a path or an empty name gives a file in the folder."""
    setup = machine.setup
    for name in ("../../x", "", ".", "a b/ü"):
        manifest = msgspec.structs.replace(setup.bundle.manifest, name=name)
        machine.setup = replace(setup, bundle=replace(setup.bundle, manifest=manifest))
        machine.start()
        assert not machine.measures()
    assert {file.parent for file in machine.folder.rglob("*")} == {machine.folder}


def test_name_that_is_too_long(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    """The file cannot be written: the levels are measured at each start."""
    bundle = machine.setup.bundle
    manifest = msgspec.structs.replace(bundle.manifest, name="n" * 300)
    machine.setup = replace(machine.setup, bundle=replace(bundle, manifest=manifest))
    assert machine.start() == costs()
    assert caplog.records[-1].args == (machine.folder, os.strerror(errno.ENAMETOOLONG))


def test_start_at_any_time_of_the_clock(machine: Machine) -> None:
    """The time of the clock has no effect on the measurement."""
    machine.clock.advance(10**15 * MS)
    assert machine.start() == costs()
