"""Checks of the path of a frame to the GPU: capture, GPU, TensorRT, kernels, engine cache.

In: the machine and a configuration. Out: one `Check` each. A run without a GPU is complete on the
CPU, so a missing GPU is no warning.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from ...engines.base import EngineError
from ...engines.tensorrt import Gpu, find_cache_folder, load_tensorrt, open_gpu, read_l4t_release
from ...kernels import PreprocessorError, open_preprocessor
from ...kernels.spec import ImageSpec, MelSpec
from .. import config
from ..capture import CameraOpener, CameraSettings
from ..clock import MonotonicClock
from ..messages import SourceError
from ..service import IndicatorError, open_indicator
from .check import Check, is_writable

NO_GPU = "not used: there is no GPU"


def open_kernels() -> AbstractContextManager[Any]:
    return open_preprocessor("cuda", ImageSpec(), MelSpec())


def check_gpu(
    has_gpu_device: bool,
    open_gpu: Callable[[], Gpu] = open_gpu,
    read_l4t_release: Callable[[], str] = read_l4t_release,
) -> Check:
    """Open the GPU. `has_gpu_device`: the system has the device files of an NVIDIA GPU."""
    if not has_gpu_device and (release := read_l4t_release()):
        return Check("gpu", "warn", f"{release} has no GPU: in a container, use --runtime nvidia")
    if not has_gpu_device:
        return Check("gpu", "ok", "no NVIDIA GPU: everything runs on the CPU")
    try:
        gpu = open_gpu()
    except EngineError as error:
        return Check("gpu", "warn", f"a GPU is present, but engines cannot use it: {error}")
    return Check("gpu", "ok", f"{gpu.name}, compute capability {gpu.compute_capability}")


def check_tensorrt(has_gpu_device: bool, load: Callable[[], str] = load_tensorrt) -> Check:
    if not has_gpu_device:
        return Check("tensorrt", "ok", NO_GPU)
    try:
        return Check("tensorrt", "ok", load())
    except EngineError as error:
        return Check("tensorrt", "warn", str(error))


def check_kernels(
    has_gpu_device: bool, open_kernels: Callable[[], AbstractContextManager[Any]] = open_kernels
) -> Check:
    """Compile the CUDA kernels and run them once."""
    if not has_gpu_device:
        return Check("numba.cuda", "ok", NO_GPU)
    try:
        with open_kernels():
            return Check("numba.cuda", "ok", "the CUDA kernels compile and run")
    except PreprocessorError as error:
        return Check("numba.cuda", "warn", f"preprocessing falls back to the CPU: {error}")


def check_engine_cache(has_gpu_device: bool, environment: Mapping[str, str]) -> Check:
    if not has_gpu_device:
        return Check("engines", "ok", NO_GPU)
    try:
        folder = find_cache_folder(environment)
    except EngineError as error:
        return Check("engines", "warn", str(error))
    if not is_writable(folder):
        remedy = "set EMOTION_EDGE_CACHE to a folder that may be written"
        return Check(
            "engines", "warn", f"cannot write {folder}, each start builds all engines: {remedy}"
        )
    return Check("engines", "ok", f"stored in {folder}")


def check_capture(
    for_gpu: bool,
    cameras: Collection[str],
    indicator: config.Indicator,
    sys_root: Path = Path("/"),
    make_opener: Callable[..., CameraOpener] = CameraOpener,
) -> Check:
    """Open the first camera as a run does, read one frame and close it.

    The indicator is on meanwhile. Where it cannot be turned on, no camera is opened. `for_gpu`:
    kernels can read the frame in the GPU's memory.
    """
    if not cameras:
        return Check("capture", "ok", "no camera to try")
    if indicator.kind == "screen":
        return Check("capture", "ok", "not tried: the indicator is the screen, which a run shows")
    opener = make_opener(next(iter(cameras)), MonotonicClock(), CameraSettings(for_gpu=for_gpu))
    try:
        with open_indicator(indicator, (), sys_root) as light:
            light.turn_on()
            source = opener()
            try:
                source.read()
                path = source.path
            finally:
                source.close()
    except (config.ConfigError, IndicatorError) as error:
        return Check("capture", "warn", f"not tried: {error}")
    except SourceError as error:
        return Check("capture", "warn", f"{error} (does another program read it?)")
    copies = f"{path.copies_per_frame} {'copy' if path.copies_per_frame == 1 else 'copies'}"
    return Check(
        "capture",
        "ok",
        f"{opener.device} through {opener.chosen}: {copies} a frame, clock {path.clock_domain},"
        f" zero-copy {path.zero_copy}",
    )
