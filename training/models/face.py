"""The face network: an image in, an embedding and seven logits out."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .efficientnet import B0_HEAD_CHANNELS, efficientnet_b0_features

EMBEDDING_SIZE = 256
BT601_LUMA = (0.299, 0.587, 0.114)


class FaceNet(nn.Module):
    """EfficientNet-B0 -> 256-d embedding -> logits. Any input size from 32 px up."""

    def __init__(self, num_labels: int = 7, dropout: float = 0.3, max_drop: float = 0.1) -> None:
        super().__init__()
        self.features = efficientnet_b0_features(max_drop)
        self.embedding = nn.Linear(B0_HEAD_CHANNELS, EMBEDDING_SIZE)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(EMBEDDING_SIZE, num_labels)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """`image` (N, 3, H, W) -> embedding (N, 256), logits (N, num_labels)."""
        pooled = F.adaptive_avg_pool2d(self.features(image), 1).flatten(1)
        embedding = F.silu(self.embedding(self.dropout(pooled)))
        return embedding, self.classifier(embedding)


class MirrorAveraged(nn.Module):
    """A face network that averages the embeddings of an image and its mirror image.

    It doubles the cost and gained 0.8 to 1.5 points on held-out faces; images of 96 instead of
    64 px cost more than that and gained none. The logits stay a linear layer on the embedding.
    """

    def __init__(self, model: FaceNet) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """As `FaceNet`."""
        both, _ = self.model(torch.cat([image, image.flip(3)]))
        plain, mirrored = both.chunk(2)
        embedding = (plain + mirrored) / 2
        return embedding, self.model.classifier(embedding)


@torch.no_grad()
def fold_luma(model: FaceNet) -> None:
    """Make a network trained on grey images use only the luma of colour images, in place.

    The first convolution is linear and grey images repeat one channel three times. Giving each
    channel its BT.601 share of the summed kernel therefore changes nothing on grey images, and
    removes the tint of the light from colour images. Exact when the channels share mean and std.
    """
    weight = model.features[0][0].weight  # type: ignore[index]
    share = torch.tensor(BT601_LUMA, dtype=weight.dtype).view(1, 3, 1, 1)
    weight.copy_(weight.sum(dim=1, keepdim=True) * share)
