"""The TensorRT engine: networks on a Jetson, or any NVIDIA GPU with TensorRT 10.3 or newer.

In: a feed of named arrays. Device arrays are read in place on the stream that wrote them, host
arrays through page-locked memory. Out: arrays in page-locked memory that the GPU writes. All
buffers are allocated on opening, and each shape becomes a CUDA graph after its first run: a frame
allocates nothing and costs one launch.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...kernels.memory import DeviceArray
from ..base import (
    WARM_UP_RUNS,
    Arrays,
    EngineError,
    Feed,
    GpuHangsError,
    Report,
    TensorSpec,
    check_sizes,
    null_reporter,
)
from ..bundles import Bundle
from .builder import BuiltEngine, find_cached_engine, load_or_build_engine
from .cache import EngineCache, find_cache_folder
from .cuda_driver import CudaDriver, CudaError
from .execution import FixedShapeContext, TensorRTContext
from .gpu import Gpu, open_gpu
from .loader import TensorRTDiagnostics, explain_failure, load_tensorrt, make_logger
from .plan import BuildOptions, EnginePlan, plan_engine

if TYPE_CHECKING:
    import tensorrt as trt

log = logging.getLogger(__name__)

TIMEOUT_S = 5.0
"""A network takes milliseconds; a GPU that takes this long hangs."""
NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING, unnamed in pycuda: does not wait for the default stream."""


def open_tensorrt(
    bundle: Bundle,
    network: str,
    precision: str,
    options: BuildOptions = BuildOptions(),  # noqa: B008 - frozen
    report: Report = null_reporter,
    force: bool = False,
) -> TensorRTEngine:
    """Open a network of `bundle`, from the cache or after a build.

    An engine for all quality levels in the cache is used for any subset. A cached engine that
    TensorRT cannot read is built again, once. `force` always builds. Raises EngineError.
    """
    version = load_tensorrt()
    gpu = open_gpu()
    plan = plan_engine(bundle, network, precision, options)
    cache = EngineCache(find_cache_folder())
    built = None
    if options.levels and not force:
        # `emotion-edge build` makes one for all levels.
        all_levels_plan = plan_engine(bundle, network, precision, replace(options, levels=()))
        built = find_cached_engine(all_levels_plan, gpu, version, cache)
        plan = plan if built is None else all_levels_plan
    if built is None:
        built = load_or_build_engine(plan, gpu, version, cache, report, force)
    diagnostics = TensorRTDiagnostics()
    engine = _read_engine(built.data, diagnostics)
    if engine is None and built.seconds == 0:
        log.warning("%s: cannot be read, building again: %s", built.file, diagnostics.explain())
        built = load_or_build_engine(plan, gpu, version, cache, report, force=True)
        engine = _read_engine(built.data, diagnostics)
    if engine is None:
        what = f"{plan.title}: the engine cannot be read"
        raise explain_failure(what, diagnostics, version, gpu.compute_capability)
    return TensorRTEngine(engine, plan, gpu, built, diagnostics)


def _read_engine(
    data: bytes, diagnostics: TensorRTDiagnostics
) -> tuple[trt.Runtime, trt.ICudaEngine] | None:
    """Deserialize an engine, which its runtime must outlive; None where TensorRT refuses it."""
    import tensorrt as trt

    diagnostics.clear()
    try:
        runtime = trt.Runtime(make_logger(diagnostics))
        engine: Any = runtime.deserialize_cuda_engine(data)
    except (TypeError, RuntimeError) as error:  # pybind11's error for a null pointer
        log.debug("TensorRT: %s", error)
        return None
    return None if engine is None else (runtime, engine)


class TensorRTEngine:
    """One network, for the thread that opened it. Batches that no quality level needs run row by
    row."""

    name = "tensorrt"

    def __init__(
        self,
        engine: tuple[trt.Runtime, trt.ICudaEngine],
        plan: EnginePlan,
        gpu: Gpu,
        built: BuiltEngine,
        diagnostics: TensorRTDiagnostics,
    ) -> None:
        """Allocate every buffer. Raises EngineError."""
        self.precision = plan.precision
        self.file = built.file
        """The engine in the cache; None where it could not be stored."""
        self.build_seconds = built.seconds
        """0 for an engine from the cache."""
        self._title = plan.title
        self._thread = threading.get_ident()
        self._cuda_errors = (gpu.driver.Error, CudaError)
        self._engine: tuple[trt.Runtime, trt.ICudaEngine] | None = engine
        self._inputs, self._outputs = _list_tensors(engine[1], plan)
        check_sizes(plan.title, (*self._inputs, *self._outputs))
        self._by_shape: dict[tuple[int, ...], FixedShapeContext] = {}
        self._rows: dict[int, dict[str, NDArray[np.float32]]] = {}
        self._event = 0
        self._is_hung = False
        names = [spec.name for spec in self._outputs]
        try:
            self._cuda = CudaDriver()
            self._event = self._cuda.create_event()
            stream = gpu.driver.Stream(NON_BLOCKING)
            shared = TensorRTContext(plan.title, gpu.driver, self._cuda, stream, diagnostics)
            for index, largest in enumerate(plan.max_rows):
                for rows in range(1, largest + 1):
                    shapes = {n: (rows, *shape[1:]) for n, shape in plan.profiles[index].items()}
                    context = FixedShapeContext(engine[1], index, shapes, names, shared)
                    self._by_shape[shapes[self._inputs[0].name]] = context
            stream.synchronize()
        except EngineError:
            raise
        except (*self._cuda_errors, RuntimeError) as error:  # TensorRT's bindings raise as well
            raise EngineError(f"{self._title}: cannot be prepared: {error}") from error

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self._inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self._outputs

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Largest shape of the first input at each size that it was built for."""
        largest = {shape[1:]: shape for shape in self._by_shape}
        return tuple(largest.values())

    def infer(self, feed: Feed) -> Arrays:
        if threading.get_ident() != self._thread:
            raise EngineError(f"{self._title}: used on another thread than it was opened on")
        if self._engine is None:
            raise EngineError(f"{self._title}: is closed")
        num_rows = self._check(feed)
        if num_rows > 1 and feed[self._inputs[0].name].shape not in self._by_shape:
            return self._infer_rows(feed, num_rows)
        return self._infer_batch(feed)

    def warm_up(self, feed: Feed, num_runs: int = WARM_UP_RUNS) -> None:
        for _ in range(num_runs):
            self.infer(feed)

    def close(self) -> None:
        """Free everything, on the thread that opened it. Faults are only logged: after an error of
        the GPU every call fails, and the first error is the cause."""
        if self._engine is None or self._is_hung:  # freeing would block for ever
            return
        self._engine = None
        try:
            for shape in self._by_shape.values():
                shape.close()
            if self._event:
                self._cuda.destroy_event(self._event)
        except self._cuda_errors as error:
            log.warning("%s: memory is not freed completely: %s", self._title, error)
        self._by_shape.clear()
        self._rows.clear()

    def __enter__(self) -> TensorRTEngine:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _check(self, feed: Feed) -> int:
        """Check the inputs and return the number of rows. Raises EngineError or ValueError."""
        counts = set()
        for spec in self._inputs:
            tensor = feed.get(spec.name)
            if tensor is None:
                raise EngineError(f"{self._title}: input {spec.name} is missing")
            spec.check(tensor)
            counts.add(tensor.shape[0])
        if len(counts) != 1:
            raise EngineError(f"{self._title}: inputs with {sorted(counts)} rows")
        return int(counts.pop())

    def _infer_batch(self, feed: Feed) -> Arrays:
        first = feed[self._inputs[0].name].shape
        shape = self._by_shape.get(first)
        if shape is None:
            sizes = ", ".join(str(list(each)) for each in self._by_shape if each[0] == 1)
            raise EngineError(
                f"{self._title}: {self._inputs[0].name} is {list(first)}, built for {sizes}"
            )
        try:
            stream = shape.run(feed)
            self._cuda.record_event(self._event, stream)
            is_done = self._cuda.wait_for_event(self._event, TIMEOUT_S)
        except self._cuda_errors as error:
            raise EngineError(f"{self._title}: failed: {error}") from error
        if not is_done:
            self._is_hung = True
            raise GpuHangsError(f"{self._title}: the GPU has not answered for {TIMEOUT_S:.0f} s")
        return shape.outputs

    def _infer_rows(self, feed: Feed, num_rows: int) -> Arrays:
        """Run a batch, which only `emotion-train evaluate` has."""
        most = max(shape[0] for shape in self._by_shape)
        if any(isinstance(feed[spec.name], DeviceArray) for spec in self._inputs):
            raise EngineError(
                f"{self._title}: {num_rows} rows in GPU memory, at most {most} allowed"
            )
        if num_rows not in self._rows:
            self._rows[num_rows] = {
                spec.name: np.zeros((num_rows, *(size or 1 for size in spec.shape[1:])), np.float32)
                for spec in self._outputs
            }
        outputs = self._rows[num_rows]
        for i in range(num_rows):
            row = {spec.name: feed[spec.name][i : i + 1] for spec in self._inputs}  # type: ignore[index]
            for name, values in self._infer_batch(row).items():
                outputs[name][i] = values[0]
        return outputs


def _list_tensors(
    engine: trt.ICudaEngine, plan: EnginePlan
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Return inputs, in the plan's order, and outputs. Raises EngineError for other types."""
    import tensorrt as trt

    shapes: dict[str, tuple[int | None, ...]] = {}
    outputs = []
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        shape = (None, *(size if size > 0 else None for size in engine.get_tensor_shape(name)[1:]))
        if engine.get_tensor_dtype(name) != trt.DataType.FLOAT:
            dtype = engine.get_tensor_dtype(name)
            raise EngineError(f"{plan.title}: {name} is {dtype}, FP32 wanted")
        if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT:
            shapes[name] = shape
        else:
            outputs.append(TensorSpec(name, shape))
    different = set(plan.profiles[0]) ^ set(shapes)
    if different:
        raise EngineError(
            f"{plan.title}: inputs differ from the plan: {', '.join(sorted(different))}"
        )
    return tuple(TensorSpec(name, shapes[name]) for name in plan.profiles[0]), tuple(outputs)
