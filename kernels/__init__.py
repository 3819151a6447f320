"""From camera pixels and sound samples to what the networks read."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .device_array import Tensor
from .spec import ImageSpec, MelSpec


class LogMel(Protocol):
    """Streaming log-mel; see `cpu_mel.StreamingLogMel`."""

    LATE_COLUMNS: int
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
    """Turns raw input into network input; one stream, one thread."""

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


PREPROCESSORS = ("auto", "cpu")


def open_preprocessor(name: str, image: ImageSpec, mel: MelSpec) -> Preprocessor:
    """Open the preprocessor `name`; "auto" takes the best that this machine has."""
    if name in ("auto", "cpu"):
        from .cpu import CpuPreprocessor

        return CpuPreprocessor(image, mel)
    raise ValueError(f"preprocessor {name!r} is not one of {', '.join(PREPROCESSORS)}")
