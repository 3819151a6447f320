"""INT8 calibration: a bundle and calibration samples in, a bundle with INT8 variants out.

It chooses the quantization ranges from the samples, keeps sensitive layers in FP16, and gates the
result on accuracy. `emotion-calibrate` (`__main__`) runs it; no other folder imports it.
"""

from .. import engines  # noqa: F401 - turns ONNX Runtime's telemetry off before it is loaded
