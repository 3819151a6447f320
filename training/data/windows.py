"""Log-mel windows of a recording, computed by the device's code.

In: audio. Out: the voice network's inputs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...kernels import LogMel, open_preprocessor
from ...kernels.spec import ImageSpec, MelSpec

WINDOW_EVERY_S = 0.25
"""Time between two windows of a recording; its score is their mean."""


def open_mel(spec: MelSpec) -> LogMel:
    """Return the device's log-mel."""
    return open_preprocessor("cpu", ImageSpec(), spec).mel


def window_ends(num_samples: int, spec: MelSpec) -> list[int]:
    """Return the end samples of a recording's windows: from the first full one (or the whole
    recording when it is shorter) to the recording's end."""
    step = round(WINDOW_EVERY_S * spec.sample_rate_hz)
    first = min(num_samples, spec.window_samples)
    return list(range(num_samples, first - 1, -step))[::-1]


def mel_windows(
    audio: NDArray[np.float32], ends: Sequence[int], mel: LogMel
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the windows that end at the rising samples `ends`: mel (K, 64, 300), mask (K, 300)."""
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


def mel_columns(audio: NDArray[np.float32], mel: LogMel) -> NDArray[np.float32]:
    """Compute all columns of a recording (n,) -> (num_mels, T)."""
    mel.restart(0)
    step = mel.spec.num_frames * mel.spec.hop
    parts = []
    for start in range(0, len(audio), step):
        count = mel.push(audio[start : start + step])
        window = mel.window()[0][0]
        parts.append(window[:, window.shape[1] - count :].copy())
    return np.concatenate(parts, axis=1)
