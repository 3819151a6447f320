"""The calibration table as a file: the same bytes, and never half a file."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from emotion_edge.calibration.errors import CalibrationError
from emotion_edge.calibration.table import CalibrationKey, CalibrationTable, load_table, save_table


@pytest.fixture
def table() -> CalibrationTable:
    ranges = {"image": 2.64, "x": 1 / 3}
    key = CalibrationKey("ab", "cd", 1.5, "auto", 0.99)
    return CalibrationTable(key, "mse", ranges, {"mix": 0.5, "head": 0.1}, ["mix"], 0.995, 1e-3)


def test_round_trip(table: CalibrationTable, tmp_path: Path) -> None:
    """Every number exactly, the ranking in its order, the same bytes again, the key "spared"."""
    file = tmp_path / "deep" / "face.json"
    save_table(file, table)
    again = load_table(file)
    assert again == table
    assert again is not None
    assert list(again.ranking) == ["mix", "head"]
    assert msgspec.json.decode(file.read_bytes())["spared"] == ["mix"]
    before = file.read_bytes()
    save_table(file, again)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == ["face.json"]


def test_no_file(tmp_path: Path) -> None:
    """A missing table is no error."""
    assert load_table(tmp_path / "none" / "face.json") is None


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"\xff\xfe", b"{}", b'{"model": 3}', b"no table at all"]
)
def test_corrupted_file(tmp_path: Path, text: bytes) -> None:
    """The file is named."""
    file = tmp_path / "face.json"
    file.write_bytes(text)
    with pytest.raises(CalibrationError, match=r"face\.json"):
        load_table(file)


@pytest.mark.parametrize(
    ("change", "named"),
    [({"extra": 1}, "extra"), ({"ranges": {"image": 0.0}}, "ranges"), ({"spared": 1}, "spared")],
)
def test_wrong_fields(
    table: CalibrationTable, tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    """A field of another version, a range that is not positive, another type: it is named."""
    fields = msgspec.to_builtins(table) | change
    (tmp_path / "face.json").write_bytes(msgspec.json.encode(fields))
    with pytest.raises(CalibrationError, match=named):
        load_table(tmp_path / "face.json")


def test_file_that_cannot_be_written(table: CalibrationTable, tmp_path: Path) -> None:
    """A folder in place of the file, a file in place of the folder: nothing else is left."""
    (tmp_path / "face.json").mkdir()
    (tmp_path / "file").touch()
    for file in (tmp_path / "face.json", tmp_path / "file" / "face.json"):
        for use in (load_table, partial(save_table, table=table)):
            with pytest.raises(CalibrationError, match=r"face\.json"):
                use(file)
    assert {path.name for path in tmp_path.iterdir()} == {"face.json", "file"}
