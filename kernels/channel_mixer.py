"""From the channels of a microphone or file to one, without DC.

In: audio of any number of channels, chunk by chunk. Out: one channel, of which the log-mel is made.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

DC_HZ = 10.0
"""Cut-off of the high-pass filter that blocks DC. It takes 1 dB at 20 Hz, where the log-mel
begins."""
_BLOCK_S = 0.01


class ChannelMixer:
    """Averages the channels that carry sound. For one stream and one thread.

    DC is blocked in each channel. A channel far quieter than the loudest does not take part: it
    would only lower the level of the mix. Steady noise and hum do not count as loud beside a
    channel that varies. A channel opposed to the loudest is turned, so that they do not cancel.

    Every 10 ms the choice is made anew for the next 10 ms, in which each weight moves to its target
    on a straight line. So the mix has no clicks, and does not depend on how the audio is cut into
    chunks.
    """

    def __init__(self, num_channels: int, rate_hz: int) -> None:
        from .cpu import mixing

        mixing.compile_mixing()
        self.num_channels = num_channels
        self._mix_samples = mixing.mix_samples
        self._block = max(1, round(rate_hz * _BLOCK_S))
        self._dc_gain = 1.0 - math.exp(-2.0 * math.pi * DC_HZ / rate_hz)
        self._state = np.zeros((mixing.NUM_ROWS, num_channels))
        self._state[[mixing.WEIGHT, mixing.TARGET]] = 1.0 / num_channels
        self._state[[mixing.FLOOR, mixing.FLOOR_BEFORE]] = math.inf
        self._state[mixing.SIGN] = 1.0
        self._counts = np.zeros(mixing.NUM_COUNTS, np.int64)

    def mix(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Mix the next samples (n, channels) -> (n,). A sample that is not finite counts as 0."""
        mixed = np.empty(len(samples), np.float32)
        samples = np.ascontiguousarray(samples, np.float32)  # the type the kernel is compiled for
        self._mix_samples(samples, mixed, self._state, self._counts, self._block, self._dc_gain)
        return mixed


def to_float(samples: NDArray[Any], num_channels: int) -> NDArray[np.float32]:
    """Convert decoded samples -> float32 (n, channels) in -1..1.

    `samples` are of any sample format of FFmpeg: planar (channels, n) or packed (1, n * channels).
    """
    frames = samples.T if len(samples) == num_channels else samples.reshape(-1, num_channels)
    if frames.dtype == np.uint8:
        return (frames.astype(np.float32) - np.float32(128)) / np.float32(128)
    scale = -float(np.iinfo(frames.dtype).min) if frames.dtype.kind == "i" else 1.0
    return (frames / scale).astype(np.float32) if scale != 1.0 else frames.astype(np.float32)
