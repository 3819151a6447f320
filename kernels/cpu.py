"""The preprocessor for any CPU: Numba kernels behind the `Preprocessor` protocol."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .cpu_face import channel_rows, compile_face_pass, face_pass
from .cpu_mel import StreamingLogMel, compile_push
from .pixels import picture_size
from .spec import MAX_FACE_PX, MIN_FACE_PX, ImageSpec, MelSpec


class CpuPreprocessor:
    """Buffers are made once for a size of picture and of network input, then reused."""

    name = "cpu"

    def __init__(self, image: ImageSpec, mel: MelSpec) -> None:
        self._spec = image
        self.mel = StreamingLogMel(mel)
        self._outputs: dict[int, NDArray[np.float32]] = {}
        self._taps = np.zeros((4, MAX_FACE_PX), np.uint64)
        self._shares = np.zeros((2, MAX_FACE_PX), np.float32)
        self._scratch_for = (0, False)
        compile_face_pass()
        compile_push()
        # The first call also picks the compiled version for its arguments: not in a frame's time.
        self.face(np.zeros((MIN_FACE_PX, MIN_FACE_PX, 3), np.uint8), (0, 0, 8), MIN_FACE_PX)
        self.mel.push(np.zeros(mel.window, np.float32))
        self.mel.restart(0)

    def face(
        self,
        image: NDArray[np.uint8],
        box: tuple[float, float, float],
        size_px: int,
        pixel_format: str = "bgr8",
        device_ptr: int = 0,
    ) -> NDArray[np.float32]:
        """Picture + square box (x, y, side) -> (1, 3, size_px, size_px), reused by the next call
        of the same size. See `reference.face_tensor`."""
        height, width = picture_size(image, pixel_format)
        x, y, side = box
        bgr = pixel_format == "bgr8"
        if (width, bgr) != self._scratch_for:
            self._prepare_scratch(width, bgr)
        if size_px not in self._outputs:
            if size_px % 4 or not 0 < size_px <= MAX_FACE_PX:
                raise ValueError(f"face size {size_px} must be a multiple of 4 up to {MAX_FACE_PX}")
            self._outputs[size_px] = np.zeros((1, 3, size_px, size_px), np.float32)
        if not (1.0 <= side <= 4 * max(width, height) and math.isfinite(x) and math.isfinite(y)):
            raise ValueError(
                f"face box {box} must be finite, its side in 1..{4 * max(width, height)}"
            )
        out = self._outputs[size_px]
        face_pass(
            np.ascontiguousarray(image),
            float(x),
            float(y),
            float(side),
            bgr,
            *self._channel_rows,
            self._taps,
            self._shares,
            self._row,
            out[0],
        )
        return out

    def _prepare_scratch(self, width: int, bgr: bool) -> None:
        self._scratch_for = (width, bgr)
        self._channel_rows = channel_rows(self._spec.mean, self._spec.std, bgr, width)
        self._row = np.zeros(3 * width + 1, np.float32)
