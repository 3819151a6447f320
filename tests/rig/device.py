"""The service in the virtual device: how tests observe and disturb it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .machine import Machine, RigError

Recovered = Callable[[str, float], None]
"""Records the time to recover from a fault, for the table at the end of the tests."""

SERVICE = "emotion-edge"
CONFIG = "/etc/emotion-edge/config.yaml"
COMMAND = "/opt/emotion-edge/venv/bin/emotion-edge"
PYTHON = "/opt/emotion-edge/venv/bin/python"
READY = "ready"
"""The snapshot of the machine when the service was ready."""
MEDIA = "/opt/media"
PLAY = "aplay --quiet --device plughw:0,0"
POLL_S = 0.3
ONLY_ZEROS = "delivers only zeros"


@dataclass(frozen=True)
class Device:
    """The machine with the service."""

    machine: Machine

    def run(self, command: str, *, timeout_s: float = 120, check: bool = True) -> str:
        return self.machine.run(command, timeout_s=timeout_s, check=check)

    def show(self, name: str) -> str:
        """Return a property of the service, such as "ActiveState"."""
        return self.run(f"systemctl show --property {name} --value {SERVICE}")

    @property
    def process(self) -> int:
        return int(self.show("MainPID"))

    def journal(self, *options: str) -> str:
        """Return the log of the service."""
        return self.run(f"journalctl --unit {SERVICE} --output cat --no-pager {' '.join(options)}")

    def estimates(self, timeout_s: float) -> Iterator[dict[str, Any]]:
        """Yield the estimates that arrive on the serial port from now on."""
        for line in self.machine.serial_lines(timeout_s):
            if line.startswith("{") and line.endswith("}"):
                yield json.loads(line)

    def wait_estimate(self, timeout_s: float) -> float:
        """Return the seconds until the next estimate arrives."""
        start_s = time.monotonic()
        for _ in self.estimates(timeout_s):
            return time.monotonic() - start_s
        raise RigError(f"no estimate in {timeout_s} s; {self.explain()}")

    def wait(self, what: str, holds: Callable[[], bool], timeout_s: float) -> float:
        """Return the seconds until `holds`."""
        start_s = time.monotonic()
        while not holds():
            if time.monotonic() - start_s > timeout_s:
                raise RigError(f"{what}: not in {timeout_s} s; {self.explain()}")
            time.sleep(POLL_S)
        return time.monotonic() - start_s

    def wait_ready(self, timeout_s: float = 60) -> float:
        """Return the seconds until it is ready. Raises RigError at once if the start has failed."""

        def ready() -> bool:
            state = self.show("ActiveState")
            if state == "failed":
                raise RigError(f"it has failed; {self.explain()}")
            return state == "active"

        return self.wait("READY", ready, timeout_s)

    def wait_status(self, text: str, timeout_s: float) -> float:
        """Return the seconds until the status line has `text`."""
        return self.wait(text, lambda: text in self.show("StatusText"), timeout_s)

    def wait_healthy(self, timeout_s: float) -> float:
        """Return the seconds until the status line has frames and no fault but that of a microphone
        to which nothing is played."""

        def is_healthy() -> bool:
            fault, _, rest = self.show("StatusText").rpartition("; ")
            is_well = not fault or (ONLY_ZEROS in fault and ";" not in fault)
            return is_well and " fps" in rest and not rest.startswith("0 fps")

        return self.wait("no fault", is_healthy, timeout_s)

    def configure(self, *changes: tuple[str, str]) -> None:
        """Replace parts of the configuration and restart the service without waiting."""
        for old, new in changes:
            self.run(f"grep -qF '{old}' {CONFIG} && sed -i 's|{old}|{new}|' {CONFIG}")
        self.run(f"systemctl restart --no-block {SERVICE}")

    def add_code(self, code: str) -> None:
        """Make the service run `code` before anything else, from its next start on."""
        folder, drop_in = "/opt/added", f"/run/systemd/system/{SERVICE}.service.d"
        self.run(
            f"mkdir -p {folder} {drop_in}\n"
            f"cat >{folder}/sitecustomize.py <<'END'\n{code}\nEND\n"
            f"chmod -R a+rX {folder}\n"
            f"printf '[Service]\\nEnvironment=PYTHONPATH={folder}\\n' >{drop_in}/added.conf\n"
            "systemctl daemon-reload"
        )

    def count(self, text: str) -> int:
        """Return the number of log lines with `text`."""
        return sum(text in line for line in self.journal().splitlines())

    def play_video(self, clip: Path) -> None:
        """Play frames into /dev/video0 at camera pace, repeated until the machine is restored."""
        self._play("video", f"exec rig-camera {self._push(clip)}")

    def play_audio(self, wave: Path) -> None:
        """Play audio to the microphone once."""
        self._play("audio", f"exec {PLAY} {self._push(wave)}")

    def play_both(self, clip: Path, wave: Path, fps: float) -> None:
        """Play both from the same moment."""
        camera = f"rig-camera {self._push(clip)} --fps {fps}"
        self._play("video", f"{PLAY} {self._push(wave)} & exec {camera}")

    def _push(self, file: Path) -> str:
        self.machine.push(file, MEDIA)
        return f"{MEDIA}/{file.name}"

    def _play(self, unit: str, command: str) -> None:
        self.run(f"systemd-run --quiet --unit {unit} sh -c '{command}'")

    def explain(self) -> str:
        """Return the state of the service for an error message."""
        status = self.run(f"systemctl status --no-pager --lines 20 {SERVICE}", check=False)
        return f"{status}\n"
