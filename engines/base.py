"""What every engine is: named arrays in, named arrays out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..kernels.memory import DeviceArray, Tensor

Arrays = Mapping[str, NDArray[np.float32]]
Feed = Mapping[str, Tensor]
Report = Callable[[str], None]
"""Told in one line what a long piece of work is doing, every few seconds."""


def null_reporter(text: str) -> None:
    """The `Report` of who does not want to know."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output. `shape` has None where the size is free."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str = "float32"

    def check(self, array: NDArray[Any] | DeviceArray) -> None:
        """Raise ValueError, naming this tensor, when `array` does not fit."""
        fits = len(array.shape) == len(self.shape) and all(
            want is None or want == have for want, have in zip(self.shape, array.shape, strict=True)
        )
        if not fits or array.dtype != self.dtype:
            raise ValueError(
                f"{self.name}: {array.dtype}{list(array.shape)} given,"
                f" {self.dtype}{list(self.shape)} wanted"
            )


class EngineError(RuntimeError):
    """A network that cannot be opened or run; one line that names it and says why."""


class GpuHangsError(EngineError):
    """The GPU does not come back. To free anything of it would wait for ever, so nothing is left
    but to end the process at once."""


def require_host_array(engine: str, spec: TensorSpec, feed: Feed) -> NDArray[np.float32]:
    """The input `spec` of an engine that reads the host's memory. Raises EngineError, or
    ValueError when it does not fit."""
    tensor = feed.get(spec.name)
    if tensor is None:
        raise EngineError(f"{engine}: input {spec.name} is missing")
    if isinstance(tensor, DeviceArray):
        raise EngineError(f"{engine}: input {spec.name} is in the GPU's memory, out of reach")
    spec.check(tensor)
    return tensor


class Engine(Protocol):
    """One network, ready to run. One thread only. A context manager."""

    @property
    def name(self) -> str:
        """Of the library that runs it, as in `ENGINES`."""

    @property
    def precision(self) -> str:
        """ "fp32", "fp16" or "int8"."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]: ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]: ...

    def infer(self, feed: Feed) -> Arrays:
        """Run once. The arrays that come back are reused: the next `infer` of the same batch
        size overwrites them."""

    def warm_up(self, feed: Feed) -> None:
        """Run on inputs of the size to come, so that the first frame is not the slow one."""

    def close(self) -> None: ...

    def __enter__(self) -> Engine: ...

    def __exit__(self, *error: object) -> None: ...
