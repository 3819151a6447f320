"""Kernel times measured by the GPU's clock: of any work on a stream, and of one frame."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import numpy as np

from ..pixels import LAYOUTS
from .device import address_of, make_staging, stream_handle
from .preprocessor import CudaPreprocessor

NUM_ROUNDS = 100
FRAME_COLUMNS = 4
"""Most columns that 533 samples complete, the audio of a frame at 30 fps."""
_ROWS = {
    "bgr8": (720, 1280, 3),
    "rgb8": (720, 1280, 3),
    "yuyv": (720, 1280, 2),
    "nv12": (1080, 1280),
}
_BOXES = ((430.25, 190.5, 310.0, 0.0), (250.0, 0.0, 720.0, 0.0), (430.25, 190.5, 310.0, 0.5))


class GraphDriver(Protocol):
    """The driver's calls for CUDA graphs; handles are integers. `engines.tensorrt.cuda_driver`."""

    def begin_capture(self, stream: int) -> None: ...
    def end_capture(self, stream: int) -> int: ...
    def launch_graph(self, graph: int, stream: int) -> None: ...
    def destroy_graph(self, graph: int) -> None: ...


def time_on_device(
    driver: GraphDriver, stream: Any, enqueue: Callable[[], object], repeats: int = 20
) -> float:
    """Measure one call of `enqueue` on the GPU: the median in microseconds.

    `enqueue` launches kernels on the Numba `stream` and does not wait. Python takes longer to
    launch a kernel than the GPU to run it. So `repeats` calls are captured in one CUDA graph, with
    an event before and after the graph.
    """
    from numba import cuda

    handle = stream_handle(stream)
    enqueue()  # allocates what is allocated once: a capture allows no allocation
    stream.synchronize()
    driver.begin_capture(handle)
    try:
        for _ in range(repeats):
            enqueue()
    finally:
        graph = driver.end_capture(handle)
    start, end = cuda.event(), cuda.event()
    times_us = []
    try:
        for _ in range(NUM_ROUNDS):
            start.record(stream)
            driver.launch_graph(graph, handle)
            end.record(stream)
            end.synchronize()
            times_us.append(1000 * start.elapsed_time(end) / repeats)
    finally:
        driver.destroy_graph(graph)
    return float(np.median(times_us))


def time_frame(driver: GraphDriver, preprocessor: CudaPreprocessor) -> list[tuple[str, float]]:
    """Measure the kernels of one frame -> (work, median µs on the GPU) each.

    The work is the columns of a frame's audio, a window, and a face of 224 px from a 1280x720 image
    in mapped memory, in every layout.
    """
    mel, stream = preprocessor.mel, preprocessor.stream
    rng = np.random.default_rng(0)
    audio = make_staging(1 + mel.spec.window + (FRAME_COLUMNS - 1) * mel.spec.hop, "float32")
    audio.host[:] = 0.1 * rng.standard_normal(audio.host.size)
    times = [
        (
            f"{FRAME_COLUMNS} columns of log-mel",
            time_on_device(driver, stream, lambda: mel.launch(audio, FRAME_COLUMNS, 0)),
        ),
        (f"window of {mel.spec.num_frames} columns", time_on_device(driver, stream, mel.window)),
    ]
    for pixel_format in LAYOUTS:
        shape = _ROWS[pixel_format]
        memory = make_staging(int(np.prod(shape)), "uint8")
        memory.host[:] = rng.integers(0, 256, memory.host.size, np.uint8)
        image, address = memory.host.reshape(shape), address_of(memory.device)
        for box in _BOXES:
            face = partial(preprocessor.faces, image, [box], 224, pixel_format, address)
            turned = ", turned" if box[3] else ""
            name = f"face of {pixel_format}, {box[2]:.0f} -> 224 px{turned}"
            times.append((name, time_on_device(driver, stream, face)))
    mel.restart(0)
    return times
