"""The bytes of an estimate on a serial line: a line of JSON, or a binary frame.

**json**: one line of at most 200 bytes that ends with a line feed. Keys are only ever added:

    t_ms           capture time in milliseconds of CLOCK_MONOTONIC, from the system's start on
    label          one of LABELS, or null for an abstention
    confidence     0 to 1
    probabilities  of LABELS, in that order; [] without a face and a voice
    face, voice    weight of each modality in the result, 0 to 1; 0 for a missing one
    latency_ms     capture to result

**binary**: 32 bytes that end with a 0 byte, which occurs nowhere else in them. The others are 30
bytes, stuffed with COBS (Cheshire & Baker, "Consistent Overhead Byte Stuffing", IEEE/ACM
Transactions on Networking 7(2), 1999). Unstuffed, and little-endian:

    byte   size  field
    0      1     version of the format: 1. A reader skips frames of another one
    1      1     label: its index in LABELS from 0, or 255 for an abstention
    2      2     latency in tenths of a millisecond; 65535 for that and more
    4      4     capture time in milliseconds as above, from 0 again after 2^32 (49.7 days)
    8      2     confidence in ten-thousandths
    10     14    seven probabilities of 2 bytes in ten-thousandths, in the order of LABELS; all 0
                 without a face and a voice
    24     2     weight of the face in ten-thousandths
    26     2     weight of the voice in ten-thousandths
    28     2     CRC-16/CCITT-FALSE of bytes 0 to 27: polynomial 0x1021, start 0xFFFF, nothing
                 reflected or inverted (of "123456789" it is 0x29B1)

The first 28 bytes are laid out like a C struct of uint8_t, uint16_t and uint32_t. LABELS are angry,
disgust, fear, happy, sad, surprise, neutral. scripts/read_serial is a reader.
"""

from __future__ import annotations

import binascii
import math
import struct
from collections.abc import Callable, Mapping
from typing import Literal

import msgspec

from ...engines.bundles import LABELS
from ..messages import Estimate

Format = Literal["json", "binary"]

VERSION = 1
NO_LABEL = 255
FIELDS = struct.Struct(f"<BBHIH{len(LABELS)}H2H")
ENDS: Mapping[Format, bytes] = {"json": b"\n", "binary": b"\0"}
"""The end of each line or frame. Sent alone it ends one that was cut off."""


def encode_line(estimate: Estimate) -> bytes:
    """Return one line of JSON. A number that is not finite is null."""
    fields = {
        "t_ms": estimate.t_ns // 1_000_000,
        "label": estimate.label,
        # float(), because the encoder refuses NumPy's scalars.
        "confidence": round(float(estimate.confidence), 3),
        "probabilities": [round(p, 3) for p in _list_probabilities(estimate)],
        "face": round(float(estimate.modalities.get("face", 0.0)), 3),
        "voice": round(float(estimate.modalities.get("voice", 0.0)), 3),
        "latency_ms": round(float(estimate.latency_us) / 1e3, 1),
    }
    return msgspec.json.encode(fields) + ENDS["json"]


def encode_frame(estimate: Estimate) -> bytes:
    """Return one binary frame. A number that is not finite is 0."""
    fields = FIELDS.pack(
        VERSION,
        NO_LABEL if estimate.label is None else LABELS.index(estimate.label),
        _scale(estimate.latency_us, 0.01, 65535),
        estimate.t_ns // 1_000_000 % 2**32,
        _scale(estimate.confidence),
        *(_scale(p) for p in _list_probabilities(estimate) or [0.0] * len(LABELS)),
        _scale(estimate.modalities.get("face", 0.0)),
        _scale(estimate.modalities.get("voice", 0.0)),
    )
    crc = binascii.crc_hqx(fields, 0xFFFF)
    return stuff_bytes(fields + crc.to_bytes(2, "little")) + ENDS["binary"]


ENCODERS: Mapping[Format, Callable[[Estimate], bytes]] = {
    "json": encode_line,
    "binary": encode_frame,
}


def stuff_bytes(data: bytes) -> bytes:
    """Encode at most 253 bytes with COBS: each run up to a 0 byte begins with its length plus one,
    instead of ending with the 0."""
    return b"".join(bytes([len(run) + 1]) + run for run in data.split(b"\0"))


def _list_probabilities(estimate: Estimate) -> list[float]:
    if not estimate.probabilities:
        return []
    return [float(estimate.probabilities[label]) for label in LABELS]


def _scale(value: float, scale: float = 10_000, highest: int = 10_000) -> int:
    return min(max(round(value * scale), 0), highest) if math.isfinite(value) else 0
