"""The calibration table: the decisions about one network, read from and written to a JSON file.

With a table, a network is quantized without running it on the samples again. The same decisions
give the same bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from ..engines.storage import atomic_write
from .errors import CalibrationError


class CalibrationKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The inputs of calibration: equal keys give equal decisions."""

    model: str
    """sha256 of the ONNX file."""
    samples: str
    """sha256 of the samples."""
    temperature: float
    """The network's temperature in its bundle."""
    method: str
    """The requested method."""
    min_agreement: float


class CalibrationTable(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"excluded": "spared"}
):
    """The decisions about one network. In the file, `excluded` has its earlier name "spared"."""

    key: CalibrationKey
    used: str
    """The method of `ranges`. It differs from the requested one for "auto"."""
    ranges: dict[str, Annotated[float, msgspec.Meta(gt=0)]]
    """t of the range -t..t, by tensor."""
    ranking: dict[str, float]
    """Divergence in nats when a layer alone is quantized, in the order of exclusion. Empty when no
    layer had to be excluded."""
    excluded: list[str]
    """Layers that are kept in FP16."""
    agreement: float
    divergence: float
    """Of the whole network on the samples; so is `agreement`."""


def save_table(file: Path, table: CalibrationTable) -> None:
    """Write a table, atomically. Raises CalibrationError."""
    text = msgspec.json.format(msgspec.json.encode(table), indent=1)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(file, text + b"\n")
    except OSError as error:
        raise CalibrationError(f"{file}: cannot be written: {error.strerror}") from error


def load_table(file: Path) -> CalibrationTable | None:
    """Read a table; None without a file. Raises CalibrationError for a corrupted file."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=CalibrationTable)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CalibrationError(f"{file}: cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CalibrationError(f"{file}: not a calibration table: {error}; delete it") from error
