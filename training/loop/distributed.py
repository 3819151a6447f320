"""Devices and processes of a run: one process, or the several that `torchrun` starts.

In: the environment that torchrun sets, and the GPUs of this machine. Out: this process's place in
the group, its device, and collective operations that do nothing in a single process.

Every process draws the same batches and trains on its own rows of them, and batch normalization
uses the whole batch. So the weights depend on the number of processes only by rounding, and by
dropout and stochastic depth, which each process draws for its own rows.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from ..errors import TrainingError
from .batch_norm import synchronize_batch_norm


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """Place of this process among those of the run."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """Rank on this machine, which selects the GPU."""

    @property
    def is_main(self) -> bool:
        """Whether this is the process that logs, validates and saves."""
        return self.rank == 0


def read_process_group() -> ProcessGroup:
    """Read the variables that torchrun sets; without them the group is one process."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    texts = [os.environ.get(name, default) for name, default in zip(names, "010", strict=True)]
    try:
        rank, size, local_rank = (int(text) for text in texts)
    except ValueError:
        rank, size, local_rank = -1, 0, -1
    if not 0 <= rank < size or local_rank < 0:
        given = ", ".join(f"{name}={text}" for name, text in zip(names, texts, strict=True))
        raise TrainingError(f"{given}: not values of torchrun; leave them unset for one process")
    return ProcessGroup(rank, size, local_rank)


def join_process_group(process_group: ProcessGroup, device: torch.device) -> None:
    """Initialize the process group, once per process."""
    if process_group.size == 1 or dist.is_initialized():
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    # Imported after the group exists, as optimizers and DistributedDataParallel do it, these
    # modules hold the group for ever as default argument of their functions (PyTorch 2.13).
    for module in ("torch._dynamo", "torch.distributed.nn.functional"):
        importlib.import_module(module)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    atexit.register(_leave_process_group)


def _leave_process_group() -> None:
    """End the threads of the group: threads that outlive Python sometimes abort the process. They
    end with the last reference to the group, and a wrapped model holds one in a cycle."""
    gc.collect()
    dist.destroy_process_group()


def wrap_data_parallel(
    model: nn.Module, process_group: ProcessGroup, device: torch.device
) -> nn.Module:
    """Wrap `model` so that its gradients are averaged over the processes, and let its batch
    normalization see the batches of all."""
    if process_group.size == 1:
        return model
    model = synchronize_batch_norm(model, device)
    ids = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=ids)


def shard_batch(
    inputs: tuple[Tensor, ...], target: Tensor, process_group: ProcessGroup
) -> tuple[tuple[Tensor, ...], Tensor, float]:
    """Return the rows of a batch that this process trains on, and the factor for their mean loss.

    The average over processes of `factor * mean over own rows` is the mean over the whole batch,
    also when the batch does not divide evenly.
    """
    if process_group.size == 1:
        return inputs, target, 1.0
    if len(target) < process_group.size:
        raise TrainingError(
            f"a batch of {len(target)} cannot be shared by {process_group.size} processes:"
            " choose a larger batch_size"
        )
    rows = slice(process_group.rank, None, process_group.size)
    own_target = target[rows]
    factor = len(own_target) * process_group.size / len(target)
    return tuple(tensor[rows] for tensor in inputs), own_target, factor


def average_over_processes(value: Tensor, process_group: ProcessGroup) -> float:
    """Average a tensor of one value over all processes. One NaN makes the average NaN."""
    if process_group.size > 1:
        value = value.clone()
        dist.all_reduce(value)
    return value.item() / process_group.size


def broadcast_object(value: Any, process_group: ProcessGroup, device: torch.device) -> Any:
    """Send `value` of the first process to all."""
    if process_group.size == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0, device=device)
    return box[0]


def broadcast_state(model: nn.Module, process_group: ProcessGroup) -> None:
    """Copy the weights and buffers of the first process to all, in place."""
    if process_group.size > 1:
        for value in model.state_dict().values():
            dist.broadcast(value, src=0)


def choose_device(local_rank: int = 0) -> torch.device:
    """Return the GPU of this process, or the CPU when there is none."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", local_rank % torch.cuda.device_count())


def choose_precision(device: torch.device) -> torch.dtype | None:
    """Return the type for mixed precision: bfloat16 if the GPU supports it, else float16. None on
    the CPU, which is slower with either."""
    if device.type != "cuda":
        return None
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def to_device(value: Any, device: torch.device) -> Any:
    """Move a tensor, or a tuple of tensors, to `device`."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=device.type == "cuda")
    return tuple(to_device(item, device) for item in value)


@contextmanager
def outputs_on_cpu(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Let `model` on `device` take and return CPU tensors inside the `with` block, so that
    validation does not depend on the device."""
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
