"""What the package index has of TensorRT, CUDA and pycuda, put where the tests look for it.

As a program, for scripts/test and scripts/check_tensorrt_api:
python tests/engines/fetched.py build/tensorrt [--pycuda]

The tests use no network: what is not there they skip. EMOTION_EDGE_TENSORRT names the folder.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

FETCHED = Path(
    os.environ.get("EMOTION_EDGE_TENSORRT")
    or Path(__file__).parent.parent.parent / "build" / "tensorrt"
)
TENSORRT = {
    "10.3.0": "tensorrt-cu12-bindings",  # JetPack 6.1 and 6.2
    "10.16.1.11": "tensorrt-cu13-bindings",  # the last 10.16 of the index; JetPack 7.2 has 10.16.2
    "11.4.0.106": "tensorrt-cu13-bindings",  # the newest
}
STUB_MAKER = "pybind11-stubgen==2.5.5"  # 3.0.0 installs a package called tests
CUDA = {
    "12.6": ("nvidia-cuda-runtime-cu12==12.6.77", "nvidia-cuda-profiler-api-cu12==12.6.77"),
    "13.2": ("nvidia-cuda-runtime==13.2.75", "nvidia-cuda-profiler-api==13.2.75"),
}
"""JetPack 6's and JetPack 7.2's: the packages with cuda.h and cudaProfiler.h."""
PYCUDA = "pycuda==2026.1"
PIP = ["-m", "pip", "--quiet", "--disable-pip-version-check", "--retries", "1", "--timeout", "10"]
NO_CONNECTION = "no connection to the package index"
SITECONF = """
CUDA_ROOT = ""
CUDA_ENABLE_CURAND = False
CUDADRV_LIBNAME = []
CUDA_INC_DIR = {!r}
CXXFLAGS = ["-O0", "-g0", "-w"]
"""


PACKAGES: dict[str, tuple[str, ...]] = {
    "stubgen": (STUB_MAKER,),
    **{version: (f"{package}=={version}",) for version, package in TENSORRT.items()},
    **{f"cuda-{version}": packages for version, packages in CUDA.items()},
}
"""What is installed, by the name of the folder."""


def find_mark(place: Path, packages: tuple[str, ...]) -> Path:
    """The file that says that a folder is whole, and for which Python it was compiled."""
    return place / ".".join(("", sys.implementation.cache_tag or "", *packages))


def find_headers(folder: Path, cuda: str) -> list[str]:
    """The folders of cuda.h and cudaProfiler.h; empty where they were not fetched."""
    return [str(path) for path in sorted((folder / f"cuda-{cuda}").glob("nvidia/*/include"))]


def list_missing() -> list[str]:
    """The folders that are not there for this Python."""
    return [
        str(FETCHED / name)
        for name, packages in PACKAGES.items()
        if not find_mark(FETCHED / name, packages).exists()
    ]


def fetch(folder: Path) -> list[str]:
    """Installs what is missing below the folder; returns a line for each that cannot be had."""
    problems: list[str] = []
    for name, packages in PACKAGES.items():
        mark = find_mark(folder / name, packages)
        if not mark.exists() and not any(NO_CONNECTION in problem for problem in problems):
            problems += install(mark, "--no-deps", "--only-binary", ":all:", *packages)
    return problems


def install(mark: Path, *arguments: str) -> list[str]:
    """Makes the folder of the mark anew; returns what is wrong."""
    place = mark.parent
    shutil.rmtree(place, ignore_errors=True)
    reason = run_pip("install", "--target", str(place), *arguments)
    if reason:
        shutil.rmtree(place, ignore_errors=True)
        return [f"{place.name} is not to be had: {reason}"]
    mark.touch()
    return []


def run_pip(*arguments: str) -> str:
    """Why it failed, in a line; empty where it did not."""
    command = [sys.executable, *PIP, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    if result.returncode == 0:
        return ""
    lines = result.stderr.strip().splitlines() or ["pip gave no reason"]
    return NO_CONNECTION if "connection broken" in result.stderr else lines[-1]


def compile_pycuda(folder: Path) -> list[str]:
    """pycuda, once for each CUDA: about a minute each, with a C++ compiler and no GPU.

    It is linked with no driver; the tests bring one.
    """
    problems = []
    work = folder / "work"
    for version in CUDA:
        mark = find_mark(folder / f"pycuda-cuda-{version}", (PYCUDA,))
        headers = find_headers(folder, version)
        if mark.exists() or not headers:
            continue
        shutil.rmtree(work, ignore_errors=True)
        source = ["--no-deps", "--no-binary", ":all:", "--no-build-isolation", "-d", str(work)]
        if reason := run_pip("download", *source, PYCUDA):
            problems.append(f"{PYCUDA} is not to be had: {reason}")
            break
        with tarfile.open(next(work.glob("*.tar.gz"))) as archive:
            archive.extractall(work, filter="data")
        tree = next(path for path in work.iterdir() if path.is_dir())
        (tree / "siteconf.py").write_text(SITECONF.format(headers))
        problems += install(mark, "--no-build-isolation", str(tree))
    shutil.rmtree(work, ignore_errors=True)
    return problems


if __name__ == "__main__":
    here = Path(sys.argv[1]).resolve()
    found = fetch(here)
    if "--pycuda" in sys.argv:
        found += compile_pycuda(here)
    sys.stderr.writelines(f"{problem}; its tests are skipped\n" for problem in found)
