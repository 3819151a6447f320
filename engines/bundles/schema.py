"""The fields of `bundle.json`, which describes a bundle to both sides: training writes it, the
runtime reads it.

Out: immutable structs without a file behind them. Values are checked by `manifest`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ... import Error
from ...kernels.spec import ImageSpec, MelSpec
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

    sha256: str
    bytes: int


class Level(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One quality level; the list has the best first. Lower levels cost less."""

    name: str
    face_px: int
    """Side of the face image, a multiple of 4."""
    voice: bool = True
    voice_hop_ms: int = 200
    """Time from one run of the voice network to the next."""
    face_find_hz: float = 8.0
    """Rate of face detection."""
    faces: int = 4
    """Most faces in one frame that the face network runs on."""
    camera_fps: float = 0.0
    """Frames processed per second, the others are skipped; 0: all."""
    precision: str = "auto"
    """Of the networks, one of `PRECISIONS`, unless the configuration sets it."""


class Variant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The same network at another precision, with the temperature and weight of the model."""

    file: str
    golden_logits: list[float]
    """Its logits for `golden_input`, on the machine that quantized it."""


class ModelEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The network of one modality: inputs "image", or "mel" and "mask"; outputs "embedding" and
    "logits"."""

    file: str
    temperature: float
    """Divides the logits, so that a confidence of 0.7 is right 7 times in 10 (Guo et al. 2017)."""
    fusion_weight: float
    """Weight of its class probabilities in the average of both modalities."""
    golden_logits: list[float]
    """Its logits for `golden_input`, on the machine that exported it."""
    variants: dict[str, Variant] = {}
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

    file: str
    num_faces: int
    """Number of face embeddings in its input."""
    temperature: float
    """Divides the logits, as in `ModelEntry`."""
    golden_logits: list[float]
    golden_weights: list[float]
    """Its outputs for `golden_input`, on the machine that exported it."""


class FaceDetectorEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The network that detects faces; `engines/detection_network.py` describes its inputs and
    outputs."""

    file: str
    min_score: float
    """Probability from which on a detection is a face."""
    golden_scores: list[float]
    """`NUM_GOLDEN_SCORES` of its scores for `golden_luma`, on the machine that exported it."""
    min_label_score: float = 0.0
    """A face that has not yet reached this score has a box and no label."""


class VoiceActivityEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The network that detects speech: input "mel" (1, num_mels, columns), output "speech" (1,)."""

    file: str
    columns: int
    """Number of newest log-mel columns in its input."""
    threshold: float
    """Mean probability of speech from which the voice network may run."""
    golden_speech: float
    """Its output for `golden_mel`, on the machine that exported it."""


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`bundle.json`."""

    format: int
    name: str
    labels: list[str]
    """In the order of the logits, see `are_labels`."""
    image: ImageSpec
    mel: MelSpec
    levels: list[Level]
    models: dict[str, ModelEntry]
    abstain_below: float
    """Confidence under which the estimate abstains."""
    files: dict[str, FileEntry]
    metrics: dict[str, Any]
    provenance: dict[str, Any]
    fusion: FusionEntry | None = None
    """Without it the class probabilities of face and voice are averaged."""
    face_detector: FaceDetectorEntry | None = None
    """Without it that of the bundle that ships is used."""
    voice_activity: VoiceActivityEntry | None = None
    """Without it that of the bundle that ships is used."""

    @property
    def networks(self) -> dict[str, ModelEntry | FusionEntry]:
        """All networks by name: the modalities, then "fusion"."""
        return {**self.models, **({FUSION: self.fusion} if self.fusion else {})}
