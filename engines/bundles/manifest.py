"""The bundle: a folder with `bundle.json` and the networks it names. All that training gives to
the device, and all that the device knows about its models.

In: a folder. Out: a `Bundle` that was checked to the last byte, or a BundleError that names the
file and the field.
"""

from __future__ import annotations

import hashlib
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from ...kernels.spec import MAX_FACE_PX, MIN_FACE_PX, ImageSpec, MelSpec
from .signature import SIGNATURE_BYTES, PublicKey

LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
MODALITIES = ("face", "voice")
FUSION = "fusion"
"""Name of the third network, which reads what the networks of both modalities saw."""
PRECISIONS = ("auto", "fp32", "fp16", "int8")
VARIANTS = ("int8",)
EMBEDDING_SIZE = 256
"""Numbers in the "embedding" of either network."""
MAX_FUSION_FACES = 64
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.01, 100
FORMAT = 1
MANIFEST = "bundle.json"
DEFAULT_BUNDLE = Path(__file__).parent.parent / "default"
SIGNATURE = "bundle.json.sig"
"""Over the bytes of `bundle.json`, which holds the hashes of all other files; see `signature`."""
MAX_MANIFEST_BYTES = 1 << 20
MAX_FILE_BYTES = 256 << 20
MAX_FILES = 64
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+ -]{0,99}")
"""Of letters that every file system and archive can write, and no hidden file."""


class BundleError(ValueError):
    """A bundle that must not be run; one line with the file, the field and what is wrong."""

    def __init__(self, text: str) -> None:
        """What a bundle says of itself may hold anything, orders to a terminal too."""
        super().__init__("".join(letter if letter.isprintable() else "?" for letter in text))


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of the bundle as it was written."""

    sha256: str
    bytes: int


class Level(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One quality level, best first in the list: what the runtime does, and so what it costs."""

    name: str
    face_px: int
    """Side of the face picture; a multiple of 4."""
    voice: bool = True
    voice_hop_ms: int = 200
    """Time from one run of the voice network to the next."""
    face_find_hz: float = 8.0
    """How often a picture is searched for a face."""
    camera_fps: float = 0.0
    """Pictures a second that are looked at, the others are passed over; 0: all."""
    precision: str = "auto"
    """Of the networks, one of `PRECISIONS`, where the configuration leaves it open."""


class Variant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The same network at another precision; its temperature and weight stay the model's."""

    file: str
    golden_logits: list[float]
    """What it says to `golden_input`, on the machine that made it."""


class ModelEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One network: outputs "embedding" and "logits"; input "image", or "mel" and "mask"."""

    file: str
    temperature: float
    """Divides the logits, so that a confidence of 0.7 is right 7 times in 10 (Guo et al. 2017)."""
    fusion_weight: float
    """How much its opinion counts beside the other's."""
    golden_logits: list[float]
    """What it says to `golden_input`, on the machine that exported it."""
    variants: dict[str, Variant] = {}
    """By precision: "int8", with explicit quantise and dequantise operators in the ONNX file."""

    def at(self, precision: str) -> ModelEntry | Variant:
        """What is run at `precision`: 16-bit networks are made of the file for 32 bits when they
        are opened. KeyError for an INT8 network that the bundle lacks."""
        return self if precision in ("fp32", "fp16") else self.variants[precision]


class FusionEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The network that weighs face and voice against each other.

    Inputs "faces" (N, num_faces, 256), newest last, "face_mask" (N, num_faces), "voice" (N, 256)
    and "voice_mask" (N, 1), masks 1 where there is something; outputs "logits" (N, 7) and
    "weights" (N, 2) of face and voice.
    """

    file: str
    num_faces: int
    """How many embeddings of the face it reads."""
    temperature: float
    """Divides the logits, as in `ModelEntry`."""
    golden_logits: list[float]
    golden_weights: list[float]
    """What it says to `golden_input`, on the machine that exported it."""


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`bundle.json`."""

    format: int
    name: str
    labels: list[str]
    image: ImageSpec
    mel: MelSpec
    levels: list[Level]
    models: dict[str, ModelEntry]
    abstain_below: float
    """A confidence under this is no answer."""
    files: dict[str, FileEntry]
    metrics: dict[str, Any]
    provenance: dict[str, Any]
    fusion: FusionEntry | None = None
    """Without it the opinions are averaged (`fusion.fuse`)."""

    @property
    def networks(self) -> dict[str, ModelEntry | FusionEntry]:
        """All there are, by name: the modalities, then "fusion"."""
        return {**self.models, **({FUSION: self.fusion} if self.fusion else {})}


@dataclass(frozen=True, slots=True)
class Bundle:
    """A checked bundle."""

    path: Path
    manifest: Manifest
    sha256: str
    """Of `bundle.json`, which holds the hashes of all other files."""

    def model_path(self, network: str, precision: str = "fp32") -> Path:
        """`network` is a modality or "fusion", which has one precision only; KeyError when the
        bundle lacks it."""
        entry = self.manifest.networks[network]
        if isinstance(entry, ModelEntry):
            return self.path / entry.at(precision).file
        return self.path / entry.file


class _Format(msgspec.Struct, frozen=True):
    """What is looked at first: all else may be otherwise in another format."""

    format: int


def load_bundle(path: Path, public_key: PublicKey | None = None) -> Bundle:
    """Read and verify a bundle, each file once; with a key, also that it was signed with that.
    Raises BundleError."""
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
    """The bytes of a `bundle.json`, every field checked; `file` is what it is called in a
    BundleError."""
    try:
        found = msgspec.json.decode(data, type=_Format).format
        _require(file, found == FORMAT, "format", found, str(FORMAT))
        manifest = msgspec.json.decode(data, type=Manifest)
    except msgspec.ValidationError as error:
        raise BundleError(f"{file}: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{file}: not JSON: {error}") from error
    _check_manifest(file, manifest)
    return manifest


def check_signature(folder: Path, manifest: bytes, public_key: PublicKey) -> None:
    """Of the `bundle.json` in `folder`, which has the bytes `manifest`. Raises BundleError."""
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
        if not stat.S_ISREG(status.st_mode):  # a pipe would not come back
            raise BundleError(f"{file}: cannot be read: not a file")
        if status.st_size > limit:
            raise BundleError(f"{file}: {status.st_size} bytes, at most {limit} allowed")
        return file.read_bytes()
    except OSError as error:
        raise BundleError(f"{file}: cannot be read: {error.strerror}") from error


def _check_manifest(file: Path, manifest: Manifest) -> None:
    def require(holds: bool, field: str, found: object, allowed: str) -> None:
        _require(file, holds, field, found, allowed)

    require(tuple(manifest.labels) == LABELS, "labels", manifest.labels, ", ".join(LABELS))
    require(bool(manifest.levels), "levels", manifest.levels, "at least one level")
    names = [level.name for level in manifest.levels]
    require(len(set(names)) == len(names), "levels", names, "each name once")
    readable = all(name and name.isprintable() for name in names)
    require(readable, "levels", names, "names that can be read")
    for level in manifest.levels:
        _check_level(file, level)
    known = set(manifest.models) <= set(MODALITIES) and bool(manifest.models)
    require(known, "models", sorted(manifest.models), " and/or ".join(MODALITIES))
    for name, network in manifest.networks.items():
        where = FUSION if name == FUSION else f"models.{name}"
        require(network.file in manifest.files, f"{where}.file", network.file, "a name under files")
        temperature = network.temperature
        allowed_temperatures = f"{MIN_TEMPERATURE} to {MAX_TEMPERATURE}"
        fits = MIN_TEMPERATURE <= temperature <= MAX_TEMPERATURE
        require(fits, f"{where}.temperature", temperature, allowed_temperatures)
        golden = network.golden_logits
        count = len(LABELS)
        require(len(golden) == count, f"{where}.golden_logits", golden, f"{count} numbers")
    for name, model in manifest.models.items():
        weight = model.fusion_weight
        where = f"models.{name}.fusion_weight"
        require(0 < weight <= 1, where, weight, "above 0, at most 1")
        for precision, variant in model.variants.items():
            where = f"models.{name}.variants"
            require(precision in VARIANTS, where, precision, ", ".join(VARIANTS))
            where = f"{where}.{precision}"
            listed = variant.file in manifest.files
            require(listed, f"{where}.file", variant.file, "a name under files")
            golden = variant.golden_logits
            count = len(LABELS)
            require(len(golden) == count, f"{where}.golden_logits", golden, f"{count} numbers")
    if manifest.fusion is not None:
        both = set(manifest.models) == set(MODALITIES)
        require(both, FUSION, manifest.fusion.file, "only beside models face and voice")
        count = manifest.fusion.num_faces
        require(
            1 <= count <= MAX_FUSION_FACES, f"{FUSION}.num_faces", count, f"1 to {MAX_FUSION_FACES}"
        )
        golden = manifest.fusion.golden_weights
        count = len(MODALITIES)
        require(len(golden) == count, f"{FUSION}.golden_weights", golden, f"{count} numbers")
    below = manifest.abstain_below
    require(0 <= below < 1, "abstain_below", below, "0 up to, not including, 1")
    count = len(manifest.files)
    require(count <= MAX_FILES, "files", f"{count} files", f"at most {MAX_FILES}")
    for name in manifest.files:
        plain = _FILE_NAME.fullmatch(name) is not None and name not in (MANIFEST, SIGNATURE)
        require(plain, "files", name, "plain file names, inside the bundle folder")


def _require(file: Path, holds: bool, field: str, found: object, allowed: str) -> None:
    if not holds:
        raise BundleError(f"{file}: {field} is {found!r}, allowed: {allowed}")


def _check_level(file: Path, level: Level) -> None:
    def require(holds: bool, field: str, found: object, allowed: str) -> None:
        _require(file, holds, f"levels[{level.name}].{field}", found, allowed)

    sized = MIN_FACE_PX <= level.face_px <= MAX_FACE_PX and level.face_px % 4 == 0
    sizes = f"a multiple of 4 from {MIN_FACE_PX} to {MAX_FACE_PX}"
    require(sized, "face_px", level.face_px, sizes)
    hop = level.voice_hop_ms
    require(10 <= hop <= 5_000, "voice_hop_ms", hop, "10 to 5000")
    rate = level.face_find_hz
    require(0.1 <= rate <= 120, "face_find_hz", rate, "0.1 to 120")
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


def describe_file(file: Path) -> FileEntry:
    data = file.read_bytes()
    return FileEntry(hashlib.sha256(data).hexdigest(), len(data))


def write_manifest(folder: Path, fields: Mapping[str, Any], others: Iterable[str] = ()) -> Bundle:
    """Write `bundle.json` over the files already in `folder`, then verify the whole.

    `fields` are those of `Manifest` less `format` and `files`, which are filled in; `others` are
    files of the bundle that are no networks.
    """
    manifest = Manifest(format=FORMAT, files={}, **fields)
    names = [*(network.file for network in manifest.networks.values()), *others]
    for model in manifest.models.values():
        names += [variant.file for variant in model.variants.values()]
    files = {name: describe_file(folder / name) for name in names}
    manifest = msgspec.structs.replace(manifest, files=files)
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    (folder / MANIFEST).write_bytes(text + b"\n")
    return load_bundle(folder)
