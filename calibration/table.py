"""What calibration found, as a file: read once, written once, and the same bytes every time.

With it a network is quantised without asking the samples again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from ..engines.storage import atomic_write
from .errors import CalibrationError


class CalibrationKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the decisions follow from."""

    model: str
    """sha256 of the ONNX file."""
    samples: str
    """sha256 of the samples."""
    temperature: float
    """Of the network in its bundle."""
    method: str
    """As asked for."""
    min_agreement: float


class CalibrationTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The decisions about one network."""

    key: CalibrationKey
    used: str
    """The method whose ranges these are: another than asked for with "auto"."""
    ranges: dict[str, Annotated[float, msgspec.Meta(gt=0)]]
    """By tensor: quantised are -t..t."""
    ranking: dict[str, float]
    """Layers in the order they would be spared in, and the divergence when that layer alone is
    quantised, nats. Empty when none had to be."""
    spared: list[str]
    """Layers that stay at 16 or 32 bits."""
    agreement: float
    divergence: float
    """Of the whole, on the samples."""


def save_table(file: Path, table: CalibrationTable) -> None:
    """Raises CalibrationError."""
    text = msgspec.json.format(msgspec.json.encode(table), indent=1)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(file, text + b"\n")
    except OSError as error:
        raise CalibrationError(f"{file}: cannot be written: {error.strerror}") from error


def load_table(file: Path) -> CalibrationTable | None:
    """None when there is none. Raises CalibrationError when it is damaged."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=CalibrationTable)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CalibrationError(f"{file}: cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CalibrationError(f"{file}: is no calibration table: {error}; delete it") from error
