"""Addresses, certificates, users and passwords: what is let in, and what is refused."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

pytest.importorskip("paho.mqtt.enums", reason="paho-mqtt 2 is in the mqtt extra")

from emotion_edge.runtime.config import Config, ConfigError, Mqtt, load_config
from emotion_edge.runtime.sinks import open_sinks
from emotion_edge.runtime.sinks.mqtt import MqttSink, parse_address
from emotion_edge.runtime.sinks.mqtt.access import make_access
from emotion_edge.runtime.sinks.mqtt.address import find_device

from .broker import PASSWORD, PROGRAM, USER, Authority, Broker
from .conftest import EACH, Logged, make_estimate

OpenSink = Callable[..., MqttSink]
AUTHORITY, OTHER_AUTHORITY = "authority", "other"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def guarded(folder: Path) -> Iterator[Broker]:
    """A broker with a listener for each way to be refused."""
    if PROGRAM is None:
        pytest.skip("mosquitto is not installed")
    authority, other = Authority(folder / AUTHORITY), Authority(folder / OTHER_AUTHORITY)
    authority.issue("client")
    other.issue("client")
    passwords = folder / "passwords"
    tool = Path(PROGRAM).parent.parent / "bin" / "mosquitto_passwd"
    subprocess.run([tool, "-b", "-c", passwords, USER, PASSWORD], check=True, timeout=60)
    served = {
        "good": authority.issue("good"),
        "expired": authority.issue("expired", days=-1),
        "elsewhere": authority.issue("elsewhere", host="192.0.2.1"),
        "stranger": other.issue("stranger"),
        "both": authority.issue("both"),
    }
    listeners = {
        name: f"certfile {issued.cert}\nkeyfile {issued.key}\nallow_anonymous true"
        for name, issued in served.items()
    }
    listeners["both"] += f"\ncafile {authority.cert}\nrequire_certificate true"
    listeners["password"] = f"password_file {passwords}\nallow_anonymous false"
    broker = Broker(folder / "broker", listeners)
    broker.start()
    yield broker
    broker.kill()


def own(folder: Path, authority: str) -> dict[str, str]:
    return {
        "cert_file": f"{folder / authority}/client.pem",
        "key_file": f"{folder / authority}/client.key",
    }


# After a failed handshake paho leaves the socket to the garbage collection.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("listener", "client", "said"),
    [
        ("good", "", ""),
        ("expired", "", "expired"),
        ("elsewhere", "", "127.0.0.1"),
        ("stranger", "", "verify failed|self.signed|local issuer|signature"),
        ("both", AUTHORITY, ""),
        ("both", "", "certificate required|closed|eof|lost"),
        ("both", OTHER_AUTHORITY, "unknown ca|decrypt|closed|eof|lost"),
    ],
)
def test_certificates(
    guarded: Broker,
    folder: Path,
    open_sink: OpenSink,
    logged: Logged,
    listener: str,
    client: str,
    said: str,
) -> None:
    """A broker or a client with a wrong certificate is a fault that says why; a right one is let
    in."""
    files = own(folder, client) if client else {}
    settings = msgspec.structs.replace(EACH, ca_file=f"{folder / AUTHORITY}/ca.pem", **files)
    port = guarded.ports[listener]
    sink = open_sink(port, settings, tls=True)
    if said:
        line = logged.wait_for_fault(port)
        assert any(word in line for word in said.split("|")), line
        assert str(port) in sink.fault
    else:
        sink.publish(make_estimate(0))
        logged.wait_for("connected")
        assert sink.fault == ""


@pytest.mark.parametrize(("password", "is_right"), [(PASSWORD, True), ("wrong: 1", False)])
def test_passwords(
    guarded: Broker,
    open_sink: OpenSink,
    logged: Logged,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    password: str,
    is_right: bool,
) -> None:
    """They come from a file; a wrong one is a fault that does not repeat it. The file is read again
    at each attempt."""
    caplog.set_level(logging.DEBUG)
    file = tmp_path / "credentials"
    file.write_text(f"{USER}\n{password}\n")
    port = guarded.ports["password"]
    sink = open_sink(port, msgspec.structs.replace(EACH, credentials_file=str(file)))
    if not is_right:
        assert "not authorized" in logged.wait_for_fault(port)
        assert sink.fault
        file.write_text(f"{USER}\n{PASSWORD}\n")
    logged.wait_for("connected")
    sink.close()
    assert sink.fault == ""
    assert password not in caplog.text
    assert PASSWORD not in caplog.text


def test_a_credential_of_systemd(tmp_path: Path) -> None:
    """A name without a slash is one, where systemd has given it."""
    (tmp_path / "mqtt").write_text("kiosk\nsecret\n")
    environment = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    access = make_access(Mqtt(credentials_file="mqtt"), False, environment)
    assert access.read_login() == ("kiosk", "secret")
    with pytest.raises(ValueError, match=r"mqtt\.credentials_file is 'mqtt'"):
        make_access(Mqtt(credentials_file="mqtt"), False, {})


@pytest.mark.parametrize(
    ("url", "host", "port", "tls", "topic"),
    [
        ("mqtt://broker.local", "broker.local", 1883, False, "emotion-edge"),
        ("mqtts://broker.local/", "broker.local", 8883, True, "emotion-edge"),
        ("mqtt://10.0.0.1:1/shop/hall/", "10.0.0.1", 1, False, "shop/hall"),
        ("mqtts://[::1]:9/größe", "::1", 9, True, "größe"),
    ],
)
def test_addresses(url: str, host: str, port: int, tls: bool, topic: str) -> None:
    """Ports and topic have defaults."""
    address = parse_address(url)
    assert (address.host, address.port, address.tls, address.topic) == (host, port, tls, topic)
    assert parse_address(str(address)) == address


SECRET = "hunter2"


@pytest.mark.parametrize(
    ("spec", "settings", "named"),
    [
        ("mqtt://broker:0", [], "port 0"),
        ("mqtt://broker:65536", [], "65536"),
        ("mqtt://broker:x", [], "broker:x"),
        ("mqtt:broker", [], "mqtt:broker"),
        ("mqtt://", [], "mqtt://"),
        ("mqtt", [], "mqtt"),
        ("mqqt://broker", [], "mqqt"),
        ("mqtt://broker/a/#", [], "a/#"),
        ("mqtt://broker/$SYS", [], "$SYS"),
        (f"mqtt://kiosk:{SECRET}@broker", [], "mqtt.credentials_file"),
        (f"mqtts:kiosk:{SECRET}@broker", [], "mqtt.credentials_file"),
        (f"mqqt://kiosk:{SECRET}@broker", [], "mqqt"),
        ("mqtt://broker", ["mqtt.device=a/b"], "mqtt.device"),
        ("mqtt://broker", ["mqtt.ca_file=/no/such"], "mqtt.ca_file"),
        ("mqtts://broker", ["mqtt.ca_file=/no/such"], "/no/such"),
        ("mqtts://broker", ["mqtt.ca_file=/dev/null"], "mqtt.ca_file"),
        ("mqtts://broker", ["mqtt.key_file=/dev/null"], "mqtt.cert_file"),
        ("mqtt://broker", ["mqtt.credentials_file=/dev/null"], "/dev/null"),
    ],
)
def test_usage_errors(spec: str, settings: list[str], named: str) -> None:
    """Each is one line that names the value, and never has a password."""
    config: Config = load_config(None, settings)
    with pytest.raises(ConfigError) as error, open_sinks([spec], config):
        pytest.fail("was opened")
    assert named in str(error.value)
    assert "\n" not in str(error.value)
    assert SECRET not in str(error.value)


def test_encrypted_key(tmp_path: Path) -> None:
    """It is a usage error, and no question on the terminal."""
    issued = Authority(tmp_path).issue("client", password=b"secret")
    settings = [f"mqtt.cert_file={issued.cert}", f"mqtt.key_file={issued.key}"]
    with (
        pytest.raises(ConfigError, match="key_file"),
        open_sinks(["mqtts://broker"], load_config(None, settings)),
    ):
        pytest.fail("was opened")


def test_the_name_of_a_device_stays(tmp_path: Path) -> None:
    """It is made from the machine-id, which it does not show."""
    file = tmp_path / "machine-id"
    names = []
    for text in ("0123456789abcdef0123456789abcdef\n", "f123456789abcdef0123456789abcdef\n"):
        file.write_text(text)
        names.append(find_device("", file))
        assert find_device("", file) == names[-1]
        assert text[:12] not in names[-1]
    assert len(set(names)) == 2
    assert find_device("", tmp_path / "missing") == find_device("", tmp_path / "missing")
