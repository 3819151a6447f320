"""The virtual device: a Debian machine under QEMU with a camera, a microphone, a monitor, a serial
port, a hardware watchdog and systemd. `scripts/build_image debian` makes its disk.

It is emulated in software (`-accel tcg`): /dev/kvm of a virtual machine may open and then not boot
an ordinary kernel. Numeric code is some 100 times slower in it than outside.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

READY_TIMEOUT_S = 180
LOAD_TIMEOUT_S = 60
READY = b"RIG-READY"
KERNEL_ARGUMENTS = (
    "root=/dev/vda console=ttyS0 quiet mitigations=off nokaslr clocksource=tsc tsc=reliable"
    " vt.global_cursor_default=0"
)
GRAPHICS = {
    "bochs": ["-vga", "std"],
    "virtio": ["-vga", "none", "-device", "virtio-gpu-pci,xres=1280,yres=720"],
}


class RigError(RuntimeError):
    """The machine failed. The message says where to find the cause."""


class Machine:
    """A machine, as a context manager. `image` is the folder of build_image and stays unchanged;
    the machine writes to `folder`.

    Only one runs at a time, because two would slow each other down: a start ends the other one."""

    _newest: ClassVar[Machine | None] = None

    def __init__(self, image: Path, folder: Path) -> None:
        self._image = image
        self._folder = folder
        self._arguments: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(
        self,
        *,
        fresh: bool = False,
        graphics: str = "bochs",
        kernel: str = "",
        extra: Sequence[str] = (),
    ) -> None:
        """Boot, and return when systemd has reached its target. `fresh`: with a new disk."""
        disk = self._folder / "disk.qcow2"
        if fresh or not disk.exists():
            backing = ["-f", "qcow2", "-F", "raw", "-b", str(self._image / "rig.ext4")]
            subprocess.run(["qemu-img", "create", "-q", *backing, str(disk)], check=True)
        self._arguments = [
            *GRAPHICS[graphics],
            *("-append", f"{KERNEL_ARGUMENTS} {kernel}"),
            *("-drive", f"file={disk},if=virtio,format=qcow2"),
            *extra,
        ]
        self._launch([])
        end_s = time.monotonic() + READY_TIMEOUT_S
        while READY not in self.console():
            self._check_running()
            if time.monotonic() > end_s:
                raise RigError(f"not up after {READY_TIMEOUT_S} s, see {self._folder}/console")
            time.sleep(0.1)

    def save(self, name: str) -> None:
        """Save a snapshot of the running machine, memory included."""
        self._monitor(f"savevm {name}")

    def load(self, name: str) -> None:
        """Restore a snapshot in a new QEMU. In the same one the time-stamp counter would jump, and
        the watchdogs of the guest would fire."""
        self.cut()
        self._launch(["-loadvm", name])
        end_s = time.monotonic() + LOAD_TIMEOUT_S
        while True:
            try:
                self.run("true", timeout_s=LOAD_TIMEOUT_S)
                return
            except RigError:  # its network is not back yet
                self._check_running()
                if time.monotonic() > end_s:
                    raise
                time.sleep(0.5)

    def cut(self) -> None:
        """Cut the power: data not yet on the disk is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
            self._process = None
        if (self._folder / "ssh").exists():
            subprocess.run(self._ssh("-O", "exit", "rig"), capture_output=True, check=False)

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()

    def run(self, command: str, *, timeout_s: float = 120, check: bool = True) -> str:
        """Run a shell command as root in the machine -> its stripped standard output."""
        done = subprocess.run(
            self._ssh("root@127.0.0.1", command),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if check and done.returncode:
            raise RigError(f"{command!r} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout.strip()

    def push(self, source: Path, folder: str) -> None:
        """Copy a file or folder into `folder` of the machine and sync it to disk."""
        pack = ["tar", "-c", "-C", str(source.resolve().parent), source.name]
        unpack = (
            f"mkdir -p {folder} && tar -x --touch --no-same-owner -C {folder} && sync -f {folder}"
        )
        with subprocess.Popen(pack, stdout=subprocess.PIPE) as tar:
            to = self._ssh("root@127.0.0.1", unpack)
            subprocess.run(to, stdin=tar.stdout, check=True, timeout=300)

    def pull(self, file: str) -> bytes:
        """Return the content of a file of the machine."""
        command = self._ssh("root@127.0.0.1", f"cat {file}")
        return subprocess.run(command, capture_output=True, check=True, timeout=60).stdout

    def serial_lines(self, timeout_s: float) -> Iterator[str]:
        """Yield the lines of the serial port from now on. The first may be cut off."""
        end_s = time.monotonic() + timeout_s
        rest = b""
        with socket.socket(socket.AF_UNIX) as port:
            port.connect(str(self._folder / "serial"))
            while (left_s := end_s - time.monotonic()) > 0:
                port.settimeout(left_s)
                try:
                    data = port.recv(4096)
                except TimeoutError:
                    return
                if not data:
                    return
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    yield line.decode(errors="replace").strip()

    def screen(self) -> tuple[int, int, bytes]:
        """Return the screen: width, height, RGB bytes."""
        file = self._folder / "screen.ppm"
        self._qmp("screendump", filename=str(file), format="ppm")
        header, data = re.match(rb"P6\s(\d+) (\d+)\s255\s", file.read_bytes()), file.read_bytes()
        assert header is not None
        return int(header[1]), int(header[2]), data[header.end() :]

    def save_screen(self, file: Path) -> None:
        """Save the screen as a PNG file."""
        self._qmp("screendump", filename=str(file.resolve()), format="png")

    def console(self) -> bytes:
        """Return the console output of the kernel and the boot."""
        file = self._folder / "console"
        return file.read_bytes() if file.exists() else b""

    def _launch(self, more: list[str]) -> None:
        if self.running:
            raise RigError("it is running already")
        if Machine._newest is not None:
            Machine._newest.cut()
        Machine._newest = self
        for name in ("console", "ssh", "qmp"):
            (self._folder / name).unlink(missing_ok=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        network = f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{self._port}-:22"
        command = [
            # QEMU ends with the test run. It must be our child itself: what wait() waits for has
            # released the lock of the disk.
            *("setpriv", "--pdeathsig", "KILL"),
            *("qemu-system-x86_64", "-accel", "tcg,thread=multi"),
            *("-cpu", "max", "-smp", "2", "-m", "1024", "-nodefaults", "-display", "none"),
            *("-kernel", f"{self._image}/vmlinuz", "-initrd", f"{self._image}/initrd"),
            *("-serial", f"file:{self._folder}/console"),
            *("-chardev", f"socket,id=port,path={self._folder}/serial,server=on,wait=off"),
            *("-serial", "chardev:port"),
            *("-qmp", f"unix:{self._folder}/qmp,server=on,wait=off"),
            *("-netdev", network, "-device", "virtio-net-pci,netdev=net,romfile="),  # ssh in only
            *("-device", "i6300esb", "-action", "watchdog=reset"),
            *self._arguments,
            *more,
        ]
        with (self._folder / "qemu.log").open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        while not (self._folder / "qmp").exists():
            self._check_running()
            time.sleep(0.05)

    def _check_running(self) -> None:
        if not self.running:
            raise RigError(f"QEMU has ended: {(self._folder / 'qemu.log').read_text()}")

    def _ssh(self, *arguments: str) -> list[str]:
        """Return an ssh command. All share one connection."""
        options = (
            *("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"),
            *("ControlMaster=auto", "ControlPersist=600", f"ControlPath={self._folder}/ssh"),
            *("ConnectTimeout=20", "ConnectionAttempts=3", f"IdentityFile={self._image}/key"),
        )
        flags = [part for option in options for part in ("-o", option)]
        return ["ssh", *flags, "-p", str(self._port), *arguments]

    def _monitor(self, line: str) -> str:
        answer = str(self._qmp("human-monitor-command", **{"command-line": line})).strip()
        if answer.startswith("Error"):
            raise RigError(f"{line}: {answer}")
        return answer

    def _qmp(self, command: str, **arguments: object) -> Any:
        """Run a QMP command: https://www.qemu.org/docs/master/interop/qemu-qmp-ref.html"""
        with socket.socket(socket.AF_UNIX) as channel:
            channel.settimeout(60)
            channel.connect(str(self._folder / "qmp"))
            stream = channel.makefile("rw")
            stream.readline()
            answer: dict[str, Any] = {}
            for name, given in (("qmp_capabilities", {}), (command, arguments)):
                stream.write(json.dumps({"execute": name, "arguments": given}) + "\n")
                stream.flush()
                answer = {}
                while not {"return", "error"} & set(answer):
                    answer = json.loads(stream.readline())
        if "error" in answer:
            raise RigError(f"{command}: {answer['error']['desc']}")
        return answer["return"]
