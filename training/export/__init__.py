"""Export of trained networks to a bundle: ONNX files, manifest and model card."""

from .bundle import (
    GOLDEN_PLACES,
    FusionNetwork,
    check_replaceable,
    finish_bundle,
    put_in_place,
    write_bundle,
)
from .face_detector import export_detector
from .onnx import export_onnx, store_weights_as_fp16, strip_names
from .provenance import ESC, FERPLUS, RAVDESS, describe_data_sets

__all__ = [
    "ESC",
    "FERPLUS",
    "GOLDEN_PLACES",
    "RAVDESS",
    "FusionNetwork",
    "check_replaceable",
    "describe_data_sets",
    "export_detector",
    "export_onnx",
    "finish_bundle",
    "put_in_place",
    "store_weights_as_fp16",
    "strip_names",
    "write_bundle",
]
