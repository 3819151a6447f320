"""What a TensorRT engine is built of: one network of a bundle, the shapes it will see, the
precision; and the key that tells one engine from another."""

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
"""TensorRT's own choice of 0 to 5: higher ones try more and take longer to build."""
CONVERSION = Path(__file__).with_name("fp16.py")

Shapes = Mapping[str, tuple[int, ...]]
"""Of every input, for a batch of one."""


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """What is to be built, beside the network and its precision."""

    levels: tuple[str, ...] = ()
    """Quality levels whose face sizes are wanted; empty: all."""
    dla_core: int | None = None
    """A deep-learning accelerator of the board; what it cannot do runs on the GPU."""


@dataclass(frozen=True, slots=True)
class EnginePlan:
    """One engine to build."""

    bundle_name: str
    network: str
    precision: str
    file: Path
    profiles: tuple[Shapes, ...]
    dla_core: int | None

    @property
    def title(self) -> str:
        return f"{self.network} {self.precision}"


def plan_engine(bundle: Bundle, network: str, precision: str, options: BuildOptions) -> EnginePlan:
    """`network` is "face" or "voice", `precision` one that the bundle has for it."""
    manifest = bundle.manifest
    return EnginePlan(
        manifest.name,
        network,
        precision,
        bundle.model_path(network, precision),
        _list_profiles(manifest, network, options.levels),
        options.dla_core,
    )


def _list_profiles(manifest: Manifest, network: str, levels: tuple[str, ...]) -> tuple[Shapes, ...]:
    """One per face size, the largest first. The best level's is always among them: the golden
    input has it."""
    if network == "voice":
        mel = manifest.mel
        return ({"mel": (1, mel.num_mels, mel.num_frames), "mask": (1, mel.num_frames)},)
    sizes = {level.face_px for level in manifest.levels if not levels or level.name in levels}
    sizes.add(manifest.levels[0].face_px)
    return tuple({"image": (1, 3, size, size)} for size in sorted(sizes, reverse=True))


def read_model(plan: EnginePlan) -> bytes:
    """The ONNX that TensorRT is given. Raises EngineError."""
    return convert_model(_read(plan.file), plan.file, plan.precision)


def convert_model(model: bytes, file: Path, precision: str) -> bytes:
    """A network at `precision`: TensorRT computes each value in the type it has in the ONNX.

    What INT8 leaves over is done in 16 bits. Raises EngineError.
    """
    if precision == "fp32":
        return model
    from .fp16 import convert_to_fp16

    try:
        return convert_to_fp16(model)
    except EngineError as error:
        raise EngineError(f"{file}: {error}") from error


def list_key_parts(plan: EnginePlan, gpu: Gpu, tensorrt: str, l4t: str) -> dict[str, str]:
    """All that an engine depends on; `tensorrt` and `l4t` are versions. Raises EngineError.

    The ONNX counts as it lies in the bundle, and beside it the source of what makes 16 bits of
    it. So a start that finds its engine converts nothing and needs no package `onnx`.
    """
    is_converted = plan.precision != "fp32"
    profiles = [{name: list(shape) for name, shape in one.items()} for one in plan.profiles]
    return {
        "onnx": hashlib.sha256(_read(plan.file)).hexdigest(),
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
