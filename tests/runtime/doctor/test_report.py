"""The doctor, shown healthy and broken machines."""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Collection
from pathlib import Path

import pytest

from emotion_edge.runtime.__main__ import main
from emotion_edge.runtime.config import Config, Indicator, Output
from emotion_edge.runtime.doctor import report
from emotion_edge.runtime.doctor import service as doctor_service
from emotion_edge.runtime.doctor.report import Check
from emotion_edge.runtime.messages import SourceError
from emotion_edge.runtime.service import deployment

HEADLESS = "opencv-python-headless"
GOVERNOR = "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"


def make_file(root: Path, name: str, text: str = "") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def allow_all(path: Path) -> bool:
    return True


def allow_none(path: Path) -> bool:
    return False


@pytest.mark.parametrize(
    ("version", "state"), [((3, 9, 18), "fail"), ((3, 10, 0), "ok"), ((3, 14, 1), "warn")]
)
def test_python(version: tuple[int, ...], state: str) -> None:
    """Too old does not work, newer than tested may."""
    assert report.check_python(version).state == state


def test_camera_states(tmp_path: Path) -> None:
    """None, one that may not be opened, one that may."""
    assert report.check_cameras(tmp_path).state == "warn"
    make_file(tmp_path, "dev/video0")
    make_file(tmp_path, "dev/video2")
    closed = report.check_cameras(tmp_path, allow_none)
    assert closed.state == "fail"
    assert "/dev/video0: sudo usermod -aG video $USER" in closed.message
    half_open = report.check_cameras(tmp_path, lambda path: path.name == "video2")
    assert half_open == Check("camera", "ok", "/dev/video2")


def test_microphone_states(tmp_path: Path) -> None:
    """No PyAudio, no device, no permission, a device."""

    def miss_pyaudio() -> Collection[str]:
        raise SourceError("PyAudio is not installed")

    missing = report.check_microphone(tmp_path, miss_pyaudio)
    assert missing.state == "warn"
    assert "sudo apt install portaudio19-dev python3-dev gcc" in missing.message
    assert report.check_microphone(tmp_path, list).state == "warn"
    make_file(tmp_path, "dev/snd/pcmC0D0c")
    closed = report.check_microphone(tmp_path, list, allow_none)
    assert closed.state == "fail"
    assert "sudo usermod -aG audio $USER" in closed.message
    found = report.check_microphone(tmp_path, lambda: ["USB microphone"], allow_all)
    assert found == Check("microphone", "ok", "USB microphone")


def run_checks(root: Path, config: Config = Config()) -> dict[str, Check]:  # noqa: B008 - frozen
    checks = report.run_checks(root, config, sys_root=root, environment={})
    return {check.name: check for check in checks}


def test_checks_of_a_kiosk(tmp_path: Path) -> None:
    """On a machine that has nothing of what the configuration asks for, each thing has its line;
    nothing is asked of one that is no kiosk."""
    at_home = run_checks(tmp_path)
    for name in ("screen", "indicator", "service", "user", "folders", "config", "jetpack"):
        assert at_home[name].state == "ok"
    assert not any(name.startswith("serial") for name in at_home)
    sinks = ("screen", "serial:/dev/ttyS9", "null", "serial:/dev/ttyS8")
    light = Indicator(kind="file", file="/sys/class/leds/green/brightness")
    checks = report.run_checks(
        tmp_path, Config(output=Output(sinks=sinks), indicator=light), tmp_path, {}
    )
    missing = [check for check in checks if check.name in ("serial", "indicator")]
    assert [check.state for check in missing] == ["warn", "warn", "fail"]
    for check, device in zip(missing, ("ttyS9", "ttyS8", "leds/green"), strict=True):
        assert device in check.message


def test_configuration_that_is_checked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The one that is named, else the service's, else the defaults."""
    seen: list[Config | None] = []

    def note(bundle: Path | None, config: Config | None) -> list[Check]:
        seen.append(config)
        return []

    monkeypatch.setattr(report, "run_checks", note)
    service, other = tmp_path / "config.yaml", tmp_path / "other.yaml"
    monkeypatch.setattr(deployment, "SERVICE_CONFIG", service)
    other.write_text("budget_ms: 30\n")
    assert main(["doctor", "--config", str(other)]) == 0
    assert main(["doctor"]) == 0
    service.write_text("budget_ms: 20\n")
    assert main(["doctor"]) == 0
    service.write_text("budget_ms: fast\n")  # has a line of its own
    assert main(["doctor"]) == 0
    assert [config and config.budget_ms for config in seen] == [30, 45, 20, None]
    assert main(["doctor", "--config", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml" in capsys.readouterr().err


def test_two_builds_of_opencv() -> None:
    """The GUI build beside the headless one overwrites its files."""
    assert report.check_opencv({HEADLESS}).state == "ok"
    check = report.check_opencv({HEADLESS, "opencv-python"})
    assert check.state == "warn"
    assert "pip uninstall opencv-python," in check.message


def test_wrong_jetson_utils() -> None:
    """The package of that name on the index is found out by what it lacks."""
    assert report.check_jetson_utils(set(), lambda name: False).state == "ok"
    assert report.check_jetson_utils({"jetson-utils"}, lambda name: True).state == "ok"
    check = report.check_jetson_utils({"jetson-utils"}, lambda name: False)
    assert check.state == "fail"
    assert "pip uninstall jetson-utils" in check.message


@pytest.mark.parametrize(("permitted", "state"), [(True, "ok"), (False, "warn")])
def test_priority(tmp_path: Path, permitted: bool, state: str) -> None:
    """Whether results may go first; if not, what to write where. A service has it by its unit."""
    check = report.check_priority(tmp_path, lambda: permitted)
    assert check.state == state
    assert permitted or "rtprio 4" in check.message
    make_file(tmp_path, f"etc/systemd/system/{doctor_service.UNIT}")
    check = report.check_priority(tmp_path, lambda: permitted)
    assert (check.state, "log in" in check.message) == ("ok", False)


@pytest.mark.parametrize(
    ("governor", "state"), [(None, "ok"), ("performance\n", "ok"), ("powersave\n", "warn")]
)
def test_governor(tmp_path: Path, governor: str | None, state: str) -> None:
    """Anything but performance makes the first frame after a pause late."""
    if governor:
        make_file(tmp_path, GOVERNOR, governor)
    check = report.check_governor(tmp_path)
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
    """Less than what a run takes is said."""
    make_file(tmp_path, "proc/meminfo", meminfo)
    assert report.check_memory(tmp_path).state == state


def test_cache_folder(tmp_path: Path) -> None:
    """NUMBA_CACHE_DIR if it can be written, else where numba falls back to, else a failure."""
    blocked = make_file(tmp_path, "file")  # nothing can be put below a file, not even by root
    writable = {"NUMBA_CACHE_DIR": str(tmp_path / "new" / "cache")}
    unwritable = {"NUMBA_CACHE_DIR": str(blocked / "cache"), "XDG_CACHE_HOME": str(blocked)}
    assert report.check_cache(writable, blocked) == Check(
        "cache", "ok", str(tmp_path / "new" / "cache")
    )
    assert not (tmp_path / "new").exists()
    assert report.check_cache({}, tmp_path).message == str(tmp_path / "__pycache__")
    fallen_back = report.check_cache(unwritable, tmp_path)
    assert fallen_back.state == "warn"
    assert str(tmp_path / "__pycache__") in fallen_back.message
    nowhere = report.check_cache(unwritable, blocked)
    assert nowhere.state == "fail"
    assert "NUMBA_CACHE_DIR" in nowhere.message


def test_broken_check_is_a_failed_line(tmp_path: Path) -> None:
    """An empty root has no /proc/meminfo: its check fails, the others still run."""
    checks = run_checks(tmp_path)
    assert checks["memory"].state == "fail"
    assert "FileNotFoundError" in checks["memory"].message
    assert checks["camera"].state == "warn"
    assert list(checks)[-1] == "cache"


@pytest.mark.parametrize("broken", ["", "gpu", "tensorrt", "kernels"])
def test_capture_is_tried_as_a_run_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """In the GPU's memory only where all that reads it there works."""
    make_file(tmp_path, "dev/nvidia0")
    for name in ("gpu", "tensorrt", "kernels"):
        check = Check(name, "warn" if name == broken else "ok", "as told")
        monkeypatch.setattr(report, f"check_{name}", lambda shows, check=check: check)
    asked: list[bool] = []

    light = Indicator(kind="file", file="/run/light")

    def check_capture(
        for_gpu: bool, cameras: Collection[str], indicator: Indicator, sys_root: Path
    ) -> Check:
        assert (indicator, sys_root) == (light, tmp_path)
        asked.append(for_gpu)
        return Check("capture", "ok", "as told")

    monkeypatch.setattr(report, "check_capture", check_capture)
    report.run_checks(tmp_path, Config(indicator=light), sys_root=tmp_path, environment={})
    assert asked == [not broken]


@pytest.fixture
def no_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    """A camera that must not be touched."""

    def check_capture(*_: object) -> Check:
        raise AssertionError("a camera was read")

    monkeypatch.setattr(report, "check_capture", check_capture)


@pytest.mark.usefixtures("no_capture")
@pytest.mark.parametrize(
    "setting", ["profile: workplace", "profile: school", "indicator: {kind: x}"]
)
def test_no_capture_where_a_run_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    setting: str,
) -> None:
    """By the service's configuration, or by the one that is named."""
    service = make_file(tmp_path, "config.yaml", setting)
    monkeypatch.setattr(deployment, "SERVICE_CONFIG", service)
    assert report.find_config() is None
    checks = report.run_checks(tmp_path, report.find_config(), tmp_path, {})
    (check,) = [check for check in checks if check.name == "capture"]
    assert check == Check("capture", "warn", "not tried: the configuration is refused")
    assert main(["doctor", "--config", str(service)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.usefixtures("no_capture")
def test_no_capture_beside_the_service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It has the camera, and its light; one calm line."""
    monkeypatch.setattr(report, "is_running", lambda sys_root: sys_root == tmp_path)
    check = run_checks(tmp_path)["capture"]
    assert check == Check("capture", "ok", "not tried: the service is using it")


@pytest.mark.parametrize(("state", "code"), [("ok", 0), ("warn", 0), ("fail", 1)])
def test_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], state: str, code: int
) -> None:
    """One line per check; only a failure is an error."""
    checks = [Check("python", "ok", "3.10"), Check("camera", state, "what to do")]  # type: ignore[arg-type]
    monkeypatch.setattr(report, "run_checks", lambda bundle, config: checks)
    assert report.run_doctor() == code
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["ok    python      3.10", f"{state:<4}  camera      what to do"]


def test_microphones_are_listed_quietly(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Only inputs count, and what PortAudio's libraries write does not reach the terminal."""

    class FakeAudio:
        def get_device_count(self) -> int:
            os.write(2, b"ALSA lib pcm.c:2664:(snd_pcm_open_noupdate) Unknown PCM\n")
            return 2

        def get_device_info_by_index(self, index: int) -> dict[str, object]:
            return {"name": f"device {index}", "maxInputChannels": index}

        def terminate(self) -> None:
            pass

    monkeypatch.setitem(sys.modules, "pyaudio", types.SimpleNamespace(PyAudio=FakeAudio))
    assert report.list_microphones() == ["device 1"]
    os.write(2, b"still there\n")
    assert capfd.readouterr().err == "still there\n"
