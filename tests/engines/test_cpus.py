"""Processors that a container or a quota leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from emotion_edge.engines import cpus
from emotion_edge.engines.cpus import count_cpus

CASES = {
    "no quota": ("0::/a/b", {"a/b/cpu.max": "max 100000"}, 8),
    "a container, which sees its group as the root": ("0::/", {"cpu.max": "200000 100000"}, 2),
    "a quota around the group": ("0::/a/b", {"a/cpu.max": "350000 100000"}, 3),
    "the least of two": ("0::/a", {"a/cpu.max": "400000 100000", "cpu.max": "300000 100000"}, 3),
    "less than one": ("0::/", {"cpu.max": "50000 100000"}, 1),
    "more than there are": ("0::/", {"cpu.max": "6400000 100000"}, 8),
    "version 1": (
        "4:memory:/m\n2:cpu,cpuacct:/a\n0::/",
        {"cpu/a/cpu.cfs_quota_us": "200000\n", "cpu/a/cpu.cfs_period_us": "50000\n"},
        4,
    ),
    "version 1 without a quota": (
        "2:cpu,cpuacct:/",
        {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"},
        8,
    ),
    "nonsense": ("0::/\nx\n", {"cpu.max": "a b c"}, 8),
}


@pytest.mark.parametrize(("groups", "files", "wanted"), CASES.values(), ids=CASES)
def test_quota(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    groups: str,
    files: dict[str, str],
    wanted: int,
) -> None:
    """Of a machine whose affinity has eight."""
    monkeypatch.setattr(cpus.os, "sched_getaffinity", lambda _: set(range(8)))
    for name, text in {"proc/self/cgroup": groups}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for name, text in files.items():
        file = tmp_path / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert count_cpus(tmp_path) == wanted


def test_affinity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without control groups."""
    monkeypatch.setattr(cpus.os, "sched_getaffinity", lambda _: {1, 5, 6})
    assert count_cpus(tmp_path) == 3
