"""Compression of a mel column's dynamic range: power in, standardised numbers out.

The reference is `reference.compress`.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from ..spec import MelSpec, Pcen, Root

LOG, ROOT, PCEN = 0, 1, 2
"""Kinds of compression, as the kernels know them."""

_compiled = numba.njit(cache=True, nogil=True, fastmath={"contract", "nsz"})


def pack_compression(spec: MelSpec) -> tuple[int, NDArray[np.float64]]:
    """Return the kind of compression and its settings (7,): floor, mean, std, then exponent,
    smoothing, gain and bias, as far as the kind has them."""
    rule = spec.compression
    if isinstance(rule, Root):
        return ROOT, np.array([spec.floor, rule.mean, rule.std, rule.exponent, 0, 0, 0])
    if isinstance(rule, Pcen):
        settings = rule.mean, rule.std, rule.exponent, rule.smoothing, rule.gain, rule.bias
        return PCEN, np.array([spec.floor, *settings])
    return LOG, np.array([spec.floor, spec.mean, spec.std, 0, 0, 0, 0])


@_compiled
def compress_column(power, kind, settings, is_first, smooth, out):  # type: ignore[no-untyped-def]
    """Compress the mel `power` of a column into `out`, both (num_mels,).

    `smooth` (num_mels,) is the mean power that PCEN carries from column to column. The first column
    of a stream starts it anew.
    """
    floor, mean, std = settings[0], settings[1], settings[2]
    exponent = np.float32(settings[3])  # float32 powers cost half as much, and err by 1e-6
    if kind == LOG:
        for m in range(len(out)):
            out[m] = (np.log(np.float32(power[m] + floor)) - mean) / std
    elif kind == ROOT:
        for m in range(len(out)):
            out[m] = (np.float32(power[m] + floor) ** exponent - mean) / std
    else:
        smoothing, gain, bias = settings[4], np.float32(settings[5]), np.float32(settings[6])
        offset = bias**exponent
        for m in range(len(out)):
            if is_first:
                smooth[m] = power[m]
            else:
                smooth[m] += smoothing * (power[m] - smooth[m])
            ratio = np.float32(power[m]) / np.float32(floor + smooth[m]) ** gain
            out[m] = ((ratio + bias) ** exponent - offset - mean) / std
