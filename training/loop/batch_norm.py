"""Batch normalization over the batches of all processes.

In: a network whose batch normalization sees the rows of one process. Out: the same network, its
weights shared, that normalizes with the mean and variance of the whole batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.modules.batchnorm import _BatchNorm


class SynchronizedBatchNorm(_BatchNorm):
    """`nn.SyncBatchNorm` for the CPU too. Processes may hold different numbers of rows."""

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002 - the name is torch's
        if input.dim() < 2:
            raise ValueError(f"a batch of {input.dim()} dimensions, at least 2 wanted")

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name is torch's
        """Normalize (N, C, ...). In evaluation it is plain batch normalization."""
        if not self.training:
            return super().forward(input)
        from torch.distributed.nn.functional import all_reduce  # keeps a group for ever

        self._check_input_dim(input)
        others = [axis for axis in range(input.dim()) if axis != 1]
        values = input.float()
        sums = torch.cat(
            [
                values.sum(others),
                values.square().sum(others),
                values.new_tensor([float(values.numel() // values.shape[1])]),
            ]
        )
        total, squares, count = all_reduce(sums).split([self.num_features, self.num_features, 1])
        mean = total / count
        variance = (squares / count - mean.square()).clamp_min(0.0)
        self._update_running(mean.detach(), variance.detach() * (count / (count - 1)).detach())
        shape = [1, -1, *[1] * (input.dim() - 2)]
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - mean * scale
        return (values * scale.view(shape) + shift.view(shape)).to(input.dtype)

    @torch.no_grad()
    def _update_running(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.momentum is None:
            raise ValueError("batch normalization without a running mean and a momentum")
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_(variance.to(self.running_var.dtype), self.momentum)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)


def synchronize_batch_norm(model: nn.Module, device: torch.device) -> nn.Module:
    """Return `model` with each batch normalization replaced; its parameters stay the same objects.

    The process group must exist.
    """
    if not dist.is_initialized():
        raise ValueError("there is no process group")
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    if isinstance(model, _BatchNorm):
        replacement = SynchronizedBatchNorm(model.num_features, model.eps, model.momentum)
        replacement.weight, replacement.bias = model.weight, model.bias
        for name, buffer in model.named_buffers(recurse=False):
            setattr(replacement, name, buffer)
        return replacement
    for name, child in model.named_children():
        setattr(model, name, synchronize_batch_norm(child, device))
    return model
