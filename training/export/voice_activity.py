"""Export of the voice-activity network: one ONNX file that gives a probability."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...engines.voice_activity import MEL, SPEECH
from ..models import NUM_COLUMNS, LastProbability, VoiceActivityNet
from .onnx import Exported, export_onnx


def export_voice_activity(
    model: VoiceActivityNet, columns: NDArray[np.float16], path: Path
) -> Exported:
    """Write the network to `path`, and compare the file with torch on the ends of scenes, log-mel
    (N, num_mels, T)."""
    ends = columns[..., -NUM_COLUMNS:].astype(np.float32)
    return export_onnx(LastProbability(model), {MEL: ends[:1]}, path, [{MEL: ends}], [SPEECH])
