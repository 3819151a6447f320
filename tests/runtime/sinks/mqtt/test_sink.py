"""The sink against a real broker: what arrives, and every way to lose the connection."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from queue import Queue
from typing import Any

import msgspec
import pytest

pytest.importorskip("paho.mqtt.enums", reason="paho-mqtt 2 is in the mqtt extra")

from emotion_edge.runtime import config
from emotion_edge.runtime.messages import Health
from emotion_edge.runtime.sinks.mqtt import MqttSink
from emotion_edge.runtime.sinks.mqtt import connection as connection_module
from emotion_edge.runtime.sinks.mqtt import sink as sink_module

from ..estimates import FUSED
from .broker import TIMEOUT_S, Broker, Gate, Subscriber
from .conftest import EACH, Logged, make_estimate

OpenSink = Callable[..., MqttSink]
Subscribe = Callable[..., Subscriber]
HEALTH = Health(
    t_ns=1,
    frames=4,
    fps=29.5,
    latency_p50_ms=9.0,
    latency_p95_ms=10.0,
    latency_p99_ms=11.0,
    latency_max_ms=60.0,
    misses=1,
    faults=("camera is missing",),
)


def list_numbers(records: list[dict[str, Any]]) -> list[int]:
    """The numbers of the estimates, without those that came again."""
    return list(dict.fromkeys(record["index"] for record in records))


def test_everything_arrives(broker: Broker, open_sink: OpenSink, subscribe: Subscribe) -> None:
    """State, records, health and availability; those that describe the present are retained, and
    the end is announced."""
    broker.start()
    subscriber = subscribe(broker.port)
    sink = open_sink(broker.port, msgspec.structs.replace(EACH, discovery="homeassistant"))
    sink.show_health(HEALTH)
    sink.publish(make_estimate(0))
    found: dict[str, Any] = {}
    while found.keys() < {"status", "state", "records", "health", "config"} or (
        "options" not in found["config"]["components"]["label"]
    ):
        level, payload, _ = subscriber.take()
        found[level] = payload
    assert found["status"] == b"online"
    assert found["state"]["label"] == found["records"]["label"] == "happy"
    assert found["state"]["probabilities"] == FUSED
    assert found["health"]["faults"] == ["camera is missing"]
    components = found["config"]["components"]
    assert components["label"]["options"] == list(FUSED)
    assert components.keys() == {"label", "confidence", "faces", "faults"}
    assert found["config"]["availability_topic"] == "shop/kiosk-1/status"
    sink.close()
    assert subscriber.wait_for(lambda level, _: level == "status") == b"offline"
    late = subscribe(broker.port)
    retained = {level for level, _, retained in (late.take() for _ in range(4)) if retained}
    assert retained == {"status", "state", "health", "config"}


def test_broker_that_is_killed_and_returns(
    broker: Broker, open_sink: OpenSink, subscribe: Subscribe, logged: Logged
) -> None:
    """Nothing is lost, the order is kept, the fault is named once and ends."""
    broker.start()
    subscriber = subscribe(broker.port)
    sink = open_sink(broker.port)
    for number in range(10):
        sink.publish(make_estimate(number))
    records = subscriber.wait_for_records(10)
    broker.kill()
    logged.wait_for_fault(broker.port)
    assert str(broker.port) in sink.fault
    for number in range(10, 300):
        sink.publish(make_estimate(number))
    broker.start()
    subscriber.wait_until_ready()
    sink.publish(make_estimate(300))
    logged.wait_for("is back")
    # What came before the subscriber was there again is the broker's to lose.
    while not records or records[-1]["index"] != 300:
        records.append(subscriber.wait_for_record())
    numbers = [record["index"] for record in records]
    assert numbers == sorted(numbers)
    sink.close()
    assert sink.fault == ""
    assert not any(sink.drops.values())


def test_broker_that_is_missing_at_the_start(
    broker: Broker, gate: Gate, open_sink: OpenSink, subscribe: Subscribe, logged: Logged
) -> None:
    """It is a fault, not an end; records wait, also over a restart of the program."""
    subscriber = subscribe(broker.port)
    sink = open_sink(gate.port)
    assert "refused" in logged.wait_for_fault(gate.port)
    assert str(gate.port) in sink.fault
    for number in range(50):
        sink.publish(make_estimate(number))
    sink.close()
    again = open_sink(gate.port)
    for number in range(50, 60):
        again.publish(make_estimate(number))
    gate.open()
    records = subscriber.wait_for_records(60)
    assert [record["index"] for record in records] == list(range(60))
    assert again.fault == ""


def test_network_that_is_cut(
    broker: Broker,
    gate: Gate,
    open_sink: OpenSink,
    subscribe: Subscribe,
    logged: Logged,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is a fault. Where the connection lasts everything arrives in order, and where it has to be
    made again, what comes twice has the same id."""
    monkeypatch.setattr(sink_module, "SILENCE_S", 0.05)
    subscriber = subscribe(broker.port)
    gate.open()
    sink = open_sink(gate.port)
    sink.publish(make_estimate(0))
    records = subscriber.wait_for_records(1)
    gate.cut()
    for number in range(1, 300):
        sink.publish(make_estimate(number))
    logged.wait_for("acknowledges nothing")
    gate.mend()
    records += subscriber.wait_for_records(299)
    assert [record["index"] for record in records] == list(range(300))
    gate.cut()
    for number in range(300, 400):
        sink.publish(make_estimate(number))
    gate.close()
    gate.open()
    while records[-1]["index"] != 399:
        records.append(subscriber.wait_for_record())
    by_id = {record["id"]: record["index"] for record in records}
    assert list(by_id.values()) == list(range(400))
    assert not any(sink.drops.values())


def test_stalled_broker(broker: Broker, open_sink: OpenSink, subscribe: Subscribe) -> None:
    """`publish` does not wait for it. When it goes on, everything arrives in order."""
    broker.start()
    subscriber = subscribe(broker.port)
    sink = open_sink(broker.port)
    sink.publish(make_estimate(0))
    records = subscriber.wait_for_records(1)
    broker.pause()
    for number in range(1, 500):
        sink.publish(make_estimate(number))
    broker.resume()
    records += subscriber.wait_for_records(499)
    assert [record["index"] for record in records] == list(range(500))
    assert not any(sink.drops.values())


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, "no answer"),
        (b"", "closed"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n" * 100, ""),
        (b"\x20\x03\x00\x84\x00", "unsupported protocol version"),
        (b"\x20\x03\x00\x00\x00\xff\xff\xff\xff\xff\xff", ""),
    ],
)
def test_server_that_is_no_broker(
    open_sink: OpenSink,
    logged: Logged,
    monkeypatch: pytest.MonkeyPatch,
    answer: bytes | None,
    said: str,
) -> None:
    """Whatever it sends is a fault, and is tried again."""
    monkeypatch.setattr(connection_module, "ANSWER_TIMEOUT_S", 0.05)
    monkeypatch.setattr(connection_module, "TICK_MS", 20)
    attempts: Queue[None] = Queue()

    def serve() -> None:
        with suppress(OSError):
            while True:
                client = clients.enter_context(server.accept()[0])
                attempts.put(None)
                client.recv(4096)
                if answer is not None:
                    client.sendall(answer)
                    client.shutdown(socket.SHUT_WR)

    with socket.create_server(("127.0.0.1", 0)) as server, ExitStack() as clients:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        port = server.getsockname()[1]
        sink = open_sink(port)
        assert said in logged.wait_for_fault(port)
        for _ in range(3):
            attempts.get(timeout=TIMEOUT_S)
        assert sink.failure is None
        sink.close()
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_estimates_that_come_too_fast_are_counted(
    broker: Broker, open_sink: OpenSink, logged: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue between the pipeline and the thread is bounded."""
    monkeypatch.setattr(sink_module, "MAX_PENDING", 0)
    sink = open_sink(broker.port)
    for number in range(7):
        sink.publish(make_estimate(number))
    assert sink.drops["mqtt_overflow"] == 7
    sink.close()
    assert "mqtt_overflow 7" in logged.wait_for("lost in this run")


def test_many_estimates_wake_the_thread(
    broker: Broker, open_sink: OpenSink, subscribe: Subscribe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replay makes more of them than can wait until the thread looks again."""
    monkeypatch.setattr(sink_module, "MAX_TICK_S", 3600.0)
    broker.start()
    subscriber = subscribe(broker.port)
    settings = config.Mqtt(device="kiosk-1", state_interval_s=3600, record_interval_s=3600)
    sink = open_sink(broker.port, settings)
    subscriber.wait_for(lambda level, _: level == "status")
    for number in range(sink_module.WAKE_AT):
        sink.publish(make_estimate(number))
    assert subscriber.wait_for(lambda level, _: level == "state")["index"] == 0


def test_full_spool(broker: Broker, gate: Gate, open_sink: OpenSink, subscribe: Subscribe) -> None:
    """The oldest records are dropped and counted; the newest arrive."""
    subscriber = subscribe(broker.port)
    settings = msgspec.structs.replace(EACH, spool_records=10)
    sink = open_sink(gate.port, settings)
    for number in range(100):
        sink.publish(make_estimate(number))
    sink.close()
    assert sink.drops["mqtt_full"] == 90
    open_sink(gate.port, settings)
    gate.open()
    records = subscriber.wait_for_records(10)
    assert [record["index"] for record in records] == list(range(90, 100))


SENDER = """
import sys
from pathlib import Path
from emotion_edge.runtime.sinks.mqtt import Address, MqttSink
sys.path.insert(0, sys.argv[1])
from emotion_edge.runtime import config
from emotion_edge.runtime.messages import Estimate

sink = MqttSink(
    Address("127.0.0.1", int(sys.argv[2]), False, "shop"),
    config.Mqtt(device="kiosk-1", records="estimates", record_interval_s=0.05),
    state_folder=Path(sys.argv[3]),
)
for number in range(400):
    probabilities = {"happy": 0.75, "sad": 0.25}
    sink.publish(
        Estimate(
            (number + 1) * 50_000_000, number, "happy", 0.75, probabilities, {}, None, None, False,
            0, 1.0, {}, "high",
        )
    )
while sink._pending or sink._spool._unsaved:
    pass
print("saved", flush=True)
sys.stdin.read()
"""


def test_killed_in_mid_send(
    broker: Broker, open_sink: OpenSink, subscribe: Subscribe, tmp_path: Path
) -> None:
    """After `kill -9` while records are in flight, none is missing, and those that come twice have
    the same id. The broker says that the device is gone."""
    broker.start()
    subscriber = subscribe(broker.port)
    watcher = subscribe(broker.port, "shop/kiosk-1/status")
    broker.pause()
    command = [sys.executable, "-c", SENDER, "", str(broker.port), str(tmp_path / "state")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"saved\n"
        broker.resume()
        records = subscriber.wait_for_records(50)
        process.send_signal(signal.SIGKILL)
    watcher.wait_for(lambda _, status: status == b"offline")
    sink = open_sink(broker.port)
    while len({record["id"] for record in records}) < 400:
        records.append(subscriber.wait_for_record())
    by_id = {record["id"]: record["index"] for record in records}
    assert sorted(by_id.values()) == list(range(400))
    assert list_numbers(records) == list(range(400))
    assert not any(sink.drops.values())


def test_record_that_the_broker_refuses(
    tmp_path: Path, open_sink: OpenSink, subscribe: Subscribe, logged: Logged
) -> None:
    """It is given up and counted; the next ones arrive."""
    broker = Broker(tmp_path / "small", {"plain": ""}, settings="message_size_limit 1000")
    broker.start()
    try:
        subscriber = subscribe(broker.port)
        sink = open_sink(broker.port, msgspec.structs.replace(EACH, state_interval_s=0))
        sink.publish(replace(make_estimate(0), level="x" * 1000))
        sink.publish(make_estimate(1))
        assert subscriber.wait_for_record()["index"] == 1
        logged.wait_for("refuses")
        assert sink.drops["mqtt_refused"] == 1
        subscriber.close()
    finally:
        broker.kill()


def test_summaries(broker: Broker, open_sink: OpenSink, subscribe: Subscribe) -> None:
    """One record for each interval, and one for the rest at the end."""
    broker.start()
    subscriber = subscribe(broker.port)
    settings = config.Mqtt(device="kiosk-1", record_interval_s=1, state_interval_s=0)
    sink = open_sink(broker.port, settings)
    for number in range(30):
        sink.publish(make_estimate(number))
    sink.close()
    first, rest = subscriber.wait_for_records(2)
    assert (first["kind"], first["estimates"], rest["estimates"]) == ("summary", 20, 10)
    assert first["labels"]["happy"] == 1.0
    assert first["labels"].keys() == FUSED.keys()


def count_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_nothing_stays_open(
    broker: Broker, open_sink: OpenSink, logged: Logged, no_thread_left: None
) -> None:
    """Neither a descriptor nor a thread, after many failed attempts."""
    before = count_descriptors()
    sink = open_sink(broker.port)
    for _ in range(3):
        logged.wait_for("refused")
    sink.close()
    assert count_descriptors() <= before
