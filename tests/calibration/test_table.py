"""What was decided, as a file: the same bytes, and never half a file."""

from __future__ import annotations

import errno
import os
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
    """Every number to the last bit, the ranking in its order, and the same bytes again."""
    file = tmp_path / "deep" / "face.json"
    save_table(file, table)
    again = load_table(file)
    assert again == table
    assert again is not None
    assert list(again.ranking) == ["mix", "head"]
    before = file.read_bytes()
    save_table(file, again)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == ["face.json"]


def test_none(tmp_path: Path) -> None:
    """What is not there is no error."""
    assert load_table(tmp_path / "none" / "face.json") is None


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"\xff\xfe", b"{}", b'{"model": 3}', b"no table at all"]
)
def test_damaged(tmp_path: Path, text: bytes) -> None:
    """The file and the way on."""
    file = tmp_path / "face.json"
    file.write_bytes(text)
    with pytest.raises(CalibrationError, match=r"face\.json: is no calibration table: .*delete it"):
        load_table(file)


def test_unknown_fields(table: CalibrationTable, tmp_path: Path) -> None:
    """Of another version."""
    fields = msgspec.to_builtins(table) | {"extra": 1}
    (tmp_path / "face.json").write_bytes(msgspec.json.encode(fields))
    with pytest.raises(CalibrationError, match="extra"):
        load_table(tmp_path / "face.json")


@pytest.mark.parametrize("corrupted", [0.0, -1.0])
def test_ranges_that_are_none(table: CalibrationTable, tmp_path: Path, corrupted: float) -> None:
    """A range must reach somewhere."""
    fields = msgspec.to_builtins(table) | {"ranges": {"image": corrupted}}
    (tmp_path / "face.json").write_bytes(msgspec.json.encode(fields))
    with pytest.raises(CalibrationError, match=r"ranges"):
        load_table(tmp_path / "face.json")


def test_folder_in_its_place(table: CalibrationTable, tmp_path: Path) -> None:
    """It can neither be read nor replaced, and nothing else stays."""
    (tmp_path / "face.json").mkdir()
    with pytest.raises(CalibrationError, match=r"face\.json: cannot be read: "):
        load_table(tmp_path / "face.json")
    with pytest.raises(CalibrationError, match=r"face\.json: cannot be written: "):
        save_table(tmp_path / "face.json", table)
    assert [path.name for path in tmp_path.iterdir()] == ["face.json"]


def test_file_in_place_of_the_folder(table: CalibrationTable, tmp_path: Path) -> None:
    """As a path that goes through a file."""
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(CalibrationError, match=r"face\.json: cannot be read: Not a directory"):
        load_table(tmp_path / "file" / "face.json")
    with pytest.raises(CalibrationError, match=r"face\.json: cannot be written: "):
        save_table(tmp_path / "file" / "face.json", table)


def test_full_disk(
    table: CalibrationTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was there stays, nothing half written does."""
    file = tmp_path / "face.json"
    save_table(file, table)
    before = file.read_bytes()

    def fill_up(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full:
        full.setattr(os, "write", fill_up)
        with pytest.raises(CalibrationError, match=r"face\.json: cannot be written: No space left"):
            save_table(file, msgspec.structs.replace(table, used="entropy"))
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]
