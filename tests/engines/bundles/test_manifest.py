"""Bundle folders: a valid one loads, a fault is refused by the file and the field."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emotion_edge.engines.bundles import LABELS
from emotion_edge.engines.bundles.manifest import (
    MANIFEST,
    MAX_MANIFEST_BYTES,
    Bundle,
    BundleError,
    load_bundle,
    write_manifest,
)
from emotion_edge.engines.bundles.schema import MAX_FILES
from emotion_edge.kernels.spec import MelSpec

from ..conftest import fields_of
from ..speech_network import add_voice_activity

Json = dict[str, Any]


def edit_manifest(bundle: Bundle, change: Callable[[Json], object]) -> Path:
    """Apply `change` to the manifest on the disk and return its path."""
    file = bundle.path / MANIFEST
    fields = json.loads(file.read_text())
    change(fields)
    file.write_text(json.dumps(fields))
    return file


def put(*keys: str | int, value: object) -> Callable[[Json], None]:
    """Return a change that sets the field at the path `keys`."""

    def change(fields: Any) -> None:
        for key in keys[:-1]:
            fields = fields[key]
        fields[keys[-1]] = value

    return change


def assert_refused(folder: Path, *words: str) -> str:
    """Loading raises BundleError with all `words`; return the message."""
    with pytest.raises(BundleError) as caught:
        load_bundle(folder)
    message = str(caught.value)
    for word in words:
        assert word in message
    return message


def test_good_bundle(bundle: Bundle) -> None:
    """The loaded bundle equals the written one and has the hash of the manifest."""
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
        (put("format", value=0), ["format is 0"]),
        (lambda fields: (fields.clear(), fields.update(format=2, color=1)), ["format is 2"]),
        (put("labels", value=["yes"]), ["labels is ['yes']", "2 to 32"]),
        (put("labels", value=[f"n{n}" for n in range(33)]), ["labels", "32"]),
        (put("labels", value=[*LABELS[:6], "sad"]), ["labels is"]),
        (put("labels", value=[*LABELS[:6], ""]), ["labels is"]),
        (put("labels", value=[*LABELS[:6], " calm"]), ["labels is"]),
        (put("labels", value=[*LABELS[:6], "ca\x1blm"]), ["labels is"]),
        (put("labels", value=[*LABELS[:6], "x" * 33]), ["labels is"]),
        (put("labels", value=[*LABELS, "calm"]), ["models.face.golden_logits", "8 numbers"]),
        (put("labels", value="angry"), ["labels"]),
        (put("levels", value=[]), ["levels"]),
        (put("levels", 1, "name", value="full"), ["levels is ['full', 'full']"]),
        (put("levels", 0, "face_px", value=98), ["levels[0].face_px is 98"]),
        (put("levels", 0, "face_px", value=516), ["levels[0].face_px is 516"]),
        (put("levels", 1, "face_px", value=28), ["levels[1].face_px is 28"]),
        (put("levels", 0, "face_px", value="96"), ["levels[0].face_px"]),
        (put("levels", 0, "voice_hop_ms", value=0), ["levels[0].voice_hop_ms is 0"]),
        (put("levels", 0, "faces", value=0), ["levels[0].faces is 0"]),
        (put("levels", 0, "faces", value=17), ["levels[0].faces is 17"]),
        (put("levels", 0, "face_find_hz", value=0), ["levels[0].face_find_hz is 0"]),
        (put("levels", 0, "speed", value=1), ["speed", "levels[0]"]),
        (put("models", value={}), ["models is []"]),
        (put("models", "smell", value=None), ["models"]),
        (put("models", "face", "file", value="other.onnx"), ["models.face.file is 'other.onnx'"]),
        (put("models", "face", "file", value="../face.onnx"), ["models.face.file"]),
        (put("models", "voice", "temperature", value=0), ["models.voice.temperature is 0"]),
        (put("models", "voice", "temperature", value=1e300), ["models.voice.temperature"]),
        (put("models", "voice", "temperature", value=None), ["models", "temperature"]),
        (put("models", "face", "fusion_weight", value=0), ["models.face.fusion_weight is 0"]),
        (put("models", "face", "fusion_weight", value=1.5), ["models.face.fusion_weight is 1.5"]),
        (put("models", "face", "golden_logits", value=[1.0]), ["models.face.golden_logits"]),
        (put("abstain_below", value=1), ["abstain_below is 1"]),
        (put("abstain_below", value=-0.1), ["abstain_below is -0.1"]),
        (put("image", "std", value=[0, 0, 0]), ["image.std[0] is 0"]),
        (put("mel", "hop", value=1_000), ["hop 1000", "mel"]),
        (put("mel", "num_mels", value="64"), ["mel.num_mels"]),
        (put("mel", "compression", value="pcen"), ["mel.compression is 'pcen'"]),
        (put("mel", "compression", value={"kind": "dB"}), ["'dB'", "mel.compression.kind"]),
        (
            put("mel", "compression", value={"kind": "pcen", "smoothing": 2}),
            ["mel.compression.smoothing is 2"],
        ),
        (put("color", value=1), ["color"]),
        (
            lambda fields: fields["files"].update(
                {f"f{n}": {"sha256": "", "bytes": 0} for n in range(MAX_FILES)}
            ),
            ["files", str(MAX_FILES)],
        ),
        (lambda fields: fields.pop("levels"), ["levels"]),
        (lambda fields: fields.pop("files"), ["files"]),
        (
            lambda fields: fields["models"].update(smell=fields["models"]["face"]),
            ["models"],
        ),
        (put("fusion", "file", value="other.onnx"), ["fusion.file is 'other.onnx'"]),
        (put("fusion", "num_faces", value=0), ["fusion.num_faces is 0", ">= 1"]),
        (put("fusion", "num_faces", value=65), ["fusion.num_faces is 65"]),
        (put("fusion", "num_faces", value=1.5), ["fusion.num_faces"]),
        (put("fusion", "temperature", value=0), ["fusion.temperature is 0", ">= 0.01"]),
        (put("fusion", "temperature", value=101), ["fusion.temperature is 101"]),
        (put("fusion", "golden_logits", value=[0.0] * 6), ["fusion.golden_logits"]),
        (put("fusion", "golden_weights", value=[1.0]), ["fusion.golden_weights"]),
        (put("fusion", "golden_weights", value=[1.0, None]), ["fusion.golden_weights"]),
        (put("fusion", "color", value=1), ["color", "fusion"]),
        (put("fusion", value={}), ["fusion", "file"]),
        (
            lambda fields: fields["models"].pop("voice"),
            ["fusion is 'fusion.onnx'", "face and voice"],
        ),
    ],
)
def test_wrong_field_is_named(
    fused: Bundle, change: Callable[[Json], object], words: list[str]
) -> None:
    """Unknown, missing, of another type or out of range: one line with file, field and value."""
    file = edit_manifest(fused, change)
    assert "\n" not in assert_refused(fused.path, str(file), *words)


HUGE = 10**400
LONG = "x" * 100_000


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (put("mel", "sample_rate_hz", value=44_100), "mel.sample_rate_hz"),
        (put("mel", "sample_rate_hz", value=10**12), "mel.sample_rate_hz"),
        (put("mel", "fft_size", value=2**40), "mel.fft_size"),
        (put("mel", "hop", value=HUGE), "mel.hop"),
        (put("mel", "num_mels", value=10**9), "mel.num_mels"),
        (put("mel", "num_frames", value=2_000_000), "mel.num_frames"),
        (put("mel", "high_hz", value=HUGE), "mel.high_hz"),
        (put("mel", "floor", value=1e300), "mel.floor"),
        (put("mel", "mean", value=-1e30), "mel.mean"),
        (put("mel", "std", value=1e-300), "mel.std"),
        (put("image", "std", 1, value=2**70), "image.std"),
        (put("name", value=LONG), "name"),
        (put("labels", 0, value=LONG), "labels[0]"),
        (lambda fields: fields["levels"].extend(fields["levels"] * 1_500), "levels"),
        (put("levels", 0, "name", value=LONG), "levels[0].name"),
        (put("levels", 0, "precision", value=LONG), "levels[0].precision"),
        (put("levels", 0, "camera_fps", value=1e9), "levels[0].camera_fps"),
        (put("levels", 0, "voice_hop_ms", value=HUGE), "levels[0].voice_hop_ms"),
        (
            put("models", "voice", "golden_logits", value=[0] * 100_000),
            "models.voice.golden_logits",
        ),
        (put("models", "voice", "golden_logits", 3, value=1e300), "models.voice.golden_logits[3]"),
        (put("models", "face", "file", value=LONG), "models.face.file"),
        (put("fusion", "golden_weights", value=[0] * 100_000), "fusion.golden_weights"),
        (put("fusion", "num_faces", value=HUGE), "fusion.num_faces"),
        (put("files", "face.onnx", "bytes", value=2**60), "files.face.onnx.bytes"),
        (put("files", "face.onnx", "bytes", value=-1), "files.face.onnx.bytes"),
        (put("files", "voice.onnx", "sha256", value=LONG), "files.voice.onnx.sha256"),
        (put("metrics", value={"a": [2**80]}), "metrics"),
        (put("provenance", value={LONG: HUGE}), "provenance"),
        (put("version", value=-1), "version"),
        (put("version", value=2**60), "version"),
    ],
)
def test_numbers_and_lengths_have_bounds(
    fused: Bundle, change: Callable[[Json], object], field: str
) -> None:
    """Beyond them one short line names the field: nothing is computed, built or printed."""
    file = edit_manifest(fused, change)
    message = assert_refused(fused.path, f"{file}: {field}")
    assert ("\n" not in message, len(message) < 1_200) == (True, True)


@pytest.mark.parametrize("literal", ["1" + "0" * 5_000, "1" + "0" * 5_000 + ".5", "1e5000"])
@pytest.mark.parametrize("field", ["num_frames", "floor"])
def test_numbers_of_thousands_of_digits(bundle: Bundle, field: str, literal: str) -> None:
    """No such number is ever made."""
    file = edit_manifest(bundle, put("mel", field, value="PLACE"))
    file.write_text(file.read_text().replace('"PLACE"', literal))
    assert_refused(bundle.path, f"mel.{field}")


def test_depth_of_free_fields(bundle: Bundle) -> None:
    """What is printed and copied by later programs is shallow."""
    deep: Json = {}
    for _ in range(300):
        deep = {"a": deep}
    edit_manifest(bundle, put("provenance", value=deep))
    assert_refused(bundle.path, "provenance")


def test_other_sample_rate_is_not_written(bundle: Bundle) -> None:
    """The device feeds 16 kHz: training writes no bundle for another rate."""
    mel = MelSpec(sample_rate_hz=44_100)
    with pytest.raises(BundleError, match=r"mel\.sample_rate_hz is 44100"):
        write_manifest(bundle.path, {**fields_of(bundle.manifest), "mel": mel})


def test_fusion_network(fused: Bundle) -> None:
    """A bundle has the third network by its name; one without it has no such key."""
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
    again = write_manifest(plain.path, fields_of(plain.manifest))
    assert "fusion" not in json.loads((again.path / MANIFEST).read_text())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put("voice_activity", "file", value="x.onnx"), ["voice_activity.file is 'x.onnx'"]),
        (put("voice_activity", "columns", value=0), ["voice_activity.columns is 0", ">= 1"]),
        (put("voice_activity", "columns", value=301), ["voice_activity.columns is 301"]),
        (put("voice_activity", "threshold", value=1.5), ["voice_activity.threshold is 1.5"]),
        (put("voice_activity", "golden_speech", value=-0.1), ["voice_activity.golden_speech"]),
        (put("mel", "compression", value={"kind": "root"}), ["mel.compression", "voice_activity"]),
        (put("voice_activity", "color", value=1), ["color", "voice_activity"]),
        (put("voice_activity", value={}), ["voice_activity", "file"]),
    ],
)
def test_wrong_field_of_the_voice_activity(
    bundle: Bundle, change: Callable[[Json], object], words: list[str]
) -> None:
    heard = add_voice_activity(bundle)
    assert load_bundle(heard.path) == heard
    assert "voice_activity" not in heard.manifest.networks
    assert_refused(edit_manifest(heard, change).parent, *words)


def test_other_files_of_a_bundle(bundle: Bundle) -> None:
    """A file other than a network is listed and verified too."""
    (bundle.path / "CARD.md").write_text("what it is")
    again = write_manifest(bundle.path, fields_of(bundle.manifest), ["CARD.md"])
    assert set(again.manifest.files) == {"face.onnx", "voice.onnx", "CARD.md"}
    (bundle.path / "CARD.md").write_text("what it IS")
    assert_refused(bundle.path, "files.CARD.md.sha256")


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "1e999"])
def test_absurd_temperature(bundle: Bundle, literal: str) -> None:
    """No number in JSON, or out of the range of a float."""
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
    """Only plain file names are allowed, even where such a file exists with the right hash."""
    (bundle.path / "sub").mkdir()
    for place in (bundle.path / "sub" / "x", bundle.path.parent / "x"):
        place.write_bytes(b"x")
    entry = {"sha256": hashlib.sha256(b"x").hexdigest(), "bytes": 1}
    edit_manifest(bundle, lambda fields: fields["files"].update({name: entry}))
    assert_refused(bundle.path, "files")


def flip_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def replace_by_link(path: Path) -> None:
    path.rename(path.parent.parent / "elsewhere.onnx")
    path.symlink_to(path.parent.parent / "elsewhere.onnx")


@pytest.mark.parametrize(
    ("damage", "field"),
    [
        (Path.unlink, "files.face.onnx"),
        (flip_bit, "files.face.onnx.sha256"),
        (lambda path: path.write_bytes(path.read_bytes()[:-10]), "files.face.onnx.bytes"),
        (replace_by_link, "files.face.onnx"),
    ],
)
def test_damaged_file(bundle: Bundle, damage: Callable[[Path], object], field: str) -> None:
    """A missing, changed or incomplete file, or a link, even to the right content."""
    path = bundle.model_path("face")
    damage(path)
    assert_refused(bundle.path, str(path), field)


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
def test_not_a_manifest(bundle: Bundle, data: bytes) -> None:
    """Anything but a manifest raises BundleError with the file."""
    file = bundle.path / MANIFEST
    file.write_bytes(data)
    assert_refused(bundle.path, str(file))


def test_manifest_cut_anywhere(bundle: Bundle) -> None:
    """A truncated manifest is refused at every length."""
    file = bundle.path / MANIFEST
    data = file.read_bytes().rstrip()
    for end in range(0, len(data), 97):
        file.write_bytes(data[:end])
        assert_refused(bundle.path, str(file))


def test_oversize_manifest(bundle: Bundle) -> None:
    """Refused by its size, before it is read."""
    file = bundle.path / MANIFEST
    file.write_bytes(b" " * (MAX_MANIFEST_BYTES + 1))
    assert_refused(bundle.path, str(file), str(MAX_MANIFEST_BYTES))


def test_folder_without_a_manifest(tmp_path: Path) -> None:
    """No folder, a file in its place, an empty folder, a folder in place of the manifest."""
    assert_refused(tmp_path / "none", str(tmp_path / "none"))
    (tmp_path / "file").touch()
    assert_refused(tmp_path / "file", str(tmp_path / "file"))
    assert_refused(tmp_path, str(tmp_path / MANIFEST))
    (tmp_path / MANIFEST).mkdir()
    assert_refused(tmp_path, str(tmp_path / MANIFEST))
