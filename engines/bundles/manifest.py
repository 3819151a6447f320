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

from ...kernels.spec import SAMPLE_RATE_HZ
from ..config_file import MAX_DEPTH
from ..plain_text import show_value
from .schema import (
    ALLOWED_LABELS,
    FUSION,
    MANIFEST,
    MAX_FILE_BYTES,
    MAX_FILES,
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

    def read_model(self, network: str, precision: str = "fp32") -> bytes:
        """Return the content of `model_path`, as `read` does."""
        return self.read(self.model_path(network, precision).name)

    def read(self, name: str) -> bytes:
        """Return the content of a file of the manifest, verified anew: the file may have been
        replaced since the bundle was loaded, and what was verified must be what runs. Raises
        BundleError."""
        return _read_verified(self.path, name, self.manifest.files[name])


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
            _read_verified(path, name, entry)
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
        raise BundleError(f"{file}: {_explain(str(error), data)}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{file}: not JSON: {error}") from error
    _check_manifest(file, manifest)
    return manifest


def _explain(message: str, data: bytes) -> str:
    """Put the path of the field, and its value, in front of msgspec's message."""
    problem, _, path = message.removesuffix("`").partition(" - at `$")
    problem = problem[:1].lower() + problem[1:]
    try:
        tree = value = msgspec.json.decode(data)
        names = []
        for step in re.findall(r"[^.\[]+|\[.*?\]", path):
            key = _find_key(message, tree, value) if step == "[...]" else step
            value = value[int(key[1:-1]) if key[0] == "[" else key]
            names.append(key if key[0] == "[" else f".{key}")
    # A number that nothing can hold, a key that is there twice, too many keys.
    except (msgspec.MsgspecError, LookupError, TypeError, ValueError):
        return f"{path.lstrip('.')}: {problem}"
    shown = "" if isinstance(value, dict | list) else f" is {show_value(value)}"
    return f"{''.join(names).lstrip('.')}{shown}: {problem}"


def _find_key(message: str, tree: Any, entries: dict[str, Any]) -> str:
    """Find the key of `entries`, which is a part of `tree`, whose value msgspec has refused. Raises
    KeyError."""
    for key, entry in list(entries.items())[:MAX_FILES]:
        entries.clear()
        entries[key] = entry
        try:
            msgspec.convert(tree, Manifest)
        except msgspec.ValidationError as error:
            if str(error) == message:
                return key
    raise KeyError(message)


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
    rate = manifest.mel.sample_rate_hz
    only = f"{SAMPLE_RATE_HZ}, the rate of the audio that a device feeds"
    require(rate == SAMPLE_RATE_HZ, "mel.sample_rate_hz", rate, only)
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
    for field in ("metrics", "provenance"):
        _check_free_field(file, field, getattr(manifest, field))
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
    require_golden("golden_logits", network.golden_logits, len(manifest.labels))
    if isinstance(network, FusionEntry):
        require_golden("golden_weights", network.golden_weights, len(MODALITIES))
        return
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
    golden = entry.golden_scores
    good = len(golden) == NUM_GOLDEN_SCORES
    require(good, "golden_scores", golden, f"{NUM_GOLDEN_SCORES} numbers")


def _check_voice_activity(file: Path, entry: VoiceActivityEntry, manifest: Manifest) -> None:
    def require(holds: bool, field: str, value: object, allowed: str) -> None:
        _require(file, holds, f"voice_activity.{field}", value, allowed)

    require(entry.file in manifest.files, "file", entry.file, "a name under files")
    most = manifest.mel.num_frames
    require(entry.columns <= most, "columns", entry.columns, f"1 to {most}")
    _require(
        file,
        not manifest.mel.compression,
        "mel.compression",
        manifest.mel.compression,
        "none beside voice_activity, which reads a log-mel",
    )


def _check_free_field(file: Path, field: str, value: Any, depth: int = 0) -> None:
    """Check numbers and depth of a field that may hold anything."""
    _require(file, depth <= MAX_DEPTH, field, value, f"at most {MAX_DEPTH} values in each other")
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            _check_free_field(file, field, item, depth + 1)
    elif isinstance(value, int):
        fits = -(2**63) <= value < 2**63
        _require(file, fits, field, value, "numbers of at most 64 bits")


def _require(file: Path, holds: bool, field: str, value: object, allowed: str) -> None:
    if not holds:
        raise BundleError(f"{file}: {field} is {show_value(value)}, allowed: {allowed}")


def check_levels(file: Path, levels: Sequence[Level]) -> None:
    """Check the quality levels of a bundle; `file` names it in a BundleError."""
    names = [level.name for level in levels]
    _require(file, len(set(names)) == len(names), "levels", names, "each name once")
    printable = all(name.isprintable() for name in names)
    _require(file, printable, "levels", names, "printable names")
    for level in levels:
        _check_level(file, level)


def _check_level(file: Path, level: Level) -> None:
    def require(holds: bool, field: str, value: object, allowed: str) -> None:
        _require(file, holds, f"levels[{level.name}].{field}", value, allowed)

    fps = level.camera_fps
    require(fps == 0 or fps >= 1, "camera_fps", fps, "0 (all), 1 to 240")
    known = level.precision in PRECISIONS
    require(known, "precision", level.precision, ", ".join(PRECISIONS))


def _read_verified(folder: Path, name: str, entry: FileEntry) -> bytes:
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
    return data


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
