"""The preprocessor for NVIDIA GPUs: Numba CUDA kernels behind the `Preprocessor` protocol."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..crop import Box, check_box, check_size, find_crop, view_crop
from ..memory import DeviceArray
from ..pixels import LAYOUTS, PIXEL_FORMATS, find_format, image_size
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
"""Camera buffers whose wrapping is remembered: more than any camera cycles through (61, of
`jetson_camera.count_ring_buffers` at 240 pictures a second)."""


class CudaPreprocessor:
    """Everything runs on one stream of its own in the primary context of GPU 0, and nothing waits
    for the GPU: results are DeviceArrays on that stream.

    All kernels are compiled, or loaded from the disk cache, and run once when it is opened. Buffers
    are made once for a size, then reused: a frame allocates nothing on the GPU.
    """

    name = "cuda"

    def __init__(self, image: ImageSpec, mel: MelSpec, face_dtype: str = "float32") -> None:
        """`face_dtype`: "float32" or "float16", what the face network reads. Raises
        PreprocessorError when there is no GPU, no driver, or Numba cannot compile for it."""
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
            self._outputs: dict[int, tuple[Any, DeviceArray]] = {}
            self._wrapped: dict[tuple[int, int], Any] = {}
            self._staging: Staging | None = None
            self.mel = CudaStreamingLogMel(mel, self.stream)
            self._warm_up()

    def face(
        self,
        image: NDArray[np.uint8],
        box: Box,
        size_px: int,
        pixel_format: str = "bgr8",
        device_ptr: int = 0,
    ) -> DeviceArray:
        """Picture + square box (x, y, side) -> (1, 3, size_px, size_px), reused by the next call
        of the same size. See `reference.face_tensor`.

        With `device_ptr` the GPU reads the picture where it lies: it must stay there until what
        is enqueued on the result's stream is done. Without, the bytes that the box needs are
        copied to page-locked memory first.
        """
        height, width = image_size(image, pixel_format)
        if size_px not in self._outputs:
            self._make_output(size_px)
        check_box(box, height, width)
        bytes_per_pixel = _BYTES_PER_PIXEL[find_format(pixel_format).layout]
        row_bytes = width * bytes_per_pixel
        pitch = image.strides[0]
        whole_rows = image[0].flags.c_contiguous and pitch >= row_bytes
        if device_ptr and whole_rows:
            data = self._wrap(device_ptr, (len(image) - 1) * pitch + row_bytes)
            return self._enqueue(data, pixel_format, pitch, width, height, box, size_px)
        staging = self._find_staging(image.size)
        staging.wait()
        crop = find_crop(box, size_px, height, width)
        at = 0
        for block in view_crop(image, pixel_format, height, crop):
            np.copyto(staging.host[at : at + block.size].reshape(block.shape), block)
            at += block.size
        pitch = crop.width * bytes_per_pixel
        box = crop.move(box)
        result = self._enqueue(
            staging.device, pixel_format, pitch, crop.width, crop.height, box, size_px
        )
        staging.read.record(self.stream)
        return result

    def close(self) -> None:
        """Wait for what is enqueued, overwrite what is left of faces and voices, and let go of the
        buffers. The context stays: others are in it. What fails is only logged: after an error of
        the GPU every call fails, and that error is the one to be read."""
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
        pixel_format: str,
        pitch: int,
        width: int,
        height: int,
        box: Box,
        size_px: int,
    ) -> DeviceArray:
        out, result = self._outputs[size_px]
        self._face_grid(size_px)(
            data,
            LAYOUTS.index(find_format(pixel_format).layout),
            pitch,
            width,
            height,
            *self._face_pass.place_box(box, size_px),
            self._channels[pixel_format],
            out,
        )
        return result

    def _wipe(self) -> None:
        """The driver gives memory of the GPU to nobody else before it is overwritten; what lies in
        the host's is overwritten here."""
        if self._staging is not None:
            self._staging.host[:] = 0
        self.mel.wipe()

    def _make_output(self, size_px: int) -> None:
        from numba import cuda

        check_size(size_px)
        with ignore_small_grid_warnings():
            self._face_grid(size_px)
        shape = (1, 3, size_px, size_px)
        out = cuda.device_array(shape, np.dtype(self._face_dtype))
        self._outputs[size_px] = (
            out,
            DeviceArray(address_of(out), shape, self._face_dtype, self._stream_handle, out),
        )

    def _face_grid(self, size_px: int) -> Any:
        """Made once per size by Numba, which keeps it."""
        blocks, threads = self._face_pass.count_blocks(size_px), self._face_pass.BLOCK
        return self._face_kernel[blocks, threads, self.stream]

    def _wrap(self, address: int, num_bytes: int) -> Any:
        """The same few buffers of a camera come again and again."""
        key = (address, num_bytes)
        if key not in self._wrapped:
            if len(self._wrapped) == MAX_WRAPPED:
                self._wrapped.clear()
            self._wrapped[key] = wrap_bytes(address, num_bytes)
        return self._wrapped[key]

    def _find_staging(self, size: int) -> Staging:
        """For the largest picture so far."""
        if self._staging is None or self._staging.host.size < size:
            if self._staging is not None:
                self._staging.wait()
            self._staging = make_staging(size, "uint8")
        return self._staging

    def _warm_up(self) -> None:
        """Run each kernel once: what the driver puts off until then must not be in a frame."""
        self.face(np.zeros((MIN_FACE_PX, MIN_FACE_PX, 3), np.uint8), (0, 0, 8), MIN_FACE_PX)
        self.mel.push(np.zeros(self.mel.spec.window, np.float32))
        self.mel.window()
        self.mel.restart(0)
        self.stream.synchronize()


_BYTES_PER_PIXEL = {"bgr8": 3, "rgb8": 3, "yuyv": 2, "nv12": 1}
"""In a row of the array; of nv12's luma rows, and its rows of colour are as long."""
