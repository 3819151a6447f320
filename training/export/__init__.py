"""Export of trained networks to a bundle: ONNX files, manifest and model card."""

from .bundle import (
    GOLDEN_PLACES,
    FusionNetwork,
    check_replaceable,
    find_next_version,
    write_bundle,
)
from .face_detector import export_detector
from .onnx import export_onnx, store_weights_as_fp16, strip_names
from .provenance import (
    ESC,
    FERPLUS,
    NOT_CALIBRATED,
    OWN,
    RAVDESS,
    DataSet,
    add_people,
    count_people,
    describe_data_sets,
    describe_noise,
    describe_people,
    find_overlap,
)
from .rewrite import rewrite_bundle
from .weights_origin import describe_training, read_origin

__all__ = [
    "ESC",
    "FERPLUS",
    "GOLDEN_PLACES",
    "NOT_CALIBRATED",
    "OWN",
    "RAVDESS",
    "DataSet",
    "FusionNetwork",
    "add_people",
    "check_replaceable",
    "count_people",
    "describe_data_sets",
    "describe_noise",
    "describe_people",
    "describe_training",
    "export_detector",
    "export_onnx",
    "find_next_version",
    "find_overlap",
    "read_origin",
    "rewrite_bundle",
    "store_weights_as_fp16",
    "strip_names",
    "write_bundle",
]
