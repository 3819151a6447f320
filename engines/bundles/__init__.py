"""Model bundles: manifest, signature, untrusted archives, installed bundles, the selected one."""

from .archive import open_archive, open_bundle_source
from .manifest import DEFAULT_BUNDLE, Bundle, check_signature, load_bundle, write_manifest
from .schema import (
    EMBEDDING_SIZE,
    FUSION,
    LABELS,
    MANIFEST,
    MAX_FUSION_FACES,
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    MODALITIES,
    PRECISIONS,
    SIGNATURE,
    BundleError,
    FusionEntry,
    Level,
    Manifest,
    ModelEntry,
    Variant,
    VoiceActivityEntry,
)
from .selection import MAX_FAILED_STARTS, SHIPPED, SYSTEM_STATE, Selection, find_state_folder
from .signature import PublicKey, load_private_key, load_public_key
from .startup import BundleChoice, choose_bundle, describe_bundle
from .store import BundleStore

__all__ = [
    "DEFAULT_BUNDLE",
    "EMBEDDING_SIZE",
    "FUSION",
    "LABELS",
    "MANIFEST",
    "MAX_FAILED_STARTS",
    "MAX_FUSION_FACES",
    "MAX_TEMPERATURE",
    "MIN_TEMPERATURE",
    "MODALITIES",
    "PRECISIONS",
    "SHIPPED",
    "SIGNATURE",
    "SYSTEM_STATE",
    "Bundle",
    "BundleChoice",
    "BundleError",
    "BundleStore",
    "FusionEntry",
    "Level",
    "Manifest",
    "ModelEntry",
    "PublicKey",
    "Selection",
    "Variant",
    "VoiceActivityEntry",
    "check_signature",
    "choose_bundle",
    "describe_bundle",
    "find_state_folder",
    "load_bundle",
    "load_private_key",
    "load_public_key",
    "open_archive",
    "open_bundle_source",
    "write_manifest",
]
