"""The preprocessor for NVIDIA GPUs: the CUDA kernels behind the `Preprocessor` protocol."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..crop import Placement, check_box, check_faces, find_crop, place_box, view_crop
from ..memory import DeviceArray
from ..pixels import LAYOUTS, PIXEL_FORMATS, find_format, image_size
from ..reference import Box
from ..spec import MIN_FACE_PX, ImageSpec, MelSpec
from .device import (
    PreprocessorError,
    Staging,
    address_of,
    ignore_small_grid_warnings,
    is_simulated,
    make_staging,
    open_stream,
    stream_handle,
    wrap_bytes,
    wrap_cuda_errors,
)

log = logging.getLogger(__name__)

MAX_WRAPPED = 64
"""Most camera buffers whose wrappers are cached. No camera cycles through more than 61, which is
`jetson_camera.count_ring_buffers` at 240 fps."""


class CudaPreprocessor:
    """Preprocessing on the GPU; see `kernels.Preprocessor`.

    All kernels run on one stream of its own, in the primary context of GPU 0. Results are
    DeviceArrays on that stream; no call waits for the GPU. Opening compiles all kernels, or loads
    them from the disk cache, and runs each once. Buffers are allocated once for each size, then
    reused: a frame allocates nothing on the GPU.
    """

    name = "cuda"

    def __init__(self, image: ImageSpec, mel: MelSpec, face_dtype: str = "float32") -> None:
        """`face_dtype` is the type of the face network's input, "float32" or "float16".

        Raises PreprocessorError without a GPU or driver, or when Numba cannot compile for the GPU.
        """
        with wrap_cuda_errors():
            from . import face as cuda_face
            from .mel import CudaStreamingLogMel

            allowed = " or ".join(cuda_face.OUTPUT_DTYPES)
            if face_dtype not in cuda_face.OUTPUT_DTYPES:
                raise ValueError(f"face dtype {face_dtype!r} is not {allowed}")
            if is_simulated():
                log.warning("NUMBA_ENABLE_CUDASIM is set: CUDA kernels run in Numba's simulator")
            from numba import cuda

            self.stream = open_stream()
            self._stream_handle = stream_handle(self.stream)
            self._face_pass = cuda_face
            self._face_dtype = face_dtype
            self._face_kernel = cuda_face.compile_face_pass(face_dtype)
            self._channels = {
                name: cuda.to_device(cuda_face.channel_table(image, name)) for name in PIXEL_FORMATS
            }
            self._outputs: dict[tuple[int, int], tuple[Any, DeviceArray]] = {}
            self._wrapped: dict[tuple[int, int], Any] = {}
            self._staging: Staging | None = None
            self.mel = CudaStreamingLogMel(mel, self.stream)
            self._warm_up()

    def faces(
        self,
        image: NDArray[np.uint8],
        boxes: Sequence[Box],
        size_px: int,
        pixel_format: str = "bgr8",
        device_ptr: int = 0,
    ) -> DeviceArray:
        """Compute `reference.face_tensor` of n boxes -> (n, 3, size_px, size_px).

        The next call with the same n and size overwrites the result. With `device_ptr` the GPU
        reads the image in place: it must stay unchanged until the result's stream is done. Without,
        the bytes that the boxes need are copied to page-locked memory first.
        """
        height, width = image_size(image, pixel_format)
        key = len(boxes), size_px
        if key not in self._outputs:
            self._make_output(*key)
        for box in boxes:
            check_box(box, height, width)
        out, result = self._outputs[key]
        bytes_per_pixel = _BYTES_PER_PIXEL[find_format(pixel_format).layout]
        row_bytes = width * bytes_per_pixel
        pitch = image.strides[0]
        whole_rows = image[0].flags.c_contiguous and pitch >= row_bytes
        if device_ptr and whole_rows:
            data = self._wrap(device_ptr, (len(image) - 1) * pitch + row_bytes)
            for face, box in enumerate(boxes):
                place = place_box(box, size_px)
                self._enqueue(data, 0, pixel_format, pitch, width, height, place, face, out)
            return result
        staging = self._find_staging(image.size)
        end = staging.host.size  # full: the first face waits for those of the last call
        for face, box in enumerate(boxes):
            crop = find_crop(box, size_px, height, width)
            blocks = view_crop(image, pixel_format, height, crop)
            start, end = end, end + sum(block.size for block in blocks)
            if end > staging.host.size:
                staging.wait()
                start, end = 0, end - start
            at = start
            for block in blocks:
                np.copyto(staging.host[at : at + block.size].reshape(block.shape), block)
                at += block.size
            self._enqueue(
                staging.device,
                start,
                pixel_format,
                crop.width * bytes_per_pixel,
                crop.width,
                crop.height,
                place_box(crop.move(box), size_px),
                face,
                out,
            )
            staging.read.record(self.stream)
        return result

    def close(self) -> None:
        """Wait for the stream, overwrite faces and audio in host memory and release all buffers.

        The context stays open, because others use it. Errors are only logged: after a GPU error
        every call fails, and the first error is the one to report.
        """
        try:
            if self._outputs:
                with wrap_cuda_errors():
                    self.stream.synchronize()
        except PreprocessorError as error:
            log.warning("closing the preprocessor: %s", error)
        if self._outputs:
            self._wipe()
        self._outputs.clear()
        self._wrapped.clear()
        self._staging = None

    def __enter__(self) -> CudaPreprocessor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _enqueue(
        self,
        data: Any,
        start: int,
        pixel_format: str,
        pitch: int,
        width: int,
        height: int,
        place: Placement,
        face: int,
        out: Any,
    ) -> None:
        self._face_grid(out.shape[3])(
            data,
            start,
            LAYOUTS.index(find_format(pixel_format).layout),
            pitch,
            width,
            height,
            *place,
            face,
            self._channels[pixel_format],
            out,
        )

    def _wipe(self) -> None:
        """Overwrite host memory. GPU memory is cleared by the driver before others get it."""
        if self._staging is not None:
            self._staging.host[:] = 0
        self.mel.wipe()

    def _make_output(self, num_faces: int, size_px: int) -> None:
        from numba import cuda

        check_faces(num_faces, size_px)
        with ignore_small_grid_warnings():
            self._face_grid(size_px)
        shape = (num_faces, 3, size_px, size_px)
        out = cuda.device_array(shape, np.dtype(self._face_dtype))
        self._outputs[num_faces, size_px] = (
            out,
            DeviceArray(address_of(out), shape, self._face_dtype, self._stream_handle, out),
        )

    def _face_grid(self, size_px: int) -> Any:
        """Return the configured kernel. Numba caches it for each size."""
        blocks, threads = self._face_pass.count_blocks(size_px), self._face_pass.BLOCK
        return self._face_kernel[blocks, threads, self.stream]

    def _wrap(self, address: int, num_bytes: int) -> Any:
        """Return the Numba array of a camera buffer, cached because a camera reuses its buffers."""
        key = (address, num_bytes)
        if key not in self._wrapped:
            if len(self._wrapped) == MAX_WRAPPED:
                self._wrapped.clear()
            self._wrapped[key] = wrap_bytes(address, num_bytes)
        return self._wrapped[key]

    def _find_staging(self, size: int) -> Staging:
        """Return page-locked memory for the largest image so far."""
        if self._staging is None or self._staging.host.size < size:
            if self._staging is not None:
                self._staging.wait()
            self._staging = make_staging(size, "uint8")
        return self._staging

    def _warm_up(self) -> None:
        """Run each kernel once, so that the driver's lazy loading does not delay a frame."""
        blank = np.zeros((MIN_FACE_PX, MIN_FACE_PX, 3), np.uint8)
        self.faces(blank, [(0.0, 0.0, 8.0, 0.0)], MIN_FACE_PX)
        self.mel.push(np.zeros(self.mel.spec.window, np.float32))
        self.mel.window()
        self.mel.restart(0)
        self.stream.synchronize()


_BYTES_PER_PIXEL = {"bgr8": 3, "rgb8": 3, "yuyv": 2, "nv12": 1}
"""Bytes per pixel of an array row. For nv12 of a luma row; its chroma rows are as long."""
