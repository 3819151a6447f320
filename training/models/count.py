"""Cost of a network: a module and its inputs in, parameters and FLOPs out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True, slots=True)
class Cost:
    """Parameters of a network and FLOPs of one forward pass."""

    num_parameters: int
    num_flops: int
    """A multiplication and the addition after it are two FLOPs."""


@torch.no_grad()
def count_cost(model: nn.Module, inputs: tuple[Tensor, ...]) -> Cost:
    """Count parameters, and FLOPs for `inputs` (a batch of one gives the cost of one example).

    Convolutions, matrix products and recurrences count, two FLOPs for each multiplication, as in
    torch's FlopCounterMode; activations, norms and pooling do not. The training mode is restored.
    """
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    was_training = model.training
    model.eval()
    known = {torch.ops.aten.mkldnn_rnn_layer: _count_lstm_layer}
    with FlopCounterMode(display=False, custom_mapping=known) as counter:
        model(*inputs)
    model.train(was_training)
    return Cost(num_parameters, counter.get_total_flops())


def _count_lstm_layer(
    x_shape: tuple[int, ...],
    from_input: tuple[int, int],
    from_state: tuple[int, int],
    *_: Any,
    **__: Any,
) -> int:
    """Count one direction of an LSTM, which torch's counter does not know as oneDNN's operation:
    both weight matrices, (4H, D) and (4H, H), once for each step of `x_shape` (T, N, D)."""
    per_step = from_input[0] * from_input[1] + from_state[0] * from_state[1]
    return 2 * x_shape[0] * x_shape[1] * per_step
