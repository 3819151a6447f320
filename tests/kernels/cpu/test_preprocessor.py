"""When the CPU kernels are compiled, and that a call allocates nothing.

They are compiled once, when a preprocessor is opened; the next process loads them from the cache.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_edge.kernels import open_preprocessor
from emotion_edge.kernels.cpu.color import convert_nv12, convert_yuyv
from emotion_edge.kernels.cpu.face import face_pass
from emotion_edge.kernels.cpu.mel import push_samples
from emotion_edge.kernels.cpu.turned_face import turned_face_pass
from emotion_edge.kernels.spec import ImageSpec, MelSpec

FRAME = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
YUYV = np.random.default_rng(1).integers(0, 256, (240, 330, 2), dtype=np.uint8)[:, :320]
NV12 = np.random.default_rng(1).integers(0, 256, (360, 320), dtype=np.uint8)
BOXES = [(10.0, 10.0, 90.0, roll) for roll in (0.0, 0.5)]
AUDIO = np.random.default_rng(0).standard_normal(2_000).astype(np.float32)

OPEN_AND_COUNT = """
import re
from emotion_edge.kernels import open_preprocessor
from emotion_edge.kernels.spec import ImageSpec, MelSpec
from emotion_edge.kernels.cpu.color import convert_nv12, convert_yuyv
from emotion_edge.kernels.cpu.face import face_pass
from emotion_edge.kernels.cpu.mel import push_samples
from emotion_edge.kernels.cpu.turned_face import turned_face_pass

kernels = (face_pass, turned_face_pass, convert_yuyv, convert_nv12, push_samples)
before = [len(kernel.signatures) for kernel in kernels]
open_preprocessor("cpu", ImageSpec(), MelSpec())
hits = [sum(kernel.stats.cache_hits.values()) for kernel in kernels]
misses = [sum(kernel.stats.cache_misses.values()) for kernel in kernels]
calls = r"call .*@NRT_(MemInfo_alloc|MemInfo_new|Allocate)\\w*"
allocating = [
    kernel.py_func.__name__
    for kernel, missed in zip(kernels, misses)
    if missed  # a kernel from the cache has no LLVM code
    for code in kernel.inspect_llvm().values()
    if re.search(calls, code)
]
print({"before": before, "hits": hits, "misses": misses, "allocating": allocating})
"""


def run_python(code: str, **environment: str) -> object:
    """Run `code` in a new process and return its output as a literal."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    return ast.literal_eval(done.stdout)


def test_second_process_does_not_compile(tmp_path: Path) -> None:
    """The first process compiles each kernel once, into NUMBA_CACHE_DIR; the second loads it from
    there. No compiled kernel allocates."""
    cache = {"NUMBA_CACHE_DIR": str(tmp_path)}
    none, versions = [0, 0, 0, 0, 0], [2, 2, 1, 1, 1]  # the face passes: of bytes and of floats
    first = run_python(OPEN_AND_COUNT, **cache)
    assert first == {"before": none, "hits": none, "misses": versions, "allocating": []}
    assert list(tmp_path.rglob("*.nbc"))
    second = run_python(OPEN_AND_COUNT, **cache)
    assert second == {"before": none, "hits": versions, "misses": none, "allocating": []}


def test_import_compiles_nothing() -> None:
    """The package loads Numba only when a preprocessor is opened."""
    code = "import sys, emotion_edge.kernels; print('numba' in sys.modules)"
    assert run_python(code) is False


def test_no_input_compiles_another_version() -> None:
    """Neither read-only nor non-contiguous nor float64 input: each kernel has one version, the face
    pass one for bytes and one for converted floats."""
    preprocessor = open_preprocessor("cpu", ImageSpec(), MelSpec())
    frozen_frame, frozen_audio = FRAME.copy(), AUDIO.copy()
    frozen_frame.flags.writeable = frozen_audio.flags.writeable = False
    for image in (FRAME, frozen_frame, FRAME[::2, ::3], np.asfortranarray(FRAME)):
        preprocessor.faces(image, BOXES, 64)
        preprocessor.faces(image, [(np.float32(10), 10, 90, 0.0)], 64)  # type: ignore[arg-type]
    frozen_yuyv, frozen_nv12 = YUYV.copy(), NV12.copy()
    frozen_yuyv.flags.writeable = frozen_nv12.flags.writeable = False
    for image in (YUYV, frozen_yuyv, YUYV[::-1], np.asfortranarray(YUYV)):
        preprocessor.faces(image, BOXES, 64, "yuyv")
    for image in (NV12, frozen_nv12, NV12[:, ::-1], np.asfortranarray(NV12)):
        preprocessor.faces(image, BOXES, 64, "nv12")
    for audio in (AUDIO, frozen_audio, AUDIO[::2], AUDIO.astype(np.float64)):
        preprocessor.mel.push(audio)  # type: ignore[arg-type]
    assert len(face_pass.signatures) == len(turned_face_pass.signatures) == 2
    assert len(convert_yuyv.signatures) == len(convert_nv12.signatures) == 1
    assert len(push_samples.signatures) == 1


@pytest.mark.parametrize("size_px", [64, 224])
@pytest.mark.parametrize(
    ("image", "pixel_format"),
    [(FRAME, "bgr8"), (FRAME[:, :300], "rgb8"), (YUYV, "yuyv"), (NV12, "nv12")],
    ids=["bgr8", "rows apart", "yuyv", "nv12"],
)
def test_no_call_allocates(image: NDArray[np.uint8], pixel_format: str, size_px: int) -> None:
    """Over 200 frames memory does not grow, and no frame allocates as much as a buffer."""
    preprocessor = open_preprocessor("cpu", ImageSpec(), MelSpec())
    mel = preprocessor.mel

    def do_one_frame(t: int) -> None:
        preprocessor.faces(
            image, [(t % 50 + 0.5, 10.0, 90.0 + t % 9, t % 3)], size_px, pixel_format
        )
        mel.push(AUDIO[:533])
        mel.window()
        mel.levels_db()

    for t in range(20):
        do_one_frame(t)
    tracemalloc.start()
    try:
        do_one_frame(0)
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        for t in range(200):
            do_one_frame(t)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 2_000
    assert peak - before < 4_000
