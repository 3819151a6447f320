"""Folders with a manifest: every row is checked, and no subject is in two splits."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emotion_edge.engines.bundles import LABELS
from emotion_edge.training.data.folder import SPLITS, FolderItem, drop_copies, load_folder
from emotion_edge.training.errors import DatasetError

WriteManifest = Callable[..., Path]
HEADER = "file,label,subject,split"


@pytest.fixture
def write_manifest(tmp_path: Path) -> WriteManifest:
    """A function (lines of the manifest) -> root; each named file contains its name."""

    def write(*lines: str) -> Path:
        root = tmp_path / "root"
        root.mkdir(exist_ok=True)
        (root / "manifest.csv").write_text("\n".join((HEADER, *lines)))
        for line in lines:
            name = line.split(",", maxsplit=1)[0]
            if name and not name.startswith(("/", "..")) and "\\" not in name:
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(name)
        return root

    return write


def test_good_manifest(write_manifest: WriteManifest) -> None:
    """Items in the order of the manifest, the kind from the suffix; calm counts as neutral."""
    root = write_manifest(
        "a/1.wav,happy,ann,train",
        "a/2.MP4,calm,ann,train",
        "3.jpg, fear ,bob,valid",
    )
    assert load_folder(root) == [
        FolderItem(root / "a/1.wav", "happy", "ann", "train", "sound"),
        FolderItem(root / "a/2.MP4", "neutral", "ann", "train", "video"),
        FolderItem(root / "3.jpg", "fear", "bob", "valid", "picture"),
    ]
    assert [item.subject for item in load_folder(root, "valid")] == ["bob"]
    with pytest.raises(DatasetError, match=r"manifest\.csv.*test"):
        load_folder(root, "test")
    with pytest.raises(DatasetError, match="split 'Test'"):
        load_folder(root, "Test")


@pytest.mark.parametrize("separator", [",", ";", "\t", ", ", " ; "])
def test_separators_of_the_table(tmp_path: Path, separator: str) -> None:
    """As spreadsheets write them, also with spaces, other letter cases and trailing empty lines."""
    lines = (["File", "LABEL", "subject", "Split"], ["1.wav", "happy", "ann", "valid"])
    text = "".join(separator.join(line) + "\r\n" for line in lines) + "\r\n\r\n"
    (tmp_path / "manifest.csv").write_text(text)
    assert load_folder(tmp_path) == [
        FolderItem(tmp_path / "1.wav", "happy", "ann", "valid", "sound")
    ]


@pytest.mark.parametrize(
    ("label", "split", "expected"),
    [
        ("Happy", "val", ("happy", "valid")),
        ("happiness", "Validation", ("happy", "valid")),
        ("SURPRISED", "Training", ("surprise", "train")),
        ("Anger", "testing", ("angry", "test")),
        ("sadness", "TEST", ("sad", "test")),
        ("fearful", "train", ("fear", "train")),
        ("Disgusted", "train", ("disgust", "train")),
        ("Calm", "train", ("neutral", "train")),
    ],
)
def test_usual_names_of_labels_and_splits(
    write_manifest: WriteManifest, label: str, split: str, expected: tuple[str, str]
) -> None:
    (item,) = load_folder(write_manifest(f"1.wav,{label},ann,{split}"))
    assert (item.label, item.split) == expected


def test_separators_of_windows(write_manifest: WriteManifest) -> None:
    root = write_manifest("faces\\ann\\1.png,happy,ann,train")
    assert load_folder(root)[0].path == root / "faces/ann/1.png"


@pytest.mark.parametrize(("in_table", "on_disk"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_name_in_another_unicode_normalization(
    write_manifest: WriteManifest, in_table: Literal["NFC", "NFD"], on_disk: Literal["NFC", "NFD"]
) -> None:
    """macOS and Linux write the same name with other bytes."""
    root = write_manifest()
    file = root / unicodedata.normalize(on_disk, "J\u00f6rg.wav")
    file.write_text("audio")
    name = unicodedata.normalize(in_table, "J\u00f6rg.wav")
    (root / "manifest.csv").write_text(f"{HEADER}\n{name},happy,ann,train\n")
    assert load_folder(root)[0].path == file


def test_table_of_files_and_labels_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each file is a person of its own, which is warned of once. The splits are 70/15/15."""
    rows = [f"{number}.wav, happy" for number in range(400)]
    (tmp_path / "manifest.csv").write_text("\n".join(["file, label", *rows]))
    splits = [item.split for item in load_folder(tmp_path)]
    for split, share in (("train", 0.7), ("valid", 0.15), ("test", 0.15)):
        assert splits.count(split) / 400 == pytest.approx(share, abs=0.06)
    (record,) = caplog.records
    assert "subject" in record.getMessage()
    assert [item.split for item in load_folder(tmp_path)] == splits


def test_subjects_without_a_split_stay_together(tmp_path: Path) -> None:
    rows = [f"{number}.wav,happy,{number % 9}" for number in range(90)]
    (tmp_path / "manifest.csv").write_text("\n".join(["file,label,subject", *rows]))
    splits = {(item.subject, item.split) for item in load_folder(tmp_path)}
    assert len(splits) == 9


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ("1.wav,joy,ann,train", "label is 'joy'"),
        ("1.wav,happy,ann,dev", "split is 'dev'"),
        ("1.wav,happy,,train", "subject is empty"),
        (",happy,ann,train", "file is empty"),
        ("1.wav,happy,ann", "split is empty"),
        ("1.txt,happy,ann,train", "file is '1.txt'"),
        ("1.pkl,happy,ann,train", "file is '1.pkl'"),
        ("/etc/1.wav,happy,ann,train", "file is '/etc/1.wav'"),
        ("../1.wav,happy,ann,train", "file is '../1.wav'"),
        ("a/../../1.wav,happy,ann,train", "file is 'a/../../1.wav'"),
        ("..\\1.wav,happy,ann,train", r"file is '..\\1.wav'"),
        ("C:\\1.wav,happy,ann,train", r"file is 'C:\\1.wav'"),
        ("0.wav,happy,ann,train", "file '0.wav' is already in line 2"),
    ],
)
def test_wrong_row_is_named(write_manifest: WriteManifest, row: str, named: str) -> None:
    """One line names the row and the value."""
    root = write_manifest("0.wav,happy,ann,train")
    with (root / "manifest.csv").open("a") as file:
        file.write(f"\n{row}")
    with pytest.raises(DatasetError) as error:
        load_folder(root)
    assert f"manifest.csv line 3: {named}" in str(error.value)
    assert "\n" not in str(error.value)


def test_link_that_leads_out(write_manifest: WriteManifest, tmp_path: Path) -> None:
    """Links inside the root are accepted, links out of it are refused."""
    root = write_manifest("0.wav,happy,ann,train")
    (tmp_path / "secret.wav").touch()
    (root / "in.wav").symlink_to("0.wav")
    (root / "out.wav").symlink_to(tmp_path / "secret.wav")
    (root / "outer").symlink_to(tmp_path)
    table = root / "manifest.csv"
    table.write_text(f"{HEADER}\nin.wav,happy,ann,train")
    assert load_folder(root)[0].path == root / "in.wav"
    for name in ("out.wav", "outer/secret.wav"):
        table.write_text(f"{HEADER}\n{name},happy,ann,train")
        with pytest.raises(DatasetError, match=rf"line 2: file is '{name}'"):
            load_folder(root)


def test_subject_in_two_splits(write_manifest: WriteManifest) -> None:
    """Refused, also when only one split is loaded."""
    root = write_manifest(
        "1.wav,happy,ann,train", "2.wav,sad,bob,valid", "3.wav,sad,ann,valid", "4.wav,sad,bob,valid"
    )
    for split in (None, "train"):
        with pytest.raises(DatasetError, match="line 4: subject 'ann'"):
            load_folder(root, split)


ROWS = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.sampled_from(SPLITS), st.integers(0, 5)), max_size=12
)


@given(ROWS)
def test_splits_share_neither_people_nor_content(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, int]]
) -> None:
    """A manifest is refused, or no subject and no content is in two splits."""
    root = tmp_path_factory.mktemp("folder")
    lines = [HEADER]
    for n, (subject, split, content) in enumerate(rows):
        (root / f"{n}.wav").write_bytes(bytes([content]) * 4)
        lines.append(f"{n}.wav,{LABELS[n % 7]},{subject},{split}")
    (root / "manifest.csv").write_text("\n".join(lines))
    splits_of: dict[str, set[str]] = {}
    for subject, split, _ in rows:
        splits_of.setdefault(subject, set()).add(split)
    if not rows or any(len(splits) > 1 for splits in splits_of.values()):
        with pytest.raises(DatasetError):
            load_folder(root)
        return
    items = load_folder(root)
    contents = [item.path.read_bytes() for item in items]
    assert len(set(contents)) == len(contents)
    assert set(contents) == {bytes([content]) * 4 for *_, content in rows}


def test_copies_are_dropped(
    write_manifest: WriteManifest, caplog: pytest.LogCaptureFixture
) -> None:
    """Within a split the first file stays, across splits that of the later one."""
    root = write_manifest(
        "1.wav,happy,ann,train",
        "2.wav,happy,ann,train",
        "3.wav,happy,bob,valid",
        "4.wav,happy,cid,test",
        "5.wav,happy,ann,train",
    )
    for names, content in ((("1.wav", "2.wav"), "one"), (("5.wav", "3.wav", "4.wav"), "two")):
        for name in names:
            (root / name).write_text(content)
    with caplog.at_level(logging.WARNING):
        items = load_folder(root)
    assert [item.path.name for item in items] == ["1.wav", "4.wav"]
    assert len(caplog.records) == 3
    with pytest.raises(DatasetError, match="valid"):
        load_folder(root, "valid")


def test_missing_files_are_no_copies(tmp_path: Path) -> None:
    """Files that cannot be read are reported when they are decoded."""
    items = [FolderItem(tmp_path / f"{n}.wav", "happy", "ann", "train", "sound") for n in (1, 2)]
    assert drop_copies(items) == (items, [])


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (None, "file, label, subject, split"),
        (b"", "file, label"),
        (b"file,subject,split\n", "label"),
        (HEADER.encode(), ""),
        (b"\xff\xfe\x00", ""),
        (HEADER.encode() + b"\n" + b"x" * 200_000, ""),
    ],
)
def test_wrong_manifest_is_named(tmp_path: Path, data: bytes | None, named: str) -> None:
    """The error names the file, and missing columns."""
    if data is not None:
        (tmp_path / "manifest.csv").write_bytes(data)
    with pytest.raises(DatasetError, match=rf"manifest\.csv: .*{named}"):
        load_folder(tmp_path)
    with pytest.raises(DatasetError, match="/none: "):
        load_folder(tmp_path / "none")


def test_byte_order_mark(write_manifest: WriteManifest) -> None:
    """A byte order mark, as Excel writes it, is not part of the first column's name."""
    root = write_manifest("1.wav,happy,ann,train")
    table = root / "manifest.csv"
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes())
    assert len(load_folder(root)) == 1
