"""The preprocessor for any CPU: the Numba kernels behind the `Preprocessor` protocol."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..crop import Box, check_box, check_size, find_crop, view_crop
from ..pixels import RGB_MATRICES, find_format, image_size
from ..spec import MAX_FACE_PX, MIN_FACE_PX, ImageSpec, MelSpec
from .color import compile_color_conversion, convert_nv12, convert_yuyv
from .face import channel_rows, compile_face_pass, face_pass
from .mel import StreamingLogMel, compile_push


class CpuPreprocessor:
    """Preprocessing on the CPU; see `kernels.Preprocessor`.

    Buffers are allocated once for each image size and output size, then reused.
    """

    name = "cpu"

    def __init__(self, image: ImageSpec, mel: MelSpec) -> None:
        self._spec = image
        self.mel = StreamingLogMel(mel)
        self._outputs: dict[int, NDArray[np.float32]] = {}
        self._taps = np.zeros((4, MAX_FACE_PX), np.uint64)
        self._weights = np.zeros((2, MAX_FACE_PX), np.float32)
        self._rows_for = (0, False)
        self._scratch: dict[str, NDArray[Any]] = {}
        compile_face_pass()
        compile_color_conversion()
        compile_push()
        # The first call also selects the compiled version: done here, not within a frame.
        for layout, shape in (
            ("bgr8", (MIN_FACE_PX, MIN_FACE_PX, 3)),
            ("yuyv", (MIN_FACE_PX, MIN_FACE_PX, 2)),
            ("nv12", (MIN_FACE_PX * 3 // 2, MIN_FACE_PX)),
        ):
            self.face(np.zeros(shape, np.uint8), (0, 0, 8), MIN_FACE_PX, layout)
        self.mel.push(np.zeros(mel.window, np.float32))
        self.mel.restart(0)

    def face(
        self,
        image: NDArray[np.uint8],
        box: Box,
        size_px: int,
        pixel_format: str = "bgr8",
        device_ptr: int = 0,
    ) -> NDArray[np.float32]:
        """Compute `reference.face_tensor` -> (1, 3, size_px, size_px).

        The next call with the same size overwrites the result. `device_ptr` is ignored.
        """
        height, width = image_size(image, pixel_format)
        if size_px not in self._outputs:
            check_size(size_px)
            self._outputs[size_px] = np.zeros((1, 3, size_px, size_px), np.float32)
        check_box(box, height, width)
        bgr = pixel_format == "bgr8"
        if (width, bgr) != self._rows_for:
            self._prepare_rows(width, bgr)
        pixels: NDArray[Any] = image
        if pixel_format in RGB_MATRICES or not image.flags.c_contiguous:
            pixels, box = self._copy_crop(image, box, size_px, pixel_format)
        out = self._outputs[size_px]
        face_pass(
            pixels,
            float(box[0]),
            float(box[1]),
            float(box[2]),
            bgr,
            *self._channel_rows,
            self._taps,
            self._weights,
            self._row,
            out[0],
        )
        return out

    def close(self) -> None:
        """Overwrite all faces and audio in memory."""
        for array in (*self._outputs.values(), *self._scratch.values(), self._row):
            array.fill(0)
        self.mel.wipe()

    def __enter__(self) -> CpuPreprocessor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _copy_crop(
        self, image: NDArray[np.uint8], box: Box, size_px: int, pixel_format: str
    ) -> tuple[NDArray[Any], Box]:
        """Copy the part of an image that the box needs -> (pixels, the box in them).

        For images that the face pass cannot read in place: Y'CbCr, or not contiguous.
        """
        height, width = image_size(image, pixel_format)
        crop = find_crop(box, size_px, height, width)
        matrix = RGB_MATRICES.get(pixel_format)
        scratch = self._get_scratch("pixels" if matrix is None else "converted", height * width * 3)
        pixels = scratch[: crop.height * crop.width * 3].reshape(crop.height, crop.width, 3)
        blocks = view_crop(image, pixel_format, height, crop)
        if matrix is None:
            np.copyto(pixels, blocks[0])
        elif find_format(pixel_format).layout == "nv12":
            convert_nv12(*blocks, matrix, pixels.reshape(crop.height, -1))
        else:
            pairs = blocks[0].reshape(crop.height, -1)
            convert_yuyv(pairs, matrix, pixels.reshape(crop.height, -1))
        return pixels, crop.move(box)

    def _get_scratch(self, name: str, size: int) -> NDArray[Any]:
        """Return scratch memory as large as the largest image so far.

        The system allocates only the pages that are written.
        """
        if name not in self._scratch or self._scratch[name].size < size:
            self._scratch[name] = np.empty(size, np.float32 if name == "converted" else np.uint8)
        return self._scratch[name]

    def _prepare_rows(self, width: int, bgr: bool) -> None:
        self._rows_for = (width, bgr)
        self._channel_rows = channel_rows(self._spec.mean, self._spec.std, bgr, width)
        self._row = np.zeros(3 * width + 1, np.float32)
