"""What is shipped is what the folders hold, and what runs is what was installed."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import sys
from pathlib import Path

import pytest

import emotion_edge.runtime

ROOT = Path(emotion_edge.runtime.__file__).parent.parent
CHECKOUT = Path(__file__).parent.parent
FOLDERS = ("kernels", "engines", "training", "calibration", "runtime")
# Where the name to import is not the name to install.
DISTRIBUTIONS = {
    "prometheus_client": "prometheus-client",
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "serial": "pyserial",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
    "llvmlite": "numba",
    # Comes with the device's system, never from the index.
    "jetson_utils": None,
    "jetson_utils_python": None,
    "tensorrt": None,
}

in_checkout = pytest.mark.skipif(
    not (CHECKOUT / "setup.py").exists(), reason="the sources are out of reach here"
)


def test_right_package_is_tested() -> None:
    """The installed wheel where it is asked for, else the checkout the tests stand in."""
    where = Path(emotion_edge.runtime.__file__)
    if os.environ.get("EMOTION_EDGE_INSTALLED"):
        assert where.is_relative_to(sys.prefix)
    else:
        assert where.resolve() == (CHECKOUT / "runtime" / "__init__.py").resolve()


@in_checkout
def test_every_package_is_listed() -> None:
    """A new sub-folder that setup.py does not name would be missing from the wheel."""
    listed = re.findall(r'^    "([\w.]+)",$', (CHECKOUT / "setup.py").read_text(), re.MULTILINE)
    found = [
        ".".join(path.parent.relative_to(CHECKOUT).parts)
        for folder in FOLDERS
        for path in (CHECKOUT / folder).rglob("__init__.py")
    ]
    assert sorted(listed) == sorted(found)


@pytest.mark.parametrize("folder", [name for name in FOLDERS if (ROOT / name).is_dir()])
def test_folder_is_typed(folder: str) -> None:
    """Type checkers believe a package only with this marker."""
    assert (ROOT / folder / "py.typed").is_file()


def test_default_bundle_is_shipped() -> None:
    """The program has a model right after the installation."""
    assert (ROOT / "engines" / "default" / "bundle.json").is_file()


def test_every_import_is_declared() -> None:
    """Nothing is imported that the installation does not bring along."""
    declared = {
        re.split(r"[^\w-]", requirement)[0].lower()
        for requirement in importlib.metadata.requires("emotion-edge") or []
    }
    known = sys.stdlib_module_names | {"emotion_edge", "_typeshed", *FOLDERS}
    undeclared = {
        f"{path.relative_to(ROOT)}: {name}"
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
        for name in _list_top_level_imports(path) - known
        if (distribution := DISTRIBUTIONS.get(name, name)) and distribution not in declared
    }
    assert undeclared == set()


def test_every_extra_that_is_named_is_there() -> None:
    """What people are told to install is what the installation knows."""
    extras = set(importlib.metadata.metadata("emotion-edge").get_all("Provides-Extra") or [])
    named = {
        name
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
        for names in re.findall(r"emotion-edge\[([\w,]+)\]", path.read_text())
        for name in names.split(",")
    }
    assert {"screen", "serial", "signed", "metrics"} <= named
    assert named <= extras


def _list_top_level_imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names
