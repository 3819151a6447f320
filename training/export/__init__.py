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
from .provenance import ESC, FERPLUS, RAVDESS, DataSet, describe_data_sets
from .rewrite import copy_bundle, rewrite_bundle

__all__ = [
    "ESC",
    "FERPLUS",
    "GOLDEN_PLACES",
    "RAVDESS",
    "DataSet",
    "FusionNetwork",
    "check_replaceable",
    "copy_bundle",
    "describe_data_sets",
    "export_detector",
    "export_onnx",
    "finish_bundle",
    "put_in_place",
    "rewrite_bundle",
    "store_weights_as_fp16",
    "strip_names",
    "write_bundle",
]
