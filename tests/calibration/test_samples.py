"""The file of samples: the same bytes every time, and one line for each way to be none."""

from __future__ import annotations

import errno
import hashlib
import os
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emotion_edge.calibration import samples as module
from emotion_edge.calibration.errors import CalibrationError
from emotion_edge.calibration.samples import Samples, check_samples, load_samples, save_samples

Make = Callable[..., Samples]
Arrays = dict[str, np.ndarray[Any, Any]]


@pytest.fixture
def both(make_samples: Make) -> dict[str, Samples]:
    return {"face": make_samples("face", 20), "voice": make_samples("voice", 20)}


def refuse(file: Path, *networks: str) -> str:
    """The one line that says why `file` holds no samples."""
    with pytest.raises(CalibrationError) as caught:
        load_samples(file, networks or ("face",))
    line = str(caught.value)
    assert line.startswith(f"{file}: ")
    assert "\n" not in line
    return line.removeprefix(f"{file}: ")


def test_round_trip(both: dict[str, Samples], tmp_path: Path) -> None:
    """What is written is read, number by number; one network can be read alone."""
    file = tmp_path / "deep" / "er" / "samples.npz"
    save_samples(file, both)
    again = load_samples(file)
    assert set(again) == {"face", "voice"}
    for network, one in both.items():
        assert again[network].ids == one.ids
        assert again[network].sha256 == one.sha256
        assert set(again[network].inputs) == set(one.inputs)
        for name, values in one.inputs.items():
            np.testing.assert_array_equal(again[network].inputs[name], values)
    assert set(load_samples(file, ["voice"])) == {"voice"}
    assert [path.name for path in file.parent.iterdir()] == ["samples.npz"]


def test_same_samples_same_bytes(
    both: dict[str, Samples], make_samples: Make, tmp_path: Path
) -> None:
    """The file depends on nothing but what is in it, not even on the hour."""
    save_samples(tmp_path / "a.npz", both)
    save_samples(tmp_path / "b.npz", {name: make_samples(name, 20) for name in both})
    a, b = (hashlib.sha256((tmp_path / name).read_bytes()).digest() for name in ("a.npz", "b.npz"))
    assert a == b


def test_sha256_is_of_every_id_and_number(make_samples: Make) -> None:
    """One number, one id or the order: another set."""
    one = make_samples("voice", 20)
    mel = one.inputs["mel"].copy()
    mel[7, 63, 299] += 1e-3
    others = [
        replace(one, ids=("other", *one.ids[1:])),
        replace(one, inputs={**one.inputs, "mel": mel}),
        replace(one, inputs={**one.inputs, "mask": one.inputs["mask"][::-1]}),
        replace(one, inputs={name: values[::-1] for name, values in one.inputs.items()}),
    ]
    assert len({one.sha256, *(other.sha256 for other in others)}) == 5
    assert one.sha256 == make_samples("voice", 20).sha256


def test_batches(make_samples: Make) -> None:
    """In order, the last one shorter, and of the first few alone where there is a limit."""
    one = make_samples("voice", 20)
    batches = one.batches(8)
    assert [len(batch["mel"]) for batch in batches] == [8, 8, 4]
    for name, values in one.inputs.items():
        np.testing.assert_array_equal(np.concatenate([b[name] for b in batches]), values)
    assert [len(batch["mask"]) for batch in one.batches(8, 10)] == [8, 2]
    assert [len(batch["mask"]) for batch in one.batches(8, 100)] == [8, 8, 4]


def test_select_by_id_prefix(make_samples: Make) -> None:
    """By the beginning of their ids, rows and ids together."""
    one = replace(make_samples("face", 4), ids=("ravdess/02/a", "noise/1", "ravdess/03/a", "x"))
    some = one.select(["ravdess/03/", "noise/"])
    assert some.ids == ("noise/1", "ravdess/03/a")
    np.testing.assert_array_equal(some.inputs["image"], one.inputs["image"][[1, 2]])


def test_few_are_none(make_samples: Make) -> None:
    """How many there are, and how many it takes; none is as bad."""
    for num in (0, 15):
        with pytest.raises(CalibrationError, match=rf"^it: {num} face samples, at least 16 wanted"):
            check_samples(make_samples("face", num), "face", "it")
    check_samples(make_samples("face", 16), "face", "it")


@pytest.mark.parametrize(
    ("corrupt", "said"),
    [
        (lambda v: v.astype(np.float64), "face image is float64[20, 3, 16, 16], float32 with 20"),
        (lambda v: v[:19], "face image is float32[19, 3, 16, 16], float32 with 20 rows"),
        (lambda v: np.float32(3), "face image is float32[], float32 with 20 rows"),
        (lambda v: v * np.float32(np.nan), "face image holds values that are no numbers"),
        (lambda v: v / np.float32(0), "face image holds values that are no numbers"),
        (lambda v: np.repeat(v[:1], 20, axis=0), "all 20 face samples are alike"),
        (np.zeros_like, "all 20 face samples are alike"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*encountered in divide")
def test_corrupted_arrays(
    both: dict[str, Samples], tmp_path: Path, corrupt: Callable[[Any], Any], said: str
) -> None:
    """Which array it is, what it is like and what is wanted."""
    file = tmp_path / "s.npz"
    image = np.asarray(corrupt(both["face"].inputs["image"]))
    save_samples(file, {"face": replace(both["face"], inputs={"image": image})})
    assert said in refuse(file)


def test_one_different_sample_is_enough(both: dict[str, Samples]) -> None:
    """Alike are they only when all are."""
    image = np.zeros_like(both["face"].inputs["image"])
    image[-1] = 1.0
    check_samples(replace(both["face"], inputs={"image": image}), "face", "it")


def test_missing_array(both: dict[str, Samples], tmp_path: Path) -> None:
    """The one that is not there is named."""
    save_samples(tmp_path / "s.npz", {"face": both["face"]})
    assert "voice.ids" in refuse(tmp_path / "s.npz", "voice")
    mel = {"mel": both["voice"].inputs["mel"]}
    save_samples(tmp_path / "s.npz", {"voice": replace(both["voice"], inputs=mel)})
    assert "voice.mask" in refuse(tmp_path / "s.npz", "voice")


def test_ids_that_are_one_text(both: dict[str, Samples], tmp_path: Path) -> None:
    """Ids without a dimension are no list."""
    image = both["face"].inputs["image"]
    arrays = {"face.ids": np.array("face"), "face.image": image}
    np.savez(tmp_path / "s.npz", allow_pickle=False, **arrays)
    assert refuse(tmp_path / "s.npz") == "1 face samples, at least 16 wanted"


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.folder),))


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    """An array of objects could run anything."""
    trap = np.array([Trap(tmp_path / "sprung")] * 20, object)
    arrays = {"face.ids": trap, "face.image": trap}
    np.savez(tmp_path / "s.npz", allow_pickle=True, **arrays)
    assert refuse(tmp_path / "s.npz").startswith("no calibration samples: ")
    trap.dump(tmp_path / "s.npz")
    assert refuse(tmp_path / "s.npz").startswith("no calibration samples: ")
    assert not (tmp_path / "sprung").exists()


def truncate(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flip(data: bytes) -> bytes:
    """Damage in the middle of the compressed numbers."""
    middle = len(data) // 2
    return data[:middle] + bytes(b ^ 0xFF for b in data[middle : middle + 64]) + data[middle + 64 :]


@pytest.mark.parametrize(
    "corrupt",
    [truncate, flip, lambda data: b"", lambda data: b"a,b\n1,2\n", lambda data: b"PK\3\4"],
)
def test_damaged_file(
    both: dict[str, Samples], tmp_path: Path, corrupt: Callable[[bytes], bytes]
) -> None:
    """Cut short, changed, empty, or a text."""
    file = tmp_path / "s.npz"
    save_samples(file, {"face": both["face"]})
    file.write_bytes(corrupt(file.read_bytes()))
    assert refuse(file).startswith("no calibration samples: ")


def test_single_array(both: dict[str, Samples], tmp_path: Path) -> None:
    """A file of NumPy's other kind."""
    file = tmp_path / "s.npy"
    np.save(file, both["face"].inputs["image"])
    assert refuse(file).startswith("no calibration samples: ")


def test_strange_compression(both: dict[str, Samples], tmp_path: Path) -> None:
    """An archive that says it is packed in a way that nobody knows."""
    file = tmp_path / "s.npz"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("face.ids.npy", b"x" * 100)
    data = file.read_bytes()
    header, directory = data.index(b"PK\3\4") + 8, data.index(b"PK\1\2") + 10
    data = (
        data[:header] + b"\x63\0" + data[header + 2 : directory] + b"\x63\0" + data[directory + 2 :]
    )
    file.write_bytes(data)
    assert refuse(file).startswith("no calibration samples: ")


def test_no_file(tmp_path: Path) -> None:
    """Neither a file nor a folder will do."""
    assert refuse(tmp_path / "none.npz") == "cannot be read: No such file or directory"
    assert refuse(tmp_path).startswith("cannot be read: ")


def test_too_large(
    both: dict[str, Samples], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is no set of samples by its size alone is not opened."""
    save_samples(tmp_path / "s.npz", {"face": both["face"]})
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 1000)
    assert refuse(tmp_path / "s.npz") == "larger than 1000 bytes"


def test_full_disk(
    both: dict[str, Samples], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing half written stays, and what was there before does."""
    file = tmp_path / "s.npz"
    file.write_bytes(b"before")

    def fill_up(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", fill_up)
    with pytest.raises(CalibrationError, match=r"s\.npz: cannot be written: No space left"):
        save_samples(file, both)
    assert file.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [file]


def test_folder_that_cannot_be_written(
    both: dict[str, Samples], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read-only, or no folder at all."""
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(CalibrationError, match=r"s\.npz: cannot be written: "):
        save_samples(tmp_path / "file" / "s.npz", both)

    def refuse_to_open(*_: Any) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "open", refuse_to_open)
    with pytest.raises(CalibrationError, match=r"s\.npz: cannot be written: Read-only file system"):
        save_samples(tmp_path / "s.npz", both)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
