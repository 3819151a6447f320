"""Where the costs of levels are kept, and when they are measured again."""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from emotion_edge.engines.base import EngineError
from emotion_edge.engines.bundles.manifest import Bundle, Level, load_bundle
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

sys.path.append(str(Path(__file__).parent))  # the tests are no package
from timed_engine import MS, TimedEngine

VOICE_MS = 11
LEVELS = [Level("high", 64), Level("low", 48, voice=False)]
LOGGER = profiling.__name__


class Machine:
    """A machine that measures: its networks take a multiple of what they take undisturbed."""

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
        """As a run starts."""
        return profile_levels(self.setup, folder=self.folder)

    def command(self) -> tuple[LevelCost, ...]:
        """As who asks for it."""
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
        """Whether the next start runs any network; it gives `costs` all the same."""
        before = self.face.num_runs
        assert self.start() == costs(self.slow_down if self.face.num_runs > before else 1)
        return self.face.num_runs > before


def costs(slow_down: float = 1.0) -> tuple[LevelCost, ...]:
    return (
        LevelCost("high", 0.001, 8 * slow_down, VOICE_MS * slow_down),
        LevelCost("low", 0.001, 6 * slow_down, 0),
    )


@pytest.fixture
def bundle(null_bundle: Path) -> Bundle:
    return load_bundle(null_bundle)


@pytest.fixture
def machine(bundle: Bundle, tmp_path: Path) -> Machine:
    return Machine(bundle, tmp_path / "cache" / "engines")


# Measured once


def test_measured_once(
    machine: Machine, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first start measures, in the time it may take, and says so; the next ones read."""
    monkeypatch.setattr(profiling, "START_S", START_S)
    with caplog.at_level(logging.INFO, LOGGER):
        assert machine.start() == costs()
        assert START_S <= machine.clock.now_ns() / 1e9 < START_S + 0.1
        runs = machine.face.num_runs
        machine.slow_down = 3.0  # as if measured now: nothing of it shows
        assert machine.start() == costs()
    assert machine.face.num_runs == runs
    assert [record.levelno for record in caplog.records] == [logging.INFO]
    assert "levels are measured" in caplog.text


def test_what_is_stored(machine: Machine) -> None:
    """Costs by level, what they were measured of, how; nobody else may look into the folder."""
    machine.start()
    assert machine.file.name.startswith("levels-null-")
    assert machine.folder.stat().st_mode & 0o777 == 0o700
    stored = machine.stored
    assert (stored["measured"], stored["format"]) == ("start", 1)
    assert stored["levels"][1] == {"name": "low", "base_ms": 0.001, "face_ms": 6, "voice_ms": 0}
    assert stored["measured_of"]["cores_usable"] == str(len(os.sched_getaffinity(0)))
    assert "null fp32" in stored["measured_of"]["levels"]


def test_beside_the_engines(machine: Machine, tmp_path: Path) -> None:
    """In the folder where built engines are kept."""
    environment = {"EMOTION_EDGE_CACHE": str(tmp_path / "elsewhere")}
    profile_levels(machine.setup, environment=environment)
    (file,) = find_cache_folder(environment).iterdir()
    assert file.name.startswith("levels-null-")


def test_command_measures_at_leisure(machine: Machine) -> None:
    """Longer, for each size and precision, and whatever is stored."""
    machine.command()
    assert machine.clock.now_ns() / 1e9 >= 2 * COMMAND_S
    machine.slow_down = 2.0
    assert machine.command() == costs(2.0)
    assert machine.stored["measured"] == "command"


def test_command_replaces_start_and_not_the_other_way_round(machine: Machine) -> None:
    """What was measured in a hurry does not stay; what was measured at leisure does."""
    machine.slow_down = 3.0
    assert machine.start() == costs(3.0)
    machine.slow_down = 1.0
    assert machine.command() == costs()
    machine.slow_down = 3.0
    assert machine.start() == costs()
    assert machine.stored["measured"] == "command"


def test_command_that_was_quicker(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile that is stored while a start measures is left, and used."""
    measure = profiling.measure_levels

    def meanwhile(*what: Any) -> tuple[LevelCost, ...]:
        monkeypatch.setattr(profiling, "measure_levels", measure)
        machine.command()
        machine.slow_down = 5.0
        return measure(*what)

    monkeypatch.setattr(profiling, "measure_levels", meanwhile)
    assert machine.start() == costs()
    assert machine.stored["measured"] == "command"


# Of something else


def change_machine(monkeypatch: pytest.MonkeyPatch, name: str, value: object) -> None:
    found = {**profiling.describe_machine(), name: value}
    monkeypatch.setattr(profiling, "describe_machine", lambda: found)


@pytest.mark.parametrize(
    ("name", "value"),
    [("cpu", "another"), ("cores_usable", 1), ("board", "NVIDIA Orin"), ("power_mode", "15W")],
)
def test_another_machine(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    """Its folder was copied here: measured again, and each finds its own from then on."""
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
def test_what_changes_from_start_to_start(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    """A clock that heat has lowered makes no other machine."""
    machine.start()
    change_machine(monkeypatch, name, value)
    assert not machine.measures()


@pytest.mark.parametrize("package", ["emotion-edge", "onnxruntime"])
def test_another_version(machine: Machine, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Measured again."""
    machine.start()
    found = profiling.version
    monkeypatch.setattr(profiling, "version", lambda name: "99" if name == package else found(name))
    assert machine.measures()


def test_another_setup(machine: Machine) -> None:
    """Other models, threads, levels or precision: measured again."""
    machine.start()
    as_it_was = machine.setup
    one = as_it_was.levels[0]
    other_bundle = replace(as_it_was.bundle, sha256="0" * 64)
    for change in ({"bundle": other_bundle}, {"num_threads": 2}, {"levels": [one]}):
        machine.setup = replace(as_it_was, **change)
        runs = machine.face.num_runs
        machine.start()
        assert machine.face.num_runs > runs
    machine.setup = as_it_was
    assert not machine.measures()
    machine.face.precision = "int8"
    assert machine.measures()


def rewrite(machine: Machine, **fields: object) -> None:
    machine.file.write_text(json.dumps({**machine.stored, **fields}))


def cost(**fields: object) -> dict[str, object]:
    return {"name": "high", "base_ms": 1, "face_ms": 1, "voice_ms": 1, **fields}


LOW = cost(name="low")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"key": "0" * 64}, "another machine, version or bundle"),
        ({"format": 2}, "another machine, version or bundle"),
        ({"levels": [LOW, cost()]}, "other levels"),
        ({"levels": [cost()]}, "other levels"),
        ({"levels": []}, "other levels"),
        ({"levels": [cost(base_ms=0), LOW]}, ""),
        ({"levels": [cost(face_ms=-1), LOW]}, ""),
        ({"levels": [cost(voice_ms=1e9), LOW]}, ""),
        ({"levels": [cost(face_ms=float("nan")), LOW]}, ""),
        ({"levels": [cost(face_ms=float("inf")), LOW]}, ""),
        ({"levels": [cost(face_ms="1"), LOW]}, ""),
        ({"levels": [cost(more=1), LOW]}, ""),
        ({"levels": None}, ""),
        ({"measured": "guessed"}, ""),
        ({"path": "/etc/passwd"}, ""),
    ],
)
def test_invalid_profiles_are_measured_again(
    machine: Machine, caplog: pytest.LogCaptureFixture, fields: dict[str, object], says: str
) -> None:
    """A file of the right name with anything wrong in it: said once, measured, written anew."""
    machine.start()
    rewrite(machine, **fields)
    expect_measured_again(machine, caplog, says)


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
    ],
)
def test_rubbish(machine: Machine, caplog: pytest.LogCaptureFixture, data: bytes) -> None:
    """The same for what is no profile at all."""
    machine.start()
    machine.file.write_bytes(data)
    expect_measured_again(machine, caplog)


def test_half_a_file(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    """However little of it is missing."""
    machine.start()
    machine.file.write_bytes(machine.file.read_bytes()[:-3])
    expect_measured_again(machine, caplog)


def test_a_pipe_does_not_block(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody ever writes to it."""
    machine.start()
    name = machine.file
    name.unlink()
    os.mkfifo(name)
    expect_measured_again(machine, caplog)


def expect_measured_again(
    machine: Machine, caplog: pytest.LogCaptureFixture, says: str = ""
) -> None:
    """`says` is of our words; those of a library change with its version."""
    with caplog.at_level(logging.WARNING, LOGGER):
        assert machine.measures()
        assert not machine.measures()
    (record,) = caplog.records
    assert len(record.getMessage().splitlines()) == 1
    _, _, reason = record.getMessage().partition(": not usable, levels are measured again: ")
    assert reason
    assert says in reason  # the file's path holds the test's name, and this with it


def test_folder_in_place_of_the_profile(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    """Said, measured, and said that it cannot be stored; nothing is left beside it."""
    machine.start()
    name = machine.file
    name.unlink()
    (name / "inside").mkdir(parents=True)
    with caplog.at_level(logging.WARNING, LOGGER):
        assert machine.start() == costs()
    assert [record.getMessage().split(": ")[1][:10] for record in caplog.records] == [
        "not usable",
        "the profil",
    ]
    assert machine.files == [name]


# Stored


@pytest.mark.parametrize(
    ("number", "says"), [(errno.EROFS, "Read-only"), (errno.ENOSPC, "No space")]
)
@pytest.mark.parametrize("method", ["mkdir", "write", "replace"])
def test_folder_that_cannot_be_written(
    machine: Machine,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    number: int,
    says: str,
) -> None:
    """The run goes on with what was measured, one line says why; nothing is left behind."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, method, refuse)
    with caplog.at_level(logging.WARNING, LOGGER):
        assert machine.start() == costs()
        assert remeasure_levels(machine.setup, folder=machine.folder) == (costs(), None)
    assert len(caplog.records) == 2
    _, _, reason = caplog.records[0].getMessage().partition("not stored ")
    assert reason.startswith(f"({says}")
    assert "EMOTION_EDGE_CACHE" in reason
    assert machine.files == []


def test_folder_below_a_file(
    machine: Machine, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """No folder can be there: the run goes on."""
    (tmp_path / "file").touch()
    machine.folder = tmp_path / "file" / "cache"
    with caplog.at_level(logging.WARNING, LOGGER):
        assert machine.start() == costs()
    assert "not stored (Not a directory)" in caplog.text


def test_without_a_home(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start measures; who asks for a profile is told what to do."""

    def fail() -> Path:
        raise RuntimeError

    monkeypatch.setattr(Path, "home", fail)
    assert profile_levels(machine.setup, environment={}) == costs()
    with pytest.raises(EngineError, match="set EMOTION_EDGE_CACHE"):
        remeasure_levels(machine.setup, environment={})


def test_network_that_fails(machine: Machine) -> None:
    """Its error is told, and nothing is stored."""
    machine.voice.fails = True
    with pytest.raises(EngineError, match="gone"):
        machine.start()
    assert machine.files == []


def test_old_profiles_are_dropped(machine: Machine) -> None:
    """The newest few of this bundle stay, and all that is not ours."""
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
    """It may be a path or nothing; the file stays in its folder."""
    as_it_was = machine.setup
    for name in ("../../x", "", ".", "a b/ü"):
        manifest = msgspec.structs.replace(as_it_was.bundle.manifest, name=name)
        machine.setup = replace(as_it_was, bundle=replace(as_it_was.bundle, manifest=manifest))
        machine.start()
        assert not machine.measures()
    assert {file.parent for file in machine.folder.rglob("*")} == {machine.folder}


def test_name_that_is_too_long(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    """No file can be called so: measured at each start."""
    bundle = machine.setup.bundle
    manifest = msgspec.structs.replace(bundle.manifest, name="n" * 300)
    machine.setup = replace(machine.setup, bundle=replace(bundle, manifest=manifest))
    assert machine.start() == costs()
    assert "File name too long" in caplog.text


def test_clock_is_that_of_the_run(machine: Machine) -> None:
    """A later start on the same clock measures for as long."""
    machine.clock.advance(10**15 * MS)
    assert machine.start() == costs()
