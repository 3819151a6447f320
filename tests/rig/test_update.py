"""Install, trial and rollback of bundles on the device, with power cuts."""

from __future__ import annotations

import json
import random
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from emotion_edge.engines.bundles.manifest import DEFAULT_BUNDLE

from .device import COMMAND, Device, Recovered
from .machine import Machine
from .media import write_babble
from .test_power import check_boot

INSTALL = f"{COMMAND} bundle install"
SELECTION = "/var/lib/emotion-edge/bundles/selection.json"
CUTS = 5
SEED = 20261124


AUTUMN = """
import time
from emotion_edge.engines import bundles
choose = bundles.choose_bundle
def choose_and_break(*arguments, **options):
    choice = choose(*arguments, **options)
    if choice.bundle.manifest.name == 'autumn':
        break_it()
    return choice
bundles.choose_bundle = choose_and_break
"""
FAULTS = {
    "fails": """
def break_it():
    raise SystemExit(1)
""",
    "hangs": """
from emotion_edge.engines import null
def break_it():
    infer, begin = null.NullEngine.infer, time.monotonic()
    def stick(self, feed):
        while time.monotonic() - begin > 10:
            time.sleep(1)
        return infer(self, feed)
    null.NullEngine.infer = stick
""",
}
"""Code for the program: the bundle fails once it is chosen, or it is verified, runs, and then its
networks do not return."""


def make_bundle(folder: Path, name: str) -> Path:
    """Make a tar file of the default bundle under another name."""
    source = folder / name
    source.mkdir(parents=True)
    for file in DEFAULT_BUNDLE.iterdir():
        (source / file.name).write_bytes(file.read_bytes())
    manifest = json.loads((source / "bundle.json").read_bytes())
    manifest["name"] = name
    (source / "bundle.json").write_text(json.dumps(manifest))
    file = folder / f"{name}.tar"
    subprocess.run(["tar", "-cf", file, "-C", source, "."], check=True)
    return file


def read_selection(device: Device) -> dict[str, Any]:
    """Return which bundle runs, and whether it is on trial."""
    return dict(json.loads(device.run(f"cat {SELECTION}")))


def test_install_and_roll_back(device: Device, tmp_path: Path) -> None:
    """A new bundle runs after a restart and is marked good. A rollback restores the old one."""
    device.machine.push(make_bundle(tmp_path, "spring"), "/opt")
    device.run(f"{INSTALL} /opt/spring.tar", timeout_s=300)
    device.run("systemctl restart emotion-edge", timeout_s=90)
    device.wait("the end of the trial", lambda: not read_selection(device)["on_trial"], 60)
    assert "spring" in device.run(f"{COMMAND} bundle list")
    device.run(f"{COMMAND} bundle rollback", timeout_s=300)
    device.run("systemctl restart emotion-edge", timeout_s=90)
    device.wait_estimate(20)


@pytest.mark.parametrize("fault", FAULTS)
def test_automatic_rollback(
    device: Device, tmp_path: Path, recovered: Recovered, fault: str
) -> None:
    """A bundle whose trial fails twice is replaced by the previous one."""
    device.machine.push(make_bundle(tmp_path, "autumn"), "/opt")
    device.play_audio(write_babble(tmp_path / "babble.wav", 600))
    device.run(f"{INSTALL} /opt/autumn.tar", timeout_s=300)
    current = read_selection(device)["current"]
    device.add_code(AUTUMN + FAULTS[fault])
    device.run("systemctl restart --no-block emotion-edge")
    took_s = device.wait("the rollback", lambda: read_selection(device)["current"] != current, 150)
    recovered(f"bundle that {fault} twice: estimates", took_s + device.wait_estimate(60))
    assert "autumn" not in device.run(f"{COMMAND} bundle list | grep current", check=False)
    device.wait_healthy(30)


@pytest.mark.parametrize("damage", ["signature", "format", "path"])
def test_bad_bundles(device: Device, tmp_path: Path, damage: str) -> None:
    """Exit code 4, one line that names the cause, and no change."""
    source = make_bundle(tmp_path, "bad").with_suffix("")
    before = device.run(f"{COMMAND} bundle list")
    options, cause = "", ""
    if damage == "signature":
        subprocess.run(
            f"openssl genpkey -algorithm ed25519 -out {tmp_path}/k.pem &&"
            f" openssl pkey -in {tmp_path}/k.pem -pubout -out {tmp_path}/public.pem",
            shell=True,
            check=True,
        )
        device.machine.push(tmp_path / "public.pem", "/opt")
        options, cause = " --set public_key=/opt/public.pem", "sig"
    else:
        manifest = json.loads((source / "bundle.json").read_bytes())
        if damage == "format":
            manifest["format"], cause = 0, "format"
        else:
            manifest["files"]["../../escape"] = manifest["files"][
                manifest["models"]["face"]["file"]
            ]
            cause = "../../escape"
        (source / "bundle.json").write_text(json.dumps(manifest))
    file = tmp_path / "bad.tar"
    subprocess.run(["tar", "-cf", file, "-C", source, "."], check=True)
    device.machine.push(file, "/opt")
    answer = device.run(f"{INSTALL} /opt/bad.tar{options} 2>&1; echo code $?", timeout_s=300)
    assert answer.splitlines()[-1] == "code 4"
    assert cause in answer
    assert len(answer.splitlines()) == 2
    assert device.run(f"{COMMAND} bundle list") == before


def test_power_cuts_while_installing(fresh: Machine, tmp_path: Path) -> None:
    """After each of five cuts at random moments the bundles are valid, and an install works."""
    chance = random.Random(SEED)
    fresh.start(fresh=True)
    device = Device(fresh)
    device.wait_ready(90)
    for number in range(CUTS):
        file = make_bundle(tmp_path, f"cut{number}")
        fresh.push(file, "/opt")
        device.run(f"systemd-run --quiet --unit install-{number} {INSTALL} /opt/{file.name}")
        time.sleep(chance.uniform(0, 25))
        fresh.cut()
        device = check_boot(fresh)
    device.run(f"{INSTALL} /opt/cut{CUTS - 1}.tar", timeout_s=300)
