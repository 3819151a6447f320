"""The preprocessor for any CPU: the Numba kernels behind the `Preprocessor` protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..crop import Crop, check_box, check_faces, find_crop, place_box, view_crop
from ..pixels import RGB_MATRICES, find_format, image_size
from ..reference import MIN_ROLL_RAD, Box
from ..spec import MAX_FACE_PX, MIN_FACE_PX, ImageSpec, MelSpec
from .color import compile_color_conversion, convert_nv12, convert_yuyv
from .face import channel_rows, compile_face_pass, face_pass
from .mel import StreamingLogMel, compile_push
from .turned_face import compile_turned_face_pass, turned_face_pass

_PADDING = 8
"""Numbers after an image in scratch memory that the face passes may read."""


class CpuPreprocessor:
    """Preprocessing on the CPU; see `kernels.Preprocessor`.

    Buffers are allocated once for each image size and output size, then reused.
    """

    name = "cpu"

    def __init__(self, image: ImageSpec, mel: MelSpec) -> None:
        self._spec = image
        self.mel = StreamingLogMel(mel)
        self._outputs: dict[tuple[int, int], NDArray[np.float32]] = {}
        self._taps = np.zeros((4, MAX_FACE_PX), np.uint64)
        self._weights = np.zeros((2, MAX_FACE_PX), np.float32)
        self._rows_for = (0, False)
        self._scratch: dict[str, NDArray[Any]] = {}
        compile_face_pass()
        compile_turned_face_pass()
        compile_color_conversion()
        compile_push()
        # The first call also selects the compiled version: done here, not within a frame.
        for layout, shape in (
            ("bgr8", (MIN_FACE_PX, MIN_FACE_PX, 3)),
            ("yuyv", (MIN_FACE_PX, MIN_FACE_PX, 2)),
            ("nv12", (MIN_FACE_PX * 3 // 2, MIN_FACE_PX)),
        ):
            boxes = [(0.0, 0.0, 8.0, roll) for roll in (0.0, 1.0)]
            self.faces(np.zeros(shape, np.uint8), boxes, MIN_FACE_PX, layout)
        self.mel.push(np.zeros(mel.window, np.float32))
        self.mel.restart(0)

    def faces(
        self,
        image: NDArray[np.uint8],
        boxes: Sequence[Box],
        size_px: int,
        pixel_format: str = "bgr8",
        device_ptr: int = 0,
    ) -> NDArray[np.float32]:
        """Compute `reference.face_tensor` of n boxes -> (n, 3, size_px, size_px).

        The next call with the same n and size overwrites the result. `device_ptr` is ignored.
        """
        height, width = image_size(image, pixel_format)
        key = len(boxes), size_px
        if key not in self._outputs:
            check_faces(*key)
            self._outputs[key] = np.zeros((len(boxes), 3, size_px, size_px), np.float32)
        for box in boxes:
            check_box(box, height, width)
        bgr = pixel_format == "bgr8"
        if (width, bgr) != self._rows_for:
            self._prepare_rows(width, bgr)
        copied = pixel_format in RGB_MATRICES or not image.flags.c_contiguous
        out = self._outputs[key]
        for box, tensor in zip(boxes, out, strict=True):
            if abs(box[3]) < MIN_ROLL_RAD:
                self._fill_upright(image, box, pixel_format, copied, tensor)
            else:
                self._fill_turned(image, box, pixel_format, copied, tensor)
        return out

    def _fill_upright(
        self,
        image: NDArray[np.uint8],
        box: Box,
        pixel_format: str,
        copied: bool,
        out: NDArray[np.float32],
    ) -> None:
        pixels: NDArray[Any] = image
        if copied:
            scratch, crop = self._copy_crop(image, box, len(out[0]), pixel_format)
            pixels = scratch[: crop.height * crop.width * 3].reshape(crop.height, crop.width, 3)
            box = crop.move(box)
        face_pass(
            pixels,
            float(box[0]),
            float(box[1]),
            float(box[2]),
            pixel_format == "bgr8",
            *self._channel_rows,
            self._taps,
            self._weights,
            self._row,
            out,
        )

    def _fill_turned(
        self,
        image: NDArray[np.uint8],
        box: Box,
        pixel_format: str,
        copied: bool,
        out: NDArray[np.float32],
    ) -> None:
        if copied or image.size < _PADDING:
            pixels, crop = self._copy_crop(image, box, len(out[0]), pixel_format)
            height, width, box = crop.height, crop.width, crop.move(box)
        else:
            height, width = image.shape[:2]
            pixels = image.reshape(-1)
        turned_face_pass(
            pixels,
            height,
            width,
            *place_box(box, len(out[0])),
            pixel_format == "bgr8",
            self._scaling,
            out,
        )

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
    ) -> tuple[NDArray[Any], Crop]:
        """Copy the part of an image that the box needs -> (scratch memory that begins with its
        pixels, the part).

        For images that the face pass cannot read in place: Y'CbCr, or not contiguous.
        """
        height, width = image_size(image, pixel_format)
        crop = find_crop(box, size_px, height, width)
        matrix = RGB_MATRICES.get(pixel_format)
        scratch = self._get_scratch("pixels" if matrix is None else "converted", height * width * 3)
        rows = scratch[: crop.height * crop.width * 3].reshape(crop.height, -1)
        blocks = view_crop(image, pixel_format, height, crop)
        if matrix is None:
            np.copyto(rows.reshape(blocks[0].shape), blocks[0])
        elif find_format(pixel_format).layout == "nv12":
            convert_nv12(*blocks, matrix, rows)
        else:
            convert_yuyv(blocks[0].reshape(crop.height, -1), matrix, rows)
        return scratch, crop

    def _get_scratch(self, name: str, size: int) -> NDArray[Any]:
        """Return scratch memory as large as the largest image so far.

        The system allocates only the pages that are written.
        """
        size += _PADDING
        if name not in self._scratch or self._scratch[name].size < size:
            self._scratch[name] = np.empty(size, np.float32 if name == "converted" else np.uint8)
        return self._scratch[name]

    def _prepare_rows(self, width: int, bgr: bool) -> None:
        self._rows_for = (width, bgr)
        self._channel_rows = channel_rows(self._spec.mean, self._spec.std, bgr, width)
        self._row = np.zeros(3 * width + 1, np.float32)
        self._scaling = np.zeros(8, np.float32)
        self._scaling[:3], self._scaling[4:7] = (row[:3] for row in self._channel_rows)
