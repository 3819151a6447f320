"""ONNX Runtime on the CPU: the engine of every machine without TensorRT."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from .base import (
    WARM_UP_RUNS,
    Arrays,
    EngineError,
    Feed,
    TensorSpec,
    check_sizes,
    require_host_array,
)
from .bounded_run import run_bounded
from .cpus import count_cpus

ResultT = TypeVar("ResultT")

_DTYPES = {"tensor(float)": "float32"}


class OnnxEngine:
    """One network. Output buffers are allocated and bound once per batch size; inputs are bound in
    place."""

    name = "onnx"

    def __init__(
        self,
        path: Path,
        num_threads: int = 0,
        precision: str = "fp32",
        model: bytes | None = None,
    ) -> None:
        """Open the network in the file `path`, or the bytes `model`, which `path` then names.

        `num_threads` 0 means half of the cores: the other half captures, decodes and detects faces,
        and networks this small gain little from more. `precision` describes the network and
        converts nothing. Raises EngineError.
        """
        self.precision = precision
        self._session = open_session(path, model, num_threads or max(1, count_cpus() // 2))
        self._file = path.name
        self._inputs = tuple(_tensor_spec(path, value) for value in self._session.get_inputs())
        self._outputs = tuple(_tensor_spec(path, value) for value in self._session.get_outputs())
        check_sizes(str(path), (*self._inputs, *self._outputs))
        self._binding = self._session.io_binding()
        self._buffers: dict[int, dict[str, NDArray[np.float32]]] = {}
        self._bound_batch = 0
        self._bound_inputs: dict[str, NDArray[np.float32]] = {}  # bound by address, must stay alive

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self._inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self._outputs

    def infer(self, feed: Feed, options: ort.RunOptions | None = None) -> Arrays:
        batch = 0
        for spec in self._inputs:
            bound = self._bound_inputs.get(spec.name)
            if bound is not None and feed.get(spec.name) is bound:  # new values, already bound
                batch = len(bound)
                continue
            array = np.ascontiguousarray(require_host_array(self._file, spec, feed))
            batch = len(array)
            self._bound_inputs[spec.name] = array
            self._binding.bind_input(
                spec.name, "cpu", 0, np.float32, array.shape, array.ctypes.data
            )
        buffers = self._bind_outputs(batch)
        try:
            self._session.run_with_iobinding(self._binding, options)
        except Exception as error:  # as above
            raise EngineError(f"{self._file}: ONNX Runtime failed: {error}") from error
        return buffers

    def _bind_outputs(self, batch: int) -> dict[str, NDArray[np.float32]]:
        if batch not in self._buffers:
            self._buffers[batch] = {
                spec.name: np.zeros((batch, *(size or 1 for size in spec.shape[1:])), np.float32)
                for spec in self._outputs
            }
        buffers = self._buffers[batch]
        if self._bound_batch != batch:
            for name, array in buffers.items():
                self._binding.bind_output(
                    name, "cpu", 0, np.float32, array.shape, array.ctypes.data
                )
            self._bound_batch = batch
        return buffers

    def warm_up(self, feed: Feed, num_runs: int = WARM_UP_RUNS) -> None:
        def run(options: ort.RunOptions) -> None:
            for _ in range(num_runs):
                self.infer(feed, options)

        run_cancellable(self._file, run)

    def close(self) -> None:
        self._buffers.clear()
        self._bound_batch = 0

    def __enter__(self) -> OnnxEngine:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def open_session(path: Path, model: bytes | None, num_threads: int) -> ort.InferenceSession:
    """Open the network in the file `path`, or the bytes `model`, which `path` then names. Raises
    EngineError."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # it raises what it would print, and quotes the file raw
    # Threads that spin between runs would occupy the cores that capture and decode.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")

    def open_it() -> ort.InferenceSession:
        data = path.read_bytes() if model is None else model
        return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])

    try:
        # Opening computes what is constant, and cannot be cancelled.
        return run_bounded(str(path), open_it, lambda: None)
    except EngineError:
        raise
    except Exception as error:  # ONNX Runtime's errors have no common base
        raise EngineError(f"{path}: ONNX Runtime cannot open it: {error}") from error


def run_cancellable(title: str, run: Callable[[ort.RunOptions], ResultT]) -> ResultT:
    """Run a network as `run_bounded` does."""
    options = ort.RunOptions()

    def cancel() -> None:
        options.terminate = True

    return run_bounded(title, lambda: run(options), cancel)


def _tensor_spec(path: Path, value: Any) -> TensorSpec:
    if value.type not in _DTYPES:
        raise EngineError(f"{path}: {value.name} is {value.type}, tensor(float) wanted")
    shape = tuple(size if isinstance(size, int) else None for size in value.shape)
    return TensorSpec(value.name, shape, _DTYPES[value.type])
