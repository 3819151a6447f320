"""Several processes, one run: what `torchrun` has started, and how its processes work together.

Each process makes the same batches and learns from its own rows of them, so a run gives the same
weights whatever their number. Without torchrun there is one process, and all this does nothing.

Where a network is trained, and how the rest of the program need not care.
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


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """This process among those of the run."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """Rank on this machine: which of its GPUs is ours."""

    @property
    def is_main(self) -> bool:
        """The one process that logs, validates and saves."""
        return self.rank == 0


def read_process_group() -> ProcessGroup:
    """Read what torchrun has put into the environment."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    texts = [os.environ.get(name, default) for name, default in zip(names, "010", strict=True)]
    try:
        rank, size, local_rank = (int(text) for text in texts)
    except ValueError:
        rank, size, local_rank = -1, 0, -1
    if not 0 <= rank < size or local_rank < 0:
        given = ", ".join(f"{name}={text}" for name, text in zip(names, texts, strict=True))
        raise TrainingError(f"{given}: not what torchrun sets; leave them unset for one process")
    return ProcessGroup(rank, size, local_rank)


def join(process_group: ProcessGroup, device: torch.device) -> None:
    """Meet the other processes, once in the life of this one."""
    if process_group.size == 1 or dist.is_initialized():
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    # Imported later, as an optimiser or DistributedDataParallel would, these keep the group for
    # ever as the default of their functions' arguments (PyTorch 2.13).
    for module in ("torch._dynamo", "torch.distributed.nn.functional"):
        importlib.import_module(module)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    atexit.register(_leave)


def _leave() -> None:
    """The group's threads must end before Python does, or now and then they abort a process that
    was done. They end with the last that holds the group: a wrapped model does, in a circle of
    references."""
    gc.collect()
    dist.destroy_process_group()


def wrap_data_parallel(
    model: nn.Module, process_group: ProcessGroup, device: torch.device
) -> nn.Module:
    """`model`, with its gradients averaged over the processes."""
    if process_group.size == 1:
        return model
    ids = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=ids)


def shard_batch(
    inputs: tuple[Tensor, ...], target: Tensor, process_group: ProcessGroup
) -> tuple[tuple[Tensor, ...], Tensor, float]:
    """The rows of a batch that this process learns from, and the factor for their mean loss.

    The average over processes of `factor * mean over own rows` is the mean over the whole batch,
    also when it does not divide evenly.
    """
    if process_group.size == 1:
        return inputs, target, 1.0
    if len(target) < process_group.size:
        raise TrainingError(
            f"a batch of {len(target)} cannot be shared by {process_group.size} processes:"
            " choose a larger batch_size"
        )
    own = slice(process_group.rank, None, process_group.size)
    mine = target[own]
    factor = len(mine) * process_group.size / len(target)
    return tuple(tensor[own] for tensor in inputs), mine, factor


def average_over_processes(value: Tensor, process_group: ProcessGroup) -> float:
    """The mean over all processes of a tensor with one value; a NaN anywhere is one everywhere."""
    if process_group.size > 1:
        value = value.clone()
        dist.all_reduce(value)
    return value.item() / process_group.size


def broadcast_object(value: Any, process_group: ProcessGroup, device: torch.device) -> Any:
    """What the first process holds, for all."""
    if process_group.size == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0, device=device)
    return box[0]


def broadcast_state(model: nn.Module, process_group: ProcessGroup) -> None:
    """Give all processes the first's weights and buffers, in place."""
    if process_group.size > 1:
        for value in model.state_dict().values():
            dist.broadcast(value, src=0)


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
