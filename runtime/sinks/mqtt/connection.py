"""One connection to the broker, from the attempt to its end.

In: messages. Out: the events `Connected`, `Acknowledged` and `Closed`. It speaks MQTT 5, whose
answers say why something is refused.
"""

from __future__ import annotations

import logging
import os
import select
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .access import Access
from .address import Address
from .messages import OFFLINE

if TYPE_CHECKING:
    from paho.mqtt.client import Client

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5.0
"""For the TCP connection to each address of the host, and for the TLS handshake."""
ANSWER_TIMEOUT_S = 10.0
"""For the broker's answer to the first message."""
KEEPALIVE_S = 30
"""A broker that has been silent for this long is asked; after the same time again it is gone."""
GOODBYE_TIMEOUT_S = 1.0
TICK_MS = 1000
LOST = "connection lost"
QUOTA_EXCEEDED = 0x97
MESSAGE_FAULTS = {0x81, 0x82, 0x90, 0x95, 0x99}
"""Reasons of an end that a single message caused: malformed packet, protocol error, topic name
invalid, packet too large, payload format invalid."""


@dataclass(frozen=True, slots=True)
class Message:
    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    id: str | None = None
    """Of a record, which the broker's answer is reported with."""


@dataclass(frozen=True, slots=True)
class Connected:
    receive_max: int
    max_bytes: int | None


@dataclass(frozen=True, slots=True)
class Acknowledged:
    id: str
    refused: str
    """Why the broker does not want it; "" if it has it."""


@dataclass(frozen=True, slots=True)
class Closed:
    reason: str
    """In a few words; "" for an end that was asked for."""
    refused: str = ""
    """The same, if the broker ended it because of a message."""


Event = Connected | Acknowledged | Closed
Notify = Callable[[Event], None]


class Mailbox:
    """Messages for the thread of the connection. Its owner bounds how many wait."""

    def __init__(self) -> None:
        self.outgoing: deque[Message] = deque()
        self.closing_s: float | None = None
        """When the end was asked for, by the monotonic clock."""
        self.is_congested = False
        """The broker does not take what it has been sent."""
        self.wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def send(self, message: Message) -> None:
        self.outgoing.append(message)
        os.eventfd_write(self.wake, 1)

    def end(self) -> None:
        """Ask for the end: what waits is sent before."""
        self.closing_s = time.monotonic()
        os.eventfd_write(self.wake, 1)

    def close(self) -> None:
        """Called by the thread, when nobody sends any more."""
        os.close(self.wake)

    def wait(self, seconds: float) -> None:
        """Wait for the time, or for the end."""
        until_s = time.monotonic() + seconds
        poll = select.poll()
        poll.register(self.wake, select.POLLIN)
        while self.closing_s is None and (rest_s := until_s - time.monotonic()) > 0:
            if poll.poll(rest_s * 1e3):
                os.eventfd_read(self.wake)


class Connection:
    """`run` is the body of a thread, from the attempt to `Closed`."""

    def __init__(
        self,
        address: Address,
        device: str,
        status_topic: str,
        access: Access,
        mailbox: Mailbox,
        notify: Notify,
    ) -> None:
        """`status_topic` gets the last will."""
        self._address = address
        self._device = device
        self._status_topic = status_topic
        self._access = access
        self._mailbox = mailbox
        self._notify = notify
        self._ids: dict[int, str] = {}
        self._reason = LOST
        self._refused = ""
        self.connected_s: float | None = None
        """When the broker let it in, by the monotonic clock."""

    def run(self) -> None:
        """Connect, send and receive until the end. Raises nothing."""
        try:
            client = make_client(self._device, self._access)
            client.on_connect = self._on_connect
            client.on_publish = self._on_publish
            client.on_disconnect = self._on_disconnect
            client.will_set(self._status_topic, OFFLINE, qos=1, retain=True)
            client.connect_timeout = CONNECT_TIMEOUT_S
            client.connect(self._address.host, self._address.port, KEEPALIVE_S)
            self._loop(client)
        except Exception as error:  # noqa: BLE001  the run goes on, whatever a broker sends
            self._reason = explain_error(error)
            log.debug("mqtt: %s: %s", type(error).__name__, self._reason)
        self._mailbox.is_congested = False
        asked_for = self._mailbox.closing_s is not None
        self._notify(Closed("" if asked_for else self._reason, self._refused))

    def _loop(self, client: Client) -> None:
        mailbox, wake = self._mailbox, self._mailbox.wake
        began_s = time.monotonic()
        said_goodbye = False
        while (sock := client.socket()) is not None:
            descriptor = sock.fileno()
            mailbox.is_congested = client.want_write()
            poll = select.poll()
            poll.register(descriptor, select.POLLIN | (select.POLLOUT * mailbox.is_congested))
            poll.register(wake, select.POLLIN)
            ready = dict(poll.poll(TICK_MS if not said_goodbye else TICK_MS / 10))
            if wake in ready:
                os.eventfd_read(wake)
            if self.connected_s is not None:
                self._publish(client)
            if mailbox.closing_s is not None:
                if time.monotonic() - mailbox.closing_s > GOODBYE_TIMEOUT_S:
                    return
                if not said_goodbye:
                    said_goodbye = True
                    client.disconnect()
            if client.socket() is not sock:
                return
            events = ready.get(descriptor, 0)
            if events & ~select.POLLOUT:
                client.loop_read()
                # TLS has decrypted more than was read.
                while client.socket() is sock and getattr(sock, "pending", int)():
                    client.loop_read()
            if events & select.POLLOUT:
                client.loop_write()
            client.loop_misc()
            if self.connected_s is None and time.monotonic() - began_s > ANSWER_TIMEOUT_S:
                self._reason = "no answer"
                return

    def _publish(self, client: Client) -> None:
        outgoing = self._mailbox.outgoing
        while outgoing:
            message = outgoing.popleft()
            info = client.publish(message.topic, message.payload, message.qos, message.retain)
            if message.id is not None:
                self._ids[info.mid] = message.id

    def _on_connect(self, _: Client, __: object, ___: object, code: Any, properties: Any) -> None:
        if code.is_failure:
            self._reason = str(code).lower()
            return
        self.connected_s = time.monotonic()
        self._mailbox.outgoing.clear()  # it was for the connection before
        receive_max = getattr(properties, "ReceiveMaximum", 65535)
        self._notify(Connected(receive_max, getattr(properties, "MaximumPacketSize", None)))

    def _on_publish(self, client: Client, _: object, mid: int, code: Any, __: object) -> None:
        id_ = self._ids.pop(mid, None)
        if id_ is None:
            return
        if code.value == QUOTA_EXCEEDED:  # it may have room again later
            self._reason = str(code).lower()
            client.disconnect()
            return
        self._notify(Acknowledged(id_, str(code).lower() if code.is_failure else ""))

    def _on_disconnect(self, _: Client, __: object, flags: Any, code: Any, ___: object) -> None:
        if self.connected_s is not None and code.value in MESSAGE_FAULTS:
            # Or our own side ended it, over an answer that MQTT does not know: Mosquitto 2.0 gives
            # one to a message over its message_size_limit.
            self._reason = self._refused = str(code).lower()
        elif flags.is_disconnect_packet_from_server:
            self._reason = str(code).lower()
        elif self.connected_s is None and self._reason == LOST:
            self._reason = "connection closed before an answer"


def make_client(device: str, access: Access) -> Client:
    """Return paho's client with certificates, user and password. Raises OSError and ValueError."""
    from paho.mqtt.client import Client
    from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

    client = Client(CallbackAPIVersion.VERSION2, device, protocol=MQTTProtocolVersion.MQTTv5)
    login = access.read_login()
    if login is not None:
        client.username_pw_set(*login)
    if access.tls:
        ca, cert, key = (
            None if file is None else str(file) for file in (access.ca, access.cert, access.key)
        )
        # With a password an encrypted key is an error, instead of a question on the terminal.
        client.tls_set(ca, cert, key, keyfile_password="")
    return client


def explain_error(error: Exception) -> str:
    """Describe a failed connection in a few words."""
    for name in ("verify_message", "strerror", "reason"):
        text = getattr(error, name, None)
        if isinstance(text, str) and text:
            return text.rstrip(".").replace("_", " ").lower()
    with suppress(Exception):
        return " ".join(str(error).split()).lower() or type(error).__name__
    return type(error).__name__
