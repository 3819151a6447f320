"""The doctor's report: which checks run, for which configuration, and the exit code."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pytest

from emotion_edge.runtime.__main__ import main
from emotion_edge.runtime.config import Config, Indicator, Output
from emotion_edge.runtime.doctor import report
from emotion_edge.runtime.doctor.check import Check
from emotion_edge.runtime.service import deployment

from ..board.trees import ORIN_NANO, build_jetson


def run_checks(root: Path, config: Config = Config()) -> dict[str, Check]:  # noqa: B008 - frozen
    checks = report.run_checks(root, config, sys_root=root, environment={})
    return {check.name: check for check in checks}


def test_checks_follow_the_configuration(tmp_path: Path) -> None:
    """Each device of the configuration has its line. By default none is missing."""
    default = run_checks(tmp_path)
    for name in ("screen", "indicator", "service", "user", "folders", "config", "jetpack"):
        assert default[name].state == "ok"
    assert "serial" not in default
    sinks = ("screen", "serial:/dev/ttyS9", "null", "serial:/dev/ttyS8")
    light = Indicator(kind="file", file="/sys/class/leds/green/brightness")
    checks = report.run_checks(
        tmp_path, Config(output=Output(sinks=sinks), indicator=light), tmp_path, {}
    )
    missing = [check for check in checks if check.name in ("serial", "indicator")]
    assert [check.state for check in missing] == ["warn", "warn", "fail"]
    for check, device in zip(missing, ("ttyS9", "ttyS8", "leds/green"), strict=True):
        assert device in check.message


def test_root_folder_is_passed_on(tmp_path: Path) -> None:
    """A Jetson's tree is reported as one."""
    checks = run_checks(build_jetson(tmp_path, ORIN_NANO))
    assert "MAXN_SUPER" in checks["board"].message
    assert ORIN_NANO.model in checks["jetpack"].message


def test_choice_of_the_configuration(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The named one, else the service's, else the defaults. None stands for a refused one."""
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
    service.write_text("budget_ms: fast\n")
    assert main(["doctor"]) == 0
    assert [config and config.budget_ms for config in seen] == [30, 45, 20, None]
    assert main(["doctor", "--config", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml" in capsys.readouterr().err


def test_broken_check_fails_alone(tmp_path: Path) -> None:
    """An empty root has no /proc/meminfo: its check fails, the others still run."""
    checks = run_checks(tmp_path)
    assert checks["memory"].state == "fail"
    assert "FileNotFoundError" in checks["memory"].message
    assert checks["camera"].state == "warn"
    assert list(checks)[-1] == "cache"


@pytest.mark.parametrize("broken", ["", "gpu", "tensorrt", "kernels"])
def test_capture_for_the_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    """Frames are read in the GPU's memory only where GPU, TensorRT and kernels work."""
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidia0").touch()
    for name in ("gpu", "tensorrt", "kernels"):
        check = Check(name, "warn" if name == broken else "ok", "fake")
        monkeypatch.setattr(report, f"check_{name}", lambda has_gpu, check=check: check)
    asked: list[bool] = []
    light = Indicator(kind="file", file="/run/light")

    def check_capture(
        for_gpu: bool, cameras: Collection[str], indicator: Indicator, sys_root: Path
    ) -> Check:
        assert (indicator, sys_root) == (light, tmp_path)
        asked.append(for_gpu)
        return Check("capture", "ok", "fake")

    monkeypatch.setattr(report, "check_capture", check_capture)
    report.run_checks(tmp_path, Config(indicator=light), sys_root=tmp_path, environment={})
    assert asked == [not broken]


@pytest.fixture
def no_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where a camera is read."""

    def check_capture(*_: object) -> Check:
        raise AssertionError("a camera was read")

    monkeypatch.setattr(report, "check_capture", check_capture)


@pytest.mark.usefixtures("no_capture")
@pytest.mark.parametrize(
    "setting", ["profile: workplace", "profile: school", "indicator: {kind: x}"]
)
def test_no_capture_with_a_refused_configuration(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    setting: str,
) -> None:
    """The service's is a warning, a named one a usage error."""
    service = tmp_path / "config.yaml"
    service.write_text(setting)
    monkeypatch.setattr(deployment, "SERVICE_CONFIG", service)
    assert report.find_config() is None
    checks = report.run_checks(tmp_path, report.find_config(), tmp_path, {})
    (check,) = [check for check in checks if check.name == "capture"]
    assert check.state == "warn"
    assert main(["doctor", "--config", str(service)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.usefixtures("no_capture")
def test_no_capture_beside_the_service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(report, "is_running", lambda sys_root: sys_root == tmp_path)
    assert run_checks(tmp_path)["capture"].state == "ok"


@pytest.mark.parametrize(("state", "code"), [("ok", 0), ("warn", 0), ("fail", 1)])
def test_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], state: str, code: int
) -> None:
    """One line per check. Only a failure is an error."""
    checks = [Check("python", "ok", "3.10"), Check("camera", state, "remedy")]  # type: ignore[arg-type]
    monkeypatch.setattr(report, "run_checks", lambda bundle, config: checks)
    assert report.run_doctor() == code
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["ok    python      3.10", f"{state:<4}  camera      remedy"]
