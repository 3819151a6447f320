"""Writes each estimate as one line of JSON, to a file or stdout. Keys are only ever added."""

from __future__ import annotations

import errno
import logging
import os
import select
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from ..faults import FaultLog
from ..messages import Estimate, FaceEstimate, SinkClosed

logger = logging.getLogger(__name__)

WRITE_TIMEOUT_MS = 2_000


class JsonlSink:
    """Writes each line immediately and never a part of one.

    It waits `write_timeout_ms` for a full pipe, once. From then on, and while a disk is full, it
    drops estimates instead of delaying the pipeline; `index` shows the gap.
    """

    def __init__(self, target: str | Path, write_timeout_ms: int = WRITE_TIMEOUT_MS) -> None:
        """`target` is a file, which is overwritten, or "-" for stdout. Raises OSError."""
        self._name = "stdout" if target == "-" else str(target)
        if target == "-":
            # Not through sys.stdout, whose buffer could fail at the interpreter's exit.
            sys.stdout.flush()
            self._file = os.dup(1)
        else:
            self._file = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        self._poll = select.poll()
        self._poll.register(self._file, select.POLLOUT)
        self._write_timeout_ms = write_timeout_ms
        self._buffer = b""
        """The unwritten rest of a line, which precedes the next one."""
        self._faults = FaultLog(logger, f"{self._name} can be written again")

    def publish(self, estimate: Estimate) -> None:
        """Write one line. Raises SinkClosed when the reader has closed the pipe."""
        if self._file < 0:
            return
        try:
            self._write_buffer()
            self._buffer = encode_estimate(estimate)
            self._write_buffer()
        except BrokenPipeError as error:
            self.close()
            raise SinkClosed(f"the reader of {self._name} has closed it") from error
        except OSError as error:
            fault = f"cannot write {self._name}: {error.strerror}; estimates are lost"
            self._faults.log_transition(fault, logging.ERROR)
            return
        self._faults.log_transition("", logging.INFO)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> JsonlSink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write_buffer(self) -> None:
        while self._buffer:
            if not self._poll.poll(0 if self._faults.fault else self._write_timeout_ms):
                raise TimeoutError(errno.ETIMEDOUT, "its reader is not reading")
            written = os.write(self._file, self._buffer)
            self._buffer = self._buffer[written:]


def encode_estimate(estimate: Estimate) -> bytes:
    """Return one line of JSON with its line feed: times in ms with 3 digits, probabilities with 6.

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
