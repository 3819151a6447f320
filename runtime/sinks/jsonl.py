"""Makes each estimate one line of JSON. Keys are only ever added."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ..messages import Estimate, FaceEstimate, RunInfo
from .utc import TimeFinder

OWN_KEYS = {"t_ns", "index", "label", "probabilities"}


class JsonLines:
    """The encoder of `jsonl:FILE`."""

    def __init__(self, find_time: TimeFinder | None = None) -> None:
        """`find_time` returns the time of day of a `t_ns`, None if that is unknown; without it no
        line has one."""
        self._find_time = find_time

    def header(self, info: RunInfo) -> bytes:
        """Return nothing: each line has its own keys."""
        del info
        return b""

    def is_own(self, first_line: bytes) -> bool:
        """Return whether a file that begins with this line has lines of this kind."""
        return has_keys(first_line, OWN_KEYS)

    def encode(self, estimate: Estimate) -> bytes:
        """Return one line with its line feed."""
        if self._find_time is None:
            return encode_estimate(estimate)
        return encode_estimate(estimate, utc=self._find_time(estimate.t_ns))

    def finish(self) -> bytes:
        """Return nothing: every line is complete."""
        return b""


def has_keys(line: bytes, keys: set[str]) -> bool:
    """Return whether a line is a JSON object with these keys, or more."""
    try:
        fields = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return isinstance(fields, dict) and fields.keys() >= keys


def encode_estimate(estimate: Estimate, **more: Any) -> bytes:
    """Return one line of JSON with its line feed: times in ms with 3 digits, probabilities with 6.
    `more` are keys that come last.

    A number that is not finite is null: JSON has no other notation for it.
    """
    fields = {
        "t_ns": estimate.t_ns,
        "index": estimate.index,
        "label": estimate.label,
        "confidence": round(float(estimate.confidence), 6),
        "probabilities": _round_all(estimate.probabilities),
        "modalities": _round_all(estimate.modalities),
        "face": None if estimate.face is None else _round_all(estimate.face),
        "voice": None if estimate.voice is None else _round_all(estimate.voice),
        "abstained": estimate.abstained,
        "skew_ms": round(float(estimate.skew_ns) / 1e6, 3),
        "latency_ms": round(float(estimate.latency_us) / 1e3, 3),
        "stages_ms": _round_all(estimate.stages_us, scale=1e-3, digits=3),
        "level": estimate.level,
        "faces": [_list_fields(face) for face in estimate.faces],
        "voice_activity": round(float(estimate.voice_activity), 3),
        **more,
    }
    return msgspec.json.encode(fields) + b"\n"


def _list_fields(face: FaceEstimate) -> dict[str, Any]:
    return {
        "id": face.id,
        "box": [round(float(length), 1) for length in face.box],
        "score": round(float(face.score), 6),
        "label": face.label,
        "confidence": round(float(face.confidence), 6),
        "probabilities": _round_all(face.probabilities),
    }


def _round_all(
    values: Mapping[str, float], scale: float = 1.0, digits: int = 6
) -> dict[str, float]:
    # float(), because the encoder refuses NumPy's scalars.
    return {name: round(float(value) * scale, digits) for name, value in values.items()}
