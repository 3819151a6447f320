"""The doctor's checks of the machine, on simulated healthy and faulty ones."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from emotion_edge.engines.bundles.manifest import DEFAULT_BUNDLE, load_bundle
from emotion_edge.engines.bundles.selection import Selection
from emotion_edge.engines.bundles.store import BundleStore
from emotion_edge.runtime.board.jetson import THROTTLE_FILES
from emotion_edge.runtime.config import Config
from emotion_edge.runtime.doctor.check import Check
from emotion_edge.runtime.doctor.host import (
    CAUSES,
    check_board,
    check_bundle,
    check_cache,
    check_governor,
    check_jetpack,
    check_jetson_utils,
    check_memory,
    check_opencv,
    check_priority,
    check_python,
)
from emotion_edge.runtime.doctor.service import UNIT

from ..board.trees import (
    AGX_ORIN,
    CPU,
    JETPACK_7,
    ORIN_NANO,
    ORIN_NX,
    THROTTLING,
    Module,
    build_jetson,
    build_pc,
    make_unreadable,
    write_files,
)

HEADLESS = "opencv-python-headless"


@pytest.mark.parametrize(
    ("version", "state"), [((3, 9, 18), "fail"), ((3, 10, 0), "ok"), ((3, 14, 1), "warn")]
)
def test_python(version: tuple[int, ...], state: str) -> None:
    """A version that is too old fails, one newer than tested warns."""
    assert check_python(version).state == state


def test_two_builds_of_opencv() -> None:
    """The GUI build beside the headless one overwrites its files."""
    assert check_opencv({HEADLESS}).state == "ok"
    check = check_opencv({HEADLESS, "opencv-python"})
    assert check.state == "warn"
    assert "pip uninstall opencv-python," in check.message


def test_wrong_jetson_utils() -> None:
    """The package of that name on the index lacks the native module."""
    assert check_jetson_utils(set(), lambda name: False).state == "ok"
    assert check_jetson_utils({"jetson-utils"}, lambda name: True).state == "ok"
    check = check_jetson_utils({"jetson-utils"}, lambda name: False)
    assert check.state == "fail"
    assert "pip uninstall jetson-utils" in check.message


@pytest.mark.parametrize(("permitted", "state"), [(True, "ok"), (False, "warn")])
def test_priority(tmp_path: Path, permitted: bool, state: str) -> None:
    """A user without real-time scheduling gets the limit to set. The unit sets the service's."""
    check = check_priority(tmp_path, lambda: permitted)
    assert check.state == state
    assert ("rtprio 4" in check.message) is not permitted
    write_files(tmp_path, {f"etc/systemd/system/{UNIT}": ""})
    check = check_priority(tmp_path, lambda: permitted)
    assert (check.state, "rtprio" in check.message) == ("ok", False)


@pytest.mark.parametrize(
    ("governor", "state"), [(None, "ok"), ("performance\n", "ok"), ("powersave\n", "warn")]
)
def test_governor(tmp_path: Path, governor: str | None, state: str) -> None:
    """Every governor but performance is named with the command that changes it."""
    if governor:
        write_files(tmp_path, {f"{CPU}/cpu0/cpufreq/scaling_governor": governor})
    check = check_governor(tmp_path)
    assert check.state == state
    assert ("echo performance" in check.message) == (state == "warn")


@pytest.mark.parametrize(
    ("meminfo", "state"),
    [
        ("MemTotal: 4000000 kB\nMemAvailable: 2000000 kB\n", "ok"),
        ("MemTotal: 4000000 kB\nMemAvailable: 300000 kB\n", "warn"),
        ("MemTotal: 4000000 kB\n", "warn"),
    ],
)
def test_memory(tmp_path: Path, meminfo: str, state: str) -> None:
    """Too little available memory, or an unknown amount, warns."""
    write_files(tmp_path, {"proc/meminfo": meminfo})
    assert check_memory(tmp_path).state == state


def test_cache_folder(tmp_path: Path) -> None:
    """NUMBA_CACHE_DIR if it can be written, else numba's fall-back, else a failure."""
    blocked = tmp_path / "file"  # nothing can be put below a file, not even by root
    blocked.touch()
    writable = {"NUMBA_CACHE_DIR": str(tmp_path / "new" / "cache")}
    unwritable = {"NUMBA_CACHE_DIR": str(blocked / "cache"), "XDG_CACHE_HOME": str(blocked)}
    assert check_cache(writable, blocked) == Check("cache", "ok", str(tmp_path / "new" / "cache"))
    assert not (tmp_path / "new").exists()
    assert check_cache({}, tmp_path).message == str(tmp_path / "__pycache__")
    fallen_back = check_cache(unwritable, tmp_path)
    assert fallen_back.state == "warn"
    assert str(tmp_path / "__pycache__") in fallen_back.message
    nowhere = check_cache(unwritable, blocked)
    assert nowhere.state == "fail"
    assert "NUMBA_CACHE_DIR" in nowhere.message


# The board


def test_healthy_jetson(tmp_path: Path) -> None:
    """The facts are board, JetPack, power mode and hottest zone. A disk at 92 °C is none."""
    check = check_board(build_jetson(tmp_path, AGX_ORIN, JETPACK_7))
    assert check.state == "ok"
    for fact in (AGX_ORIN.model, "JetPack 7.2 (L4T 39.2)", "MAXN", "tj-thermal 51 °C"):
        assert fact in check.message


def test_unreadable_power_mode(tmp_path: Path) -> None:
    """The file is named, and nothing is wrong."""
    root = build_jetson(tmp_path, ORIN_NANO)
    make_unreadable(root / "var/lib/nvpmodel/status")
    check = check_board(root)
    assert check.state == "ok"
    assert "/var/lib/nvpmodel/status" in check.message


@pytest.mark.parametrize(("cause", "file"), THROTTLE_FILES.items())
def test_throttled_jetson(tmp_path: Path, cause: str, file: str) -> None:
    """Each counter is named with its cause and its remedy."""
    root = build_jetson(tmp_path, ORIN_NANO)
    (folder,) = (root / THROTTLING / "hwmon").iterdir()
    (folder / file).write_text("2\n")
    check = check_board(root)
    assert check.state == "warn"
    for part in ("2x", f"({cause})", CAUSES[cause]):
        assert part in check.message


@pytest.mark.parametrize(("millidegrees", "state"), [(85_000, "ok"), (85_100, "warn")])
def test_hot_jetson(tmp_path: Path, millidegrees: int, state: str) -> None:
    root = build_jetson(tmp_path, ORIN_NANO)
    (root / "sys/class/thermal/thermal_zone1/temp").write_text(f"{millidegrees}\n")
    check = check_board(root)
    assert check.state == state
    assert "gpu-thermal" in check.message


def test_pc(tmp_path: Path) -> None:
    """A PC warns once it was throttled."""
    root = build_pc(tmp_path)
    throttled = check_board(root)
    assert (throttled.state, "7x" in throttled.message) == ("warn", True)
    for core in (0, 1):
        (root / CPU / f"cpu{core}/thermal_throttle/core_throttle_count").write_text("0\n")
    assert check_board(root) == Check("board", "ok", "Some CPU @ 2 GHz, coretemp Core 0 54 °C")


def test_machine_without_sensors(tmp_path: Path) -> None:
    assert check_board(tmp_path).state == "ok"


# JetPack


@pytest.mark.parametrize("module", [ORIN_NANO, ORIN_NX, AGX_ORIN])
def test_supported_boards(tmp_path: Path, module: Module) -> None:
    """The three Orins with JetPack 6 and 7."""
    check = check_jetpack(build_jetson(tmp_path / "six", module))
    assert check == Check("jetpack", "ok", f"{module.model}, JetPack 6.2.1")
    check = check_jetpack(build_jetson(tmp_path / "seven", module, JETPACK_7))
    assert check == Check("jetpack", "ok", f"{module.model}, JetPack 7.2")


@pytest.mark.parametrize("l4t", [("R35", "4.1"), ("R36", "3.0"), ("R38", "2.0"), ("R40", "1.0")])
def test_unsupported_jetpack(tmp_path: Path, l4t: tuple[str, str]) -> None:
    """An older one, one with an old TensorRT, one of another board, and a future one."""
    check = check_jetpack(build_jetson(tmp_path, ORIN_NX, l4t))
    assert check.state == "fail"
    assert f"L4T {l4t[0][1:]}." in check.message
    assert "JetPack 6.1, 6.2 or 7.2" in check.message


def test_unsupported_board(tmp_path: Path) -> None:
    model = "NVIDIA Jetson AGX Thor Developer Kit"
    root = build_jetson(tmp_path, ORIN_NX)
    write_files(
        root,
        {
            "proc/device-tree/model": f"{model}\0",
            "proc/device-tree/compatible": "nvidia,p3971-0089+p3834-0008\0nvidia,tegra264\0",
        },
    )
    check = check_jetpack(root)
    assert (check.state, model in check.message) == ("fail", True)


def test_unknown_jetpack(tmp_path: Path) -> None:
    """A container shows the device tree and not the release. A PC is no Jetson."""
    root = build_jetson(tmp_path / "jetson", ORIN_NANO)
    (root / "etc/nv_tegra_release").unlink()
    assert check_jetpack(root).state == "warn"
    assert check_jetpack(build_pc(tmp_path / "pc")).state == "ok"


# The bundle


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BundleStore:
    """An empty store of the test's own."""
    monkeypatch.setenv("EMOTION_EDGE_STATE", str(tmp_path / "state"))
    return BundleStore(tmp_path / "state")


def select(store: BundleStore, bundle: Path) -> Path:
    """Install without verification."""
    name = load_bundle(bundle).sha256[:16]
    shutil.copytree(bundle, store.find_folder(name))
    store.write_selection(Selection(current=name))
    return store.find_folder(name)


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("given", ["argument", "configuration"])
def test_missing_bundle(tmp_path: Path, given: str) -> None:
    missing = tmp_path / "missing"
    if given == "argument":
        check = check_bundle(missing, Config())
    else:
        check = check_bundle(None, Config(bundle=str(missing)))
    assert check.state == "fail"
    assert str(missing) in check.message
    assert "\n" not in check.message


@pytest.mark.usefixtures("store")
def test_bundle_of_a_run(tmp_path: Path, null_bundle: Path) -> None:
    """The argument overrides the configuration. Without both the shipped bundle is in use."""
    configured = Config(bundle=str(tmp_path / "missing"))
    assert check_bundle(null_bundle, configured) == Check("bundle", "ok", f"{null_bundle} (null)")
    shipped = check_bundle(None, Config())
    assert shipped.state == "ok"
    assert shipped.message.startswith(str(DEFAULT_BUNDLE))
    no_key = check_bundle(None, Config(public_key=str(tmp_path / "none.pem")))
    assert no_key.state == "fail"
    assert "none.pem" in no_key.message


def test_installed_bundle(store: BundleStore, null_bundle: Path) -> None:
    folder = select(store, null_bundle)
    assert check_bundle(None, Config()) == Check("bundle", "ok", f"{folder} (null)")


@pytest.mark.parametrize("broken", ["damaged", "gone"])
def test_fall_back(store: BundleStore, null_bundle: Path, broken: str) -> None:
    """Another bundle than the selected one is in use. A named bundle is not affected."""
    folder = select(store, null_bundle)
    if broken == "gone":
        shutil.rmtree(folder)
    else:
        (folder / "face.onnx").write_bytes(b"?")
    check = check_bundle(None, Config())
    assert check.state == "warn"
    assert str(DEFAULT_BUNDLE) in check.message
    assert folder.name in check.message
    assert check_bundle(null_bundle, Config()).state == "ok"


def test_damaged_selection(store: BundleStore) -> None:
    """The service's bundle is unknown then."""
    store.folder.mkdir(parents=True)
    (store.folder / "selection.json").write_text("{")
    check = check_bundle(None, Config())
    assert check.state == "warn"
    assert "selection.json" in check.message
