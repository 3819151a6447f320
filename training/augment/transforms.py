"""Random augmentation of face images and log-mel windows, applied to each batch.

In and out: batches of images, or of log-mel windows. Augmentation of the audio itself is in
`voice_variants`.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

FACE_PX = 48
"""Side of a FER+ image, in whose pixels blur is measured."""


def scale_pixels(gray_u8: Tensor, mean: float, std: float) -> Tensor:
    """Normalize (N, H, W) uint8 -> (N, 1, H, W) float32: `(pixel / 255 - mean) / std`."""
    return (gray_u8.unsqueeze(1).float() / 255.0 - mean) / std


def jitter_faces(image: Tensor, size_px: int) -> Tensor:
    """Augment normalized faces (N, 1, H, W) -> (N, 1, size_px, size_px), each one independently.

    Mirroring, rotation up to 15 degrees, zoom 0.8-1.2, shift up to 8 %, contrast and brightness,
    low light for one face in six, lower resolution for one in four, blur for one in six, a grey
    patch over one in four. Draws from torch's global generator.
    """
    num = image.shape[0]
    angle = (torch.rand(num) * 2 - 1) * math.radians(15)
    zoom = torch.exp((torch.rand(num) * 2 - 1) * math.log(1.2))
    flip = torch.where(torch.rand(num) < 0.5, -1.0, 1.0)
    shift = (torch.rand(num, 2) * 2 - 1) * 0.16  # of the half width
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    theta = torch.stack(
        [
            torch.stack([cos * flip, -sin, shift[:, 0]], 1),
            torch.stack([sin * flip, cos, shift[:, 1]], 1),
        ],
        1,
    )
    grid = F.affine_grid(theta, [num, 1, size_px, size_px], align_corners=False)
    out = F.grid_sample(image, grid, padding_mode="border", align_corners=False)
    contrast = torch.exp((torch.rand(num, 1, 1, 1) * 2 - 1) * math.log(1.5))
    brightness = (torch.rand(num, 1, 1, 1) * 2 - 1) * 0.6
    out = out * contrast + brightness
    out = torch.where(torch.rand(num, 1, 1, 1) < 1 / 6, _darken(out), out)
    coarse = F.interpolate(
        F.interpolate(out, scale_factor=0.5, mode="area"), size=size_px, mode="bilinear"
    )
    out = torch.where(torch.rand(num, 1, 1, 1) < 0.25, coarse, out)
    sigma_px = (0.5 + torch.rand(()).item()) * size_px / FACE_PX
    out = torch.where(torch.rand(num, 1, 1, 1) < 1 / 6, blur(out, sigma_px), out)
    return _erase_patch(out, torch.rand(num) < 0.25)


def _darken(image: Tensor) -> Tensor:
    """Simulate low light: 25 to 75 % of the contrast, darker, with sensor noise."""
    num = image.shape[0]
    gain = 0.25 + 0.5 * torch.rand(num, 1, 1, 1)
    return (image + 2.0) * gain - 2.0 + 0.15 * torch.randn_like(image)


def blur(image: Tensor, sigma_px: float) -> Tensor:
    """Blur (N, 1, H, W) with a Gaussian kernel, edges repeated."""
    reach = max(1, round(3 * sigma_px))
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma_px) ** 2)
    kernel = (kernel / kernel.sum()).to(image.dtype)
    padded = F.pad(image, (reach, reach, reach, reach), mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))


def compress_faces(
    images: NDArray[np.uint8], rng: np.random.Generator, share: float = 0.2
) -> NDArray[np.uint8]:
    """Compress a `share` of the grey images (N, H, W) as JPEG of quality 10 to 60 -> a copy."""
    out = images.copy()
    for i in np.flatnonzero(rng.random(len(images)) < share):
        quality = int(rng.integers(10, 61))
        _, coded = cv2.imencode(".jpg", images[i], [cv2.IMWRITE_JPEG_QUALITY, quality])
        out[i] = np.asarray(cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE), np.uint8)
    return out


def _erase_patch(image: Tensor, chosen: Tensor) -> Tensor:
    """Cover the chosen images with a patch of 10-40 % of the side, as a hand or a mask would."""
    num, _, height, width = image.shape
    extent = 0.1 + 0.3 * torch.rand(num, 2)
    origin = torch.rand(num, 2) * (1 - extent)
    rows = (torch.arange(height) + 0.5) / height
    cols = (torch.arange(width) + 0.5) / width
    in_rows = (rows >= origin[:, :1]) & (rows < origin[:, :1] + extent[:, :1])
    in_cols = (cols >= origin[:, 1:]) & (cols < origin[:, 1:] + extent[:, 1:])
    patch = (in_rows[:, :, None] & in_cols[:, None, :] & chosen[:, None, None]).unsqueeze(1)
    return image.masked_fill(patch, 0.0)


def mask_mel(mel: Tensor, generator: torch.Generator) -> Tensor:
    """Set two bands of up to 6 mels and two spans of up to 25 columns of (N, 64, T) to the mean
    (Park et al. 2019, arXiv:1904.08779), in place."""
    num, num_mels, num_frames = mel.shape
    for axis, limit, widest in ((1, num_mels, 6), (2, num_frames, 25)):
        for _ in range(2):
            width = torch.randint(0, widest + 1, (num, 1), generator=generator)
            start = torch.randint(0, limit - widest + 1, (num, 1), generator=generator)
            index = torch.arange(limit)
            hidden = (index >= start) & (index < start + width)
            mel.masked_fill_(hidden.unsqueeze(3 - axis), 0.0)
    return mel
