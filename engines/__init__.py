"""Networks: what a bundle is, and how its models are run on this machine."""

from __future__ import annotations

from .base import Engine
from .bundle import FUSION, Bundle

ENGINES = ("auto", "onnx", "null")


def open_engine(name: str, bundle: Bundle, network: str, num_threads: int = 0) -> Engine:
    """Open one network of `bundle`; "auto" takes the best engine that this machine has.

    `network` is a modality or "fusion", which is so small that it always runs on one thread:
    waking a second would take longer than its work. Raises EngineError when the network cannot
    be opened, ValueError for an unknown name.
    """
    if name in ("auto", "onnx"):
        from .onnx_engine import OnnxEngine

        return OnnxEngine(bundle.model_path(network), 1 if network == FUSION else num_threads)
    if name == "null":
        from .null import NullEngine

        return NullEngine(bundle.manifest, network)
    raise ValueError(f"engine {name!r} is not one of {', '.join(ENGINES)}")
