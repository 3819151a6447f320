"""The calibration samples: the networks' input as arrays, read from and written to a `.npz` file.

The file holds the input of both networks, as the device's preprocessing makes it, and each sample's
id. Reading it needs neither the data sets nor torch.
"""

from __future__ import annotations

import hashlib
import io
import re
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
"""The inputs of each network that calibration quantizes."""
MAX_FILE_BYTES = 1 << 30
MIN_SAMPLES = 16
_CORRUPTION_ERRORS = (
    ValueError,
    KeyError,
    EOFError,
    MemoryError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
)
"""The errors that NumPy and zipfile raise for a corrupted file."""

Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Samples:
    """One network's samples: `inputs` by name, float32 (N, ...) each, and N `ids`."""

    ids: tuple[str, ...]
    inputs: Mapping[str, Float32]
    people: tuple[str, ...] = ()
    """Who each sample shows, "" where nobody knows; empty where nobody is known."""

    @property
    def sha256(self) -> str:
        """Hash of every id and number; `people` change nothing."""
        digest = hashlib.sha256("\n".join(self.ids).encode())
        for name in sorted(self.inputs):
            digest.update(np.ascontiguousarray(self.inputs[name]).tobytes())
        return digest.hexdigest()

    def batches(self, size: int, limit: int | None = None) -> list[dict[str, Float32]]:
        """Return the samples in batches of `size`, in order, up to `limit` samples."""
        count = min(len(self.ids), limit or len(self.ids))
        return [
            {name: values[i : min(i + size, count)] for name, values in self.inputs.items()}
            for i in range(0, count, size)
        ]

    def select(self, prefixes: Collection[str]) -> Samples:
        """Return the samples whose id starts with one of `prefixes`."""
        indices = [i for i, name in enumerate(self.ids) if name.startswith(tuple(prefixes))]
        return Samples(
            tuple(self.ids[i] for i in indices),
            {name: values[indices] for name, values in self.inputs.items()},
            tuple(self.people[i] for i in indices) if self.people else (),
        )


def name_person(sample_id: str) -> str:
    """Return the actor whom the sample of a list shows, as `training.data` names people; "" for
    faces of FER+ and for samples without a person."""
    match = re.match(r"ravdess/(\d+)/", sample_id)
    return f"ravdess:{match[1]}" if match else ""


def _read_texts(values: NDArray[np.generic]) -> tuple[str, ...]:
    return tuple(str(value) for value in np.atleast_1d(values))


def check_samples(samples: Samples, network: str, origin: str) -> None:
    """Raise CalibrationError for samples that cannot calibrate a network."""
    if len(samples.ids) < MIN_SAMPLES:
        raise CalibrationError(
            f"{origin}: {len(samples.ids)} {network} samples, {MIN_SAMPLES} are needed"
        )
    if samples.people and len(samples.people) != len(samples.ids):
        raise CalibrationError(
            f"{origin}: {len(samples.people)} people of {len(samples.ids)} {network} samples"
        )
    for name, values in samples.inputs.items():
        where = f"{origin}: {network} {name}"
        if values.dtype != np.float32 or values.shape[:1] != (len(samples.ids),):
            raise CalibrationError(
                f"{where} is {values.dtype}{list(values.shape)}, it must be float32 with"
                f" {len(samples.ids)} rows"
            )
        if not np.isfinite(values).all():
            raise CalibrationError(f"{where} holds values that are not finite")
    first = INPUTS[network][0]
    values = samples.inputs[first]
    if (values == values[:1]).all():
        raise CalibrationError(f"{origin}: all {len(values)} {network} samples are equal")


def save_samples(file: Path, samples: Mapping[str, Samples]) -> None:
    """Write samples by network. The same samples give the same bytes. Raises CalibrationError."""
    arrays: dict[str, NDArray[np.generic]] = {}
    for network, of_network in samples.items():
        arrays[f"{network}.ids"] = np.array(of_network.ids, np.str_)
        if any(of_network.people):
            arrays[f"{network}.people"] = np.array(of_network.people, np.str_)
        for name, values in of_network.inputs.items():
            arrays[f"{network}.{name}"] = values
    content = io.BytesIO()
    try:
        np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(file, content.getvalue())
    except OSError as error:
        raise CalibrationError(f"{file}: cannot be written: {error.strerror}") from error


def load_samples(file: Path, networks: Sequence[str] = tuple(INPUTS)) -> dict[str, Samples]:
    """Read and check samples by network. Raises CalibrationError for any other file."""
    samples: dict[str, Samples] = {}
    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            raise CalibrationError(f"{file}: is larger than {MAX_FILE_BYTES} bytes")
        if not zipfile.is_zipfile(file) and file.is_file():
            raise CalibrationError(f"{file}: not calibration samples: not a complete .npz file")
        with np.load(file, allow_pickle=False) as arrays:
            for network in networks:
                ids = _read_texts(arrays[f"{network}.ids"])
                inputs = {name: arrays[f"{network}.{name}"] for name in INPUTS[network]}
                people = f"{network}.people"
                named = _read_texts(arrays[people]) if people in arrays else ()
                samples[network] = Samples(ids, inputs, named or tuple(map(name_person, ids)))
    except OSError as error:
        raise CalibrationError(f"{file}: cannot be read: {error.strerror or error}") from error
    except CalibrationError:
        raise
    except _CORRUPTION_ERRORS as error:
        raise CalibrationError(
            f"{file}: not calibration samples: {' '.join(str(error).split())}"
        ) from error
    for network, of_network in samples.items():
        check_samples(of_network, network, str(file))
    return samples
