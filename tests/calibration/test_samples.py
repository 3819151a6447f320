"""The file of calibration samples: the same bytes every time, and one line for each defect."""

from __future__ import annotations

import errno
import hashlib
import io
import os
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
    """Return the line of the error for `file`, without the file's name."""
    with pytest.raises(CalibrationError) as caught:
        load_samples(file, networks or ("face",))
    line = str(caught.value)
    assert line.startswith(f"{file}: ")
    assert "\n" not in line
    return line.removeprefix(f"{file}: ")


def test_round_trip(both: dict[str, Samples], tmp_path: Path) -> None:
    """Every number is read as written; one network can be read alone."""
    file = tmp_path / "deep" / "er" / "samples.npz"
    save_samples(file, both)
    again = load_samples(file)
    assert set(again) == {"face", "voice"}
    for network, samples in both.items():
        assert again[network].ids == samples.ids
        assert again[network].sha256 == samples.sha256
        assert set(again[network].inputs) == set(samples.inputs)
        for name, values in samples.inputs.items():
            np.testing.assert_array_equal(again[network].inputs[name], values)
    assert set(load_samples(file, ["voice"])) == {"voice"}
    assert [path.name for path in file.parent.iterdir()] == ["samples.npz"]


def test_same_samples_same_bytes(
    both: dict[str, Samples], make_samples: Make, tmp_path: Path
) -> None:
    """The file depends on its contents only, and not on the time."""
    save_samples(tmp_path / "a.npz", both)
    save_samples(tmp_path / "b.npz", {name: make_samples(name, 20) for name in both})
    a, b = (hashlib.sha256((tmp_path / name).read_bytes()).digest() for name in ("a.npz", "b.npz"))
    assert a == b


def test_sha256_is_of_every_id_and_number(make_samples: Make) -> None:
    """Another number, id or order gives another hash."""
    samples = make_samples("voice", 20)
    mel = samples.inputs["mel"].copy()
    mel[7, 63, 299] += 1e-3
    others = [
        replace(samples, ids=("other", *samples.ids[1:])),
        replace(samples, inputs={**samples.inputs, "mel": mel}),
        replace(samples, inputs={**samples.inputs, "mask": samples.inputs["mask"][::-1]}),
        replace(samples, inputs={name: values[::-1] for name, values in samples.inputs.items()}),
    ]
    assert len({samples.sha256, *(other.sha256 for other in others)}) == 5
    assert samples.sha256 == make_samples("voice", 20).sha256


def test_batches(make_samples: Make) -> None:
    """In order, the last one shorter, up to a limit."""
    samples = make_samples("voice", 20)
    batches = samples.batches(8)
    assert [len(batch["mel"]) for batch in batches] == [8, 8, 4]
    for name, values in samples.inputs.items():
        np.testing.assert_array_equal(np.concatenate([b[name] for b in batches]), values)
    assert [len(batch["mask"]) for batch in samples.batches(8, 10)] == [8, 2]
    assert [len(batch["mask"]) for batch in samples.batches(8, 100)] == [8, 8, 4]


def test_select_by_id_prefix(make_samples: Make) -> None:
    """Rows and ids are selected together."""
    samples = replace(make_samples("face", 4), ids=("ravdess/02/a", "noise/1", "ravdess/03/a", "x"))
    some = samples.select(["ravdess/03/", "noise/"])
    assert some.ids == ("noise/1", "ravdess/03/a")
    np.testing.assert_array_equal(some.inputs["image"], samples.inputs["image"][[1, 2]])


def test_number_of_samples(make_samples: Make) -> None:
    """Fewer than 16 are refused, with their number; equal samples only if all are equal."""
    for num in (0, 15):
        with pytest.raises(CalibrationError, match=rf"^it: {num} face samples"):
            check_samples(make_samples("face", num), "face", "it")
    samples = make_samples("face", 16)
    check_samples(samples, "face", "it")
    image = np.zeros_like(samples.inputs["image"])
    image[-1] = 1.0
    check_samples(replace(samples, inputs={"image": image}), "face", "it")


@pytest.mark.parametrize(
    ("corrupt", "named"),
    [
        (lambda v: v.astype(np.float64), "face image is float64[20, 3, 16, 16]"),
        (lambda v: v[:19], "face image is float32[19, 3, 16, 16]"),
        (lambda v: np.float32(3), "face image is float32[]"),
        (lambda v: v * np.float32(np.nan), "face image"),
        (lambda v: v / np.float32(0), "face image"),
        (lambda v: np.repeat(v[:1], 20, axis=0), "20 face samples"),
        (np.zeros_like, "20 face samples"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*encountered in divide")
def test_corrupted_arrays(
    both: dict[str, Samples], tmp_path: Path, corrupt: Callable[[Any], Any], named: str
) -> None:
    """Wrong type, shape or values: the array is named."""
    file = tmp_path / "s.npz"
    image = np.asarray(corrupt(both["face"].inputs["image"]))
    save_samples(file, {"face": replace(both["face"], inputs={"image": image})})
    assert named in refuse(file)


def test_missing_array(both: dict[str, Samples], tmp_path: Path) -> None:
    """The missing array is named."""
    save_samples(tmp_path / "s.npz", {"face": both["face"]})
    assert "voice.ids" in refuse(tmp_path / "s.npz", "voice")
    mel = {"mel": both["voice"].inputs["mel"]}
    save_samples(tmp_path / "s.npz", {"voice": replace(both["voice"], inputs=mel)})
    assert "voice.mask" in refuse(tmp_path / "s.npz", "voice")


def test_ids_that_are_one_string(both: dict[str, Samples], tmp_path: Path) -> None:
    """Ids without a dimension count as one."""
    image = both["face"].inputs["image"]
    arrays = {"face.ids": np.array("face"), "face.image": image}
    np.savez(tmp_path / "s.npz", allow_pickle=False, **arrays)
    assert refuse(tmp_path / "s.npz").startswith("1 face samples")


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.folder),))


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    """An array of objects could run any code."""
    trap = np.array([Trap(tmp_path / "sprung")] * 20, object)
    np.savez(tmp_path / "s.npz", allow_pickle=True, **{"face.ids": trap, "face.image": trap})
    refuse(tmp_path / "s.npz")
    trap.dump(tmp_path / "s.npz")
    refuse(tmp_path / "s.npz")
    assert not (tmp_path / "sprung").exists()


def truncate(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flip(data: bytes) -> bytes:
    """Invert bytes in the middle of the compressed arrays."""
    middle = len(data) // 2
    return data[:middle] + bytes(b ^ 0xFF for b in data[middle : middle + 64]) + data[middle + 64 :]


def change_compression(data: bytes) -> bytes:
    """Declare an unknown compression method, in the header and in the directory."""
    for place in (data.index(b"PK\3\4") + 8, data.index(b"PK\1\2") + 10):
        data = data[:place] + b"\x63\0" + data[place + 2 :]
    return data


def make_array(_: bytes) -> bytes:
    """A `.npy` file."""
    stream = io.BytesIO()
    np.save(stream, np.zeros(3))
    return stream.getvalue()


@pytest.mark.parametrize(
    "corrupt",
    [
        truncate,
        flip,
        change_compression,
        make_array,
        lambda _: b"",
        lambda _: b"a,b\n1,2\n",
        lambda _: b"PK\3\4",
    ],
)
def test_corrupted_file(
    both: dict[str, Samples], tmp_path: Path, corrupt: Callable[[bytes], bytes]
) -> None:
    """Cut short, changed, empty, or another kind of file: one line that names the file."""
    file = tmp_path / "s.npz"
    save_samples(file, {"face": both["face"]})
    file.write_bytes(corrupt(file.read_bytes()))
    refuse(file)


def test_no_file(tmp_path: Path) -> None:
    """A missing file, or a folder."""
    refuse(tmp_path / "none.npz")
    refuse(tmp_path)


def test_too_large(
    both: dict[str, Samples], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file above the limit is not opened."""
    save_samples(tmp_path / "s.npz", {"face": both["face"]})
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 1000)
    assert "1000" in refuse(tmp_path / "s.npz")


def test_full_disk(
    both: dict[str, Samples], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old file stays, and no partial file."""
    file = tmp_path / "s.npz"
    file.write_bytes(b"before")

    def fill_up(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", fill_up)
    with pytest.raises(CalibrationError, match=r"s\.npz: .*No space left"):
        save_samples(file, both)
    assert file.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [file]


def test_file_in_place_of_the_folder(both: dict[str, Samples], tmp_path: Path) -> None:
    """The samples' file is named."""
    (tmp_path / "file").touch()
    with pytest.raises(CalibrationError, match=r"s\.npz"):
        save_samples(tmp_path / "file" / "s.npz", both)
