"""`emotion-edge config`: what it prints is read back, and every setting is explained."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from emotion_edge.engines.config_file import Section
from emotion_edge.runtime.__main__ import main
from emotion_edge.runtime.cli.configuration import read_meanings
from emotion_edge.runtime.config import Config, load_config


@pytest.mark.parametrize(
    "settings",
    [
        [],
        [
            "source.name=a: b #'1.mp4",
            "output.sinks=[console, 'jsonl:é out.jsonl']",
            "source.rotate=90",
            "engines.name=null",
            "source.microphone=1",
            "screen.notice=" + "long " * 60,
        ],
    ],
)
def test_it_is_read_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: list[str]
) -> None:
    """As the same configuration, whatever the values are; written or printed."""
    options = [part for setting in settings for part in ("--set", setting)]
    file = tmp_path / "own.yaml"
    assert main(["config", *options]) == 0
    printed = capsys.readouterr().out
    assert main(["config", *options, "--init", str(file)]) == 0
    assert file.read_text() == printed
    assert load_config(file) == load_config(None, settings)
    assert max(map(len, printed.splitlines())) <= 100 or settings


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file keeps what it has. The error names it."""
    file = tmp_path / "own.yaml"
    file.write_text("level: low\n")
    assert main(["config", "--init", str(file)]) == 2
    assert str(file) in capsys.readouterr().err
    assert file.read_text() == "level: low\n"


def test_settings_are_explained() -> None:
    """Each but those whose name says it, such as `width_px`."""
    sections = [Config(), *(v for v in vars_of(Config()) if isinstance(v, Section))]
    unexplained = {
        field.name
        for section in sections
        for field in msgspec.structs.fields(type(section))
        if not isinstance(getattr(section, field.name), Section)
        and field.name not in read_meanings(type(section).__name__)
    }
    assert unexplained <= {"width_px", "height_px"}


def vars_of(section: Section) -> list[object]:
    return [getattr(section, name) for name in section.__struct_fields__]
