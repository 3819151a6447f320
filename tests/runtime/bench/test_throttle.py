"""CPU quotas: finding the control group, and leaving no quota behind."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from emotion_edge.engines.bundles.manifest import Level
from emotion_edge.runtime.bench import throttle
from emotion_edge.runtime.bench.throttle import (
    CgroupV1,
    CgroupV2,
    SimulatedSlowdown,
    find_v1_group,
    find_v2_group,
    open_bandwidth,
)
from emotion_edge.runtime.quality.levels import RunLevel

from ... import processes

V1_MOUNTS = """\
22 1 0:20 / /proc rw,relatime - proc proc rw
30 24 0:26 / /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory
31 24 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct
"""
V2_MOUNTS = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
CONTAINER = "31 24 0:27 /docker/ab /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n"
TIMEOUT_S = 500
REAL = """
import sys
from contextlib import suppress
from pathlib import Path
from emotion_edge.runtime.bench.throttle import CgroupV1, open_bandwidth

def find_own():
    lines = [line.split(":") for line in Path("/proc/self/cgroup").read_text().splitlines()]
    return next(path for _, names, path in lines if "cpu" in names.split(","))

before = find_own()
quota = open_bandwidth(0.5)
if not isinstance(quota, CgroupV1):
    sys.exit(77)
group = Path(f"/proc/self/root{quota._group}")
with suppress(KeyError), quota:
    quota.begin()
    limit = (group / "cpu.cfs_quota_us").read_text().strip()
    print(find_own().endswith(group.name), limit, flush=True)
    if sys.argv[1] == "killed":
        sys.stdin.read()
    if sys.argv[1] == "fails":
        raise KeyError
print(group.exists(), find_own() == before)
"""


@pytest.mark.parametrize(
    ("mounts", "own", "want"),
    [
        (V1_MOUNTS, "5:cpu,cpuacct:/\n4:memory:/x\n0::/\n", "/sys/fs/cgroup/cpu,cpuacct"),
        (V1_MOUNTS, "5:cpu,cpuacct:/user/1\n", "/sys/fs/cgroup/cpu,cpuacct/user/1"),
        (CONTAINER, "5:cpu:/docker/ab\n", "/sys/fs/cgroup/cpu"),
        (CONTAINER, "5:cpu:/docker/ab/x\n", "/sys/fs/cgroup/cpu/x"),
        (CONTAINER, "5:cpu:/docker/abc/x\n", "/sys/fs/cgroup/cpu/docker/abc/x"),
        (V1_MOUNTS, "4:memory:/x\n", None),
        (V2_MOUNTS, "0::/user.slice\n", None),
        ("", "5:cpu:/\n", None),
    ],
)
def test_cgroup_v1_folder(mounts: str, own: str, want: str | None) -> None:
    """It is below the mount with the cpu controller."""
    assert find_v1_group(mounts, own) == want


@pytest.mark.parametrize(
    ("mounts", "own", "want"),
    [
        (V2_MOUNTS, "0::/user.slice/run-1.scope\n", "/sys/fs/cgroup/user.slice/run-1.scope"),
        (V2_MOUNTS, "0::/\n", "/sys/fs/cgroup"),
        (V1_MOUNTS, "5:cpu,cpuacct:/\n0::/\n", None),
        (V2_MOUNTS, "", None),
    ],
)
def test_cgroup_v2_folder(mounts: str, own: str, want: str | None) -> None:
    assert find_v2_group(mounts, own) == want


def make_tree(root: Path, mounts: str, own: str) -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/mountinfo").write_text(mounts)
    (root / "proc/self/cgroup").write_text(own)
    return root


def test_cgroup_v2(tmp_path: Path) -> None:
    """The process's own group has the quota, and its old value afterwards."""
    root = make_tree(tmp_path, V2_MOUNTS, "0::/run-1.scope\n")
    group = root / "sys/fs/cgroup/run-1.scope"
    group.mkdir(parents=True)
    (group / "cgroup.procs").write_text(f"{os.getpid()}\n")
    (group / "cpu.max").write_text("max 100000\n")
    with open_bandwidth(0.3, root) as quota:
        assert isinstance(quota, CgroupV2)
        assert (group / "cpu.max").read_text() == "max 100000\n"
        quota.begin()
        assert (group / "cpu.max").read_text() == "3000 10000\n"
        assert quota.describe()["by"] == "cgroup v2"
    assert (group / "cpu.max").read_text() == "max 100000\n"


def test_shared_group_is_not_changed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A group with the user's shell is not changed. A warning names the other process."""
    root = make_tree(tmp_path, V2_MOUNTS, "0::/session.scope\n")
    group = root / "sys/fs/cgroup/session.scope"
    group.mkdir(parents=True)
    (group / "cgroup.procs").write_text(f"1\n{os.getpid()}\n")
    (group / "cpu.max").write_text("max 100000\n")
    with open_bandwidth(0.3, root) as quota:
        assert isinstance(quota, SimulatedSlowdown)
        quota.begin()
    assert (group / "cpu.max").read_text() == "max 100000\n"
    (record,) = caplog.records
    assert (record.levelname, "such as 1" in record.getMessage()) == ("WARNING", True)


def test_no_control_groups(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without a mount the quota is simulated, with a warning."""
    assert isinstance(open_bandwidth(0.3, tmp_path), SimulatedSlowdown)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_no_permission(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """In most containers no group can be made."""
    root = make_tree(tmp_path, V1_MOUNTS, "5:cpu,cpuacct:/\n")
    assert isinstance(open_bandwidth(0.3, root), SimulatedSlowdown)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_group_that_cannot_be_entered_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    def refuse(path: Path, value: object) -> None:
        if path.parent != tmp_path:
            raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(throttle, "_write", refuse)
    with pytest.raises(PermissionError):
        CgroupV1(tmp_path, 0.3)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", ["ends", "fails", "killed"])
def test_cgroup_v1_on_this_machine(how: str) -> None:
    """On the real kernel. Skipped where the process may not be moved."""
    with processes.start(
        [sys.executable, "-c", REAL, how], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline().split()
        if not first:
            assert process.wait(TIMEOUT_S) == 77
            pytest.skip("control groups v1 may not be changed here")
        assert first == ["True", "5000"]
        if how == "killed":
            process.kill()
            process.wait(TIMEOUT_S)
        else:
            assert process.stdout.readline().split() == ["False", "True"]
    if how == "killed":  # the group is empty, and the next run removes it
        found = find_v1_group(
            Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text()
        )
        assert found is not None
        left_over = Path(found) / f"emotion-bench-{process.pid}"
        assert (left_over / "cgroup.procs").read_text() == ""
        with suppress(FileNotFoundError):  # another benchmark removes it as well
            left_over.rmdir()


class Engine:
    """An engine whose inference takes 10 ms of a fake clock."""

    name, precision = "fake", "fp32"
    inputs = outputs = ()

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.closed = False

    def infer(self, feed: Any) -> Any:
        self.clock.now_s += 0.01
        return {"logits": np.zeros((1, 7), np.float32)}

    def warm_up(self, feed: Any, num_runs: int = 3) -> None:
        self.infer(feed)

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Clock:
    now_s = 0.0

    def perf_counter(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def test_simulated_slowdown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of a core makes 40 ms of 10, between begin and end."""
    clock = Clock()
    monkeypatch.setattr(throttle, "time", clock)
    engine = Engine(clock)
    engines = {"face": engine}
    used: list[int] = []
    levels = [RunLevel(Level(name, 64), engines) for name in ("high", "low")]
    runtime: Any = SimpleNamespace(levels=levels, use_level=used.append)
    with SimulatedSlowdown(0.25) as networks:
        networks.attach(runtime)
        assert used == [0]
        first, second = runtime.levels
        assert first.engines is second.engines
        took = []
        for change in (networks.end, networks.begin, networks.end):
            change()
            before = clock.now_s
            assert list(first.engines["face"].infer({})) == ["logits"]
            took.append(round(clock.now_s - before, 6))
        assert took == [0.01, 0.04, 0.01]
        assert networks.describe() == {"by": "simulated", "quota_cores": 0.25}
        with first.engines["face"] as wrapped:
            assert (wrapped.name, wrapped.precision) == ("fake", "fp32")
    assert engine.closed


def test_more_than_one_core_does_not_speed_up() -> None:
    networks = SimulatedSlowdown(1.5)
    networks.begin()
    assert networks.factor == 1.0
