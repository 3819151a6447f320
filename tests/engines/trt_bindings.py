"""The real TensorRT bindings, imported without TensorRT.

In: the Python module that fetched.py installs, without the three libraries that it is linked with.
Out: the module over stub libraries, which export the symbols that it leaves undefined.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


def list_undefined(module: Path) -> list[str]:
    """Return the functions that the module needs and no library of this system has."""
    command = ["nm", "-D", "--undefined-only", "--format=posix", str(module)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    # A version after "@" names a system library; weak symbols may stay undefined.
    names = [name for name, kind, *_ in map(str.split, lines) if kind == "U" and "@" not in name]
    # Python's and the C library's symbols are in this process.
    return [name for name in names if not hasattr(ctypes.CDLL(None), name)]


@dataclass(frozen=True, slots=True)
class Bindings:
    """One version, importable as `tensorrt`."""

    version: str
    search: tuple[Path, ...]
    """Folders for PYTHONPATH."""
    libraries: Path
    """Folder for LD_LIBRARY_PATH."""

    def run(self, *arguments: str) -> str:
        """Run Python with these bindings and return its output. A warning is an error."""
        path = os.pathsep.join([*map(str, self.search), *filter(None, sys.path)])
        result = subprocess.run(
            [sys.executable, "-W", "error", *arguments],
            env={**os.environ, "PYTHONPATH": path, "LD_LIBRARY_PATH": str(self.libraries)},
            capture_output=True,
            text=True,
            check=False,
            timeout=500,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()


def prepare(fetched: Path, version: str, folder: Path) -> Bindings:
    """Make in `folder` the libraries that the bindings need, whose functions return null, and the
    module `tensorrt`, JetPack's name."""
    module = fetched / version / "tensorrt_bindings" / "tensorrt.so"
    source = "\n".join(f"void *{name}(void) {{ return 0; }}" for name in list_undefined(module))
    for name in ("nvinfer", "nvonnxparser", "nvinfer_plugin"):
        library = f"lib{name}.so.{version.partition('.')[0]}"
        command = ["cc", "-shared", "-fPIC", "-x", "c", "-", f"-Wl,-soname,{library}", "-o"]
        subprocess.run([*command, folder / library], input=source, text=True, check=True)
    (folder / "tensorrt.py").write_text(
        "from tensorrt_bindings import *\nfrom tensorrt_bindings import __version__\n"
    )
    return Bindings(version, (folder, fetched / version, fetched / "stubgen"), folder)
