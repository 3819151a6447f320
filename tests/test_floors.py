"""The import rules between folders, checked on the syntax trees."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import emotion_edge.runtime

# The imported package, which is the installed one when that is tested.
ROOT = Path(emotion_edge.runtime.__file__).parent.parent
MAX_LINES = 400

MAY_IMPORT = {
    "kernels": {"kernels"},
    "engines": {"engines", "kernels"},
    "training": {"training", "engines", "kernels"},
    "calibration": {"calibration", "training", "engines", "kernels"},
    "runtime": {"runtime", "engines", "kernels"},
}
ROOT_NAME = "Error"
"""The base of all errors lies in the package's own `__init__.py`, which imports nothing at once."""
FOLDERS = [name for name in MAY_IMPORT if (ROOT / name).is_dir()]
ONLY_IN = {
    "torch": ("training", "calibration"),
    "cv2": (
        "runtime",
        "training",
        "calibration",
        "engines/face_detector.py",
        "engines/detection_network.py",
        "engines/liveness.py",  # registers two crops of a face, in the face search
        "kernels/bgr_image.py",
    ),
    "pyaudio": ("runtime",),
    "av": ("runtime", "training", "calibration"),
    "serial": ("runtime",),
    "paho": ("runtime/sinks/mqtt/connection.py", "runtime/sinks/mqtt/sink.py"),
    "PIL": ("runtime",),
    "cryptography": ("engines/bundles/signature.py",),
    "jetson_utils": ("runtime",),
    "jetson_utils_python": ("runtime",),
    "tensorrt": ("engines", "kernels"),
    "pycuda": ("engines", "kernels"),
}

NETWORK = ("socket", "socketserver", "http", "urllib", "ssl", "asyncio", "requests", "aiohttp")
WITHOUT_DOOR = {
    "kernels.cpu",
    "kernels.cuda",
    "calibration.commands",
    "training.commands",
    "runtime.cli",
}
"""`kernels` is the door of its two folders; a folder of commands has one module per command."""


def list_modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def list_imports(
    path: Path, source: str | None = None, top_only: bool = False
) -> Iterator[tuple[str, int]]:
    """Yield each imported module as an absolute name below the root, with its number of dots.

    `from ..engines import onnx_runtime` in runtime/live.py gives "engines.onnx_runtime", 2.
    """
    # The package of the module, which is the meaning of ".".
    package = path.relative_to(ROOT).parent.parts
    tree = ast.parse(source or path.read_text())
    for node in tree.body if top_only else ast.walk(tree):
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
    """kernels <- engines <- {runtime, training <- calibration}, and no import in reverse."""
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in list_modules(folder)
        for name, level in list_imports(path)
        if level and name != ROOT_NAME and name.split(".")[0] not in MAY_IMPORT[folder]
    ]
    assert wrong == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_imports_inside_are_relative(folder: str) -> None:
    """Neither `import emotion_edge` nor a folder as a top-level package."""
    own_names = {"emotion_edge", *MAY_IMPORT}
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in list_modules(folder)
        for name, level in list_imports(path)
        if level == 0 and name.split(".")[0] in own_names
    ]
    assert wrong == []


@pytest.mark.parametrize("library", ONLY_IN)
def test_heavy_library_stays_on_its_floor(library: str) -> None:
    """PyTorch is in training, drivers are in capture and sinks, TensorRT is in engines."""
    wrong = [
        str(path.relative_to(ROOT))
        for folder in set(FOLDERS) - set(ONLY_IN[library])
        for path in list_modules(folder)
        if path.relative_to(ROOT).as_posix() not in ONLY_IN[library]
        for name, level in list_imports(path)
        if level == 0 and name.split(".")[0] == library
    ]
    assert wrong == []


# Forbidden imports inside runtime/. A name includes everything below it.
MUST_NOT_IMPORT: dict[str, tuple[str, ...]] = {
    "runtime/perception": (
        "runtime.capture",
        "runtime.sinks",
        "runtime.board",
        "runtime.service",
        "runtime.telemetry",
        "av",
        "jetson_utils",
        "pyaudio",
        "serial",
    ),
    "runtime/capture": NETWORK,
    "runtime/sinks": NETWORK,
    "runtime/web": (
        "runtime.capture",
        "runtime.perception",
        "runtime.session",
        "runtime.sinks",
        "engines",
    ),
}
NETWORK_DOOR = "runtime/capture/stream_input.py"
"""The one module of capture and sinks that lets FFmpeg open a connection: to the stream whose URL
the configuration names, and to nothing else. It has no socket of its own."""
PROTOCOLS = {"http", "https", "rtsp", "rtsps", "tcp", "tls", "udp", "rtp", "rtmp", "srt"}
ENTRY_POINTS = ("runtime.cli", "runtime.doctor", "runtime.bench")
"""Folders of commands: only `runtime/__main__.py` imports them."""


@pytest.mark.parametrize("folder", MUST_NOT_IMPORT)
def test_forbidden_imports(folder: str) -> None:
    """Perception has no device, capture and sinks have no network connection, and what listens has
    neither devices nor networks."""
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in list_modules(folder)
        for name, _ in list_imports(path)
        if any(f"{name}.".startswith(f"{banned}.") for banned in MUST_NOT_IMPORT[folder])
    ]
    assert wrong == []


def test_commands_are_not_imported() -> None:
    """Only `runtime/__main__.py` imports commands. Shared code lies below them."""
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for folder in FOLDERS
        for path in list_modules(folder)
        for name, level in list_imports(path)
        for command in ENTRY_POINTS
        if level
        and f"{name}.".startswith(f"{command}.")
        and path != ROOT / "runtime" / "__main__.py"
        and not path.is_relative_to(ROOT / command.replace(".", "/"))
    ]
    assert wrong == []


def test_no_import_cycle() -> None:
    """Neither between modules nor between folders, imports inside functions included."""
    modules = {name_module(path): path for folder in FOLDERS for path in list_modules(folder)}
    needs: dict[str, set[str]] = {name: set() for name in modules}
    for name, path in modules.items():
        for imported, level in list_imports(path):
            target = find_module(imported, modules) if level else None
            if target not in (None, name):
                needs[name].add(target)
    assert find_cycle(needs) is None
    folders: dict[str, set[str]] = {}
    for name, targets in needs.items():
        here = folders.setdefault(name_folder(name, modules), set())
        here |= {name_folder(target, modules) for target in targets}
    for folder, targets in folders.items():
        targets.discard(folder)
    assert find_cycle(folders) is None


def test_only_a_named_stream_opens_a_connection() -> None:
    """Every file is opened with FFmpeg's own list of permitted protocols, and one module's list has
    those of a network."""
    opens, permits = set(), set()
    for path in list_modules("runtime/capture"):
        name = path.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and ast.unparse(node) == "av.open":
                opens.add(name)
                assert "protocol_whitelist" in path.read_text()
            text = getattr(node, "value", "") if isinstance(node, ast.Constant) else ""
            if isinstance(text, str) and len(PROTOCOLS.intersection(text.split(","))) > 1:
                permits.add(name)
    assert NETWORK_DOOR in opens
    assert permits == {NETWORK_DOOR}


def test_folders_are_imported_by_their_doors() -> None:
    """Other folders import from the `__init__.py` of a sub-folder. Only modules that are loaded on
    demand are imported by their own names, inside functions."""
    modules = {name_module(path): path for folder in FOLDERS for path in list_modules(folder)}
    packages = {name for name, path in modules.items() if path.name == "__init__.py"}
    doors = {name for name in packages if "." in name} - WITHOUT_DOOR
    wrong = [
        f"{path.relative_to(ROOT)}: {imported}"
        for name, path in modules.items()
        for imported, level in list_imports(path, top_only=True)
        for door in doors
        if level
        and not f"{name}.".startswith(f"{door}.")
        and (target := find_module(imported, modules)) is not None
        and target.startswith(f"{door}.")
        and target not in packages
    ]
    assert wrong == []


def name_module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def name_folder(module: str, modules: dict[str, Path]) -> str:
    """Return the sub-folder of a module, or the module itself if it is in none."""
    top, _, rest = module.partition(".")
    inner = f"{top}.{rest.partition('.')[0]}"
    is_folder = inner in modules and modules[inner].name == "__init__.py"
    return inner if is_folder else module


def find_module(imported: str, modules: dict[str, Path]) -> str | None:
    """Return the module of `imported`, which is a module or a name in one."""
    for candidate in (imported, imported.rpartition(".")[0]):
        if candidate in modules:
            return candidate
    return None


def find_cycle(needs: dict[str, set[str]]) -> list[str] | None:
    """Return a cycle of names, or None."""
    try:
        graphlib.TopologicalSorter(needs).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return None


def test_cycles_are_detected() -> None:
    """The test above can fail."""
    assert find_cycle({"a": {"b"}, "b": {"c"}, "c": set()}) is None
    assert set(find_cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) or ()) == {"a", "b", "c"}


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
        ("from ..engines import golden", ("engines.golden", 2)),
        ("from . import clock", ("runtime.clock", 1)),
        ("from .capture.demo import open_demo", ("runtime.capture.demo.open_demo", 1)),
        ("import numpy.typing as npt", ("numpy.typing", 0)),
        ("def f():\n    import torch", ("torch", 0)),
    ],
)
def test_imports_are_resolved(line: str, expected: tuple[str, int]) -> None:
    """The rules above include relative imports and those inside functions."""
    assert list(list_imports(ROOT / "runtime" / "live.py", line)) == [expected]


def test_commands_start_without_opencv() -> None:
    """The doctor reports a broken OpenCV, and a rollback needs none."""
    code = (
        "import sys, emotion_edge.runtime.__main__ as command;"
        " command.build_parser(); print('cv2' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=500
    )
    assert (result.stdout.strip(), result.stderr) == ("False", "")


def test_runtime_loads_no_torch() -> None:
    """The program starts without the training side."""
    code = "import sys, emotion_edge.runtime.__main__; print(sorted(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=500
    )
    assert result.returncode == 0, result.stderr
    loaded = set(ast.literal_eval(result.stdout))
    assert loaded.isdisjoint({"torch", "sklearn", "librosa", "emotion_edge.training"})
