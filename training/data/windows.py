"""Log-mel windows of a recording, as the device computes them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...kernels import LogMel, open_preprocessor
from ...kernels.spec import ImageSpec, MelSpec

WINDOW_EVERY_S = 0.25
"""A recording is scored by the mean of its windows, this far apart, as on the device."""


def open_mel(spec: MelSpec) -> LogMel:
    """The log-mel of the device."""
    return open_preprocessor("cpu", ImageSpec(), spec).mel


def window_ends(num_samples: int, spec: MelSpec) -> list[int]:
    """End samples of the windows that judge a recording: from one that is `filled` by so much (or
    the whole recording when it is shorter) to the recording's end."""
    step = round(WINDOW_EVERY_S * spec.sample_rate_hz)
    first = min(num_samples, spec.window_samples)
    return list(range(num_samples, first - 1, -step))[::-1]


def mel_windows(
    audio: NDArray[np.float32], ends: Sequence[int], mel: LogMel
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Windows that end at the samples `ends`, rising -> mel (K, 64, 300), mask (K, 300)."""
    mel.restart(0)
    windows, masks = [], []
    done = 0
    for end in ends:
        mel.push(audio[done:end])
        done = end
        window, mask = mel.window()
        windows.append(window[0].copy())
        masks.append(mask[0].copy())
    return np.stack(windows), np.stack(masks)
