"""An array in the memory of the GPU, passed from a kernel to an engine without a copy."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class DeviceArray:
    """C-contiguous numbers at an address of the GPU.

    What wrote them was enqueued on `stream`: whoever reads them on the same stream needs no wait.
    """

    ptr: int
    shape: tuple[int, ...]
    dtype: str
    stream: int
    """CUstream handle."""
    owner: object = field(repr=False, compare=False)
    """Keeps the memory alive."""


Tensor = NDArray[np.float32] | DeviceArray
"""What a network reads: an array of the host or of the GPU."""
