"""Export of trained networks to a bundle: ONNX files, manifest and model card."""

from .bundle import (
    GOLDEN_PLACES,
    FusionNetwork,
    check_replaceable,
    find_next_version,
    finish_bundle,
    put_in_place,
    write_bundle,
)
from .face_detector import export_detector
from .onnx import export_onnx, store_weights_as_fp16, strip_names
from .provenance import (
    ESC,
    FERPLUS,
    RAVDESS,
    DataSet,
    add_people,
    count_people,
    describe_data_sets,
    describe_people,
    find_overlap,
)
from .rewrite import rewrite_bundle

__all__ = [
    "ESC",
    "FERPLUS",
    "GOLDEN_PLACES",
    "RAVDESS",
    "DataSet",
    "FusionNetwork",
    "add_people",
    "check_replaceable",
    "count_people",
    "describe_data_sets",
    "describe_people",
    "export_detector",
    "export_onnx",
    "find_next_version",
    "find_overlap",
    "finish_bundle",
    "put_in_place",
    "rewrite_bundle",
    "store_weights_as_fp16",
    "strip_names",
    "write_bundle",
]
