"""The sink: takes estimates and health, and has them sent.

`publish` only stores the estimate. A thread of the sink's own makes messages of them and keeps
records in the spool; another one has the connection (link.py). A broker that is missing, refuses or
stalls is a fault.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path

from ....engines.bundles import BundleError, find_state_folder
from ... import config
from ...messages import Estimate, Health
from ...service import HELPER_PRIORITY, realtime_priority, run_in_background
from .access import Access, make_access
from .address import Address, find_device
from .connection import Acknowledged, Closed, Connected, Message, make_client
from .delivery import Delivery
from .discovery import make_discovery
from .link import Link
from .messages import OFFLINE, ONLINE, Sampler, encode_health, encode_record
from .spool import Limits, Record, Spool

log = logging.getLogger(__name__)

MAX_PENDING = 1000
"""Estimates that wait for the sink's thread, half a minute of them."""
WAKE_AT = 100
"""With so many the thread is woken: a replay makes more estimates in a tick than can wait."""
MAX_TICK_S = 0.25
MIN_TICK_S = 0.02
SILENCE_S = 10.0
"""A broker that has not acknowledged a record for so long is a fault."""
CLOSE_TIMEOUT_S = 3.0
"""At the end: how long what waits may still be sent."""
LOCAL = ("localhost", "127.0.0.1", "::1")
DAY_NS = 86_400_000_000_000


class MqttSink:
    """Sends to one broker."""

    def __init__(
        self,
        address: Address,
        settings: config.Mqtt,
        *,
        realtime: bool = False,
        state_folder: Path | None = None,
    ) -> None:
        """`realtime`: the threads get real-time priority, since they hold the interpreter lock.
        Raises ValueError without paho-mqtt, and for settings or files that cannot be used."""
        check_paho()
        self.failure: Exception | None = None
        """The programming error that ended the thread."""
        self._settings = settings
        self._realtime = realtime
        self._device = find_device(settings.device)
        self._base = f"{address.topic}/{self._device}"
        access = make_access(settings, address.tls)
        check_access(self._device, access)
        if access.credentials is not None and not address.tls and address.host not in LOCAL:
            log.warning("mqtt %s: user and password go unencrypted; mqtts:// encrypts", address)
        self._version = importlib.metadata.version("emotion-edge")
        self._spool = Spool(
            find_spool(address, state_folder),
            Limits(settings.spool_records, round(settings.spool_days * DAY_NS)),
        )
        self._delivery = Delivery(self._spool)
        self._link = Link(address, self._device, f"{self._base}/status", access, realtime=realtime)
        self._sampler = Sampler(settings)
        self._run_id = f"{self._device}-{secrets.token_hex(4)}"
        self._num_records = 0
        self._pending: deque[tuple[int, Estimate]] = deque()
        self._overflowed = 0
        self._health: Health | None = None
        self._health_due_s = 0.0
        self._announced: tuple[str, ...] | None = None
        self._tick_s = choose_tick(settings)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)
        self._thread.start()

    @property
    def fault(self) -> str:
        """What is wrong with the broker or the spool, in one line; "" for nothing."""
        return "; ".join(filter(None, (self._link.fault, self._spool.fault)))

    @property
    def drops(self) -> Mapping[str, int]:
        """What was lost in this run, by cause."""
        causes = {
            "overflow": self._overflowed,
            "refused": self._delivery.refused,
            **{
                cause: self._spool.dropped[cause] for cause in ("full", "old", "unsaved", "damaged")
            },
        }
        return {f"mqtt_{cause}": count for cause, count in causes.items()}

    def publish(self, estimate: Estimate) -> None:
        """Store the estimate for the thread. Raises the error that ended it."""
        if self.failure is not None:
            raise self.failure
        if len(self._pending) < MAX_PENDING:
            self._pending.append((time.time_ns(), estimate))
            if len(self._pending) == WAKE_AT:
                self._link.wake()
        else:
            self._overflowed += 1

    def show_health(self, health: Health) -> None:
        """Store the newest health."""
        self._health = health

    def close(self) -> None:
        """Send what waits, for `CLOSE_TIMEOUT_S` at most; the rest stays in the spool."""
        if not self._stop.is_set():
            self._stop.set()
            self._link.wake()
            self._thread.join(2 * CLOSE_TIMEOUT_S)
            if self._thread.is_alive():
                log.warning("the thread of mqtt does not end")

    def __enter__(self) -> MqttSink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        with realtime_priority(self._realtime, HELPER_PRIORITY) as realtime:
            if not realtime:
                run_in_background()
            try:
                while not self._stop.is_set():
                    self._turn()
                self._finish()
            except Exception as error:  # noqa: BLE001  raised by `publish` and the monitor
                self.failure = error

    def _turn(self) -> None:
        """Do what is due, and wait for the next tick. Events are handled meanwhile."""
        end_s = time.monotonic() + self._tick_s
        self._collect()
        self._spool.flush()
        if self._link.is_connected:
            self._send_newest()
            self._send_records()
            self._link.note_fault("acknowledges nothing" if self._is_silent() else "")
        while (
            (rest_s := end_s - time.monotonic()) > 0
            and len(self._pending) < WAKE_AT
            and not self._stop.is_set()
        ):
            self._take_event(rest_s)

    def _finish(self) -> None:
        """Send the rest while there is a connection or an attempt goes on."""
        end_s = time.monotonic() + CLOSE_TIMEOUT_S
        self._collect()
        if record := self._sampler.finish():
            self._add_record(record)
        self._spool.flush()
        while (
            self._link.is_trying
            and (not self._link.is_connected or self._spool.stored)
            and (rest_s := end_s - time.monotonic()) > 0
        ):
            self._send_records()
            self._take_event(rest_s)
        self._send_newest()
        self._link.send(make_status(self._base, OFFLINE))
        self._link.close()
        self._spool.close()
        if lost := ", ".join(f"{name} {count}" for name, count in self.drops.items() if count):
            log.warning("lost in this run: %s", lost)

    def _take_event(self, timeout_s: float) -> None:
        event = self._link.take_event(timeout_s)
        if isinstance(event, Connected):
            self._delivery.begin(event.receive_max, event.max_bytes)
            self._link.send(make_status(self._base, ONLINE))
            self._announced = None
            self._health_due_s = 0.0
        elif isinstance(event, Acknowledged):
            self._delivery.acknowledge(event.id, event.refused)
            self._send_records()
        elif isinstance(event, Closed):
            self._delivery.end(event.refused)

    def _collect(self) -> None:
        while self._pending:
            time_ns, estimate = self._pending.popleft()
            if record := self._sampler.add(time_ns, estimate):
                self._add_record(record)

    def _add_record(self, record: dict[str, object]) -> None:
        self._num_records += 1
        id_ = f"{self._run_id}-{self._num_records}"
        self._spool.add(Record(id_, encode_record(id_, record)))

    def _send_newest(self) -> None:
        """Send what is not kept: state, health, discovery."""
        link, now_s = self._link, time.monotonic()
        if not link.is_connected or link.is_congested:
            return
        if self._settings.discovery and self._announced != self._sampler.labels:
            self._announced = self._sampler.labels
            topic, payload = make_discovery(
                self._settings.discovery, self._base, self._device, self._announced, self._version
            )
            link.send(Message(topic, payload, qos=1, retain=True))
        if (state := self._sampler.state) is not None:
            self._sampler.state = None
            link.send(Message(f"{self._base}/state", state, retain=True))
        if (health := self._health) is not None and now_s >= self._health_due_s:
            self._health_due_s = now_s + self._settings.health_interval_s
            payload = encode_health(time.time_ns(), health, self._spool.stored, self._version)
            link.send(Message(f"{self._base}/health", payload, retain=True))

    def _send_records(self) -> None:
        topic = f"{self._base}/records"
        self._delivery.fill(
            lambda record: self._link.send(Message(topic, record.payload, qos=1, id=record.id)),
            time.monotonic_ns(),
            overhead=len(topic) + 16,
        )

    def _is_silent(self) -> bool:
        """Whether the broker has not acknowledged a record for long."""
        sent_ns = self._delivery.find_oldest_ns()
        return sent_ns is not None and time.monotonic_ns() - sent_ns > SILENCE_S * 1e9


def make_status(base: str, status: bytes) -> Message:
    return Message(f"{base}/status", status, qos=1, retain=True)


def choose_tick(settings: config.Mqtt) -> float:
    """Return how often the thread looks for estimates: as seldom as the intervals allow, because
    it takes the interpreter lock from the results."""
    state_s = settings.state_interval_s or MAX_TICK_S
    return max(MIN_TICK_S, min(MAX_TICK_S, state_s, settings.record_interval_s))


def find_spool(address: Address, state_folder: Path | None) -> Path:
    """Return the file of a broker's spool. Raises ValueError without a home folder."""
    try:
        folder = state_folder or find_state_folder()
    except BundleError as error:
        raise ValueError(str(error)) from error
    digest = hashlib.sha256(str(address).encode()).hexdigest()[:8]
    return folder.absolute() / "mqtt" / f"{address.host.replace(':', '_')}-{digest}.sqlite"


def check_paho() -> None:
    """Raise ValueError when paho-mqtt is not installed, or too old."""
    try:
        from paho.mqtt.enums import MQTTProtocolVersion  # noqa: F401  2.0 and newer
    except ImportError as error:
        raise ValueError(
            'the output mqtt needs paho-mqtt 2: pip install "emotion-edge[mqtt]"'
        ) from error


def check_access(device: str, access: Access) -> None:
    """Raise ValueError for certificates that cannot be used."""
    try:
        make_client(device, access)
    except OSError as error:
        files = [str(file) for file in (access.ca, access.cert, access.key) if file is not None]
        reason = getattr(error, "reason", None) or error.strerror or str(error)
        raise ValueError(
            f"mqtt.ca_file, cert_file or key_file cannot be used ({', '.join(files)}): {reason}"
        ) from error
