"""Preprocessing: from camera pixels and audio samples to the networks' input tensors.

The door of the folder. `open_preprocessor` picks the backend: `cpu/` or `cuda/`, which nothing
outside imports. Public modules beside it: `spec` (shape and scaling of a network's input), `pixels`
(pixel formats), `bgr_image` (frames for OpenCV), `channel_mixer` (audio channels to one), `memory`
(memory that CPU and GPU share), `reference` (the reference implementation). Importing this package
loads neither Numba nor CUDA.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .channel_mixer import ChannelMixer
from .cpu.cache import can_write, copy_readonly_cache
from .cuda.device import DEVICE_NODES, PreprocessorError, has_gpu, is_simulated
from .memory import DeviceArray, Tensor
from .reference import Box
from .spec import ImageSpec, MelSpec

__all__ = [
    "DEVICE_NODES",
    "PREPROCESSORS",
    "Box",
    "ChannelMixer",
    "DeviceArray",
    "ImageSpec",
    "LogMel",
    "MelSpec",
    "Preprocessor",
    "PreprocessorError",
    "Tensor",
    "can_write",
    "has_gpu",
    "open_log_mel",
    "open_preprocessor",
]

log = logging.getLogger(__name__)


class LogMel(Protocol):
    """Streaming log-mel of one audio stream; `cpu.mel.StreamingLogMel` describes the methods."""

    HISTORY_COLUMNS: int
    spec: MelSpec
    first_column: int
    next_sample: int

    @property
    def num_columns(self) -> int: ...
    def restart(self, first_sample: int) -> None: ...
    def push(self, samples: NDArray[np.float32]) -> int: ...
    def window(self, end_column: int | None = None) -> tuple[Any, Any]: ...
    def levels_db(self, end_column: int | None = None) -> NDArray[np.float32]: ...
    def wipe(self) -> None: ...


class Preprocessor(Protocol):
    """Makes network input from raw input, for one camera and one audio stream, in one thread.

    A context manager. `close` may be called twice.
    """

    name: str

    @property
    def mel(self) -> LogMel: ...

    def faces(
        self,
        image: NDArray[np.uint8],
        boxes: Sequence[Box],
        size_px: int,
        pixel_format: str = "bgr8",
        device_ptr: int = 0,
    ) -> Tensor:
        """Crop, align, resize and scale n faces of an image -> (n, 3, size_px, size_px).

        The image is as in `pixels`, a box as in `reference.Box`: (x, y, side, roll). `device_ptr`
        is the GPU's address of the first byte of `image`, or 0 for memory that the GPU cannot see.
        The next call for as many faces of this size overwrites the result.
        """

    def close(self) -> None: ...
    def __enter__(self) -> Preprocessor: ...
    def __exit__(self, *_: object) -> None: ...


PREPROCESSORS = ("auto", "cuda", "cpu")


def open_preprocessor(name: str, image: ImageSpec, mel: MelSpec) -> Preprocessor:
    """Open the preprocessor `name`, one of `PREPROCESSORS`.

    "cuda" returns tensors in GPU memory, which only engines on the GPU can read. "cpu" returns
    arrays. "auto" is for a run with GPU engines: CUDA where the system shows an NVIDIA GPU, else
    the CPU. If that GPU cannot be used, "auto" logs a warning with the reason and opens the CPU's.
    Raises PreprocessorError when "cuda" cannot run here, ValueError for an unknown name.
    """
    if name not in PREPROCESSORS:
        raise ValueError(f"preprocessor {name!r} is not one of {', '.join(PREPROCESSORS)}")
    copy_readonly_cache()
    ChannelMixer(1, mel.sample_rate_hz)  # compiles its kernel, before audio arrives
    # "auto" does not open Numba's simulator: no engine can read its simulated GPU memory.
    if name == "cuda" or (name == "auto" and has_gpu() and not is_simulated()):
        from .cuda.preprocessor import CudaPreprocessor

        try:
            return CudaPreprocessor(image, mel)
        except PreprocessorError as error:
            if name == "cuda":
                raise
            log.warning("preprocessing runs on the CPU: %s", error)
    from .cpu.preprocessor import CpuPreprocessor

    return CpuPreprocessor(image, mel)


def open_log_mel(spec: MelSpec) -> LogMel:
    """Open a log-mel on the CPU, for audio beside that of a preprocessor."""
    copy_readonly_cache()
    from .cpu.mel import StreamingLogMel, compile_push

    compile_push()
    return StreamingLogMel(spec)
