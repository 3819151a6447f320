"""ONNX to a TensorRT engine, on the device that will run it.

In: an `EnginePlan`. Out: the serialised engine, from the cache where it is there, or an EngineError
with TensorRT's own words. A build takes minutes on a small board: it tells `report` every few
seconds how far it is, and can be interrupted. What it writes, `engine_cache` writes in one step.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsInt, TypeVar

from ..base import EngineError, Report
from .cache import EngineCache, hash_key
from .gpu import Gpu, choose_workspace, read_free_bytes, read_free_memory, read_l4t_release
from .loader import TensorRTDiagnostics, explain_failure, make_logger
from .plan import OPTIMIZATION_LEVEL, EnginePlan, list_key_parts, read_model

if TYPE_CHECKING:
    import tensorrt as trt

log = logging.getLogger(__name__)

ResultT = TypeVar("ResultT")
MAX_NAME = 60
"""Characters of a bundle's name that the name of a file begins with."""
REPORT_EVERY_S = 5.0
CANCEL_WAIT_S = 20.0
"""How long an interrupted build is given to stop: TensorRT asks between two steps."""


@dataclass(frozen=True, slots=True)
class BuiltEngine:
    """A serialised engine and where it came from."""

    data: bytes
    file: Path | None
    """None where it could not be stored."""
    seconds: float
    """How long the build took; 0 from the cache."""


@dataclass(slots=True)
class _Progress:
    """What the builder's thread says and hears."""

    text: str = "starting"
    is_cancelled: bool = False


def find_cached_engine(
    plan: EnginePlan, gpu: Gpu, version: str, cache: EngineCache
) -> BuiltEngine | None:
    """The engine from the cache, None where it has to be built. Raises EngineError."""
    prefix, key = _name_engine(plan, list_key_parts(plan, gpu, version, read_l4t_release()))
    data = cache.load(prefix, key)
    return None if data is None else BuiltEngine(data, cache.find_file(prefix, key), 0.0)


def load_or_build_engine(
    plan: EnginePlan,
    gpu: Gpu,
    version: str,
    cache: EngineCache,
    report: Report,
    force: bool = False,
) -> BuiltEngine:
    """The engine from the cache, else built and stored. `force` builds in any case.

    `version` is TensorRT's. Raises EngineError.
    """
    parts = list_key_parts(plan, gpu, version, read_l4t_release())
    prefix, key = _name_engine(plan, parts)
    file = cache.find_file(prefix, key)
    if not force and (data := cache.load(prefix, key)) is not None:
        return BuiltEngine(data, file, 0.0)
    with cache.lock(report):
        # Whoever held the lock until now may have built the very same.
        if not force and (data := cache.load(prefix, key)) is not None:
            return BuiltEngine(data, file, 0.0)
        began = time.monotonic()
        workspace = choose_workspace(read_free_memory(), read_free_bytes(gpu))
        device = {name: parts[name] for name in ("tensorrt", "gpu", "num_sms", "l4t")}
        timing_name = f"timing-{hash_key(device)[:16]}.cache"
        model = read_model(plan)
        log.info("building %s with %d MB of workspace", plan.title, workspace >> 20)
        data, timing = _build_in_thread(
            plan, model, workspace, cache.load_timing(timing_name), version, gpu, report
        )
        seconds = time.monotonic() - began
        stored = cache.store(prefix, key, parts, data)
        if timing:
            cache.store_timing(timing_name, timing)
    log.info("built %s in %.0f s, %d bytes", plan.title, seconds, len(data))
    return BuiltEngine(data, stored, seconds)


def _name_engine(plan: EnginePlan, parts: Mapping[str, str]) -> tuple[str, str]:
    """(prefix, key) of its file in the cache."""
    prefix = f"{plan.bundle_name[:MAX_NAME]}-{plan.network}-{plan.precision}"
    return prefix, hash_key(parts)


def _build_in_thread(
    plan: EnginePlan,
    model: bytes,
    workspace: int,
    timing: bytes,
    version: str,
    gpu: Gpu,
    report: Report,
) -> tuple[bytes, bytes]:
    """Run the builder beside this thread, which so can report and be interrupted meanwhile.

    TensorRT lets go of Python's lock while it builds, and finds the primary context by itself.
    """
    progress = _Progress()
    results: list[tuple[bytes, bytes]] = []
    failures: list[EngineError] = []

    def work() -> None:
        try:
            results.append(_build(plan, model, workspace, timing, version, gpu, progress))
        except EngineError as error:
            failures.append(error)
        except Exception as error:  # noqa: BLE001 - pybind11 raises many kinds, without a base
            failures.append(EngineError(f"{plan.title}: TensorRT failed: {error}"))

    report(f"building {plan.title}")
    worker = threading.Thread(target=work, name="tensorrt-build", daemon=True)
    began = time.monotonic()
    worker.start()
    try:
        while worker.is_alive():
            worker.join(REPORT_EVERY_S)
            if worker.is_alive():
                elapsed = time.monotonic() - began
                report(f"building {plan.title}: {progress.text}, {elapsed:.0f} s")
    except BaseException:
        progress.is_cancelled = True
        worker.join(CANCEL_WAIT_S)
        raise
    if failures:
        raise failures[0]
    return results[0]


def _build(
    plan: EnginePlan,
    model: bytes,
    workspace: int,
    timing: bytes,
    version: str,
    gpu: Gpu,
    progress: _Progress,
) -> tuple[bytes, bytes]:
    """The engine and what the builder has measured. Raises EngineError."""
    import tensorrt as trt

    diagnostics = TensorRTDiagnostics()
    logger = make_logger(diagnostics)

    def fail(what: str) -> EngineError:
        return explain_failure(
            f"{plan.title}: {what}", diagnostics, version, gpu.compute_capability
        )

    def require(result: ResultT | None, what: str) -> ResultT:
        if result is None:  # a network without layers yet is false
            raise fail(f"no {what}")
        return result

    try:
        builder = trt.Builder(logger)
    except (TypeError, RuntimeError) as error:  # pybind11 says so of a null pointer
        raise fail("no builder") from error
    # Strongly typed: every value has the type it has in the ONNX file. 11.0 knows nothing else.
    # Products of 32-bit numbers are still TF32 where the GPU has it, as is TensorRT's default.
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
    """One optimisation profile per size, each of one shape: the engine is tuned for just those."""
    import tensorrt as trt

    names = {network.get_input(index).name for index in range(network.num_inputs)}
    wanted = set(plan.profiles[0])
    if names != wanted:
        raise EngineError(
            f"{plan.file}: its inputs are {', '.join(sorted(names))},"
            f" not {', '.join(sorted(wanted))}"
        )
    for shapes in plan.profiles:
        profile = builder.create_optimization_profile()
        try:
            for name, shape in shapes.items():
                dims = trt.Dims(list(shape))
                profile.set_shape(name, dims, dims, dims)
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
        has = f"has cores 0 to {count - 1}" if count else "has none"
        raise EngineError(
            f"{plan.title}: deep-learning accelerator {plan.dla_core} asked for, this board {has}"
        )
    if plan.precision == "int8":
        log.warning(
            "%s: a deep-learning accelerator may take no explicit INT8 and leave all to the GPU",
            plan.title,
        )
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = plan.dla_core
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)


def _set_timing_cache(config: trt.IBuilderConfig, data: bytes) -> trt.ITimingCache | None:
    """The builder measures nothing twice. A cache of another device is not forced on it."""
    cache = config.create_timing_cache(data)
    if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
        return cache
    if data:
        log.warning("the timing cache is not of this GPU and TensorRT, the builder measures anew")
        return _set_timing_cache(config, b"")
    return None


def _make_monitor(progress: _Progress) -> trt.IProgressMonitor:
    """Writes down the newest step of the outermost phase that has not ended."""
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
    """IHostMemory has Python's buffer protocol, which its published types do not say."""
    return bytes(memory)
