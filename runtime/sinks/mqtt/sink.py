"""The sink: takes estimates and health, and has them sent.

`publish` only stores the estimate. A thread of the sink's own makes messages of them and keeps
records in the spool; another one has the connection. A broker that is missing, refuses or stalls
is a fault, which is tried again after 1 s, then 2, 4 … 60.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
import queue
import random
import secrets
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path

from ....engines.bundles import BundleError, find_state_folder
from ... import config
from ...faults import FaultLog
from ...messages import Estimate, Health
from ...service import HELPER_PRIORITY, realtime_priority, run_in_background
from .access import Access, make_access
from .address import Address, find_device
from .connection import Acknowledged, Closed, Connected, Connection, Event, Message, make_client
from .delivery import Delivery
from .discovery import make_discovery
from .messages import OFFLINE, ONLINE, Sampler, encode_health, encode_record
from .spool import Limits, Record, Spool

log = logging.getLogger(__name__)

MAX_PENDING = 1000
"""Estimates that wait for the sink's thread, half a minute of them."""
MAX_TICK_S = 0.25
MIN_TICK_S = 0.02
FIRST_DELAY_S = 1.0
MAX_DELAY_S = 60.0
SETTLE_S = 10.0
"""A connection that lasts for so long makes the next delay the first one again."""
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
        self._address = address
        self._settings = settings
        self._realtime = realtime
        self._device = find_device(settings.device)
        self._base = f"{address.topic}/{self._device}"
        self._access = make_access(settings, address.tls)
        check_access(self._device, self._access)
        if self._access.credentials is not None and not address.tls and address.host not in LOCAL:
            log.warning("mqtt %s: user and password go unencrypted; mqtts:// encrypts", address)
        self._version = importlib.metadata.version("emotion-edge")
        self._spool = Spool(
            find_spool(address, state_folder),
            Limits(settings.spool_records, round(settings.spool_days * DAY_NS)),
        )
        self._delivery = Delivery(self._spool)
        self._sampler = Sampler(settings)
        self._run_id = f"{self._device}-{secrets.token_hex(4)}"
        self._num_records = 0
        self._faults = FaultLog(log, f"mqtt {address} is back")
        self._pending: deque[tuple[int, Estimate]] = deque()
        self._overflowed = 0
        self._health: Health | None = None
        self._health_due_s = 0.0
        self._announced: tuple[str, ...] | None = None
        self._events: queue.SimpleQueue[tuple[Connection | None, Event | None]] = (
            queue.SimpleQueue()
        )
        self._connection: Connection | None = None
        self._connected_s: float | None = None
        self._retry_s = 0.0
        self._delay_s = FIRST_DELAY_S
        self._tick_s = choose_tick(settings)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)
        self._thread.start()

    @property
    def fault(self) -> str:
        """What is wrong with the broker or the spool, in one line; "" for nothing."""
        return "; ".join(filter(None, (self._faults.fault, self._spool.fault)))

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
        else:
            self._overflowed += 1

    def show_health(self, health: Health) -> None:
        """Store the newest health."""
        self._health = health

    def close(self) -> None:
        """Send what waits, for `CLOSE_TIMEOUT_S` at most; the rest stays in the spool."""
        if not self._stop.is_set():
            self._stop.set()
            self._events.put((None, None))
            self._thread.join(2 * CLOSE_TIMEOUT_S)
            if self._thread.is_alive():
                log.warning("mqtt %s: its thread does not end", self._address)

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
        """Do what is due, and wait for an event or the next tick."""
        now_s = time.monotonic()
        if self._connection is None and now_s >= self._retry_s:
            self._connect()
        self._collect()
        self._spool.flush()
        if self._connected_s is not None:
            self._send_newest(now_s)
            self._send_records()
            self._watch()
        end_s = now_s + self._tick_s
        while (rest_s := end_s - time.monotonic()) > 0 and not self._stop.is_set():
            self._take_event(rest_s)

    def _finish(self) -> None:
        """Send the rest while there is a connection or the first attempt goes on."""
        end_s = time.monotonic() + CLOSE_TIMEOUT_S
        self._collect()
        if record := self._sampler.finish():
            self._add_record(record)
        self._spool.flush()
        if self._connected_s is not None:
            self._send_newest(time.monotonic())
        while (
            self._connection is not None
            and (self._connected_s is None or self._spool.stored)
            and (rest_s := end_s - time.monotonic()) > 0
        ):
            if self._connected_s is not None:
                self._send_records()
            self._take_event(rest_s)
        if (connection := self._connection) is not None:
            if self._connected_s is not None:
                self._send_newest(time.monotonic())
                connection.send(make_status(self._base, OFFLINE))
            connection.close()
        self._spool.close()

    def _connect(self) -> None:
        self._connection = Connection(
            self._address,
            self._device,
            f"{self._base}/status",
            self._access,
            lambda connection, event: self._events.put((connection, event)),
            realtime=self._realtime,
        )

    def _take_event(self, timeout_s: float) -> None:
        try:
            connection, event = self._events.get(timeout=timeout_s)
        except queue.Empty:
            return
        if connection is not self._connection or connection is None:
            return
        now_s = time.monotonic()
        if isinstance(event, Connected):
            self._connected_s = now_s
            log.info("mqtt %s: connected as %s", self._address, self._device)
            self._faults.log_transition("")
            self._delivery.begin(event.receive_max, event.max_bytes)
            connection.send(make_status(self._base, ONLINE))
            self._announced = None
            self._health_due_s = 0.0
        elif isinstance(event, Acknowledged):
            self._delivery.acknowledge(event.id, event.refused)
            self._send_records()
        elif isinstance(event, Closed):
            self._note_end(event, now_s)

    def _note_end(self, event: Closed, now_s: float) -> None:
        if self._connected_s is not None and now_s - self._connected_s >= SETTLE_S:
            self._delay_s = FIRST_DELAY_S
        # Thousands of devices do not come back in the same moment.
        self._retry_s = now_s + self._delay_s * random.uniform(0.5, 1.0)
        self._delay_s = min(2 * self._delay_s, MAX_DELAY_S)
        self._connection = self._connected_s = None
        self._delivery.end(event.refused)
        self._faults.log_transition(f"mqtt {self._address}: {event.reason}")

    def _collect(self) -> None:
        while self._pending:
            time_ns, estimate = self._pending.popleft()
            if record := self._sampler.add(time_ns, estimate):
                self._add_record(record)

    def _add_record(self, record: dict[str, object]) -> None:
        self._num_records += 1
        id_ = f"{self._run_id}-{self._num_records}"
        self._spool.add(Record(id_, encode_record(id_, record)))

    def _send_newest(self, now_s: float) -> None:
        """Send what is not kept: state, health, discovery."""
        connection = self._connection
        assert connection is not None
        if self._settings.discovery and self._announced != self._sampler.labels:
            self._announced = self._sampler.labels
            topic, payload = make_discovery(
                self._settings.discovery, self._base, self._device, self._announced, self._version
            )
            connection.send(Message(topic, payload, qos=1, retain=True))
        if connection.is_congested:
            return
        if (state := self._sampler.state) is not None:
            self._sampler.state = None
            connection.send(Message(f"{self._base}/state", state, retain=True))
        if (health := self._health) is not None and now_s >= self._health_due_s:
            self._health_due_s = now_s + self._settings.health_interval_s
            stored = self._spool.stored
            payload = encode_health(time.time_ns(), health, stored, self._version)
            connection.send(Message(f"{self._base}/health", payload, retain=True))

    def _send_records(self) -> None:
        connection = self._connection
        if connection is None or self._connected_s is None:
            return
        topic = f"{self._base}/records"
        self._delivery.fill(
            lambda record: connection.send(Message(topic, record.payload, qos=1, id=record.id)),
            time.monotonic_ns(),
            overhead=len(topic) + 16,
        )

    def _watch(self) -> None:
        sent_ns = self._delivery.find_oldest_ns()
        silent = sent_ns is not None and time.monotonic_ns() - sent_ns > SILENCE_S * 1e9
        fault = f"mqtt {self._address}: acknowledges nothing" if silent else ""
        self._faults.log_transition(fault)


def make_status(base: str, status: bytes) -> Message:
    return Message(f"{base}/status", status, qos=1, retain=True)


def choose_tick(settings: config.Mqtt) -> float:
    """Return how often the thread looks for estimates: often enough for the shortest interval."""
    intervals_s = [settings.record_interval_s, settings.state_interval_s or MAX_TICK_S]
    return max(MIN_TICK_S, min(MAX_TICK_S, *(interval_s / 4 for interval_s in intervals_s)))


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
