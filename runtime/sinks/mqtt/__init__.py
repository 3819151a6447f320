"""The way to more devices than one: estimates, summaries and health to an MQTT broker.

In: estimates and health. Out: messages (messages.py), kept in a file until the broker has them
(spool.py, delivery.py), over a connection with a thread of its own (link.py, connection.py);
sensors for Home Assistant (discovery.py). The sink itself is in sink.py.
"""

from .address import Address, parse_address
from .sink import MqttSink

__all__ = ["Address", "MqttSink", "parse_address"]
