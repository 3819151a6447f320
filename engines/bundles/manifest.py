"""Bundles on the disk: a folder with `bundle.json` and the networks it names.

In: a folder. Out: a `Bundle` whose every file has been verified, or a BundleError that names the
file and the field.
"""

from __future__ import annotations

import hashlib
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from ...kernels.spec import MAX_FACE_PX, MIN_FACE_PX
from .schema import (
    ALLOWED_LABELS,
    FUSION,
    MANIFEST,
    MAX_FACES,
    MAX_FUSION_FACES,
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    MODALITIES,
    NUM_GOLDEN_SCORES,
    PRECISIONS,
    SHARED_NETWORKS,
    SIGNATURE,
    VARIANTS,
    BundleError,
    FaceDetectorEntry,
    FileEntry,
    FusionEntry,
    Level,
    Manifest,
    ModelEntry,
    VoiceActivityEntry,
    are_labels,
)
from .signature import SIGNATURE_BYTES, PublicKey

DEFAULT_BUNDLE = Path(__file__).parent.parent / "default"
"""The bundle that ships with the program."""
FORMAT = 1
MAX_MANIFEST_BYTES = 1 << 20
MAX_FILE_BYTES = 256 << 20
MAX_FILES = 64
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+ -]{0,99}")
"""Letters that every file system and archive can write, and no hidden file."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle."""

    path: Path
    manifest: Manifest
    sha256: str
    """Of `bundle.json`, which holds the hashes of all other files."""

    def model_path(self, network: str, precision: str = "fp32") -> Path:
        """Return the ONNX file of a modality or "fusion", which has one precision. Raises KeyError
        for a network that the bundle lacks."""
        entry = self.manifest.networks[network]
        if isinstance(entry, ModelEntry):
            return self.path / entry.at(precision).file
        return self.path / entry.file


class _Format(msgspec.Struct, frozen=True):
    """The field that is checked first: another format may have other fields."""

    format: int


def load_bundle(path: Path, public_key: PublicKey | None = None) -> Bundle:
    """Read and verify a bundle, each file once, and its signature if a key is given. Raises
    BundleError."""
    file = path / MANIFEST
    try:
        if not path.is_dir():
            raise BundleError(f"{path}: no such bundle folder")
        data = _read(file, MAX_MANIFEST_BYTES)
        if public_key is not None:
            check_signature(path, data, public_key)
        manifest = parse_manifest(data, file)
        for name, entry in manifest.files.items():
            _check_file(path, name, entry)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}") from error
    return Bundle(path, manifest, hashlib.sha256(data).hexdigest())


def parse_manifest(data: bytes, file: Path) -> Manifest:
    """Parse and check the bytes of a `bundle.json`; `file` names it in a BundleError."""
    try:
        version = msgspec.json.decode(data, type=_Format).format
        _require(file, version == FORMAT, "format", version, str(FORMAT))
        manifest = msgspec.json.decode(data, type=Manifest)
    except msgspec.ValidationError as error:
        raise BundleError(f"{file}: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{file}: not JSON: {error}") from error
    _check_manifest(file, manifest)
    return manifest


def check_signature(folder: Path, manifest: bytes, public_key: PublicKey) -> None:
    """Verify the signature in `folder` over the bytes `manifest`. Raises BundleError."""
    file = folder / SIGNATURE
    if not file.exists():
        raise BundleError(
            f"{folder}: not signed ({SIGNATURE} is missing), a signature with the key"
            f" {public_key.file} is wanted"
        )
    if not public_key.verify(_read(file, SIGNATURE_BYTES), manifest):
        raise BundleError(f"{file}: not a signature of this {MANIFEST} with {public_key.file}")


def _read(file: Path, limit: int) -> bytes:
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):  # reading a pipe may block for ever
            raise BundleError(f"{file}: cannot be read: not a file")
        if status.st_size > limit:
            raise BundleError(f"{file}: {status.st_size} bytes, at most {limit} allowed")
        return file.read_bytes()
    except OSError as error:
        raise BundleError(f"{file}: cannot be read: {error.strerror}") from error


def _check_manifest(file: Path, manifest: Manifest) -> None:
    def require(holds: bool, field: str, value: object, allowed: str) -> None:
        _require(file, holds, field, value, allowed)

    require(are_labels(manifest.labels), "labels", manifest.labels, ALLOWED_LABELS)
    check_levels(file, manifest.levels)
    known = set(manifest.models) <= set(MODALITIES) and bool(manifest.models)
    require(known, "models", sorted(manifest.models), " and/or ".join(MODALITIES))
    for name, network in manifest.networks.items():
        _check_network(file, FUSION if name == FUSION else f"models.{name}", network, manifest)
    if manifest.fusion is not None:
        both = set(manifest.models) == set(MODALITIES)
        require(both, FUSION, manifest.fusion.file, "only beside models face and voice")
    if manifest.face_detector is not None:
        _check_face_detector(file, manifest.face_detector, manifest)
    if manifest.voice_activity is not None:
        _check_voice_activity(file, manifest.voice_activity, manifest)
    threshold = manifest.abstain_below
    require(0 <= threshold < 1, "abstain_below", threshold, "0 up to, not including, 1")
    count = len(manifest.files)
    require(count <= MAX_FILES, "files", f"{count} files", f"at most {MAX_FILES}")
    for name in manifest.files:
        plain = _FILE_NAME.fullmatch(name) is not None and name not in (MANIFEST, SIGNATURE)
        require(plain, "files", name, "plain file names, inside the bundle folder")


def _check_network(
    file: Path, path: str, network: ModelEntry | FusionEntry, manifest: Manifest
) -> None:
    def require(holds: bool, field: str, value: object, allowed: str) -> None:
        _require(file, holds, f"{path}.{field}", value, allowed)

    def require_golden(field: str, values: list[float], count: int) -> None:
        require(len(values) == count, field, values, f"{count} numbers")

    require(network.file in manifest.files, "file", network.file, "a name under files")
    temperature = network.temperature
    in_range = MIN_TEMPERATURE <= temperature <= MAX_TEMPERATURE
    require(in_range, "temperature", temperature, f"{MIN_TEMPERATURE} to {MAX_TEMPERATURE}")
    require_golden("golden_logits", network.golden_logits, len(manifest.labels))
    if isinstance(network, FusionEntry):
        count = network.num_faces
        require(1 <= count <= MAX_FUSION_FACES, "num_faces", count, f"1 to {MAX_FUSION_FACES}")
        require_golden("golden_weights", network.golden_weights, len(MODALITIES))
        return
    weight = network.fusion_weight
    require(0 < weight <= 1, "fusion_weight", weight, "above 0, at most 1")
    for precision, variant in network.variants.items():
        require(precision in VARIANTS, "variants", precision, ", ".join(VARIANTS))
        field = f"variants.{precision}"
        listed = variant.file in manifest.files
        require(listed, f"{field}.file", variant.file, "a name under files")
        require_golden(f"{field}.golden_logits", variant.golden_logits, len(manifest.labels))


def _check_face_detector(file: Path, entry: FaceDetectorEntry, manifest: Manifest) -> None:
    def require(holds: bool, field: str, value: object, allowed: str) -> None:
        _require(file, holds, f"face_detector.{field}", value, allowed)

    require(entry.file in manifest.files, "file", entry.file, "a name under files")
    require(0 <= entry.min_score <= 1, "min_score", entry.min_score, "0 to 1")
    threshold = entry.min_label_score
    require(0 <= threshold <= 1, "min_label_score", threshold, "0 to 1")
    golden = entry.golden_scores
    good = len(golden) == NUM_GOLDEN_SCORES and all(0 <= score <= 1 for score in golden)
    require(good, "golden_scores", golden, f"{NUM_GOLDEN_SCORES} numbers, each 0 to 1")


def _check_voice_activity(file: Path, entry: VoiceActivityEntry, manifest: Manifest) -> None:
    def require(holds: bool, field: str, value: object, allowed: str) -> None:
        _require(file, holds, f"voice_activity.{field}", value, allowed)

    require(entry.file in manifest.files, "file", entry.file, "a name under files")
    most = manifest.mel.num_frames
    require(1 <= entry.columns <= most, "columns", entry.columns, f"1 to {most}")
    _require(
        file,
        not manifest.mel.compression,
        "mel.compression",
        manifest.mel.compression,
        "none beside voice_activity, which reads a log-mel",
    )
    for field in ("threshold", "golden_speech"):
        value = getattr(entry, field)
        require(0 <= value <= 1, field, value, "0 to 1")


def _require(file: Path, holds: bool, field: str, value: object, allowed: str) -> None:
    if not holds:
        raise BundleError(f"{file}: {field} is {value!r}, allowed: {allowed}")


def check_levels(file: Path, levels: Sequence[Level]) -> None:
    """Check the quality levels of a bundle; `file` names it in a BundleError."""
    _require(file, bool(levels), "levels", list(levels), "at least one level")
    names = [level.name for level in levels]
    _require(file, len(set(names)) == len(names), "levels", names, "each name once")
    printable = all(name and name.isprintable() for name in names)
    _require(file, printable, "levels", names, "printable names")
    for level in levels:
        _check_level(file, level)


def _check_level(file: Path, level: Level) -> None:
    def require(holds: bool, field: str, value: object, allowed: str) -> None:
        _require(file, holds, f"levels[{level.name}].{field}", value, allowed)

    sized = MIN_FACE_PX <= level.face_px <= MAX_FACE_PX and level.face_px % 4 == 0
    sizes = f"a multiple of 4 from {MIN_FACE_PX} to {MAX_FACE_PX}"
    require(sized, "face_px", level.face_px, sizes)
    hop = level.voice_hop_ms
    require(10 <= hop <= 5_000, "voice_hop_ms", hop, "10 to 5000")
    rate = level.face_find_hz
    require(0.1 <= rate <= 120, "face_find_hz", rate, "0.1 to 120")
    faces = level.faces
    require(1 <= faces <= MAX_FACES, "faces", faces, f"1 to {MAX_FACES}")
    fps = level.camera_fps
    require(fps == 0 or 1 <= fps <= 240, "camera_fps", fps, "0 (all), 1 to 240")
    known = level.precision in PRECISIONS
    require(known, "precision", level.precision, ", ".join(PRECISIONS))


def _check_file(folder: Path, name: str, entry: FileEntry) -> None:
    file = folder / name
    if file.is_symlink() or not file.is_file():
        raise BundleError(f"{file}: listed in {MANIFEST} under files.{name}, but no such file")
    data = _read(file, MAX_FILE_BYTES)
    if len(data) != entry.bytes:
        raise BundleError(
            f"{file}: {len(data)} bytes, {MANIFEST} says {entry.bytes} (files.{name}.bytes)"
        )
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise BundleError(f"{file}: changed: its hash is not files.{name}.sha256 of {MANIFEST}")


def _describe_file(file: Path) -> FileEntry:
    data = file.read_bytes()
    return FileEntry(hashlib.sha256(data).hexdigest(), len(data))


def write_manifest(folder: Path, fields: Mapping[str, Any], others: Iterable[str] = ()) -> Bundle:
    """Write `bundle.json` beside the files in `folder`, then load and verify the bundle.

    `fields` are those of `Manifest` without `format` and `files`, which are filled in; `others` are
    files of the bundle other than networks.
    """
    manifest = Manifest(format=FORMAT, files={}, **fields)
    names = [*(network.file for network in manifest.networks.values()), *others]
    for model in manifest.models.values():
        names += [variant.file for variant in model.variants.values()]
    shared = [getattr(manifest, field) for field in SHARED_NETWORKS]
    names += [entry.file for entry in shared if entry is not None]
    files = {name: _describe_file(folder / name) for name in names}
    manifest = msgspec.structs.replace(manifest, files=files)
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    (folder / MANIFEST).write_bytes(text + b"\n")
    return load_bundle(folder)


def extend_bundle(folder: Path, **entries: Any) -> Bundle:
    """Add or replace fields of a bundle's manifest, such as `face_detector`, whose files lie in
    `folder` already; then verify the bundle. A signature is void afterwards. Raises BundleError."""
    manifest = load_bundle(folder).manifest
    fields = {name: getattr(manifest, name) for name in manifest.__struct_fields__}
    del fields["format"], fields["files"]
    return write_manifest(folder, {**fields, **entries}, manifest.files)
