"""Home Assistant's MQTT discovery: one device with its sensors, in one retained message.

The format is that of https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload
(Home Assistant 2024.11 and newer).
"""

from __future__ import annotations

from typing import Any

from .messages import OFFLINE, ONLINE, encoder


def make_discovery(
    prefix: str, base: str, device: str, labels: tuple[str, ...], version: str
) -> tuple[str, bytes]:
    """Return topic and payload. `prefix` is Home Assistant's, `base` the device's own topic;
    `labels` are empty while they are not known."""
    sensors: dict[str, dict[str, Any]] = {
        "label": {
            "name": "Apparent emotion",
            "icon": "mdi:emoticon-outline",
            "state_topic": f"{base}/state",
            # "None" is unknown to Home Assistant: an abstention.
            "value_template": "{{ value_json.label }}",
            **({"device_class": "enum", "options": list(labels)} if labels else {}),
        },
        "confidence": {
            "name": "Confidence",
            "icon": "mdi:percent",
            "state_topic": f"{base}/state",
            "value_template": "{{ (value_json.confidence * 100) | round(0) }}",
            "unit_of_measurement": "%",
            "state_class": "measurement",
        },
        "faces": {
            "name": "Faces",
            "icon": "mdi:account-group",
            "state_topic": f"{base}/state",
            "value_template": "{{ value_json.faces }}",
            "state_class": "measurement",
        },
        "faults": {
            "name": "Faults",
            "icon": "mdi:alert-circle-outline",
            "state_topic": f"{base}/health",
            "value_template": "{{ value_json.faults | length }}",
            "json_attributes_topic": f"{base}/health",
            "entity_category": "diagnostic",
            "state_class": "measurement",
        },
    }
    payload = {
        "device": {"identifiers": [device], "name": device, "model": "emotion-edge"},
        "origin": {"name": "emotion-edge", "sw_version": version},
        "availability_topic": f"{base}/status",
        "payload_available": ONLINE.decode(),
        "payload_not_available": OFFLINE.decode(),
        "qos": 1,
        "components": {
            name: {"platform": "sensor", "unique_id": f"{device}_{name}", **sensor}
            for name, sensor in sensors.items()
        },
    }
    return f"{prefix}/device/{device}/config", encoder.encode(payload)
