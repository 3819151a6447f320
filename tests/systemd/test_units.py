"""The units, checked with systemd's tools and against the program."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from emotion_edge.kernels import DEVICE_NODES
from emotion_edge.runtime import __main__ as program
from emotion_edge.runtime.command_line import EXIT_USAGE
from emotion_edge.runtime.service.realtime import DEVICE_PRIORITY
from emotion_edge.runtime.session import EXTEND_TIMEOUT_S
from emotion_edge.runtime.update_check import SETTLED_NS

from .unit_root import SHIPPED, UNITS, make_root, read_setting, read_settings, run_tool

ROOT = Path(__file__).parents[2]
SERVICE, BUILD = UNITS
MAX_EXPOSURE = 8
"""In tenths, the unit of systemd-analyze."""


@pytest.mark.parametrize("jetson", [False, True])
@pytest.mark.parametrize("unit", UNITS)
def test_verify_is_clean(tmp_path: Path, unit: str, jetson: bool) -> None:
    """No unknown setting, no missing program, no ordering cycle."""
    root = make_root(tmp_path, jetson=jetson)
    done = run_tool("systemd-analyze", f"--root={root}", "verify", unit)
    assert (done.returncode, done.stderr) == (0, "")


def test_trial_outlives_the_watchdog() -> None:
    """A network that hangs ends the run before its bundle is marked good."""
    watchdog_s = int(read_setting(SERVICE, "WatchdogSec"))
    assert 2 * watchdog_s * 1_000_000_000 < SETTLED_NS


def test_no_output_waits_as_long_as_the_watchdog() -> None:
    """An output is given up, and says so, well before systemd ends the program. A replay, whose
    constants begin with REPLAY_, has no watchdog."""
    units_s = {"S": 1.0, "MS": 1e-3, "NS": 1e-9}
    waits = re.compile(r"^(?:WRITE|HANG|FLIP|OPEN|CLOSE)_\w+_(S|MS|NS) = ([\d_.]+)$", re.MULTILINE)
    found_s = [
        units_s[unit] * float(number)
        for file in (ROOT / "runtime/sinks").rglob("*.py")
        for unit, number in waits.findall(file.read_text())
    ]
    assert len(found_s) >= 4
    assert max(found_s) <= int(read_setting(SERVICE, "WatchdogSec")) / 2


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("WatchdogSecs=10", "WatchdogSecs"),
        ("WatchdogSec=soon", "soon"),
        ("ExecStartPre=/no/such", "/no/such"),
    ],
)
def test_verify_detects_an_error(tmp_path: Path, setting: str, named: str) -> None:
    """An invalid drop-in fails the check above."""
    root = make_root(tmp_path)
    drop_in = root / "etc/systemd/system" / f"{SERVICE}.d/30-wrong.conf"
    drop_in.write_text(f"[Service]\n{setting}\n")
    done = run_tool("systemd-analyze", f"--root={root}", "verify", SERVICE)
    assert named in done.stderr


@pytest.mark.parametrize(
    "block",
    [
        block
        for name in ("README.md", "FLEET.md")
        for block in re.findall(r"```ini\n(.*?)```", (SHIPPED / name).read_text(), re.DOTALL)
    ],
)
def test_drop_ins_of_the_readme(tmp_path: Path, block: str) -> None:
    """Each is valid."""
    root = make_root(tmp_path)
    (root / "etc/systemd/system" / f"{SERVICE}.d/30-readme.conf").write_text(block)
    done = run_tool("systemd-analyze", f"--root={root}", "verify", SERVICE)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("jetson", [False, True])
@pytest.mark.parametrize("unit", UNITS)
def test_exposure(tmp_path: Path, unit: str, jetson: bool) -> None:
    """At most 0.8, and the README explains each remaining point."""
    root = make_root(tmp_path, jetson=jetson)
    command = ("systemd-analyze", f"--root={root}", "security", "--offline=yes", unit)
    done = run_tool(*command, f"--threshold={MAX_EXPOSURE}", "--no-pager")
    assert done.returncode == 0, done.stdout + done.stderr
    points = json.loads(run_tool(*command, "--json=short").stdout)
    remaining = {point["name"] for point in points if point["exposure"] not in (None, "0.0")}
    readme = (SHIPPED / "README.md").read_text()
    explained = re.findall(r"^\| `([^`]+)` \| 0\.\d \|", readme, re.MULTILINE)
    assert remaining <= set(explained)


def test_exposure_detects_a_weaker_unit(tmp_path: Path) -> None:
    """A unit without its drop-in fails the check above."""
    root = make_root(tmp_path)
    (root / "etc/systemd/system" / f"{SERVICE}.d/10-sandbox.conf").unlink()
    command = ("systemd-analyze", f"--root={root}", "security", "--offline=yes", SERVICE)
    assert run_tool(*command, f"--threshold={MAX_EXPOSURE}", "--no-pager").returncode != 0


@pytest.mark.parametrize("unit", UNITS)
def test_program_accepts_its_arguments(unit: str) -> None:
    """ExecStart is a valid command line."""
    path, *arguments = read_setting(unit, "ExecStart").split()
    assert path == "/opt/emotion-edge/venv/bin/emotion-edge"
    assert program.build_parser().parse_args(arguments).command == arguments[0]


def test_user_is_in_the_unit_itself() -> None:
    """Without its drop-in a unit does not run as root either."""
    for unit in UNITS:
        assert read_setting(unit, "User") == read_setting(unit, "Group") == "emotion-edge"


def test_restart_after_a_hang() -> None:
    """From the watchdog timeout to the next start it takes less than five seconds."""
    abort_s = float(read_setting(SERVICE, "TimeoutAbortSec"))
    restart_s = float(read_setting(SERVICE, "RestartSec").removesuffix("ms")) / 1000
    assert read_setting(SERVICE, "WatchdogSec") == "10"
    assert abort_s + restart_s < 5


def test_restart_limits() -> None:
    """A usage error is not restarted, other failures a limited number of times."""
    assert read_setting(SERVICE, "Restart") == "on-failure"
    assert read_setting(SERVICE, "RestartPreventExitStatus") == str(EXIT_USAGE)
    assert read_setting(SERVICE, "StartLimitIntervalSec", "Unit") == "5min"
    assert 5 <= int(read_setting(SERVICE, "StartLimitBurst", "Unit")) <= 20


def test_realtime_threads_are_permitted() -> None:
    """Real-time priorities up to `DEVICE_PRIORITY` are allowed."""
    assert int(read_setting(SERVICE, "LimitRTPRIO")) == DEVICE_PRIORITY
    sandbox = read_settings("sandbox.conf")
    keys = {key for key, _ in sandbox}
    assert not keys & {"RestrictRealtime", "MemoryDenyWriteExecute", "CPUQuota", "CPUWeight"}
    filters = [value for key, value in sandbox if key == "SystemCallFilter"]
    assert {"sched_setscheduler", "setpriority"} <= set(filters[-1].split())


def test_build_extends_the_timeout_in_time() -> None:
    """Its progress reports extend a timeout that the first report cannot miss."""
    assert read_setting(BUILD, "NotifyAccess") == "main"
    assert read_setting(BUILD, "TimeoutStartSec") == "10min"
    assert EXTEND_TIMEOUT_S < 600


def test_build_runs_with_a_gpu() -> None:
    """Its conditions are the device nodes by which the program detects a GPU."""
    conditions = [value for key, value in read_settings(BUILD, "Unit") if key.startswith("Cond")]
    assert all(condition.startswith("|/dev/") for condition in conditions)
    for pattern in DEVICE_NODES:
        stem = re.split(r"[\[*]", pattern)[0]
        assert any(condition.startswith(f"|/dev/{stem}") for condition in conditions), pattern


def test_no_frame_reaches_a_disk() -> None:
    """No core dump, no swap, no temporary file outside of memory, no telemetry."""
    sandbox = read_settings("sandbox.conf")
    assert {
        ("LimitCORE", "0"),
        ("CoredumpFilter", "elf-headers"),
        ("MemorySwapMax", "0"),
        ("PrivateNetwork", "yes"),
        ("Environment", "ORT_DISABLE_TELEMETRY=1"),
    } <= set(sandbox)
    assert any("TMPDIR=%t/" in value for key, value in sandbox if key == "Environment")


def test_drivers_of_device_classes_are_loaded() -> None:
    """Drivers that are modules are loaded before a unit starts, by the unit that starts once."""

    def list_modprobes(name: str, setting: str) -> set[str]:
        values = [value for key, value in read_settings(name, "Unit") if key == setting]
        return {unit for value in values for unit in value.split() if "modprobe@" in unit}

    modules = ("videodev", "snd", "drm", "usbserial", "cdc_acm")
    expected = {f"modprobe@{module}.service" for module in modules}
    assert list_modprobes(BUILD, "Wants") == list_modprobes("sandbox.conf", "After") == expected
    assert not list_modprobes("sandbox.conf", "Wants") | list_modprobes(SERVICE, "Wants")
    assert read_setting(SERVICE, "Also", "Install") == BUILD
    assert ("DevicePolicy", "closed") in read_settings("sandbox.conf")
