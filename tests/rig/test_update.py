"""Bundles are installed, given up and rolled back on the device, and power fails meanwhile."""

from __future__ import annotations

import json
import random
import subprocess
import time
from pathlib import Path

import pytest

from emotion_edge.engines.bundles.manifest import DEFAULT_BUNDLE

from .device import COMMAND, Device, Recovered
from .film import write_babble
from .machine import Machine
from .test_power import boots_well

INSTALL = f"{COMMAND} bundle install"
CUTS = 5
SEED = 20261124


AUTUMN = """
import time
import emotion_edge.engines.bundles.startup as module
choose = module.choose_bundle
def choose_and_break(*arguments, **options):
    choice = choose(*arguments, **options)
    if choice.bundle.manifest.name == 'autumn':
        break_it()
    return choice
module.choose_bundle = choose_and_break
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
"""Put into the program: one bundle ends the start once it is chosen, or is proven, runs, and then
does not answer any more."""


def make_bundle(folder: Path, name: str, *, broken: bool = False) -> Path:
    """A tar file of the bundle that ships under another name; `broken`: it fails when it starts."""
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


def test_install_and_roll_back(device: Device, tmp_path: Path) -> None:
    """A new bundle runs after a restart and is confirmed; rollback brings the old one back."""
    device.machine.push(make_bundle(tmp_path, "spring"), "/opt")
    assert "restart the service" in device.run(f"{INSTALL} /opt/spring.tar", timeout_s=300)
    device.run("systemctl restart emotion-edge", timeout_s=90)
    device.wait(
        "the trial's end", lambda: "on trial" not in device.run(f"{COMMAND} bundle list"), 60
    )
    assert "spring" in device.run(f"{COMMAND} bundle list")
    device.run(f"{COMMAND} bundle rollback", timeout_s=300)
    device.run("systemctl restart emotion-edge", timeout_s=90)
    device.wait_estimate(20)


@pytest.mark.parametrize("fault", FAULTS)
def test_given_up_by_itself(
    device: Device, tmp_path: Path, recovered: Recovered, fault: str
) -> None:
    """A bundle that twice fails or hangs before it has settled: the one before runs again."""
    device.machine.push(make_bundle(tmp_path, "autumn"), "/opt")
    device.play_audio(write_babble(tmp_path / "babble.wav", 600))
    device.run(f"{INSTALL} /opt/autumn.tar", timeout_s=300)
    device.add_code(AUTUMN + FAULTS[fault])
    device.run("systemctl restart --no-block emotion-edge")
    took_s = device.wait(
        "the way back", lambda: bool(device.count("has failed to start 2 times")), 150
    )
    recovered(f"bundle that {fault} twice: estimates", took_s + device.wait_estimate(60))
    assert "autumn" not in device.run(f"{COMMAND} bundle list | grep current", check=False)
    device.wait_healthy(30)


@pytest.mark.parametrize("damage", ["signature", "format", "path"])
def test_bad_bundles(device: Device, tmp_path: Path, damage: str) -> None:
    """One clear line, nothing changed."""
    source = make_bundle(tmp_path, "bad").with_suffix("")
    before = device.run(f"{COMMAND} bundle list")
    options, says = "", ""
    if damage == "signature":
        subprocess.run(
            f"openssl genpkey -algorithm ed25519 -out {tmp_path}/k.pem &&"
            f" openssl pkey -in {tmp_path}/k.pem -pubout -out {tmp_path}/public.pem",
            shell=True,
            check=True,
        )
        device.machine.push(tmp_path / "public.pem", "/opt")
        options, says = " --set public_key=/opt/public.pem", "sig"
    else:
        manifest = json.loads((source / "bundle.json").read_bytes())
        if damage == "format":
            manifest["format"], says = 0, "format"
        else:
            manifest["files"]["../../escape"] = manifest["files"][
                manifest["models"]["face"]["file"]
            ]
            says = "../../escape"
        (source / "bundle.json").write_text(json.dumps(manifest))
    file = tmp_path / "bad.tar"
    subprocess.run(["tar", "-cf", file, "-C", source, "."], check=True)
    device.machine.push(file, "/opt")
    answer = device.run(f"{INSTALL} /opt/bad.tar{options} 2>&1; echo code $?", timeout_s=300)
    assert answer.splitlines()[-1] == "code 4"
    assert says in answer
    assert len(answer.splitlines()) == 2
    assert device.run(f"{COMMAND} bundle list") == before


def test_power_cuts_while_installing(fresh: Machine, tmp_path: Path) -> None:
    """Five cuts at random moments of an install: always a valid bundle, and the next one works."""
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
        device = boots_well(fresh)
    device.run(f"{INSTALL} /opt/cut{CUTS - 1}.tar", timeout_s=300)
