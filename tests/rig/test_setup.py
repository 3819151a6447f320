"""The image of build_image, and scripts/setup_jetson on the running virtual device without the
steps that need a Jetson."""

from __future__ import annotations

from pathlib import Path

import pytest

from .device import CONFIG, SERVICE, Device

CHECKOUT = Path(__file__).parents[2]
FOLDER = "/root/checkout"
SETUP = f"{FOLDER}/scripts/setup_jetson"
CACHE = "/var/cache/emotion-edge/numba"
UNIT = f"/etc/systemd/system/{SERVICE}.service"
NEW = '-type f -newermt "$(uptime --since)"'
SETUP_TIMEOUT_S = 500


@pytest.mark.rig_core
def test_start_compiled_nothing(device: Device) -> None:
    """The image has compiled kernels and Python files. Compiling takes minutes on a small board."""
    assert device.run(f"find {CACHE} {NEW}") == ""
    assert device.run(f"find /opt /usr {NEW}") == ""
    assert int(device.run(f"find {CACHE} -name '*.nbc' | wc -l")) >= 4


@pytest.mark.timeout(1200)
def test_setup_repairs_and_preserves(device: Device, image: Path) -> None:
    """Missing parts are restored, edited files stay, and a second run changes nothing. Compiled
    kernels remain valid for the reinstalled program."""
    for name in ("scripts", "systemd"):
        device.machine.push(CHECKOUT / name, FOLDER)
    for wheel in (image / "wheels").glob("emotion_edge-*.whl"):
        device.machine.push(wheel, "/root/wheels")
    refused = device.run(f"{SETUP} 2>&1; echo exit $?")
    assert "no Jetson Linux" in refused
    assert refused.endswith("exit 2")

    config = device.run(f"cat {CONFIG}")
    device.run(
        f"rm /usr/local/bin/emotion-edge /opt/emotion-edge/installed {UNIT}.d/10-sandbox.conf"
        f" && systemctl disable {SERVICE} && gpasswd --delete emotion-edge render"
    )
    setup = f"{SETUP} --any-machine --wheels /root/wheels"
    lines = device.run(setup, timeout_s=SETUP_TIMEOUT_S).splitlines()
    assert any(line.startswith("program ") and "/opt/emotion-edge/venv" in line for line in lines)
    assert any(line.startswith("files ") and "sandbox" in line for line in lines)
    assert device.run("readlink /usr/local/bin/emotion-edge").endswith("/venv/bin/emotion-edge")
    assert device.run(f"systemctl is-enabled {SERVICE}") == "enabled"
    assert "render" in device.run("id --name --groups emotion-edge").split()
    assert device.run(f"cat {CONFIG}") == config
    assert device.run(f"find {CACHE} {NEW}") == ""
    device.wait_ready(120)

    again = device.run(setup, timeout_s=SETUP_TIMEOUT_S)
    for step in ("packages", "venv", "files"):
        assert f"{step:<12} there already" in again
    assert "program      up to date" in again
