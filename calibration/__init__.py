"""INT8: which samples set its ranges, which layers it spares, and whether it may ship."""

from .. import engines  # noqa: F401 - tells ONNX Runtime to tell nobody, before it is loaded
