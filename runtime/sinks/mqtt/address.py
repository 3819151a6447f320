"""The URL of a broker, and the name of this device.

In: "mqtt://HOST[:PORT][/TOPIC]" or "mqtts://…", and `mqtt.device`. Out: an `Address` and a name, or
ValueError in one line, which never has the user or the password that somebody put into a URL.
"""

from __future__ import annotations

import hashlib
import platform
import re
from dataclasses import dataclass
from pathlib import Path

PORTS = {"mqtt": 1883, "mqtts": 8883}
DEFAULT_TOPIC = "emotion-edge"
MAX_TOPIC = 200
MACHINE_ID = Path("/etc/machine-id")
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
URL = re.compile(
    r"(?P<scheme>mqtts?)://"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]{1,253})"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?:/(?P<topic>.*))?\Z"
)


@dataclass(frozen=True, slots=True)
class Address:
    """Where messages go."""

    host: str
    port: int
    tls: bool
    topic: str
    """The first levels of each topic; the name of the device follows."""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}/{self.topic}"


def parse_address(url: str) -> Address:
    """Parse a URL. Raises ValueError."""
    wanted = "wanted mqtt://HOST[:PORT][/TOPIC] or mqtts://HOST[:PORT][/TOPIC]"
    if "@" in url:
        raise ValueError(
            "an mqtt URL has an '@': user and password belong into the file that"
            f" mqtt.credentials_file names; {wanted}"
        )
    match = URL.match(url)
    if match is None:
        raise ValueError(f"output {url!r} is no address of a broker: {wanted}")
    port = int(match["port"] or PORTS[match["scheme"]])
    if not 0 < port < 65536:
        raise ValueError(f"output {url!r}: port {port} is not within 1 to 65535")
    topic = (match["topic"] or "").strip("/") or DEFAULT_TOPIC
    if problem := find_topic_problem(topic):
        raise ValueError(f"output {url!r}: topic {topic!r} {problem}")
    return Address(match["host"].strip("[]"), port, match["scheme"] == "mqtts", topic)


def find_topic_problem(topic: str) -> str:
    """Return why nothing can be published under `topic`; "" for no reason."""
    if not topic.isprintable() or any(sign in topic for sign in "+#"):
        return "has a '+', a '#' or a character that is not printable"
    if topic.startswith("$"):
        return "begins with '$', which is the broker's own"
    if len(topic.encode()) > MAX_TOPIC:
        return f"is longer than {MAX_TOPIC} bytes"
    return ""


def find_device(name: str, machine_id: Path = MACHINE_ID) -> str:
    """Return `mqtt.device`, else a name of this machine that stays: a hash of its machine-id, which
    itself must not leave it (machine-id(5)), else its host name. Raises ValueError."""
    if name:
        if NAME.match(name) is None:
            raise ValueError(f"mqtt.device is {name!r}: wanted 1 to 64 letters, digits, '_' or '-'")
        return name
    try:
        number = machine_id.read_text().strip()
    except OSError:
        number = ""
    digest = hashlib.sha256(f"emotion-edge {number or platform.node()}".encode()).hexdigest()
    return f"kiosk-{digest[:12]}"
