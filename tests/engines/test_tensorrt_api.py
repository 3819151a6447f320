"""TensorRT's API as engines/ uses it, against the real bindings of every supported version.

fetched.py installs the bindings, trt_bindings.py imports them without TensorRT. Names, arguments
and types are checked; nothing can be built or run.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

import emotion_edge.engines

from .fetched import FETCHED, TENSORRT, list_missing
from .trt_bindings import Bindings, prepare
from .trt_stubs import Findings, check_types, list_attributes, list_untyped, make_stubs

ENGINES = Path(emotion_edge.engines.__file__).parent
MODULES = sorted(
    path.relative_to(ENGINES)
    for path in ENGINES.rglob("*.py")
    if "import tensorrt as trt" in path.read_text()
)
FIND_MISSING = """
import functools, json, sys, tensorrt
def is_there(name):
    try:
        functools.reduce(getattr, name.split("."), tensorrt)
    except AttributeError:
        return False
    return True
print(json.dumps([name for name in json.loads(sys.argv[1]) if not is_there(name)]))
"""
USE = """
import json, sys
import tensorrt as trt
from emotion_edge.engines.tensorrt import compiler, loader
diagnostics, progress = loader.TensorRTDiagnostics(), compiler.Progress()
logger, monitor = loader.make_logger(diagnostics), compiler._make_monitor(progress)
logger.log(trt.ILogger.WARNING, "strange")
monitor.phase_start("Building", "", 2)
goes_on = monitor.step_complete("Building", 1)
def create(make):
    try:
        return make(logger)
    except TypeError as error:
        return str(error)
description = trt.PluginTensorDesc()
description.dims = (1, 3, 64)
print(json.dumps({
    "version": loader.load_tensorrt(),
    "log": diagnostics.explain(),
    "progress": [progress.text, goes_on],
    "null": [create(trt.Builder), create(trt.Runtime)],
    "shape": tuple(description.dims[1:]),
    "lengths": hasattr(trt.INetworkDefinition, "__len__"),
}))
"""
WRONG = """
from __future__ import annotations
import tensorrt as trt

def use(
    config: trt.IBuilderConfig, profile: trt.IOptimizationProfile, parser: trt.OnnxParser
) -> None:
    network = trt.Builder(trt.Logger()).create_network(0)
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 1)
    config.set_memory_limit(trt.MemoryPoolType.WORKSPACE, 1)  # wrong: no such method
    config.set_memory_pool_limit(trt.MemoryPoolType.WORK, 1)  # wrong: no such member
    config.max_workspace = 1  # wrong: no such property
    config.DLA_core = "GPU"  # wrong: another type
    profile.set_shape("image", (1, 3), (1, 3), [1, 3])
    profile.set_shape("image", (1, 3), (1, 3))  # wrong: too few arguments
    parser.parse(b"model")
    parser.parse(1)  # wrong: another type
    parser.parse(b"model", file="a")  # wrong: no such argument
    if not network:  # wrong: a network of no layers yet is false
        pass

class Monitor(trt.IProgressMonitor):
    def phase_finish(self) -> None:  # wrong: is called with a name
        pass
"""


@dataclass(frozen=True, slots=True)
class ApiCheck:
    """The bindings of one version, and a folder with stubs and a copy of the package."""

    bindings: Bindings
    folder: Path

    @property
    def engines(self) -> Path:
        return self.folder / "emotion_edge" / "engines"

    def check(self, *files: Path) -> Findings:
        """Type-check modules below engines/."""
        parts = [file.with_suffix("").parts for file in files]
        names = [".".join(("emotion_edge", "engines", *names)) for names in parts]
        return check_types(self.folder, names, FETCHED / "mypy_cache")

    def list_missing(self, names: Iterable[str]) -> list[str]:
        """Return the names that the real module lacks."""
        missing: list[str] = json.loads(self.bindings.run("-c", FIND_MISSING, json.dumps([*names])))
        return missing

    def rename(self, old: str) -> None:
        """Rename an attribute in the copy, which makes every use of it wrong."""
        count = 0
        for path in (self.engines / module for module in MODULES):
            source, here = re.subn(rf"\b{old}\b", f"{old}_", path.read_text())
            path.write_text(source)
            count += here
        assert count, f"engines/ no longer uses {old}"


@pytest.fixture(scope="session", params=TENSORRT)
def prepared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ApiCheck:
    """Each version, if it was fetched and a compiler is installed."""
    version: str = request.param
    missing = [path for path in list_missing() if Path(path).name in (version, "stubgen")]
    missing += [program for program in ("cc", "nm") if shutil.which(program) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)}; see scripts/check_tensorrt_api")
    folder = tmp_path_factory.mktemp(version)
    bindings = prepare(FETCHED, version, folder)
    make_stubs(bindings, folder)
    return ApiCheck(bindings, folder)


@pytest.fixture
def api_check(prepared: ApiCheck, tmp_path: Path) -> ApiCheck:
    """A copy of engines/ that the test may change, beside the folder that it imports."""
    package = tmp_path / "emotion_edge"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "kernels").symlink_to(ENGINES.parent / "kernels")
    shutil.copytree(ENGINES, package / "engines", ignore=shutil.ignore_patterns("default", "__py*"))
    (tmp_path / "tensorrt").symlink_to(prepared.folder / "tensorrt")
    return ApiCheck(prepared.bindings, tmp_path)


def test_every_name_exists(api_check: ApiCheck) -> None:
    """The real module has every attribute that engines/ uses."""
    names = {
        name
        for module in MODULES
        for name in list_attributes((ENGINES / module).read_text(), "tensorrt")
    }
    assert len(names) > 15
    assert api_check.list_missing(names) == []


def test_types(api_check: ApiCheck) -> None:
    """Attributes, arities and argument types match the signatures, and no method of TensorRT's is
    called on a value of type Any."""
    findings = api_check.check(*MODULES)
    assert findings.errors == []
    stub = (api_check.folder / "tensorrt" / "tensorrt.pyi").read_text()
    for module in MODULES:
        unknown = [line for line in findings.unknown if f"/{module}:" in line]
        assert list_untyped((ENGINES / module).read_text(), stub, unknown) == [], module


def test_wrong_code_is_found(api_check: ApiCheck) -> None:
    """mypy reports each of the wrong lines and no other."""
    (api_check.engines / "wrong.py").write_text(WRONG)
    reported = {int(error.split(":")[1]) for error in api_check.check(Path("wrong.py")).errors}
    lines = WRONG.splitlines()
    assert reported == {number for number, line in enumerate(lines, 1) if "# wrong" in line}


def test_wrong_names_are_found(api_check: ApiCheck) -> None:
    """mypy reports a name that TensorRT lacks, and the module check one of the module."""
    names = ("STRONGLY_TYPED", "set_memory_pool_limit", "execute_async_v3")
    for name in names:
        api_check.rename(name)
    errors = "\n".join(api_check.check(*MODULES).errors)
    for name in names:
        assert f'"{name}_"' in errors
    used = {
        name
        for module in MODULES
        for name in list_attributes((api_check.engines / module).read_text(), "tensorrt")
    }
    assert api_check.list_missing(used) == ["NetworkDefinitionCreationFlag.STRONGLY_TYPED_"]


def test_subclasses_and_conventions(api_check: ApiCheck) -> None:
    """Logger and progress monitor work, and the conventions that the engines rely on hold.

    A null pointer raises TypeError; a tuple is accepted as a shape; a network has a length, so it
    must be compared with None.
    """
    null = "pybind11::init(): factory function returned nullptr"
    assert json.loads(api_check.bindings.run("-c", USE)) == {
        "version": api_check.bindings.version,
        "log": "strange",
        "progress": ["Building, step 2 of 2", True],
        "null": [null, null],
        "shape": [3, 64],
        "lengths": True,
    }
