"""TensorRT's bindings, CUDA's headers and pycuda from the package index, for the API checks.

As a program, for scripts/test and scripts/check_tensorrt_api:
python tests/engines/fetched.py build/tensorrt [--pycuda]

The tests use no network and skip what was not fetched. EMOTION_EDGE_TENSORRT names the folder.
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
"""Packages with cuda.h and cudaProfiler.h, of JetPack 6 and JetPack 7.2."""
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
"""Packages by the folder that they are installed in."""


def find_mark(place: Path, packages: tuple[str, ...]) -> Path:
    """Return the marker file of a complete folder, named by packages and Python version."""
    return place / ".".join(("", sys.implementation.cache_tag or "", *packages))


def find_headers(folder: Path, cuda: str) -> list[str]:
    """Return the include folders of cuda.h and cudaProfiler.h; empty where not fetched."""
    return [str(path) for path in sorted((folder / f"cuda-{cuda}").glob("nvidia/*/include"))]


def list_missing() -> list[str]:
    """Return the folders that are missing for this Python."""
    return [
        str(FETCHED / name)
        for name, packages in PACKAGES.items()
        if not find_mark(FETCHED / name, packages).exists()
    ]


def fetch(folder: Path) -> list[str]:
    """Install what is missing below `folder`; return a line for each failure."""
    problems: list[str] = []
    for name, packages in PACKAGES.items():
        mark = find_mark(folder / name, packages)
        if not mark.exists() and not any(NO_CONNECTION in problem for problem in problems):
            problems += install(mark, "--no-deps", "--only-binary", ":all:", *packages)
    return problems


def install(mark: Path, *arguments: str) -> list[str]:
    """Install into the folder of `mark` again; return the failure, if any."""
    place = mark.parent
    shutil.rmtree(place, ignore_errors=True)
    reason = run_pip("install", "--target", str(place), *arguments)
    if reason:
        shutil.rmtree(place, ignore_errors=True)
        return [f"{place.name} cannot be installed: {reason}"]
    mark.touch()
    return []


def run_pip(*arguments: str) -> str:
    """Run pip; return the reason of a failure in a line, else ""."""
    command = [sys.executable, *PIP, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    if result.returncode == 0:
        return ""
    lines = result.stderr.strip().splitlines() or ["pip gave no reason"]
    return NO_CONNECTION if "connection broken" in result.stderr else lines[-1]


def compile_pycuda(folder: Path) -> list[str]:
    """Compile pycuda for each CUDA: a minute each, with a C++ compiler and no GPU.

    It is not linked with a driver: the tests have a fake one.
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
            problems.append(f"{PYCUDA} cannot be installed: {reason}")
            break
        with tarfile.open(next(work.glob("*.tar.gz"))) as archive:
            archive.extractall(work, filter="data")
        tree = next(path for path in work.iterdir() if path.is_dir())
        (tree / "siteconf.py").write_text(SITECONF.format(headers))
        problems += install(mark, "--no-build-isolation", str(tree))
    shutil.rmtree(work, ignore_errors=True)
    return problems


if __name__ == "__main__":
    target = Path(sys.argv[1]).resolve()
    failures = fetch(target)
    if "--pycuda" in sys.argv:
        failures += compile_pycuda(target)
    sys.stderr.writelines(f"{failure}; its tests are skipped\n" for failure in failures)
