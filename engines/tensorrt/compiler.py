"""TensorRT's builder: ONNX in, a serialized engine out.

In: an `EnginePlan`, its ONNX and a workspace. Out: the bytes of engine and timing cache, or an
EngineError with TensorRT's reason. Blocks for minutes; `Progress` is shared with another thread.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, SupportsInt, TypeVar

from ..base import EngineError
from .gpu import Gpu
from .loader import TensorRTDiagnostics, explain_failure, make_logger
from .plan import OPTIMIZATION_LEVEL, EnginePlan

if TYPE_CHECKING:
    import tensorrt as trt

log = logging.getLogger(__name__)

ResultT = TypeVar("ResultT")


@dataclass(slots=True)
class Progress:
    """Progress from the builder's thread, and the request to stop it."""

    text: str = "starting"
    is_cancelled: bool = False


def compile_engine(
    plan: EnginePlan,
    model: bytes,
    workspace: int,
    timing: bytes,
    version: str,
    gpu: Gpu,
    progress: Progress,
) -> tuple[bytes, bytes]:
    """Return the serialized engine and timing cache. Raises EngineError."""
    import tensorrt as trt

    diagnostics = TensorRTDiagnostics()
    logger = make_logger(diagnostics)

    def fail(what: str) -> EngineError:
        return explain_failure(
            f"{plan.title}: {what}", diagnostics, version, gpu.compute_capability
        )

    def require(result: ResultT | None, what: str) -> ResultT:
        if result is None:  # not `if not result`: a network without layers is false
            raise fail(f"no {what}")
        return result

    try:
        builder = trt.Builder(logger)
    except (TypeError, RuntimeError) as error:  # pybind11's error for a null pointer
        raise fail("no builder") from error
    # Strongly typed: every value has its type in the ONNX file, the only mode of TensorRT 11.
    # FP32 products are still TF32 where the GPU has it, TensorRT's default.
    flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = require(builder.create_network(flags), "network")
    config = require(builder.create_builder_config(), "configuration")
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model):
        errors = [parser.get_error(index).desc() for index in range(parser.num_errors)]
        text = "; ".join(" ".join(error.split()) for error in errors)
        raise EngineError(f"{plan.file}: TensorRT cannot read it: {text or diagnostics.explain()}")
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace)
    config.builder_optimization_level = OPTIMIZATION_LEVEL
    config.progress_monitor = _make_monitor(progress)
    _add_profiles(builder, network, config, plan)
    if plan.dla_core is not None:
        _use_dla(builder, config, plan)
    cache = _set_timing_cache(config, timing)
    serialized = require(builder.build_serialized_network(network, config), "engine")
    return _to_bytes(serialized), _to_bytes(cache.serialize()) if cache is not None else b""


def _add_profiles(
    builder: trt.Builder,
    network: trt.INetworkDefinition,
    config: trt.IBuilderConfig,
    plan: EnginePlan,
) -> None:
    """Add one optimization profile per size. The engine is tuned for a batch of one and takes all
    up to the largest."""
    import tensorrt as trt

    names = {network.get_input(index).name for index in range(network.num_inputs)}
    expected = set(plan.profiles[0])
    if names != expected:
        raise EngineError(
            f"{plan.file}: its inputs are {', '.join(sorted(names))},"
            f" not {', '.join(sorted(expected))}"
        )
    for shapes, max_rows in zip(plan.profiles, plan.max_rows, strict=True):
        profile = builder.create_optimization_profile()
        try:
            for name, shape in shapes.items():
                smallest = trt.Dims(list(shape))
                largest = trt.Dims([max_rows, *shape[1:]])
                profile.set_shape(name, smallest, smallest, largest)
            added = config.add_optimization_profile(profile)
        except (RuntimeError, ValueError) as error:
            raise EngineError(f"{plan.file}: {dict(shapes)} does not fit: {error}") from error
        if added < 0:
            raise EngineError(f"{plan.file}: {dict(shapes)} does not fit its inputs")


def _use_dla(builder: trt.Builder, config: trt.IBuilderConfig, plan: EnginePlan) -> None:
    import tensorrt as trt

    assert plan.dla_core is not None
    count = builder.num_DLA_cores
    if not 0 <= plan.dla_core < count:
        cores = f"cores 0 to {count - 1}" if count else "none"
        raise EngineError(
            f"{plan.title}: DLA core {plan.dla_core} requested, this board has {cores}"
        )
    if plan.precision == "int8":
        log.warning(
            "%s: the DLA may not support explicit INT8 quantization and leave all to the GPU",
            plan.title,
        )
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = plan.dla_core
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)


def _set_timing_cache(config: trt.IBuilderConfig, data: bytes) -> trt.ITimingCache | None:
    """Give the builder its earlier measurements, unless they are another device's."""
    cache = config.create_timing_cache(data)
    if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
        return cache
    if data:
        log.warning("the timing cache is of another GPU or TensorRT, the builder measures again")
        return _set_timing_cache(config, b"")
    return None


def _make_monitor(progress: Progress) -> trt.IProgressMonitor:
    """Record the newest step of the outermost running phase."""
    import tensorrt as trt

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._num_steps: dict[str, int] = {}

        def phase_start(
            self,
            phase_name: str,
            parent_phase: str | None,  # noqa: ARG002 - TensorRT's signature
            num_steps: SupportsInt,
        ) -> None:
            self._num_steps[phase_name] = int(num_steps)

        def step_complete(self, phase_name: str, step: SupportsInt) -> bool:
            if phase_name == next(iter(self._num_steps), phase_name):
                steps = f"step {int(step) + 1} of {self._num_steps.get(phase_name, 0)}"
                progress.text = f"{phase_name}, {steps}"
            return not progress.is_cancelled

        def phase_finish(self, phase_name: str) -> None:
            self._num_steps.pop(phase_name, None)

    return Monitor()


def _to_bytes(memory: Any) -> bytes:
    """Copy an IHostMemory; its published types lack the buffer protocol."""
    return bytes(memory)
