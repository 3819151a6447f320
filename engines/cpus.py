"""How many processors this process may use: less than the machine has in a container, under a quota
of systemd or pinned by taskset."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def count_cpus(sys_root: Path = Path("/")) -> int:
    """Return the processors of the affinity, at most those of the control groups' quotas, rounded
    down: threads beyond a quota wait for its next period."""
    quotas = [int(quota) for quota in _list_quotas(sys_root)]
    return max(1, min([len(os.sched_getaffinity(0)), *quotas]))


def _list_quotas(sys_root: Path) -> Iterator[float]:
    """Yield the quotas of this process's control group and of those around it, in processors.

    cpu.max: https://docs.kernel.org/admin-guide/cgroup-v2.html; cpu.cfs_quota_us:
    https://docs.kernel.org/scheduler/sched-bwc.html
    """
    mounted = sys_root / "sys/fs/cgroup"
    for line in _read(sys_root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        inside = PurePosixPath(group.lstrip("/"))
        for path in (inside, *inside.parents):
            if not controllers:
                quota, _, period = _read(mounted / path / "cpu.max").partition(" ")
            elif "cpu" in controllers.split(","):
                folder = mounted / "cpu" / path
                quota = _read(folder / "cpu.cfs_quota_us")
                period = _read(folder / "cpu.cfs_period_us")
            else:
                break
            if quota.isdecimal() and period.strip().isdecimal():  # not "max", and not -1
                yield int(quota) / max(1, int(period))


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
