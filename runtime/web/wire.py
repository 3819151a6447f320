"""The messages to a process that serves: a byte for the kind, then the body.

Each is one packet, so it arrives whole or not at all.
"""

from __future__ import annotations

import msgspec

SETTINGS = b"s"
"""The first one. A `Settings` as JSON."""
ESTIMATE = b"e"
"""A line of `jsonl:`."""
HEALTH = b"h"
"""The keys of `sink.list_health` as JSON."""
PICTURE = b"p"
"""A `Picture` as JSON."""
METRICS = b"m"
"""A `telemetry.snapshot.Snapshot` as MessagePack, which has infinities."""
MAX_BYTES = 1 << 20
"""No message is longer."""


class Settings(msgspec.Struct, frozen=True):
    """What a process serves, and how."""

    site: str
    """"page" or "metrics"."""
    address: str
    """The configured address."""
    max_clients: int = 1
    """Pages that are open at the same time."""
    picture: bool = False
    """The camera's image is sent."""
    budget_ms: float = 0.0


class Picture(msgspec.Struct, frozen=True):
    """A frame of the camera, scaled down."""

    jpeg: bytes
    """In JSON it is base64."""
    width: int
    """Of the whole frame, in pixels, which the boxes of faces count in."""
    height: int
    t_ns: int
    """Capture of the frame."""
    faces: msgspec.Raw
    """Faces of the estimate of that moment, as in its JSON."""
