"""The SIMD vectors, in float32 and float64, and the FFT that is made of them."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest

from emotion_edge.kernels.cpu.fft import complex_fft, twiddles
from emotion_edge.kernels.cpu.simd import load4, splat4, store4, transpose4


@numba.njit  # type: ignore[untyped-decorator]
def _calculate(a: Any, b: Any, at: int, out: Any) -> None:
    x, y = load4(a, at), load4(b, at)
    store4(out, at, x * y + x - splat4(a[0]))


@numba.njit  # type: ignore[untyped-decorator]
def _transpose(rows: Any, out: Any) -> None:
    columns = transpose4(load4(rows, 0), load4(rows, 4), load4(rows, 8), load4(rows, 12))
    store4(out, 0, columns[0])
    store4(out, 4, columns[1])
    store4(out, 8, columns[2])
    store4(out, 12, columns[3])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_four_lanes(dtype: Any) -> None:
    """At any position, aligned or not; neighbouring elements are unchanged."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 16)).astype(dtype)
    for at in (0, 1, 3, 7, 12):
        out = np.full(16, 9, dtype)
        _calculate(a, b, at, out)
        lanes = slice(at, at + 4)
        np.testing.assert_allclose(
            out[lanes], (a * b + a - a[0])[lanes], rtol=1e-5, atol=2 * float(np.finfo(dtype).eps)
        )
        assert (np.delete(out, np.arange(at, at + 4)) == 9).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_transpose(dtype: Any) -> None:
    """Rows become columns."""
    rows = np.arange(16, dtype=dtype)
    out = np.zeros(16, dtype)
    _transpose(rows, out)
    np.testing.assert_array_equal(out.reshape(4, 4), rows.reshape(4, 4).T)


def test_lanes_are_of_one_kind() -> None:
    """Mixing float32 and float64 lanes is a compile error, not a wrong number."""
    with pytest.raises(numba.core.errors.TypingError):
        _calculate(np.zeros(8, np.float32), np.zeros(8), 0, np.zeros(8))


@pytest.mark.parametrize("size", [16, 32, 64, 128, 256, 512, 1024])
def test_fft_equals_numpy(size: int) -> None:
    """Powers of four, and others, which end with a radix-2 step: complex noise and a tone, within
    1e-12 of the largest value."""
    rng = np.random.default_rng(size)
    noise = rng.standard_normal(size) + 1j * rng.standard_normal(size)
    tone = np.exp(2j * np.pi * 3 * np.arange(size) / size)
    for signal in (noise, tone):
        work = np.zeros((4, size))
        work[0], work[1] = signal.real, signal.imag
        re, im = complex_fft(size, work[0], work[1], work[2], work[3], twiddles(size))
        want = np.fft.fft(signal)
        np.testing.assert_allclose(re + 1j * im, want, rtol=0, atol=1e-12 * np.abs(want).max())
