"""A preprocessor's tensors as host arrays, from either memory."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emotion_edge.kernels.memory import DeviceArray, Tensor

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
"""tests/conftest.py sets it where there is no GPU."""


def read_tensor(tensor: Tensor) -> NDArray[Any]:
    """Return a copy, made after all enqueued work: the default stream waits for the others."""
    if isinstance(tensor, DeviceArray):
        host: NDArray[Any] = tensor.owner.copy_to_host()  # type: ignore[attr-defined]
        assert host.shape == tensor.shape
        assert host.dtype == tensor.dtype
        return host
    return np.array(tensor)
