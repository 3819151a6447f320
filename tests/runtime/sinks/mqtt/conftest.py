"""Brokers, sinks and subscribers that end with their test."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from queue import Queue

import pytest

from emotion_edge.runtime import config
from emotion_edge.runtime.messages import Estimate
from emotion_edge.runtime.sinks.mqtt import Address, MqttSink, link

from ..estimates import ESTIMATE
from .broker import TIMEOUT_S, Broker, Gate, Subscriber

STEP_NS = 50_000_000
EACH = config.Mqtt(device="kiosk-1", records="estimates", record_interval_s=0.05)
"""Each estimate of `make_estimate` is a record."""


def make_estimate(number: int) -> Estimate:
    return replace(ESTIMATE, t_ns=(number + 1) * STEP_NS, index=number)


@pytest.fixture(autouse=True)
def _fast_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "FIRST_DELAY_S", 0.02)
    monkeypatch.setattr(link, "MAX_DELAY_S", 0.1)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker that is not started yet."""
    broker = Broker(tmp_path / "broker", {"plain": ""})
    yield broker
    broker.kill()


@pytest.fixture
def gate(broker: Broker) -> Iterator[Gate]:
    """A closed gate in front of the broker, which runs."""
    broker.start()
    gate = Gate(broker.port)
    yield gate
    gate.close()


@pytest.fixture
def subscribe() -> Iterator[Callable[..., Subscriber]]:
    subscribers: list[Subscriber] = []

    def make(port: int, topic: str = "#") -> Subscriber:
        subscribers.append(Subscriber(port, topic))
        return subscribers[-1]

    yield make
    for subscriber in subscribers:
        subscriber.close()


@pytest.fixture
def open_sink(tmp_path: Path) -> Iterator[Callable[..., MqttSink]]:
    """A function (port, settings, tls) -> an open sink."""
    sinks: list[MqttSink] = []

    def make(port: int, settings: config.Mqtt = EACH, tls: bool = False) -> MqttSink:
        address = Address("127.0.0.1", port, tls, "shop")
        sinks.append(MqttSink(address, settings, state_folder=tmp_path / "state"))
        return sinks[-1]

    yield make
    for sink in sinks:
        sink.close()
        assert sink.failure is None


class Logged(logging.Handler):
    """The messages of a logger, to wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: Queue[str] = Queue()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.put(record.getMessage())

    def wait_for(self, text: str, but: str = "never said") -> str:
        while True:
            line = self.lines.get(timeout=TIMEOUT_S)
            if text in line and but not in line:
                return line

    def wait_for_fault(self, port: int) -> str:
        """Wait for the fault of the broker on `port`."""
        return self.wait_for(f":{port}/", but="connected")


@pytest.fixture
def logged() -> Iterator[Logged]:
    """What the sinks for brokers log."""
    handler, logger = Logged(), logging.getLogger("emotion_edge.runtime.sinks.mqtt")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)
