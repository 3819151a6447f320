"""The fields of `bundle.json`, which describes a bundle to both sides: training writes it, the
runtime reads it.

Out: immutable structs without a file behind them. Every number and every length has its bounds in
its type; what else a value must be is checked by `manifest`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from ... import Error
from ...kernels.spec import MAX_FACE_PX, MIN_FACE_PX, ImageSpec, MelSpec
from ..plain_text import make_plain

LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""Those of the bundle that ships; another bundle may have others, see `are_labels`."""
MIN_LABELS, MAX_LABELS, MAX_LABEL_CHARACTERS = 2, 32, 32
ALLOWED_LABELS = (
    f"{MIN_LABELS} to {MAX_LABELS} different printable names of at most {MAX_LABEL_CHARACTERS}"
    " characters, without spaces at their ends"
)
MODALITIES = ("face", "voice")
FUSION = "fusion"
"""Name of the third network, which reads the embeddings of both modalities."""
PRECISIONS = ("auto", "fp32", "fp16", "int8")
VARIANTS = ("int8",)
EMBEDDING_SIZE = 256
"""Numbers in the "embedding" of the face or voice network."""
MAX_FUSION_FACES = 64
MAX_FACES = 16
"""Limit of `Level.faces`."""
NUM_GOLDEN_SCORES = 8
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.01, 100
SHARED_NETWORKS = ("face_detector", "voice_activity")
"""Fields of networks that a bundle may lack, and then takes from the bundle that ships."""
MANIFEST = "bundle.json"
SIGNATURE = "bundle.json.sig"
"""The signature of `bundle.json`, which holds the hashes of all other files."""
MAX_FILE_BYTES = 256 << 20
MAX_FILES = 64
MAX_LEVELS = 16
MAX_NAME_LETTERS = 100

Name = Annotated[str, Meta(max_length=MAX_NAME_LETTERS)]
Output = Annotated[float, Meta(ge=-1e6, le=1e6)]
"""A number that a network gives."""
Logits = Annotated[list[Output], Meta(max_length=MAX_LABELS)]
Version = Annotated[int, Meta(ge=0, le=2**53)]
"""Up to here a number is the same in every reader of JSON."""
Probability = Annotated[float, Meta(ge=0, le=1)]
Temperature = Annotated[float, Meta(ge=MIN_TEMPERATURE, le=MAX_TEMPERATURE)]


class BundleError(Error, ValueError):
    """A bundle that must not be used: one line with the file, the field and the fault."""

    def __init__(self, text: str) -> None:
        """Make the text plain: an untrusted bundle may hold terminal escapes."""
        super().__init__(make_plain(text))


def are_labels(names: Sequence[str]) -> bool:
    """Return whether a bundle may have these labels: they are `ALLOWED_LABELS`."""
    return MIN_LABELS <= len(names) == len(set(names)) <= MAX_LABELS and all(
        name and name == name.strip() and name.isprintable() and len(name) <= MAX_LABEL_CHARACTERS
        for name in names
    )


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hash and size of one file."""

    sha256: Annotated[str, Meta(max_length=64)]
    bytes: Annotated[int, Meta(ge=0, le=MAX_FILE_BYTES)]


class Level(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One quality level; the list has the best first. Lower levels cost less."""

    name: Annotated[str, Meta(min_length=1, max_length=MAX_NAME_LETTERS)]
    face_px: Annotated[int, Meta(ge=MIN_FACE_PX, le=MAX_FACE_PX, multiple_of=4)]
    """Side of the face image, a multiple of 4."""
    voice: bool = True
    voice_hop_ms: Annotated[int, Meta(ge=10, le=5_000)] = 200
    """Time from one run of the voice network to the next."""
    face_find_hz: Annotated[float, Meta(ge=0.1, le=120)] = 8.0
    """Rate of face detection."""
    faces: Annotated[int, Meta(ge=1, le=MAX_FACES)] = 4
    """Most faces in one frame that the face network runs on."""
    camera_fps: Annotated[float, Meta(ge=0, le=240)] = 0.0
    """Frames processed per second, 1 or more, the others are skipped; 0: all."""
    precision: Name = "auto"
    """Of the networks, one of `PRECISIONS`, unless the configuration sets it."""


class Variant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The same network at another precision, with the temperature and weight of the model."""

    file: Name
    golden_logits: Logits
    """Its logits for `golden_input`, on the machine that quantized it."""


class ModelEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The network of one modality: inputs "image", or "mel" and "mask"; outputs "embedding" and
    "logits"."""

    file: Name
    temperature: Temperature
    """Divides the logits, so that a confidence of 0.7 is right 7 times in 10 (Guo et al. 2017)."""
    fusion_weight: Annotated[float, Meta(gt=0, le=1)]
    """Weight of its class probabilities in the average of both modalities."""
    golden_logits: Logits
    """Its logits for `golden_input`, on the machine that exported it."""
    variants: Annotated[dict[Name, Variant], Meta(max_length=len(VARIANTS))] = {}
    """By precision: "int8", with QuantizeLinear and DequantizeLinear operators in the ONNX file."""

    def at(self, precision: str) -> ModelEntry | Variant:
        """Return the entry for `precision`. FP16 uses the FP32 file, which is converted when it is
        opened. Raises KeyError for an INT8 network that the bundle lacks."""
        return self if precision in ("fp32", "fp16") else self.variants[precision]


class FusionEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The network that fuses face and voice embeddings.

    Inputs "faces" (N, num_faces, 256), newest last, "face_mask" (N, num_faces), "voice" (N, 256)
    and "voice_mask" (N, 1), masks 1 where an embedding is present; outputs "logits" (N, L) of the
    labels and "weights" (N, 2) of face and voice.
    """

    file: Name
    num_faces: Annotated[int, Meta(ge=1, le=MAX_FUSION_FACES)]
    """Number of face embeddings in its input."""
    temperature: Temperature
    """Divides the logits, as in `ModelEntry`."""
    golden_logits: Logits
    golden_weights: Annotated[list[Output], Meta(max_length=len(MODALITIES))]
    """Its outputs for `golden_input`, on the machine that exported it."""


class FaceDetectorEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The network that detects faces; `engines/detection_network.py` describes its inputs and
    outputs."""

    file: Name
    min_score: Probability
    """Probability from which on a detection is a face."""
    golden_scores: Annotated[list[Probability], Meta(max_length=NUM_GOLDEN_SCORES)]
    """`NUM_GOLDEN_SCORES` of its scores for `golden_luma`, on the machine that exported it."""
    min_label_score: Probability = 0.0
    """A face that has not yet reached this score has a box and no label."""


class VoiceActivityEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The network that detects speech: input "mel" (1, num_mels, columns), output "speech" (1,)."""

    file: Name
    columns: Annotated[int, Meta(ge=1)]
    """Number of newest log-mel columns in its input."""
    threshold: Probability
    """Mean probability of speech from which the voice network may run."""
    golden_speech: Probability
    """Its output for `golden_mel`, on the machine that exported it."""


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`bundle.json`."""

    format: int
    name: Name
    labels: Annotated[list[Name], Meta(max_length=MAX_LABELS)]
    """In the order of the logits, see `are_labels`."""
    image: ImageSpec
    mel: MelSpec
    levels: Annotated[list[Level], Meta(min_length=1, max_length=MAX_LEVELS)]
    models: Annotated[dict[Name, ModelEntry], Meta(max_length=len(MODALITIES))]
    abstain_below: Annotated[float, Meta(ge=0, lt=1)]
    """Confidence under which the estimate abstains."""
    files: Annotated[dict[Name, FileEntry], Meta(max_length=MAX_FILES)]
    metrics: dict[str, Any]
    provenance: dict[str, Any]
    fusion: FusionEntry | None = None
    """Without it the class probabilities of face and voice are averaged."""
    face_detector: FaceDetectorEntry | None = None
    """Without it that of the bundle that ships is used."""
    voice_activity: VoiceActivityEntry | None = None
    """Without it that of the bundle that ships is used."""
    version: Version = 0
    """Grows with each bundle that replaces another: a device refuses a signed one of a lower
    version than it has had."""

    @property
    def networks(self) -> dict[str, ModelEntry | FusionEntry]:
        """All networks by name: the modalities, then "fusion"."""
        return {**self.models, **({FUSION: self.fusion} if self.fusion else {})}
