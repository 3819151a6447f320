"""The plan of a TensorRT engine, and its cache key.

In: a network of a bundle, a precision and build options. Out: an `EnginePlan` with the input shapes
of every quality level, the ONNX for the builder, and the parts of the key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ..base import EngineError
from ..bundles import Bundle, Manifest
from .gpu import Gpu

OPTIMIZATION_LEVEL = 3
"""TensorRT's default of 0 to 5: higher levels try more and build longer."""
CONVERSION = Path(__file__).with_name("fp16.py")

Shapes = Mapping[str, tuple[int, ...]]
"""Shape of every input by name, for a batch of one."""


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """Options of a build beside the network and its precision."""

    levels: tuple[str, ...] = ()
    """Quality levels whose face sizes are built; empty: all."""
    dla_core: int | None = None
    """A deep-learning accelerator (DLA) of the board; unsupported layers run on the GPU."""


@dataclass(frozen=True, slots=True)
class EnginePlan:
    """One engine to build."""

    bundle_name: str
    network: str
    precision: str
    file: Path
    """For messages."""
    model: bytes
    """Its content, as it was verified."""
    profiles: tuple[Shapes, ...]
    max_rows: tuple[int, ...]
    """Largest batch at each profile: the most faces of a level of that size."""
    dla_core: int | None

    @property
    def title(self) -> str:
        return f"{self.network} {self.precision}"


def plan_engine(bundle: Bundle, network: str, precision: str, options: BuildOptions) -> EnginePlan:
    """Plan the engine of "face" or "voice" at a precision that the bundle has. Raises
    BundleError."""
    manifest = bundle.manifest
    profiles, max_rows = _list_profiles(manifest, network, options.levels)
    return EnginePlan(
        manifest.name,
        network,
        precision,
        bundle.model_path(network, precision),
        bundle.read_model(network, precision),
        profiles,
        max_rows,
        options.dla_core,
    )


def _list_profiles(
    manifest: Manifest, network: str, levels: tuple[str, ...]
) -> tuple[tuple[Shapes, ...], tuple[int, ...]]:
    """Return the shapes of each face size, the largest first, and its largest batch. The best
    level's size is always included, as the golden input has it."""
    if network == "voice":
        mel = manifest.mel
        return ({"mel": (1, mel.num_mels, mel.num_frames), "mask": (1, mel.num_frames)},), (1,)
    faces = {manifest.levels[0].face_px: manifest.levels[0].faces}
    for level in manifest.levels:
        if not levels or level.name in levels:
            faces[level.face_px] = max(level.faces, faces.get(level.face_px, 1))
    sizes = sorted(faces, reverse=True)
    profiles = tuple({"image": (1, 3, size, size)} for size in sizes)
    return profiles, tuple(faces[size] for size in sizes)


def read_model(plan: EnginePlan) -> bytes:
    """Return the ONNX for the builder. Raises EngineError."""
    return convert_model(plan.model, plan.file, plan.precision)


def convert_model(model: bytes, file: Path, precision: str) -> bytes:
    """Convert an FP32 or INT8 network to `precision`: TensorRT computes in the types of the ONNX.

    Layers that INT8 does not quantize become FP16. Raises EngineError.
    """
    if precision == "fp32":
        return model
    from .fp16 import convert_to_fp16

    try:
        return convert_to_fp16(model)
    except EngineError as error:
        raise EngineError(f"{file}: {error}") from error


def list_key_parts(plan: EnginePlan, gpu: Gpu, tensorrt: str, l4t: str) -> dict[str, str]:
    """Return everything that an engine depends on. `tensorrt` and `l4t` are versions. Raises
    EngineError.

    The key has the hashes of the bundle's ONNX and of the source that converts it to FP16. So a
    start with a cached engine converts nothing and needs no package `onnx`.
    """
    is_converted = plan.precision != "fp32"
    profiles = [
        {name: [rows, *shape] for name, shape in shapes.items()}
        for shapes, rows in zip(plan.profiles, plan.max_rows, strict=True)
    ]
    return {
        "onnx": hashlib.sha256(plan.model).hexdigest(),
        "conversion": hashlib.sha256(_read(CONVERSION)).hexdigest() if is_converted else "",
        "precision": plan.precision,
        "tensorrt": tensorrt,
        "l4t": l4t,
        "gpu": gpu.name,
        "num_sms": str(gpu.num_sms),
        "compute_capability": gpu.compute_capability,
        "optimization_level": str(OPTIMIZATION_LEVEL),
        "dla_core": "" if plan.dla_core is None else str(plan.dla_core),
        "profiles": msgspec.json.encode(profiles).decode(),
    }


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise EngineError(f"{file}: cannot be read: {error.strerror}") from error
