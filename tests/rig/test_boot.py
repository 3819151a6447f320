"""Boot to estimates, and the privileges of the service."""

from __future__ import annotations

import json

import pytest

from .device import COMMAND, PYTHON, SERVICE, Device
from .machine import Machine

SERVICE_FROM_BOOT_S = 90
PERCENT_EXPOSURE = 8

LIST_OPENED = """
import os, sys
here = "/proc/" + sys.argv[1]
for number in os.listdir(here + "/fd"):
    flags = open(here + "/fdinfo/" + number).read().split("flags:")[1].split()[0]
    if int(flags, 8) & 3:
        print(os.readlink(here + "/fd/" + number))
"""
"""Lists the files that a process has open for writing."""


@pytest.mark.rig_core
def test_power_on_to_estimates(booted: Machine) -> None:
    """It becomes ready, sends estimates, draws on the monitor and has no fault."""
    device = Device(booted)
    assert device.show("ActiveState") == "active"
    assert device.show("NRestarts") == "0"
    device.wait_estimate(5)
    estimate = next(device.estimates(5))
    assert {"t_ms", "label", "confidence", "probabilities", "latency_ms"} <= set(estimate)
    width, height, pixels = booted.screen()
    assert (width, height) == (1280, 800)
    assert len(set(pixels)) > 20


@pytest.mark.rig_core
def test_runs_without_privileges(device: Device) -> None:
    """A user of its own, no capabilities, filtered system calls, real-time threads."""
    status = device.run(f"cat /proc/{device.process}/status")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["Uid"].split()[0] == device.run("id -u emotion-edge")
    assert fields["CapEff"].strip("0") == ""
    assert fields["NoNewPrivs"] == "1"
    assert fields["Seccomp"] == "2"
    classes = device.run(f"ps -L -o cls= -p {device.process}").split()
    assert "RR" in classes


@pytest.mark.rig_core
def test_exposure(device: Device) -> None:
    """systemd's exposure level of the running unit."""
    report = device.run(f"systemd-analyze security --no-pager --json=short {SERVICE}")
    total = device.run(f"systemd-analyze security --no-pager {SERVICE} | tail -1")
    assert json.loads(report)
    exposure = float(total.split("exposure level for")[1].split(":")[1].split()[0])
    assert exposure * 10 <= PERCENT_EXPOSURE, total


def test_other_devices_are_closed(device: Device) -> None:
    """Within the service even root can open only the allowed devices."""
    group = f"/sys/fs/cgroup/system.slice/{SERVICE}.service/cgroup.procs"

    def open_inside(name: str) -> str:
        return device.run(f"echo $$ >{group}; (: <>/dev/{name}) 2>&1", check=False)

    assert open_inside("video10") == ""
    for name in ("vda", "mem", "input/event0", "watchdog0", "kmsg"):
        assert "Operation not permitted" in open_inside(name), name


def test_stores_and_sends_nothing(device: Device) -> None:
    """While it runs: only devices are open for writing, only systemd and the journal are connected,
    and only state and cache have been written."""
    opened = device.run(f"{PYTHON} -c '{LIST_OPENED}' {device.process}").splitlines()
    assert sum(name.startswith("/dev/") for name in opened) >= 4, opened
    own = ("/dev/", "anon_inode:", "pipe:", "socket:")
    assert [name for name in opened if not name.startswith(own)] == []
    for protocol in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6", "packet"):
        table = device.run(f"cat /proc/{device.process}/net/{protocol} 2>/dev/null", check=False)
        assert len(table.splitlines()) <= 1, table
    new = f'-user {SERVICE} -type f -newermt "$(uptime --since)"'
    written = device.run(f"find / -xdev {new}; find /run {new}").splitlines()
    allowed = (f"/var/lib/{SERVICE}/", f"/var/cache/{SERVICE}/")
    assert [name for name in written if not name.startswith(allowed)] == []


def test_stops_in_order(device: Device) -> None:
    """SIGTERM: it ends with code 0."""
    device.run(f"systemctl stop {SERVICE}", timeout_s=30)
    assert device.show("Result") == "success"
    assert device.show("ExecMainStatus") == "0"


def test_doctor_passes(device: Device) -> None:
    """No check fails on a working device."""
    answer = device.run(
        f"runuser -u {SERVICE} -- {COMMAND} doctor --config /etc/emotion-edge/config.yaml",
        check=False,
    )
    marks = [line.split()[0] for line in answer.splitlines() if line.strip()]
    assert marks.count("ok") >= 10, answer
    assert "fail" not in marks, answer
