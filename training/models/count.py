"""What a network costs: its parameters, and the arithmetic of one pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True, slots=True)
class Cost:
    num_parameters: int
    num_flops: int
    """Of one pass; a multiplication and the addition after it are two."""

    @property
    def num_macs(self) -> int:
        """Multiplications with the addition after each: half of the operations."""
        return self.num_flops // 2


@torch.no_grad()
def count_cost(model: nn.Module, inputs: tuple[Tensor, ...]) -> Cost:
    """Count what `model` does with `inputs` (a batch of one gives the cost of one example).

    Convolutions, matrix products and recurrences count, as torch's FlopCounterMode sees them, two
    operations for each multiplication; activations, norms and pooling do not. Leaves the model in
    the mode it was in.
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
    """oneDNN runs one direction of an LSTM as one operation, which torch's counter does not know:
    both weight matrices, (4H, D) and (4H, H), once for each of the steps of `x_shape` (T, N, D)."""
    per_step = from_input[0] * from_input[1] + from_state[0] * from_state[1]
    return 2 * x_shape[0] * x_shape[1] * per_step
