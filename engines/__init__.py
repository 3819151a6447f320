"""Networks: what a bundle is, and how its models are run on this machine."""

from __future__ import annotations

from .base import Engine
from .bundle import Bundle

ENGINES = ("auto", "onnx", "null")


def open_engine(name: str, bundle: Bundle, modality: str, num_threads: int = 0) -> Engine:
    """Open one network of `bundle`; "auto" takes the best engine that this machine has.

    Raises EngineError when the network cannot be opened, ValueError for an unknown name.
    """
    if name in ("auto", "onnx"):
        from .onnx_engine import OnnxEngine

        return OnnxEngine(bundle.model_path(modality), num_threads)
    if name == "null":
        from .null import NullEngine

        return NullEngine(bundle.manifest, modality)
    raise ValueError(f"engine {name!r} is not one of {', '.join(ENGINES)}")
