"""CPU quota of this process: a control group of the kernel, else a simulation.

In: the cores to leave. Out: a `Disturbance`. In a control group the kernel stops the process when
its share of a period is used up. Where no group may be changed, each inference is delayed to the
time that it would take with that share. The simulation leaves everything else at full speed.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil

from ...engines.base import WARM_UP_RUNS, Arrays, Engine, Feed
from ..session import Runtime
from .scenarios import Disturbance

log = logging.getLogger(__name__)

PERIOD_US = 10_000
"""A short period resembles a slower processor. The kernel accepts 1 ms to 1 s."""
MIN_QUOTA_US = 1000
"""The minimum of the kernel."""


def open_bandwidth(cores: float, root: Path = Path("/")) -> Disturbance:
    """Return a quota of `cores` cores for this process, off until `begin`. Warns when simulated."""
    mounts = _read(root / "proc/self/mountinfo")
    own = _read(root / "proc/self/cgroup")
    reason = "no control group with the cpu controller is mounted"
    for find, group_type in ((find_v1_group, CgroupV1), (find_v2_group, CgroupV2)):
        folder = find(mounts, own)
        if folder is None:
            continue
        try:
            return group_type(root / folder.lstrip("/"), cores)
        except OSError as error:
            reason = f"{error.filename or folder}: {error.strerror or error}"
    log.warning("no CPU quota is possible, it is simulated by delays of the networks: %s", reason)
    return SimulatedSlowdown(cores)


def find_v1_group(mountinfo: str, own_groups: str) -> str | None:
    """Return the folder of this process's group in the cpu hierarchy, see cgroups(7).

    `mountinfo` and `own_groups` are the text of /proc/self/mountinfo and /proc/self/cgroup.
    """
    for line in own_groups.splitlines():
        _, controllers, path = line.split(":", 2)
        if "cpu" in controllers.split(","):
            return _find_folder(mountinfo, "cgroup", "cpu", path)
    return None


def find_v2_group(mountinfo: str, own_groups: str) -> str | None:
    """Return the folder of this process's group in the unified hierarchy."""
    for line in own_groups.splitlines():
        if line.startswith("0::"):
            return _find_folder(mountinfo, "cgroup2", None, line[3:])
    return None


class CgroupV1:
    """A new group below this process's own. The process leaves it at the end."""

    def __init__(self, parent: Path, cores: float) -> None:
        """Create the group and move the process. Raises OSError where not permitted."""
        self._parent = parent
        self._cores = cores
        for left_over in parent.glob("emotion-bench-*"):
            owner = left_over.name.rpartition("-")[2]
            if owner.isdecimal() and not psutil.pid_exists(int(owner)):
                with suppress(OSError):
                    left_over.rmdir()
        self._group = parent / f"emotion-bench-{os.getpid()}"
        self._group.mkdir()
        try:
            _write(self._group / "cpu.cfs_period_us", PERIOD_US)
            self.end()
            _write(self._group / "cgroup.procs", os.getpid())  # with all present and future threads
        except OSError:
            self.close()
            raise

    def attach(self, runtime: Runtime) -> None: ...

    def begin(self) -> None:
        _write(self._group / "cpu.cfs_quota_us", _quota_us(self._cores))

    def end(self) -> None:
        _write(self._group / "cpu.cfs_quota_us", -1)

    def describe(self) -> dict[str, object]:
        return {"by": "cgroup v1", "quota_cores": self._cores, "period_us": PERIOD_US}

    def close(self) -> None:
        if self._group.exists():
            with suppress(OSError):
                self.end()
            _write(self._parent / "cgroup.procs", os.getpid())
            self._group.rmdir()

    def __enter__(self) -> CgroupV1:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class CgroupV2:
    """This process's own group, if no other process is in it.

    Groups with processes cannot have groups below them.
    """

    def __init__(self, group: Path, cores: float) -> None:
        """Raises OSError where the group may not be changed."""
        self._file = group / "cpu.max"
        self._cores = cores
        others = set(map(int, (group / "cgroup.procs").read_text().split())) - _own_family()
        if others:
            raise OSError(f"{group} holds other processes, such as {min(others)}")
        self._before = self._file.read_text().strip()
        self.end()  # fails where the file may not be written

    def attach(self, runtime: Runtime) -> None: ...

    def begin(self) -> None:
        _write(self._file, f"{_quota_us(self._cores)} {PERIOD_US}")

    def end(self) -> None:
        _write(self._file, self._before)

    def describe(self) -> dict[str, object]:
        return {"by": "cgroup v2", "quota_cores": self._cores, "period_us": PERIOD_US}

    def __enter__(self) -> CgroupV2:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


class SimulatedSlowdown:
    """Networks delayed to the time that they would take with a share of one core."""

    def __init__(self, cores: float) -> None:
        self._cores = cores
        self.factor = 1.0

    def attach(self, runtime: Runtime) -> None:
        delayed: dict[int, Mapping[str, Engine]] = {}  # levels of one precision share networks
        for level in runtime.levels:
            engines = {name: _DelayedEngine(engine, self) for name, engine in level.engines.items()}
            delayed.setdefault(id(level.engines), engines)
        runtime.levels = tuple(
            replace(level, engines=delayed[id(level.engines)]) for level in runtime.levels
        )
        runtime.use_level(0)

    def begin(self) -> None:
        self.factor = max(1.0, 1 / self._cores)

    def end(self) -> None:
        self.factor = 1.0

    def describe(self) -> dict[str, object]:
        return {"by": "simulated", "quota_cores": self._cores}

    def __enter__(self) -> SimulatedSlowdown:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


class _DelayedEngine:
    """An engine whose inference takes `factor` times as long."""

    def __init__(self, engine: Engine, share: SimulatedSlowdown) -> None:
        self._engine = engine
        self._share = share
        self.name, self.precision = engine.name, engine.precision
        self.inputs, self.outputs = engine.inputs, engine.outputs

    def infer(self, feed: Feed) -> Arrays:
        begun = time.perf_counter()
        outputs = self._engine.infer(feed)
        if self._share.factor > 1:
            time.sleep((time.perf_counter() - begun) * (self._share.factor - 1))
        return outputs

    def warm_up(self, feed: Feed, num_runs: int = WARM_UP_RUNS) -> None:
        self._engine.warm_up(feed, num_runs)

    def close(self) -> None:
        self._engine.close()

    def __enter__(self) -> _DelayedEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _find_folder(mountinfo: str, kind: str, option: str | None, path: str) -> str | None:
    for line in mountinfo.splitlines():
        mount, _, file_system = line.partition(" - ")
        fields, (fs_type, _, options) = mount.split(), file_system.split(maxsplit=2)
        if fs_type != kind or (option is not None and option not in options.split(",")):
            continue
        root, folder = fields[3], fields[4]
        # In a container the mount begins at the container's own group.
        inside = path.removeprefix(root) if f"{path}/".startswith(f"{root}/") else path
        return f"{folder}/{inside.strip('/')}".rstrip("/")
    return None


def _quota_us(cores: float) -> int:
    return max(MIN_QUOTA_US, round(cores * PERIOD_US))


def _own_family() -> set[int]:
    """Return the ids of this process and its descendants."""
    children = psutil.Process().children(recursive=True)
    return {os.getpid(), *(child.pid for child in children)}


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _write(path: Path, value: object) -> None:
    path.write_text(f"{value}\n")
