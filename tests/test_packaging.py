"""The wheel: its packages, files, dependencies and extras."""

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
# Modules whose distribution has another name.
DISTRIBUTIONS = {
    "prometheus_client": "prometheus-client",
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "paho": "paho-mqtt",
    "serial": "pyserial",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
    "llvmlite": "numba",
    # Part of the system of a device, not of the index.
    "jetson_utils": None,
    "jetson_utils_python": None,
    "tensorrt": None,
}

in_checkout = pytest.mark.skipif(
    not (CHECKOUT / "setup.py").exists(), reason="there are no sources beside the tests"
)


def test_right_package_is_tested() -> None:
    """With EMOTION_EDGE_INSTALLED the installed wheel, else the checkout of the tests."""
    file = Path(emotion_edge.runtime.__file__)
    if os.environ.get("EMOTION_EDGE_INSTALLED"):
        assert file.is_relative_to(sys.prefix)
    else:
        assert file.resolve() == (CHECKOUT / "runtime" / "__init__.py").resolve()


@in_checkout
def test_every_package_is_listed() -> None:
    """A folder that setup.py does not name is missing from the wheel."""
    listed = re.findall(r'^    "([\w.]+)",$', (CHECKOUT / "setup.py").read_text(), re.MULTILINE)
    found = [
        ".".join(path.parent.relative_to(CHECKOUT).parts)
        for folder in FOLDERS
        for path in (CHECKOUT / folder).rglob("__init__.py")
    ]
    assert sorted(listed) == sorted(found)


@pytest.mark.parametrize("folder", [".", *(name for name in FOLDERS if (ROOT / name).is_dir())])
def test_folder_is_typed(folder: str) -> None:
    """Type checkers use annotations of a package only with this marker."""
    assert (ROOT / folder / "py.typed").is_file()


def test_default_bundle_is_shipped() -> None:
    """The program has a model after the installation."""
    assert (ROOT / "engines" / "default" / "bundle.json").is_file()


def test_every_import_is_declared() -> None:
    """Every imported library is a declared dependency."""
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


def test_named_extras_exist() -> None:
    """Messages name only extras that the package has."""
    extras = set(importlib.metadata.metadata("emotion-edge").get_all("Provides-Extra") or [])
    named = {
        name
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
        for names in re.findall(r"emotion-edge\[([\w,]+)\]", path.read_text())
        for name in names.split(",")
    }
    assert {"screen", "serial", "signed", "mqtt"} <= named
    assert named <= extras


def _list_top_level_imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names
