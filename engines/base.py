"""The engine interface: named arrays in, named arrays out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .. import Error
from ..kernels.memory import DeviceArray, Tensor

Arrays = Mapping[str, NDArray[np.float32]]
Feed = Mapping[str, Tensor]
MAX_ROW_NUMBERS = 1 << 22
"""Largest size of one row of an input or output, 16 MB: five times that of the largest face."""
WARM_UP_RUNS = 3
"""On TensorRT one plain run, one that captures the graph, one of the graph."""
Report = Callable[[str], None]
"""Receives the progress of long work, one line every few seconds."""


def null_reporter(text: str) -> None:
    """Discard a progress report."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output. A size of None in `shape` is free."""

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


class EngineError(Error, RuntimeError):
    """A network that cannot be opened or run: one line with its name and the reason."""


class GpuHangsError(EngineError):
    """A GPU that does not finish. Freeing its memory would block for ever, so the process must
    exit at once."""


def check_sizes(title: str, specs: Iterable[TensorSpec]) -> None:
    """Check the sizes of a network's inputs and outputs before memory is taken for them. `title`
    names the network. Raises EngineError."""
    for spec in specs:
        if math.prod(size or 1 for size in spec.shape[1:]) > MAX_ROW_NUMBERS:
            raise EngineError(
                f"{title}: {spec.name} is {list(spec.shape)}, allowed: {MAX_ROW_NUMBERS} numbers in"
                " a row"
            )


def require_host_array(engine: str, spec: TensorSpec, feed: Feed) -> NDArray[np.float32]:
    """Return the input `spec` from `feed` for an engine that reads host memory. Raises EngineError,
    or ValueError for another shape or type."""
    tensor = feed.get(spec.name)
    if tensor is None:
        raise EngineError(f"{engine}: input {spec.name} is missing")
    if isinstance(tensor, DeviceArray):
        raise EngineError(f"{engine}: input {spec.name} is in GPU memory, host memory wanted")
    spec.check(tensor)
    return tensor


class Engine(Protocol):
    """One network, ready to run on one thread. A context manager."""

    @property
    def name(self) -> str:
        """The library that runs it, one of `ENGINES`."""

    @property
    def precision(self) -> str:
        """ "fp32", "fp16" or "int8"."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]: ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]: ...

    def infer(self, feed: Feed) -> Arrays:
        """Run once. The next `infer` of the same batch size overwrites the returned arrays."""

    def warm_up(self, feed: Feed, num_runs: int = WARM_UP_RUNS) -> None:
        """Run on inputs of the expected size, so that the first frame is not slow. Raises
        EngineError also for a network that does not finish, or takes too much memory."""

    def close(self) -> None: ...

    def __enter__(self) -> Engine: ...

    def __exit__(self, *error: object) -> None: ...
