"""Bundles: a good one is read, every other is refused with the file and the field."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emotion_edge.engines.bundles.manifest import (
    LABELS,
    MANIFEST,
    MAX_MANIFEST_BYTES,
    Bundle,
    BundleError,
    describe_file,
    load_bundle,
    write_manifest,
)

Json = dict[str, Any]


def edit_manifest(bundle: Bundle, change: Callable[[Json], object]) -> Path:
    """Apply `change` to the manifest on disk -> its path."""
    file = bundle.path / MANIFEST
    fields = json.loads(file.read_text())
    change(fields)
    file.write_text(json.dumps(fields))
    return file


def put(*keys: str | int, value: object) -> Callable[[Json], None]:
    """A change that sets one field, `keys` being the way to it."""

    def change(fields: Any) -> None:
        for key in keys[:-1]:
            fields = fields[key]
        fields[keys[-1]] = value

    return change


def assert_refused(folder: Path, *words: str) -> str:
    """Loading raises one line with all `words` in it."""
    with pytest.raises(BundleError) as caught:
        load_bundle(folder)
    message = str(caught.value)
    for word in words:
        assert word in message
    return message


def test_good_bundle(bundle: Bundle) -> None:
    """What was written is what is read, with the hash of the manifest."""
    again = load_bundle(bundle.path)
    assert again == bundle
    data = (bundle.path / MANIFEST).read_bytes()
    assert again.sha256 == hashlib.sha256(data).hexdigest()
    assert again.model_path("voice") == bundle.path / "voice.onnx"
    assert tuple(again.manifest.labels) == LABELS
    assert again.manifest.levels[0].face_px == 64
    assert set(again.manifest.files) == {"face.onnx", "voice.onnx"}


def test_bundle_may_hold_one_network(bundle: Bundle) -> None:
    """A device without a microphone needs no voice network."""

    def drop_voice(fields: Json) -> None:
        del fields["models"]["voice"], fields["files"]["voice.onnx"]

    edit_manifest(bundle, drop_voice)
    assert set(load_bundle(bundle.path).manifest.models) == {"face"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put("format", value=2), ["format is 2"]),
        (put("labels", value=[*LABELS[1:], LABELS[0]]), ["labels is", "'angry'"]),
        (put("labels", value=list(LABELS[:6])), ["labels is"]),
        (put("labels", value="angry"), ["$.labels"]),
        (put("levels", value=[]), ["levels is []", "at least one"]),
        (put("levels", 1, "name", value="full"), ["levels is ['full', 'full']", "once"]),
        (put("levels", 0, "face_px", value=98), ["levels[full].face_px is 98", "multiple of 4"]),
        (put("levels", 0, "face_px", value=516), ["levels[full].face_px is 516"]),
        (put("levels", 1, "face_px", value=28), ["levels[low].face_px is 28"]),
        (put("levels", 0, "face_px", value="96"), ["$.levels[0].face_px"]),
        (put("levels", 0, "voice_hop_ms", value=0), ["levels[full].voice_hop_ms is 0"]),
        (put("levels", 0, "face_find_hz", value=0), ["levels[full].face_find_hz is 0"]),
        (put("levels", 0, "speed", value=1), ["speed", "$.levels[0]"]),
        (put("models", value={}), ["models is []"]),
        (put("models", "smell", value=None), ["$.models"]),
        (put("models", "face", "file", value="other.onnx"), ["models.face.file is 'other.onnx'"]),
        (put("models", "face", "file", value="../face.onnx"), ["models.face.file"]),
        (put("models", "voice", "temperature", value=0), ["models.voice.temperature is 0"]),
        (put("models", "voice", "temperature", value=1e300), ["models.voice.temperature"]),
        (put("models", "voice", "temperature", value=None), ["$.models", "temperature"]),
        (put("models", "face", "fusion_weight", value=0), ["models.face.fusion_weight is 0"]),
        (put("models", "face", "fusion_weight", value=1.5), ["models.face.fusion_weight is 1.5"]),
        (put("models", "face", "golden_logits", value=[1.0]), ["models.face.golden_logits"]),
        (put("abstain_below", value=1), ["abstain_below is 1"]),
        (put("abstain_below", value=-0.1), ["abstain_below is -0.1"]),
        (put("image", "std", value=[0, 0, 0]), ["image std", "$.image"]),
        (put("mel", "hop", value=1_000), ["hop 1000", "$.mel"]),
        (put("mel", "num_mels", value="64"), ["$.mel.num_mels"]),
        (put("colour", value=1), ["colour"]),
        (lambda fields: fields.pop("levels"), ["levels"]),
        (lambda fields: fields.pop("files"), ["files"]),
    ],
)
def test_wrong_field_is_named(
    bundle: Bundle, change: Callable[[Json], object], words: list[str]
) -> None:
    """Unknown, missing, of another type or out of range: file, field and what was found."""
    file = edit_manifest(bundle, change)
    assert "\n" not in assert_refused(bundle.path, str(file), *words)


def test_unknown_modality(bundle: Bundle) -> None:
    """Networks for senses that the runtime lacks are no part of a bundle."""
    edit_manifest(bundle, lambda fields: fields["models"].update(smell=fields["models"]["face"]))
    assert_refused(bundle.path, "models is", "smell", "face and/or voice")


def test_fusion_network(fused: Bundle) -> None:
    """A third network beside the two, found by its name; without it the manifest is as it was
    before there were any."""
    assert load_bundle(fused.path) == fused
    assert fused.model_path("fusion") == fused.path / "fusion.onnx"
    assert list(fused.manifest.networks) == ["face", "voice", "fusion"]
    assert set(fused.manifest.files) == {"face.onnx", "voice.onnx", "fusion.onnx"}

    def drop(fields: Json) -> None:
        del fields["fusion"], fields["files"]["fusion.onnx"]

    edit_manifest(fused, drop)
    plain = load_bundle(fused.path)
    assert plain.manifest.fusion is None
    assert list(plain.manifest.networks) == ["face", "voice"]
    with pytest.raises(KeyError):
        plain.model_path("fusion")
    again = write_manifest(plain.path, fields_of(plain))
    assert "fusion" not in json.loads((again.path / MANIFEST).read_text())


def fields_of(bundle: Bundle) -> Json:
    """What `write_manifest` takes."""
    names = set(bundle.manifest.__struct_fields__) - {"format", "files"}
    return {name: getattr(bundle.manifest, name) for name in names}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put("fusion", "file", value="other.onnx"), ["fusion.file is 'other.onnx'"]),
        (put("fusion", "num_faces", value=0), ["fusion.num_faces is 0", "1 to 64"]),
        (put("fusion", "num_faces", value=65), ["fusion.num_faces is 65"]),
        (put("fusion", "num_faces", value=1.5), ["$.fusion.num_faces"]),
        (put("fusion", "temperature", value=0), ["fusion.temperature is 0", "0.01 to 100"]),
        (put("fusion", "temperature", value=101), ["fusion.temperature is 101"]),
        (put("fusion", "golden_logits", value=[0.0] * 6), ["fusion.golden_logits", "7 numbers"]),
        (put("fusion", "golden_weights", value=[1.0]), ["fusion.golden_weights", "2 numbers"]),
        (put("fusion", "golden_weights", value=[1.0, None]), ["$.fusion.golden_weights"]),
        (put("fusion", "colour", value=1), ["colour", "$.fusion"]),
        (put("fusion", value={}), ["$.fusion", "file"]),
        (
            lambda fields: fields["models"].pop("voice"),
            ["fusion is 'fusion.onnx'", "face and voice"],
        ),
    ],
)
def test_wrong_field_of_the_fusion_is_named(
    fused: Bundle, change: Callable[[Json], object], words: list[str]
) -> None:
    """As those of the other networks; and it is nothing without both of them."""
    file = edit_manifest(fused, change)
    assert "\n" not in assert_refused(fused.path, str(file), *words)


def test_other_files_of_a_bundle(bundle: Bundle) -> None:
    """A file that is no network is listed, and checked like one."""
    (bundle.path / "CARD.md").write_text("what it is")
    again = write_manifest(bundle.path, fields_of(bundle), ["CARD.md"])
    assert set(again.manifest.files) == {"face.onnx", "voice.onnx", "CARD.md"}
    (bundle.path / "CARD.md").write_text("what it IS")
    assert_refused(bundle.path, "files.CARD.md.sha256")


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "1e999"])
def test_absurd_temperature(bundle: Bundle, literal: str) -> None:
    """Neither what JSON does not know nor what no float holds."""
    file = bundle.path / MANIFEST
    text = file.read_text()
    assert '"temperature": 1.5' in text
    file.write_text(text.replace('"temperature": 1.5', f'"temperature": {literal}'))
    assert_refused(bundle.path, str(file))


@pytest.mark.parametrize(
    "name",
    ["../x", "/etc/passwd", "sub/x", "..", ".", "", "a\\b", "./face.onnx", "face.onnx/", "a\0b"],
)
def test_path_that_leaves_the_folder(bundle: Bundle, name: str) -> None:
    """Only plain file names, even where such a file exists and its hash is right."""
    (bundle.path / "sub").mkdir()
    for place in (bundle.path / "sub" / "x", bundle.path.parent / "x"):
        place.write_bytes(b"x")
    entry = {"sha256": hashlib.sha256(b"x").hexdigest(), "bytes": 1}
    edit_manifest(bundle, lambda fields: fields["files"].update({name: entry}))
    assert_refused(bundle.path, "files")


def test_missing_file(bundle: Bundle) -> None:
    """A network that was not copied."""
    bundle.model_path("voice").unlink()
    assert_refused(bundle.path, "voice.onnx", "files.voice.onnx", "no such file")


def test_changed_byte(bundle: Bundle) -> None:
    """One bit in the middle of a network."""
    path = bundle.model_path("face")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert_refused(bundle.path, str(path), "files.face.onnx.sha256")


def test_truncated_file(bundle: Bundle) -> None:
    """A copy that broke off: both sizes are told."""
    path = bundle.model_path("face")
    data = path.read_bytes()
    path.write_bytes(data[:-10])
    assert_refused(bundle.path, str(path), f"{len(data) - 10} bytes", "files.face.onnx.bytes")


def test_symlink(bundle: Bundle) -> None:
    """A link may point anywhere, later too; refused even when its target is right."""
    path = bundle.model_path("face")
    path.rename(bundle.path.parent / "elsewhere.onnx")
    path.symlink_to(bundle.path.parent / "elsewhere.onnx")
    assert_refused(bundle.path, str(path), "files.face.onnx")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe{}",
        b"PK\x03\x04",
        b'{"metrics": ' + b"[" * 500_000,
        b'{"name": "\xff"}',
    ],
    ids=["empty", "cut", "list", "null", "utf-16", "zip", "deep", "latin"],
)
def test_manifest_that_is_none(bundle: Bundle, data: bytes) -> None:
    """Whatever lies there instead: the file is named, and nothing else is raised."""
    file = bundle.path / MANIFEST
    file.write_bytes(data)
    assert_refused(bundle.path, str(file))


def test_manifest_cut_anywhere(bundle: Bundle) -> None:
    """A truncated manifest is refused wherever it broke off."""
    file = bundle.path / MANIFEST
    data = file.read_bytes().rstrip()
    for end in range(0, len(data), 97):
        file.write_bytes(data[:end])
        assert_refused(bundle.path, str(file), "not JSON")


def test_oversize_manifest(bundle: Bundle) -> None:
    """Refused by its size, before it is read."""
    file = bundle.path / MANIFEST
    file.write_bytes(b" " * (MAX_MANIFEST_BYTES + 1))
    assert_refused(bundle.path, str(file), str(MAX_MANIFEST_BYTES))


def test_folder_without_a_manifest(tmp_path: Path) -> None:
    """No folder, a file instead of it, and an empty folder are three messages."""
    assert_refused(tmp_path / "none", "none: no such bundle folder")
    (tmp_path / "file").touch()
    assert_refused(tmp_path / "file", "file: no such bundle folder")
    assert_refused(tmp_path, str(tmp_path / MANIFEST), "cannot be read")
    (tmp_path / MANIFEST).mkdir()
    assert_refused(tmp_path, str(tmp_path / MANIFEST))


def test_describe_file(tmp_path: Path) -> None:
    """Size and SHA-256, against a value from FIPS 180-2, appendix B.1."""
    (tmp_path / "abc").write_bytes(b"abc")
    entry = describe_file(tmp_path / "abc")
    assert entry.bytes == 3
    assert re.match("ba7816bf8f01cfea", entry.sha256)
