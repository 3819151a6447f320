"""The bytes of an estimate on a serial line: a line of JSON, or a binary frame.

**json**: one line that ends with a line feed. Keys are only ever added:

    t_ms           capture time in milliseconds of CLOCK_MONOTONIC, from the system's start on
    label          one of the labels, or null for an abstention
    confidence     0 to 1
    probabilities  of the labels, in their order; [] without a face and a voice
    face, voice    weight of each modality in the result, 0 to 1; 0 for a missing one
    latency_ms     capture to result

**binary**: a frame that ends with a 0 byte, which occurs nowhere else in it. The others are stuffed
with COBS (Cheshire & Baker, "Consistent Overhead Byte Stuffing", IEEE/ACM Transactions on
Networking 7(2), 1999). Unstuffed, and little-endian:

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
disgust, fear, happy, sad, surprise, neutral: those of the bundle that ships. A line is then at most
200 bytes long, a frame 32.

**Other labels**, 2 to 32 names of at most 32 characters (128 bytes of UTF-8): their names come
before the first estimate and again every few seconds, for readers that join late. In JSON they are
a line of their own, {"labels": [...]}, of at most 4300 bytes; the line of an estimate has at most
600. In binary they are a frame for each name, and every frame is of version 2 and at most 138 bytes
long. Its last two bytes unstuffed are the CRC of all before. A name:

    byte   size  field
    0      1     version of the format: 2
    1      1     kind: 1, a name
    2      2     the table that it belongs to: the CRC of all names, each followed by a 0 byte
    4      1     number of labels
    5      1     index of this label from 0
    6      1-128 its name in UTF-8

An estimate, whose names are those of the same table:

    0      1     version of the format: 2
    1      1     kind: 0, an estimate
    2      2     table
    4      1     number of labels, N
    5      1     label: its index from 0, or 255 for an abstention
    6      2     latency, as above
    8      4     capture time, as above
    12     2     confidence in ten-thousandths
    14     2     weight of the face in ten-thousandths
    16     2     weight of the voice in ten-thousandths
    18     2 N   probabilities in ten-thousandths

scripts/read_serial is a reader of all of them.
"""

from __future__ import annotations

import binascii
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import msgspec

from ...engines.bundles import LABELS
from ..messages import Estimate

Format = Literal["json", "binary"]

NO_LABEL = 255
FIELDS = struct.Struct(f"<BBHIH{len(LABELS)}H2H")
OTHER_FIELDS, NAME_FIELDS = struct.Struct("<BBHBBHI3H"), struct.Struct("<BBHBB")
ESTIMATE_KIND, NAME_KIND = 0, 1
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
    labels = estimate.labels
    label = NO_LABEL if estimate.label is None else labels.index(estimate.label)
    latency = _scale(estimate.latency_us, 0.01, 65535)
    t_ms = estimate.t_ns // 1_000_000 % 2**32
    confidence = _scale(estimate.confidence)
    weights = [_scale(estimate.modalities.get(name, 0.0)) for name in ("face", "voice")]
    shares = [_scale(p) for p in _list_probabilities(estimate) or [0.0] * len(labels)]
    if labels == LABELS:
        return _finish(FIELDS.pack(1, label, latency, t_ms, confidence, *shares, *weights))
    fields = OTHER_FIELDS.pack(
        2,
        ESTIMATE_KIND,
        name_table(labels),
        len(labels),
        label,
        latency,
        t_ms,
        confidence,
        *weights,
    )
    return _finish(fields + struct.pack(f"<{len(labels)}H", *shares))


def encode_names_line(labels: Sequence[str]) -> bytes:
    """Return the line with the names of the labels."""
    return msgspec.json.encode({"labels": labels}) + ENDS["json"]


def encode_name_frames(labels: Sequence[str]) -> bytes:
    """Return the frames with the names of the labels."""
    table, count = name_table(labels), len(labels)
    return b"".join(
        _finish(NAME_FIELDS.pack(2, NAME_KIND, table, count, index) + name.encode())
        for index, name in enumerate(labels)
    )


ENCODERS: Mapping[Format, Callable[[Estimate], bytes]] = {
    "json": encode_line,
    "binary": encode_frame,
}
NAME_ENCODERS: Mapping[Format, Callable[[Sequence[str]], bytes]] = {
    "json": encode_names_line,
    "binary": encode_name_frames,
}
"""Of labels other than `LABELS`, which are not sent."""


def name_table(labels: Sequence[str]) -> int:
    """Return the number that tells a set of labels from others."""
    return binascii.crc_hqx(b"".join(name.encode() + b"\0" for name in labels), 0xFFFF)


def stuff_bytes(data: bytes) -> bytes:
    """Encode at most 253 bytes with COBS: each run up to a 0 byte begins with its length plus one,
    instead of ending with the 0."""
    return b"".join(bytes([len(run) + 1]) + run for run in data.split(b"\0"))


def _finish(fields: bytes) -> bytes:
    crc = binascii.crc_hqx(fields, 0xFFFF)
    return stuff_bytes(fields + crc.to_bytes(2, "little")) + ENDS["binary"]


def _list_probabilities(estimate: Estimate) -> list[float]:
    if not estimate.probabilities:
        return []
    return [float(estimate.probabilities[label]) for label in estimate.labels]


def _scale(value: float, scale: float = 10_000, highest: int = 10_000) -> int:
    return min(max(round(value * scale), 0), highest) if math.isfinite(value) else 0
