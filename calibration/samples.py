"""The calibration samples: what the networks are shown to set their ranges, as plain arrays.

One `.npz` file holds the inputs of both networks just as the device's preprocessing makes them,
and the id of each; it needs neither the data sets nor torch to be read.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..engines.storage import atomic_write
from .errors import CalibrationError

INPUTS = {"face": ("image",), "voice": ("mel", "mask")}
"""The inputs of each network that is quantised."""
MAX_FILE_BYTES = 1 << 30
MIN_SAMPLES = 16
_DAMAGE = (
    ValueError,
    KeyError,
    EOFError,
    MemoryError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What NumPy and zipfile raise on a file that was spoilt."""

Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Samples:
    """Of one network: `inputs` by name, float32 (N, ...) each, and N `ids`."""

    ids: tuple[str, ...]
    inputs: Mapping[str, Float32]

    @property
    def sha256(self) -> str:
        """Of every id and number."""
        digest = hashlib.sha256("\n".join(self.ids).encode())
        for name in sorted(self.inputs):
            digest.update(np.ascontiguousarray(self.inputs[name]).tobytes())
        return digest.hexdigest()

    def batches(self, size: int, limit: int | None = None) -> list[dict[str, Float32]]:
        """In order, `size` at a time, of the first `limit` only."""
        count = min(len(self.ids), limit or len(self.ids))
        return [
            {name: values[i : min(i + size, count)] for name, values in self.inputs.items()}
            for i in range(0, count, size)
        ]

    def select(self, chosen: Collection[str]) -> Samples:
        """Only those whose id begins with one of `chosen`."""
        keep = [i for i, name in enumerate(self.ids) if name.startswith(tuple(chosen))]
        return Samples(
            tuple(self.ids[i] for i in keep),
            {name: values[keep] for name, values in self.inputs.items()},
        )


def check_samples(samples: Samples, network: str, origin: str) -> None:
    """Raise CalibrationError when nothing can be learned from them."""
    if len(samples.ids) < MIN_SAMPLES:
        raise CalibrationError(
            f"{origin}: {len(samples.ids)} {network} samples, at least {MIN_SAMPLES} wanted"
        )
    for name, values in samples.inputs.items():
        where = f"{origin}: {network} {name}"
        if values.dtype != np.float32 or values.shape[:1] != (len(samples.ids),):
            raise CalibrationError(
                f"{where} is {values.dtype}{list(values.shape)}, float32 with"
                f" {len(samples.ids)} rows wanted"
            )
        if not np.isfinite(values).all():
            raise CalibrationError(f"{where} holds values that are no numbers")
    first = INPUTS[network][0]
    values = samples.inputs[first]
    if (values == values[:1]).all():
        raise CalibrationError(f"{origin}: all {len(values)} {network} samples are alike")


def save_samples(file: Path, samples: Mapping[str, Samples]) -> None:
    """By network. The same samples give the same bytes. Raises CalibrationError."""
    arrays: dict[str, NDArray[np.generic]] = {}
    for network, one in samples.items():
        arrays[f"{network}.ids"] = np.array(one.ids, np.str_)
        for name, values in one.inputs.items():
            arrays[f"{network}.{name}"] = values
    content = io.BytesIO()
    try:
        np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(file, content.getvalue())
    except OSError as error:
        raise CalibrationError(f"{file}: cannot be written: {error.strerror}") from error


def load_samples(file: Path, networks: Sequence[str] = tuple(INPUTS)) -> dict[str, Samples]:
    """Raises CalibrationError when the file is not what `save_samples` wrote."""
    found: dict[str, Samples] = {}
    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            raise CalibrationError(f"{file}: larger than {MAX_FILE_BYTES} bytes")
        if not zipfile.is_zipfile(file) and file.is_file():
            raise CalibrationError(f"{file}: no calibration samples: no .npz file, or cut short")
        with np.load(file, allow_pickle=False) as arrays:
            for network in networks:
                ids = tuple(str(name) for name in np.atleast_1d(arrays[f"{network}.ids"]))
                inputs = {name: arrays[f"{network}.{name}"] for name in INPUTS[network]}
                found[network] = Samples(ids, inputs)
    except OSError as error:
        raise CalibrationError(f"{file}: cannot be read: {error.strerror or error}") from error
    except CalibrationError:
        raise
    except _DAMAGE as error:
        raise CalibrationError(
            f"{file}: no calibration samples: {' '.join(str(error).split())}"
        ) from error
    for network, one in found.items():
        check_samples(one, network, str(file))
    return found
