"""Where a network is trained, and how the rest of the program need not care."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def choose_device(local_rank: int = 0) -> torch.device:
    """This process's GPU where there is one, else the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", local_rank % torch.cuda.device_count())


def choose_precision(device: torch.device) -> torch.dtype | None:
    """The 16-bit type to compute in: bfloat16 where the GPU has it, else float16; None on the CPU,
    which is slower with either."""
    if device.type != "cuda":
        return None
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def to_device(value: Any, device: torch.device) -> Any:
    """A tensor, or a tuple of them, on `device`."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=device.type == "cuda")
    return tuple(to_device(item, device) for item in value)


@contextmanager
def outputs_on_cpu(model: nn.Module, device: torch.device) -> Iterator[None]:
    """While this is open, `model` on `device` takes CPU tensors and answers with them: those who
    judge it need not know where it is."""
    if device.type == "cpu":
        yield
        return
    cpu = torch.device("cpu")
    hooks = [
        model.register_forward_pre_hook(lambda _, inputs: to_device(inputs, device)),
        model.register_forward_hook(lambda *call: to_device(call[2], cpu)),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
