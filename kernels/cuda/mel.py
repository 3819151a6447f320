"""The streaming log-mel on CUDA: audio samples in, a window of log-mel columns in GPU memory out.

One block of threads computes each column once, when its last sample arrives. PCEN goes from column
to column and needs a second kernel. Another one gathers a window from the columns. The samples are
read in place from page-locked memory.

The computation is in float64 up to the power spectrum. In float32 a quiet band beside a loud tone
is wrong by up to 1.2e-3 of a standard deviation (a 7 kHz tone at full scale beside noise at
-80 dB). The error comes from the FFT, not from the pre-emphasis before it. The cost on an Orin,
with two float64 units per multiprocessor, is counted and not measured: with the default spec 12,000
operations per column, 6,000 cycles, 6 µs at 1 GHz. A frame's three or four columns run in parallel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda
from numpy.typing import NDArray

from ..cpu.audio import compile_staging, stage_samples
from ..cpu.compression import PCEN, pack_compression
from ..cpu.fft import twiddles
from ..cpu.mel import pack_filters
from ..mel_grid import MelGrid
from ..memory import DeviceArray
from ..reference import hann_window
from ..spec import MelSpec
from .device import (
    PreprocessorError,
    Staging,
    address_of,
    ignore_small_grid_warnings,
    make_staging,
    stream_handle,
)
from .mel_kernels import (
    MEL_SIGNATURE,
    PCEN_SIGNATURE,
    WINDOW_SIGNATURE,
    mel_kernel,
    pcen_kernel,
    window_kernel,
)

THREADS = 64
"""Threads per block: one for each butterfly of a 512-point real FFT."""
CHUNK_COLUMNS = 32
"""Most columns per launch. Longer audio is split."""
SHARED_BYTES = 48 * 1024
"""Shared memory of a block on every GPU without opting in to more (CUDA C++ Programming Guide,
compute capabilities)."""


class CudaStreamingLogMel(MelGrid):
    """`cpu.mel.StreamingLogMel` with its columns in GPU memory.

    `push` and `window` neither allocate GPU memory nor wait for the GPU. Levels are computed on the
    host, where the samples are. For one thread.
    """

    def __init__(self, spec: MelSpec, stream: Any) -> None:
        """Run on the Numba `stream`, in the current context. Raises PreprocessorError."""
        audio_size = 1 + spec.window + (CHUNK_COLUMNS - 1) * spec.hop
        super().__init__(spec, np.zeros(audio_size, np.float32))
        half = spec.fft_size // 2
        self._shared_bytes = 4 * half * np.dtype(np.float64).itemsize
        if self._shared_bytes > SHARED_BYTES:
            raise PreprocessorError(
                f"mel fft_size {spec.fft_size} is too large for CUDA: 2048 fits"
            )
        compile_staging()
        self._stream = stream
        self._mel_kernel = cuda.jit(MEL_SIGNATURE, cache=True)(mel_kernel)
        self._window_kernel = cuda.jit(WINDOW_SIGNATURE, cache=True)(window_kernel)
        self._stagings = [make_staging(audio_size, "float32") for _ in range(2)]
        kind, settings = pack_compression(spec)
        floor, mean, std, exponent, smoothing, gain, bias = settings
        scaling = np.float32(exponent), np.float32(mean), np.float32(1 / std)
        in_two_steps = kind == PCEN
        self._scalars = (spec.preemphasis, 0.0 if in_two_steps else floor, kind, *scaling)
        self._pcen_kernel: Any = None
        if in_two_steps:
            self._pcen_kernel = cuda.jit(PCEN_SIGNATURE, cache=True)(pcen_kernel)
            self._pcen_scalars = floor, smoothing, np.float32(gain), np.float32(bias), *scaling
            self._smooth = cuda.to_device(np.zeros(spec.num_mels))
        triangles, weights = pack_filters(spec)
        triangles[:, 1] = np.minimum(
            triangles[:, 1], half + 1
        )  # without the padding of `pack_filters`
        constants = (hann_window(spec), twiddles(half), triangles, weights)
        self._constants = tuple(cuda.to_device(array) for array in constants)
        self._columns = cuda.to_device(np.zeros((spec.num_mels, self._capacity), np.float32))
        self._mel = cuda.to_device(np.zeros((1, spec.num_mels, spec.num_frames), np.float32))
        self._mask = cuda.to_device(np.zeros((1, spec.num_frames), np.float32))
        self._window = self._describe(self._mel), self._describe(self._mask)
        with ignore_small_grid_warnings():
            self._window_grid()
            for count in range(1, CHUNK_COLUMNS + 1):
                self._mel_grid(count)
            if in_two_steps:
                self._pcen_grid()

    def push(self, samples: NDArray[np.float32]) -> int:
        """Append the next samples (n,) -> the number of columns they completed.

        The columns are computed on the stream. Their levels are available at once.
        """
        samples = self._align_to_grid(samples)
        before = self._num_columns
        while len(samples):
            room = len(self._audio) - 1 - self._filled
            self._push_chunk(samples[:room])
            samples = samples[room:]
        return self._num_columns - before

    def _push_chunk(self, samples: NDArray[np.float32]) -> None:
        spec, staging = self.spec, self._stagings[0]
        staging.wait()
        self._filled, new = stage_samples(
            samples,
            self._audio,
            self._filled,
            staging.host,
            self._levels,
            self._num_columns,
            spec.window,
            spec.hop,
        )
        if new:
            slot = self._num_columns % self._capacity
            self.launch(staging, new, slot)
            staging.read.record(self._stream)
            self._stagings.reverse()
            self._num_columns += new

    def launch(self, staging: Staging, num_columns: int, slot: int) -> None:
        """Compute `num_columns` columns of the samples in `staging` into the ring, from `slot`."""
        self._mel_grid(num_columns)(
            staging.device, self.spec.hop, slot, *self._scalars, *self._constants, self._columns
        )
        if self._pcen_kernel is not None:
            is_first = self._num_columns == self.first_column
            self._pcen_grid()(
                self._columns, slot, num_columns, is_first, *self._pcen_scalars, self._smooth
            )

    def window(self, end_column: int | None = None) -> tuple[Any, Any]:
        """Return the window that ends before `end_column` (default: the newest).

        -> DeviceArrays mel (1, num_mels, num_frames) and mask (1, num_frames), float32. Before the
        start of the audio both are 0. The next call overwrites them. Raises IndexError for columns
        that are no longer stored or not yet complete.
        """
        start, count = self._span(end_column)
        self._window_grid()(self._columns, start, count, self._mel, self._mask)
        return self._window

    def wipe(self) -> None:
        """Overwrite the audio in host memory."""
        for staging in self._stagings:
            staging.host[:] = 0
        for array in (self._audio, self._levels):
            array.fill(0)

    def _mel_grid(self, num_columns: int) -> Any:
        """Return the configured kernel. Numba caches it for each number of columns."""
        return self._mel_kernel[num_columns, THREADS, self._stream, self._shared_bytes]

    def _pcen_grid(self) -> Any:
        return self._pcen_kernel[-(-self.spec.num_mels // THREADS), THREADS, self._stream]

    def _window_grid(self) -> Any:
        return self._window_kernel[self.spec.num_mels, THREADS, self._stream]

    def _describe(self, array: Any) -> DeviceArray:
        handle = stream_handle(self._stream)
        return DeviceArray(address_of(array), tuple(array.shape), "float32", handle, array)
