"""`emotion-train toy` and the options that a recipe excludes."""

from __future__ import annotations

from pathlib import Path

import pytest

from emotion_edge.training.__main__ import main


def test_full_folder_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("mine")
    assert main(["toy", str(tmp_path)]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    (line,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path) in line


@pytest.mark.parametrize("option", ["--preset", "--root", "--fold"])
def test_recipe_says_it(option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Settings of a single network are refused beside a recipe."""
    assert main(["train", str(tmp_path / "recipe.yaml"), option, "1"]) == 2
    assert option in capsys.readouterr().err
