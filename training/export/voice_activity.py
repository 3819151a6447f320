"""Export of the voice-activity network: one ONNX file that gives a probability, and the entry of
`bundle.json` that describes it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from ...engines.bundles import VoiceActivityEntry
from ...engines.golden import golden_mel
from ...engines.voice_activity import MEL, SPEECH, GateRule, VoiceActivityDetector
from ...kernels.spec import MelSpec
from ..models import NUM_COLUMNS, LastProbability, VoiceActivityNet
from .onnx import Exported, export_onnx, strip_names


def export_voice_activity(
    model: VoiceActivityNet, columns: NDArray[np.float16], path: Path
) -> Exported:
    """Write the network to `path`, and compare the file with torch on the ends of scenes, log-mel
    (N, num_mels, T)."""
    ends = columns[..., -NUM_COLUMNS:].astype(np.float32)
    exported = export_onnx(LastProbability(model), {MEL: ends[:1]}, path, [{MEL: ends}], [SPEECH])
    network = onnx.load(str(path))
    strip_names(network)
    onnx.save(network, str(path))
    return replace(exported, num_bytes=path.stat().st_size)


def describe_entry(path: Path, spec: MelSpec) -> VoiceActivityEntry:
    """Return the entry `voice_activity` for a bundle that holds the file `path`."""
    with VoiceActivityDetector(path) as detector:
        columns = detector.num_columns
        golden = detector.probability(golden_mel(spec, columns))
    return VoiceActivityEntry(path.name, columns, GateRule().open_above, golden)
