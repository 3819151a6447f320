"""A real mosquitto on the loopback, certificates for it, and a subscriber."""

from __future__ import annotations

import datetime
import ipaddress
import os
import queue
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

TIMEOUT_S = 120
"""Reached by a failing test only."""
USER, PASSWORD = "kiosk", "no:Secret 1"
PROGRAM = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def find_ports(count: int) -> list[int]:
    """Return free ports."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


class Broker:
    """A mosquitto of its own folder, whose listeners are named."""

    def __init__(self, folder: Path, listeners: dict[str, str], settings: str = "") -> None:
        """`listeners`: the settings of each."""
        if PROGRAM is None:
            pytest.skip("mosquitto is not installed")
        folder.mkdir(parents=True, exist_ok=True)
        self.ports = dict(zip(listeners, find_ports(len(listeners)), strict=True))
        self._file = folder / "mosquitto.conf"
        lines = ["per_listener_settings true", "log_dest stderr", settings]
        if os.geteuid() == 0:
            lines.append("user root")  # else it could not read the folder
        for name, own in listeners.items():
            lines += [f"listener {self.ports[name]} 127.0.0.1", own or "allow_anonymous true"]
        self._file.write_text("\n".join(lines) + "\n")
        self._process: subprocess.Popen[str] | None = None

    @property
    def port(self) -> int:
        return next(iter(self.ports.values()))

    def start(self) -> None:
        """Start it, and wait until it listens."""
        assert PROGRAM is not None
        command = [PROGRAM, "-c", str(self._file)]
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        assert self._process.stderr is not None
        lines = []
        for line in self._process.stderr:
            lines.append(line)
            if line.rstrip().endswith("running"):
                return
        pytest.fail(f"mosquitto ended: {''.join(lines)}")

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def pause(self) -> None:
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()


class Gate:
    """A port in front of the broker, which a test closes, opens and cuts."""

    def __init__(self, target: int) -> None:
        self.port = find_ports(1)[0]
        self._target = target
        self._server: socket.socket | None = None
        self._ends: list[socket.socket] = []
        self._flows = threading.Event()
        self._flows.set()

    def open(self) -> None:
        """Let connections through."""
        server = self._server = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(server,), daemon=True).start()

    def cut(self) -> None:
        """Keep the connections, and let nothing through, as a network that is gone."""
        self._flows.clear()

    def mend(self) -> None:
        self._flows.set()

    def close(self) -> None:
        """Refuse connections, and reset those that there are."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown(socket.SHUT_RDWR)
            server.close()
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._ends.clear()
        self._flows.set()

    def _accept(self, server: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = server.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._ends += [near, far]
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with source, suppress(OSError):
            while data := source.recv(65536):
                self._flows.wait()
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


class Subscriber:
    """Receives what is published. It stays subscribed when the broker comes back."""

    def __init__(self, port: int, topic: str = "#") -> None:
        from paho.mqtt.client import CallbackAPIVersion, Client

        self.messages: queue.Queue[Any] = queue.Queue()
        self._ready: queue.Queue[object] = queue.Queue()
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe(topic, qos=1)
        self._client.on_subscribe = lambda *_: self._ready.put(None)
        self._client.on_message = lambda _, __, message: self.messages.put(message)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Wait until it is subscribed, for the first time or again."""
        self._ready.get(timeout=TIMEOUT_S)

    def wait_for(self, wanted: Callable[[str, Any], object]) -> Any:
        """Return the next payload for which `wanted(last level of the topic, payload)` is true."""
        while True:
            level, payload, _ = self.take()
            if wanted(level, payload):
                return payload

    def take(self) -> tuple[str, Any, bool]:
        """Return the last level of the next topic, the payload, and whether it was retained."""
        message = self.messages.get(timeout=TIMEOUT_S)
        level = message.topic.rpartition("/")[2]
        payload = message.payload
        return level, payload if level == "status" else msgspec.json.decode(payload), message.retain

    def wait_for_records(self, count: int) -> list[dict[str, Any]]:
        """Return records in the order of their arrival, until there are `count` different ones."""
        records: list[dict[str, Any]] = []
        while len({record["id"] for record in records}) < count:
            records.append(self.wait_for_record())
        return records

    def wait_for_record(self) -> dict[str, Any]:
        return self.wait_for(lambda level, _: level == "records")

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@dataclass(frozen=True)
class Certificate:
    cert: Path
    key: Path


class Authority:
    """Signs certificates."""

    def __init__(self, folder: Path) -> None:
        pytest.importorskip("cryptography", reason="cryptography is in the signed extra")
        from cryptography.hazmat.primitives.asymmetric import ec

        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.cert = folder / "ca.pem"
        self._write(self.cert, self._sign("authority", self._key, "authority", 1, None))

    def issue(
        self, name: str, host: str = "127.0.0.1", days: int = 1, password: bytes = b""
    ) -> Certificate:
        """Issue a certificate for `host`, an address; negative `days`: it has expired. With a
        `password` its key is encrypted."""
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        issued = Certificate(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        self._write(issued.cert, self._sign(name, key, "authority", days, host))
        issued.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(password)
                if password
                else serialization.NoEncryption(),
            )
        )
        return issued

    def _sign(self, subject: str, key: Any, issuer: str, days: int, host: str | None) -> Any:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.x509.oid import NameOID

        def name(text: str) -> Any:
            return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name(issuer))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=10))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=host is None, path_length=None), critical=True)
        )
        if host is not None:
            address = x509.IPAddress(ipaddress.ip_address(host))
            builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
        return builder.sign(self._key, hashes.SHA256())

    @staticmethod
    def _write(file: Path, certificate: Any) -> None:
        from cryptography.hazmat.primitives.serialization import Encoding

        file.write_bytes(certificate.public_bytes(Encoding.PEM))
