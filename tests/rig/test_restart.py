"""The program dies or hangs, and systemd restarts it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from .device import Device, Recovered
from .media import write_babble

WATCHDOG_S = 10
GRACE_S = 5
START_S = 60
"""Limit from the start of the program to its first estimate in the emulated machine, whose host may
be busy. The measured time is reported."""

STICK = """
import os, time
from emotion_edge.engines import null
infer = null.NullEngine.infer
def stick(self, feed):
    while os.path.exists('/run/stuck'):
        time.sleep(1)
    return infer(self, feed)
null.NullEngine.infer = stick
"""
"""Code for the program: while the file exists, a network does not return."""


@pytest.mark.rig_core
def test_killed(device: Device, recovered: Recovered) -> None:
    """SIGKILL: it is restarted."""
    device.run("systemctl restart emotion-edge", timeout_s=90)  # warms up the emulator
    device.wait_healthy(30)
    device.run(f"kill -KILL {device.process}; sleep 0.3")
    recovered("kill -9: estimates again", device.wait_estimate(START_S))
    assert device.show("NRestarts") == "1"


@pytest.mark.rig_core
def test_stopped_process_is_replaced(device: Device, recovered: Recovered) -> None:
    """SIGSTOP, which has no handler: the watchdog restarts it."""
    before = device.process
    device.run(f"kill -STOP {before}")
    took_s = device.wait(
        "a new process", lambda: device.process not in (0, before), WATCHDOG_S + GRACE_S + 2
    )
    recovered("SIGSTOP: a new process", took_s)
    assert took_s <= WATCHDOG_S + GRACE_S
    assert "watchdog" in device.run("journalctl --no-pager --output cat --lines 200").lower()
    device.wait_estimate(40)


@pytest.fixture
def babble(tmp_path: Path) -> Path:
    """Ten minutes of synthetic speech."""
    return write_babble(tmp_path / "babble.wav", 600)


def test_stuck_network_is_replaced(device: Device, babble: Path, recovered: Recovered) -> None:
    """A network never returns: threads go on without estimates, and the watchdog restarts it."""
    device.add_code(STICK)
    device.play_audio(babble)
    device.run("systemctl restart emotion-edge", timeout_s=90)
    device.wait_estimate(20)
    before = device.process
    device.run("touch /run/stuck")
    took_s = device.wait(
        "a new process", lambda: device.process not in (0, before), WATCHDOG_S + GRACE_S + 2
    )
    recovered("stuck network: a new process", took_s)
    assert took_s <= WATCHDOG_S + GRACE_S
    device.run("rm /run/stuck")
    device.wait_estimate(40)


def test_failing_starts_come_to_an_end(device: Device) -> None:
    """A start that cannot succeed is repeated within limits. The journal has the reason."""
    device.configure(('name: "null"', "name: tensorrt"))
    device.wait("the limit", lambda: device.show("ActiveState") == "failed", 300)
    assert device.show("Result") in ("start-limit-hit", "exit-code")
    assert "TensorRT" in device.journal("--lines 50")
    time.sleep(2)
    assert device.show("ActiveState") == "failed"


def test_usage_error_is_not_restarted(device: Device) -> None:
    """Exit code 2: one line in the journal and no restart."""
    device.configure(("camera_fps: 15", "camera_fps: 1500"))
    device.wait("failed", lambda: device.show("ActiveState") == "failed", 60)
    assert device.show("ExecMainStatus") == "2"
    assert device.show("NRestarts") == "0"
    assert "source.camera_fps" in device.journal("--lines 20")


def test_refused_profile(device: Device) -> None:
    """`workplace` is refused with the reason and not restarted."""
    device.configure(("wait_for_devices", "profile: workplace\\nwait_for_devices"))
    device.wait("failed", lambda: device.show("ActiveState") == "failed", 60)
    assert device.show("ExecMainStatus") == "2"
    assert "Article 5(1)(f)" in device.journal("--lines 20")
