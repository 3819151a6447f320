"""The folders are floors: who may import whom, read from the syntax trees."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import emotion_edge.runtime

# The package itself, so that the installed one is looked at when that is what runs.
ROOT = Path(emotion_edge.runtime.__file__).parent.parent
MAX_LINES = 400

MAY_IMPORT = {
    "kernels": {"kernels"},
    "engines": {"engines", "kernels"},
    "training": {"training", "engines", "kernels"},
    "calibration": {"calibration", "training", "engines", "kernels"},
    "runtime": {"runtime", "engines", "kernels"},
}
FOLDERS = [name for name in MAY_IMPORT if (ROOT / name).is_dir()]
ONLY_IN = {
    "torch": ("training", "calibration"),
    "cv2": (
        "runtime",
        "training",
        "calibration",
        "engines/face_detector.py",
        "kernels/bgr_image.py",
    ),
    "pyaudio": ("runtime",),
    "av": ("runtime", "training", "calibration"),
    "serial": ("runtime",),
    "PIL": ("runtime",),
    "cryptography": ("engines/bundles/signature.py",),
    "jetson_utils": ("runtime",),
    "jetson_utils_python": ("runtime",),
    "tensorrt": ("engines", "kernels"),
    "pycuda": ("engines", "kernels"),
}


def list_modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def list_imports(path: Path, source: str | None = None) -> Iterator[tuple[str, int]]:
    """Every imported module as an absolute name below the root, with its level of dots.

    `from ..engines import onnx_engine` in runtime/live.py gives "engines.onnx_engine", 2.
    """
    # What "." means: the module's package, as a path from the root.
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(source or path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, 0
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            base += node.module.split(".") if node.module else []
            for alias in node.names:
                yield ".".join([*base, alias.name]), node.level


@pytest.mark.parametrize("folder", FOLDERS)
def test_floor_imports_only_below(folder: str) -> None:
    """kernels <- engines <- {runtime, training <- calibration}, and no arrow runs back up."""
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in list_modules(folder)
        for name, level in list_imports(path)
        if level and name.split(".")[0] not in MAY_IMPORT[folder]
    ]
    assert wrong == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_imports_inside_are_relative(folder: str) -> None:
    """Inside the folders neither `import emotion_edge` nor a folder as a top-level package."""
    ours = {"emotion_edge", *MAY_IMPORT}
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in list_modules(folder)
        for name, level in list_imports(path)
        if level == 0 and name.split(".")[0] in ours
    ]
    assert wrong == []


@pytest.mark.parametrize("library", ONLY_IN)
def test_heavy_library_stays_on_its_floor(library: str) -> None:
    """PyTorch is for training, drivers are for sources and sinks, TensorRT is for engines."""
    wrong = [
        str(path.relative_to(ROOT))
        for folder in set(FOLDERS) - set(ONLY_IN[library])
        for path in list_modules(folder)
        if path.relative_to(ROOT).as_posix() not in ONLY_IN[library]
        for name, level in list_imports(path)
        if level == 0 and name.split(".")[0] == library
    ]
    assert wrong == []


def test_files_are_short() -> None:
    """A file over 400 lines is a defect."""
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for folder in FOLDERS
        for path in list_modules(folder)
    }
    assert {name: n for name, n in lengths.items() if n > MAX_LINES} == {}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("from ..engines import bundle", ("engines.bundle", 2)),
        ("from . import clock", ("runtime.clock", 1)),
        ("from .sources.demo import open_demo", ("runtime.sources.demo.open_demo", 1)),
        ("import numpy.typing as npt", ("numpy.typing", 0)),
        ("def f():\n    import torch", ("torch", 0)),
    ],
)
def test_imports_are_resolved(line: str, expected: tuple[str, int]) -> None:
    """The rules above see through dots and into functions."""
    assert list(list_imports(ROOT / "runtime" / "app.py", line)) == [expected]


def test_runtime_loads_no_torch() -> None:
    """The program starts, and fits the device, without the training side."""
    code = "import sys, emotion_edge.runtime.__main__; print(sorted(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=500
    )
    assert result.returncode == 0, result.stderr
    loaded = set(ast.literal_eval(result.stdout))
    assert loaded.isdisjoint({"torch", "sklearn", "librosa", "emotion_edge.training"})
