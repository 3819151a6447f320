"""How the CUDA preprocessor calls the driver, through Numba itself and not its simulator.

The driver is a stand-in compiled from C, which runs nothing.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from emotion_edge.kernels.crop import place_box

COMPILER = shutil.which("cc")
SOURCE = Path(__file__).with_name("driver_stand_in.c")
ORIN_STREAM = 0x5EA

RUN = """
import ctypes, os, sys, warnings
warnings.simplefilter("error")
import numpy as np
from numba.cuda.cudadrv.nvvm import NVVM
from numba.cuda.cudadrv.error import NvvmSupportError
try:
    NVVM()
except NvvmSupportError:
    print(None)
    sys.exit()
from emotion_edge.kernels.cuda.preprocessor import CudaPreprocessor
from emotion_edge.kernels.spec import ImageSpec, MelSpec

driver = ctypes.CDLL(os.environ["NUMBA_CUDA_DRIVER"])
driver.list_launches.restype = ctypes.c_char_p
image = np.zeros((1080, 1300), np.uint8)[:, :1280]
audio = np.zeros(533, np.float32)
box = (100.25, 50.5, 300.0, 0.0)

def do_one_frame(preprocessor):
    in_place = preprocessor.faces(image, [box], 112, "nv12", image.ctypes.data)
    preprocessor.faces(image, [box], 112, "nv12")
    preprocessor.mel.push(audio)
    return in_place, *preprocessor.mel.window()

with CudaPreprocessor(ImageSpec(), MelSpec(), "float16") as preprocessor:
    tensors = do_one_frame(preprocessor)
    before = driver.count_allocations(), len(driver.list_launches())
    for _ in range(50):
        do_one_frame(preprocessor)
    after = driver.count_allocations()
    kernels = (preprocessor._face_kernel, preprocessor.mel._mel_kernel)
    print({
        "image": image.ctypes.data,
        "tensors": [(t.ptr != 0, t.shape, t.dtype, t.stream) for t in tensors],
        "allocations": after - before[0],
        "launches": driver.list_launches()[before[1]:].decode().splitlines(),
        "versions": [len(kernel.overloads) for kernel in kernels],
        "from the cache": [sum(kernel.stats.cache_hits.values()) for kernel in kernels],
    })
"""


def run_with_driver(driver: Path, cache: Path) -> dict[str, Any]:
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_ENABLE_CUDASIM"}
    environment.update(NUMBA_CUDA_DRIVER=str(driver), NUMBA_CACHE_DIR=str(cache))
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    seen = ast.literal_eval(done.stdout)
    if seen is None:
        pytest.skip("Numba finds no NVVM: no CUDA toolkit is installed")
    assert isinstance(seen, dict)
    return seen


@pytest.mark.skipif(COMPILER is None, reason="no C compiler is installed")
def test_a_frame_is_four_launches_and_nothing_else(tmp_path: Path) -> None:
    """On one stream, with the grid, shared memory and arguments that the kernels expect. No
    allocation, no warning. Compiled once; the next process loads the cache."""
    from numba import cuda

    if getattr(cuda, "implementation", "Built-in") != "Built-in":
        pytest.skip("numba-cuda takes its driver from elsewhere")
    driver = tmp_path / "libcuda.so.1"
    command = [str(COMPILER), "-shared", "-fPIC", "-w", "-o", str(driver), str(SOURCE)]
    subprocess.run(command, check=True, timeout=500)
    seen = run_with_driver(driver, tmp_path / "cache")
    assert seen["tensors"] == [
        (True, (1, 3, 112, 112), "float16", ORIN_STREAM),
        (True, (1, 64, 300), "float32", ORIN_STREAM),
        (True, (1, 300), "float32", ORIN_STREAM),
    ]
    assert seen["allocations"] == 0
    assert seen["versions"] == [1, 1]
    assert seen["from the cache"] == [0, 0]
    lines = [line.split() for line in seen["launches"]]
    assert len(lines) == 50 * 4
    faces = [line for line in lines if line[0] == "face_kernel"]
    place = place_box((100.25, 50.5, 300.0, 0.0), 112)
    in_place = ["4", "14", "32", "8", "0", str(ORIN_STREAM), str(seen["image"]), "0", "3"]
    assert faces[0][1:] == [*in_place, "1300", "1280", "720", *map(str, place), "0"]
    # The box's quarter points lie in columns 100..399 and rows 51..349; chroma rows are pairs.
    staged = place_box((0.25, 0.5, 300.0, 0.0), 112)
    assert faces[1][8:] == ["0", "3", "300", "300", "300", *map(str, staged), "0"]
    assert all(face in (faces[0], faces[1]) for face in faces)
    columns = [line for line in lines if line[0] == "mel_kernel"]
    assert {line[1] for line in columns} == {"3", "4"}
    assert {tuple(line[2:]) for line in columns} == {("1", "64", "1", "8192", str(ORIN_STREAM))}
    windows = {tuple(line[1:]) for line in lines if line[0] == "window_kernel"}
    assert windows == {("64", "1", "64", "1", "0", str(ORIN_STREAM))}
    again = run_with_driver(driver, tmp_path / "cache")
    assert again["from the cache"] == [1, 1]
    assert again["allocations"] == 0
