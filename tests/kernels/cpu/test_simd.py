"""The SIMD vectors, in float32 and float64, and the FFT that is made of them."""

from __future__ import annotations

import ctypes
import mmap
from typing import Any

import numba
import numpy as np
import pytest

from emotion_edge.kernels.cpu.fft import complex_fft, twiddles
from emotion_edge.kernels.cpu.simd import load4, load_pair, splat4, store4, transpose4


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


@numba.njit  # type: ignore[untyped-decorator]
def _copy_pair(pixels: Any, at: Any, out: Any) -> None:
    here, there = load_pair(pixels, at)
    store4(out, 0, here)
    store4(out, 4, there)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_two_pixels(dtype: Any) -> None:
    """At any position up to the last; of bytes none is read beyond the array, and 255 stays 255."""
    values = np.arange(244, 256).astype(dtype)
    end = np.uint64(6 if dtype == np.uint8 else 5)
    for at in range(int(end) + 1):
        out = np.zeros(8, np.float32)
        _copy_pair(values, np.uint64(at), out)
        np.testing.assert_array_equal(out[:3], values[at : at + 3])
        np.testing.assert_array_equal(out[4:7], values[at + 3 : at + 6])


def test_the_last_pixel_reads_nothing_beyond() -> None:
    """The array ends where its memory ends: a byte further lies a page that must not be read."""
    page = mmap.PAGESIZE
    memory = mmap.mmap(-1, 2 * page)
    libc = ctypes.CDLL(None, use_errno=True)
    whole = np.frombuffer(memory, np.uint8)
    whole[:page] = 7
    assert libc.mprotect(ctypes.c_void_p(whole.ctypes.data + page), page, 0) == 0
    pixels, out = whole[page - 12 : page], np.zeros(8, np.float32)
    _copy_pair(pixels, np.uint64(6), out)
    assert set(out[[0, 1, 2, 4, 5, 6]]) == {7.0}


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
