"""TensorRT: engines are built from ONNX on this machine, cached, and run with CUDA graphs."""

from .cache import clean_name, find_cache_folder, hash_key
from .fp16 import QDQ_OPSET, store_weights_as_fp32
from .gpu import Gpu, open_gpu, read_l4t_release
from .loader import load_tensorrt
from .plan import BuildOptions, convert_model

__all__ = [
    "QDQ_OPSET",
    "BuildOptions",
    "Gpu",
    "clean_name",
    "convert_model",
    "find_cache_folder",
    "hash_key",
    "load_tensorrt",
    "open_gpu",
    "read_l4t_release",
    "store_weights_as_fp32",
]
