"""From camera pixels and sound samples to what the networks read."""

from __future__ import annotations

import logging
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .cuda.device import PreprocessorError, has_gpu, is_simulated
from .memory import Tensor
from .spec import ImageSpec, MelSpec

__all__ = ["PREPROCESSORS", "LogMel", "Preprocessor", "PreprocessorError", "open_preprocessor"]

log = logging.getLogger(__name__)


class LogMel(Protocol):
    """Streaming log-mel; see `cpu_mel.StreamingLogMel`."""

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


class Preprocessor(Protocol):
    """Turns raw input into network input; one stream, one thread. A context manager; `close` may
    be called twice."""

    name: str

    @property
    def mel(self) -> LogMel: ...

    def face(
        self,
        image: NDArray[np.uint8],
        box: tuple[float, float, float],
        size_px: int,
        pixel_format: str = "bgr8",
        device_ptr: int = 0,
    ) -> Tensor:
        """Picture as in `pixels` + square box (x, y, side) -> (1, 3, size_px, size_px).

        `device_ptr`: where the GPU sees the first byte of `image`; 0 for memory that it does not.
        """

    def close(self) -> None: ...
    def __enter__(self) -> Preprocessor: ...
    def __exit__(self, *_: object) -> None: ...


PREPROCESSORS = ("auto", "cuda", "cpu")


def open_preprocessor(name: str, image: ImageSpec, mel: MelSpec) -> Preprocessor:
    """Open the preprocessor `name`.

    "cuda" gives tensors in the memory of the GPU, which only engines that run there can read;
    "cpu" gives arrays. "auto" is meant for a run with such engines: CUDA where an NVIDIA GPU shows,
    with a warning and the reason when it cannot be used after all, else the CPU. An explicit name
    works or raises PreprocessorError.
    """
    if name not in PREPROCESSORS:
        raise ValueError(f"preprocessor {name!r} is not one of {', '.join(PREPROCESSORS)}")
    from .cpu.cache import copy_readonly_cache

    copy_readonly_cache()
    # Numba's simulator has its own idea of the GPU's memory, which no engine can read.
    if name == "cuda" or (name == "auto" and has_gpu() and not is_simulated()):
        from .cuda.preprocessor import CudaPreprocessor

        try:
            return CudaPreprocessor(image, mel)
        except PreprocessorError as error:
            if name == "cuda":
                raise
            log.warning("the CPU prepares the networks' input: %s", error)
    from .cpu.preprocessor import CpuPreprocessor

    return CpuPreprocessor(image, mel)
