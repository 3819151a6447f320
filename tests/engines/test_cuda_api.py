"""CUDA's and pycuda's API as engines/ uses it, against the real cuda.h and the real pycuda.

fetched.py installs the headers. scripts/check_tensorrt_api --pycuda compiles pycuda without a GPU;
here it runs on fake_cuda.c.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from emotion_edge.engines.tensorrt import cuda_driver

from .fetched import CUDA, FETCHED, find_headers

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PRINT_SIZES = """
#include <cuda.h>
#include <stdio.h>
int main(void) {{
{}
    return 0;
}}
"""
RUN = """
import ctypes, gc, json, sys, threading
from pathlib import Path
import numpy as np
from tests.engines.conftest import write_bundle_folder
from tests.engines.fake_cuda import FakeGpu
from tests.engines.fake_tensorrt import make_tensorrt
from emotion_edge.engines.tensorrt import builder
from emotion_edge.engines.tensorrt.gpu import FreeMemory
from emotion_edge.engines.golden import golden_input
from emotion_edge.engines.tensorrt.gpu import open_gpu
from emotion_edge.engines.onnx_runtime import OnnxEngine
from emotion_edge.engines.tensorrt.plan import BuildOptions
from emotion_edge.engines.tensorrt.engine import open_tensorrt
from emotion_edge.kernels.memory import DeviceArray

driver = ctypes.CDLL("libcuda.so.1")
Call = ctypes.CFUNCTYPE(None)
calls = []

class Machine(FakeGpu):
    "TensorRT enqueues in the fake driver and reads its memory."
    def enqueue(self, stream, work):
        calls.append(Call(work))
        driver.fake_enqueue(ctypes.c_void_p(stream), calls[-1])
    def see(self, address, shape):
        start = address - (1 << 56) if address >= 1 << 56 else address
        size = int(np.prod(shape))
        return np.frombuffer((ctypes.c_float * size).from_address(start), np.float32).reshape(shape)

sys.modules["tensorrt"] = make_tensorrt(Machine())
builder.read_free_memory = lambda: FreeMemory(4000, 0)
builder.read_l4t_release = lambda: ""
bundle = write_bundle_folder(Path(sys.argv[1]))
gpu = open_gpu()
before, equal = driver.fake_live(), []
with open_tensorrt(bundle, "face", "fp32", BuildOptions()) as engine, OnnxEngine(
    bundle.model_path("face", "fp32"), num_threads=1
) as reference:
    shape = golden_input(bundle.manifest, "face")["image"].shape
    for seed in range(5):
        feed = {"image": np.random.default_rng(seed).random(shape, np.float32)}
        want, have = reference.infer(feed), engine.infer(feed)
        equal.append(all(np.array_equal(want[name], have[name]) for name in want))
    # An input in device memory, on the stream of the kernel that wrote it.
    stream, memory = gpu.driver.Stream(1), gpu.driver.mem_alloc(feed["image"].nbytes)
    ctypes.memmove(int(memory), feed["image"].ctypes.data, feed["image"].nbytes)
    on_gpu = DeviceArray(int(memory), shape, "float32", stream.handle, memory)
    for _ in range(3):
        have = engine.infer({"image": on_gpu})
        equal.append(all(np.array_equal(want[name], have[name]) for name in want))
del engine, have, on_gpu, memory, stream
gc.collect()
print(json.dumps({
    "gpu": [gpu.name, gpu.num_sms, gpu.compute_capability, gpu.integrated],
    "free": gpu.driver.mem_get_info()[0],
    "equal": equal,
    "enqueued": len(calls),
    "left": driver.fake_live() - before,
}))
"""


def read_prototypes(headers: list[str]) -> dict[str, list[str]]:
    """Return the argument types of each function by its exported name."""
    command = ["cc", "-E", "-P", "-x", "c", "-", *(f"-I{path}" for path in headers)]
    text = subprocess.run(
        command, input="#include <cuda.h>", capture_output=True, text=True, check=True
    ).stdout
    return {
        name: [re.sub(r"\w+$", "", argument.strip()).strip() for argument in arguments.split(",")]
        for name, arguments in re.findall(r"\bCUresult\s+(cu\w+)\s*\(([^)]*)\);", text)
    }


@pytest.fixture(params=CUDA)
def cuda(request: pytest.FixtureRequest) -> str:
    """Each CUDA, if its headers were fetched and a compiler is installed."""
    version: str = request.param
    if not find_headers(FETCHED, version) or shutil.which("cc") is None:
        pytest.skip(
            f"no C compiler or no headers of CUDA {version}; see scripts/check_tensorrt_api"
        )
    return version


def test_driver_calls(cuda: str, tmp_path: Path) -> None:
    """Every symbol of cuda_driver.py exists, with the same number and sizes of arguments."""
    headers = find_headers(FETCHED, cuda)
    prototypes = read_prototypes(headers)
    names = sorted(cuda_driver._SIGNATURES)
    assert set(names) <= set(prototypes)
    lines = [
        f'    printf("{name} %zu\\n", sizeof({kind}));'
        for name in names
        for kind in prototypes[name]
    ]
    command = [
        "cc",
        "-x",
        "c",
        "-",
        *(f"-I{path}" for path in headers),
        "-o",
        str(tmp_path / "sizes"),
    ]
    source = PRINT_SIZES.format("\n".join(lines))
    subprocess.run(command, input=source, text=True, check=True)
    printed = subprocess.run([tmp_path / "sizes"], capture_output=True, text=True, check=True)
    ours = [
        f"{name} {ctypes.sizeof(kind)}" for name in names for kind in cuda_driver._SIGNATURES[name]
    ]
    assert printed.stdout.splitlines() == ours


def make_fake_driver(cuda: str, pycuda: Path, folder: Path) -> None:
    """Compile a libcuda.so.1 with every symbol that this pycuda needs."""
    extension = next(pycuda.glob("_driver*.so"))
    listed = subprocess.run(
        ["nm", "-D", "--undefined-only", "--format=posix", extension],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    rest = folder / "rest.c"
    names = re.findall(r"^(cu\w+) U", listed, re.MULTILINE)
    rest.write_text(
        "".join(f"__attribute__((weak)) int {name}(void) {{ return 801; }}\n" for name in names)
    )
    include = [f"-I{path}" for path in find_headers(FETCHED, cuda)]
    sources = [str(HERE / "fake_cuda.c"), str(rest)]
    options = ["-Wall", "-Werror", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1"]
    subprocess.run(["cc", *options, *include, *sources, "-o", folder / "libcuda.so.1"], check=True)


def test_engine_on_the_real_pycuda(cuda: str, tmp_path: Path) -> None:
    """An engine opens, runs plain and as a graph, and closes: the outputs are right, and everything
    is freed."""
    place = FETCHED / f"pycuda-cuda-{cuda}"
    if not (place / "pycuda").is_dir():
        pytest.skip("pycuda is not compiled; see scripts/check_tensorrt_api --pycuda")
    make_fake_driver(cuda, place / "pycuda", tmp_path)
    result = subprocess.run(
        [sys.executable, "-c", RUN, tmp_path / "bundle"],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(place), *sys.path)),
            # This pycuda is not linked with a driver, so the preloaded fake is used.
            "LD_PRELOAD": str(tmp_path / "libcuda.so.1"),
            "EMOTION_EDGE_CACHE": str(tmp_path / "cache"),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert result.returncode == 0, result.stderr
    assert not result.stderr
    assert json.loads(result.stdout) == {
        "gpu": ["Fake", 8, "8.7", True],
        "free": 2 << 30,
        "equal": [True] * 8,
        "enqueued": 3,  # a plain run, and a capture for each of the two addresses
        "left": 0,
    }
