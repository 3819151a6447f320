"""The default configuration of the service, and its references."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
import yaml

from emotion_edge.runtime.config import Config, load_config
from emotion_edge.runtime.service.deployment import SERVICE_CONFIG

from .unit_root import SHIPPED, read_setting

FILE = SHIPPED / "config.yaml"


def test_it_loads() -> None:
    """All keys exist, all values are allowed."""
    config = load_config(FILE)
    assert config.profile == "general"
    assert config.wait_for_devices
    assert not config.metrics.port
    assert not any(sink.startswith("web") for sink in config.output.sinks)
    assert not config.web.picture
    assert not any("://" in sink for sink in config.output.sinks)


def test_notice_is_configured() -> None:
    """An indicator is configured, and the preview is off."""
    config = load_config(FILE)
    assert config.indicator.kind == "screen"
    assert "screen" in config.output.sinks
    assert not config.screen.picture


def test_devices_have_the_names_of_the_rules() -> None:
    """The configured devices are links of the udev rules."""
    rules = (SHIPPED / "emotion-edge.rules").read_text()
    names = set(re.findall(r'SYMLINK\+="([^"]+)"', rules)) | {"emotion-edge-serial"}
    config = load_config(FILE)
    assert config.source.name.removeprefix("/dev/") in names
    assert "serial:/dev/emotion-edge-serial" in config.output.sinks


def test_alternatives_in_its_comments_are_allowed() -> None:
    """Each loads."""
    for setting in ("serial.format=binary", "source.name=csi://0", "source.microphone=none"):
        load_config(FILE, [setting])
    load_config(FILE, ["indicator.kind=file", "indicator.file=/sys/class/leds/x/brightness"])


def test_other_values_are_defaults() -> None:
    """It changes only devices, sinks and the indicator; all other values equal the defaults."""
    default = msgspec.to_builtins(Config())
    shipped = yaml.safe_load(FILE.read_text())
    for section in ("screen", "serial"):
        for key, value in shipped[section].items():
            assert default[section][key] == value, key
    for key in ("microphone", "width_px", "height_px", "camera_fps", "rotate", "mirror"):
        assert default["source"][key] == shipped["source"][key]


def test_service_reads_it() -> None:
    """The unit, the doctor and the comments of the file name the same path."""
    assert f"--config {SERVICE_CONFIG}" in read_setting("emotion-edge.service", "ExecStart")
    assert str(SERVICE_CONFIG) in FILE.read_text()


@pytest.mark.parametrize(
    "block",
    [
        block
        for name in ("README.md", "FLEET.md")
        for block in re.findall(r"```yaml\n(.*?)```", (SHIPPED / name).read_text(), re.DOTALL)
    ],
)
def test_examples_of_the_readme(tmp_path: Path, block: str) -> None:
    """Each loads."""
    file = tmp_path / "config.yaml"
    file.write_text(block)
    load_config(file)
