"""Fake modules tensorrt and pycuda: they record every call, fail on request, and run a network with
ONNX Runtime on the addresses that they are given.

The fake refuses what TensorRT refuses: a capture before the first run, an engine of another version
or GPU. test_tensorrt_api.py checks names and signatures against the real bindings.
"""

from __future__ import annotations

import ctypes
import enum
import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime as ort
import pytest

from emotion_edge.engines.tensorrt import builder, cuda_driver
from emotion_edge.engines.tensorrt.gpu import FreeMemory

from .fake_cuda import FakeGpu, make_driver, make_libcuda

MAGIC = b"FAKE ENGINE\n"


def use_fake_tensorrt(monkeypatch: pytest.MonkeyPatch, cache: Path) -> FakeGpu:
    """Install a fake GPU and TensorRT for the test, with engines cached in `cache`."""
    gpu = FakeGpu()
    _install(gpu, lambda name, value: monkeypatch.setitem(sys.modules, name, value))
    _patch(gpu, monkeypatch.setattr)
    monkeypatch.delenv("CACHE_DIRECTORY", raising=False)
    monkeypatch.setenv("EMOTION_EDGE_CACHE", str(cache))
    return gpu


def install_permanently() -> FakeGpu:
    """Install them for the life of a process."""
    gpu = FakeGpu()
    _install(gpu, sys.modules.__setitem__)
    _patch(gpu, setattr)
    return gpu


def _install(gpu: FakeGpu, set_module: Callable[[str, Any], None]) -> None:
    driver = make_driver(gpu)
    pycuda: Any = types.ModuleType("pycuda")
    primary: Any = types.ModuleType("pycuda.autoprimaryctx")
    primary.device, primary.context = driver.Device(), object()
    pycuda.driver, pycuda.autoprimaryctx = driver, primary
    set_module("pycuda", pycuda)
    set_module("pycuda.driver", driver)
    set_module("pycuda.autoprimaryctx", primary)
    set_module("tensorrt", make_tensorrt(gpu))


def _patch(gpu: FakeGpu, set_attribute: Callable[[Any, str, Any], None]) -> None:
    fake = types.SimpleNamespace(**vars(ctypes))
    fake.CDLL = lambda _: make_libcuda(gpu)
    set_attribute(cuda_driver, "ctypes", fake)
    set_attribute(builder, "read_free_memory", lambda: FreeMemory(gpu.available_mb, 300))
    set_attribute(builder, "read_l4t_release", lambda: gpu.l4t)


class Memory:
    """IHostMemory."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __bytes__(self) -> bytes:
        return self._data


class Dims:
    """A sequence that is no tuple."""

    def __init__(self, shape: list[int]) -> None:
        self._shape = list(shape)

    def __len__(self) -> int:
        return len(self._shape)

    def __getitem__(self, index: slice) -> tuple[int, ...]:
        return tuple(self._shape[index])


def make_tensorrt(gpu: FakeGpu) -> Any:
    trt: Any = types.ModuleType("tensorrt")

    class ILogger:
        Severity = enum.Enum("Severity", "INTERNAL_ERROR ERROR WARNING INFO VERBOSE")

        def log(self, severity: Any, msg: str) -> None: ...

    class IProgressMonitor: ...

    def write_log(logger: Any, severity: str, text: str) -> None:
        logger.log(ILogger.Severity[severity], text)

    class Network:
        def __init__(self) -> None:
            self.inputs: list[Any] = []

        def __len__(self) -> int:
            return 0  # no layers yet, so it is false

        @property
        def num_inputs(self) -> int:
            return len(self.inputs)

        def get_input(self, index: int) -> Any:
            return self.inputs[index]

    class OnnxParser:
        def __init__(self, network: Network, logger: Any) -> None:
            self._network = network

        def parse(self, model: bytes) -> bool:
            gpu.note("parse")
            if gpu.parser_errors:
                return False
            session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
            self._network.inputs = list(session.get_inputs())
            gpu.options["model"] = model
            return True

        @property
        def num_errors(self) -> int:
            return len(gpu.parser_errors)

        def get_error(self, index: int) -> Any:
            return types.SimpleNamespace(desc=lambda: gpu.parser_errors[index])

    class Profile:
        def __init__(self) -> None:
            self.shapes: dict[str, list[int]] = {}

        def set_shape(self, name: str, *limits: Dims) -> None:
            """The sizes are fixed, and the batch is from one, for which it is tuned, to the last
            limit's."""
            assert len(limits) == 3
            assert limits[0][:] == limits[1][:]
            assert limits[0][:][0] == 1
            assert all(each[1:] == limits[0][1:] for each in limits)
            self.shapes[name] = list(limits[2][:])

    class TimingCache:
        def __init__(self, data: bytes) -> None:
            self.data = data

        def serialize(self) -> Memory:
            return Memory(f"TIMING {gpu.version} {gpu.sm} {gpu.num_builds}".encode())

    class Config:
        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, value)
            gpu.options[name] = value

        def set_memory_pool_limit(self, pool: Any, size: int) -> None:
            gpu.options["workspace"] = size

        def set_flag(self, flag: Any) -> None:
            gpu.options[flag.name] = True

        def add_optimization_profile(self, profile: Profile) -> int:
            gpu.options["profiles"].append(profile.shapes)
            return len(gpu.options["profiles"]) - 1 if gpu.note("add_optimization_profile") else -1

        def create_timing_cache(self, data: bytes) -> TimingCache:
            return TimingCache(data)

        def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
            assert not ignore_mismatch
            fits = not cache.data or cache.data.startswith(
                f"TIMING {gpu.version} {gpu.sm}".encode()
            )
            gpu.note(f"set_timing_cache {len(cache.data) > 0} {fits}")
            return fits

    class Builder:
        def __init__(self, logger: Any) -> None:
            self._logger = logger
            gpu.options.clear()
            gpu.options["profiles"] = []
            if not gpu.note("Builder"):
                for severity, text in gpu.log:
                    write_log(logger, severity, text)
                raise TypeError("pybind11::init(): factory function returned nullptr")

        @property
        def num_DLA_cores(self) -> int:  # noqa: N802
            return gpu.num_dla_cores

        def create_network(self, flags: int) -> Network | None:
            gpu.options["flags"] = flags
            return Network() if gpu.note("create_network") else None

        def create_builder_config(self) -> Config | None:
            return Config() if gpu.note("create_builder_config") else None

        def create_optimization_profile(self) -> Profile:
            return Profile()

        def build_serialized_network(self, network: Network, config: Any) -> Memory | None:
            gpu.num_builds += 1
            worked = gpu.note("build_serialized_network")
            for severity, text in gpu.log:
                write_log(self._logger, severity, text)
            monitor = config.progress_monitor
            monitor.phase_start("Building Engine", None, 4)
            for step in range(4):
                monitor.phase_start("Tactics", "Building Engine", 1)
                monitor.step_complete("Tactics", 0)
                if step == 2:
                    gpu.on_build()
                monitor.phase_finish("Tactics")
                if not monitor.step_complete("Building Engine", step):
                    gpu.note("the build was cancelled")
                    write_log(self._logger, "ERROR", "the build was cancelled")
                    return None
            monitor.phase_finish("Building Engine")
            if not worked:
                return None
            header = {
                "version": gpu.version,
                "sm": gpu.sm,
                "profiles": gpu.options["profiles"],
            }
            model = gpu.options["model"]
            return Memory(MAGIC + json.dumps(header).encode() + b"\n" + model)

    class Context:
        def __init__(self, engine: Engine) -> None:
            self._engine = engine
            self._addresses: dict[str, int] = {}
            self._shapes: dict[str, tuple[int, ...]] = {}
            self._profile: dict[str, list[int]] = {}
            self._has_run = False

        def set_optimization_profile_async(self, index: int, stream: int) -> bool:
            self._profile = self._engine.profiles[index]
            return True

        def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
            self._shapes[name] = tuple(shape)
            largest = self._profile[name]
            fits = 1 <= shape[0] <= largest[0] and list(shape[1:]) == largest[1:]
            return fits and gpu.note("set_input_shape")

        def get_tensor_shape(self, name: str) -> Dims:
            assert set(self._shapes) == {each.name for each in self._engine.inputs}
            rows = next(iter(self._shapes.values()))[0]
            sizes = self._engine.get_tensor_shape(name)[:]
            return Dims([size if size > 0 else rows for size in sizes])

        def set_tensor_address(self, name: str, address: int) -> bool:
            gpu.note("set_tensor_address")
            self._addresses[name] = address
            return True

        def execute_async_v3(self, stream_handle: int) -> bool:
            captured = stream_handle in gpu.captures
            worked = gpu.note("execute_async_v3 in a capture" if captured else "execute_async_v3")
            if not worked or (captured and not self._has_run):
                write_log(self._engine.logger, "ERROR", "cannot be enqueued")
                return False
            self._has_run = True
            addresses = dict(self._addresses)

            def work() -> None:
                feed = {
                    name: gpu.see(addresses[name], shape) for name, shape in self._shapes.items()
                }
                names = [each.name for each in self._engine.outputs]
                for name, answer in zip(names, self._engine.session.run(names, feed), strict=True):
                    gpu.see(addresses[name], answer.shape)[:] = answer + gpu.is_off_by

            gpu.enqueue(stream_handle, work)
            return True

    class Engine:
        def __init__(self, header: dict[str, Any], model: bytes, logger: Any) -> None:
            self.profiles, self.logger = header["profiles"], logger
            options = ort.SessionOptions()
            options.intra_op_num_threads = 1
            self.session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
            self.inputs, self.outputs = self.session.get_inputs(), self.session.get_outputs()
            # Outputs first: no caller may rely on the order.
            self._tensors = {each.name: each for each in (*self.outputs, *self.inputs)}

        @property
        def num_io_tensors(self) -> int:
            return len(self._tensors)

        def get_tensor_name(self, index: int) -> str:
            return str(list(self._tensors)[index])

        def get_tensor_shape(self, name: str) -> Dims:
            sizes = self._tensors[name].shape
            return Dims([size if isinstance(size, int) else -1 for size in sizes])

        def get_tensor_dtype(self, name: str) -> Any:
            return trt.DataType.HALF if name in gpu.half_tensors else trt.DataType.FLOAT

        def get_tensor_mode(self, name: str) -> Any:
            is_input = name in [each.name for each in self.inputs]
            return trt.TensorIOMode.INPUT if is_input else trt.TensorIOMode.OUTPUT

        def create_execution_context(self) -> Context | None:
            return Context(self) if gpu.note("create_execution_context") else None

    class Runtime:
        def __init__(self, logger: Any) -> None:
            self._logger = logger

        def deserialize_cuda_engine(self, data: bytes) -> Engine | None:
            worked = gpu.note("deserialize_cuda_engine")
            head, _, rest = data.removeprefix(MAGIC).partition(b"\n")
            if not worked or not data.startswith(MAGIC):
                write_log(self._logger, "ERROR", "Serialization assertion failed")
                return None
            header = json.loads(head)
            if (header["version"], header["sm"]) != (gpu.version, gpu.sm):
                write_log(self._logger, "ERROR", "Version tag does not match")
                return None
            return Engine(header, rest, self._logger)

    vars(trt).update(
        __version__=gpu.version,
        ILogger=ILogger,
        IProgressMonitor=IProgressMonitor,
        OnnxParser=OnnxParser,
        Builder=Builder,
        Runtime=Runtime,
        Dims=Dims,
        NetworkDefinitionCreationFlag=enum.IntEnum(
            "NetworkDefinitionCreationFlag", "EXPLICIT_BATCH STRONGLY_TYPED", start=0
        ),
        MemoryPoolType=enum.Enum("MemoryPoolType", "WORKSPACE"),
        BuilderFlag=enum.Enum("BuilderFlag", "GPU_FALLBACK"),
        DeviceType=enum.Enum("DeviceType", "GPU DLA"),
        DataType=enum.Enum("DataType", "FLOAT HALF"),
        TensorIOMode=enum.Enum("TensorIOMode", "NONE INPUT OUTPUT"),
    )
    return trt
