"""Weights rounded to what 16 bits can hold, while the arithmetic stays 32-bit.

In: a network in float32. Out: a copy of it whose weights a float16 file holds exactly, so that
the file can be compared with the copy to the last digits, and the copy with the network.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from .onnx_graph import MIN_FP16_VALUES


@torch.no_grad()
def round_to_fp16(model: nn.Module) -> nn.Module:
    """A copy in eval mode; `model` is left alone.

    Batch norms become part of the layer before them first, as they do in the exported graph:
    what is stored is their product. Small tensors, and any with a value that float16 lacks, stay
    as they are.
    """
    copy = deepcopy(model).eval()  # or the norms could not be fused
    for module in copy.modules():
        if isinstance(module, nn.Sequential):
            _fuse_norms(module)
    for parameter in copy.parameters():
        if parameter.numel() >= MIN_FP16_VALUES:
            rounded = parameter.half().float()
            if bool(torch.isfinite(rounded).all()):
                parameter.copy_(rounded)
    return copy.eval()


def _fuse_norms(layers: nn.Sequential) -> None:
    for i in range(len(layers) - 1):
        layer, norm = layers[i], layers[i + 1]
        if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            layers[i], layers[i + 1] = fuse_conv_bn_eval(layer, norm), nn.Identity()
        elif isinstance(layer, nn.Linear) and isinstance(norm, nn.BatchNorm1d):
            layers[i], layers[i + 1] = fuse_linear_bn_eval(layer, norm), nn.Identity()
