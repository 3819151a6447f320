"""Estimates for the tests of the sinks."""

from __future__ import annotations

from dataclasses import replace

from emotion_edge.engines.bundles import LABELS
from emotion_edge.runtime.messages import Estimate

FRAME_NS = 1_000_000_000 // 30
NOTICE = "Reads apparent emotion, not what a person feels. No picture or sound is kept or sent."
"""As long as the default notice."""
FUSED = dict(zip(LABELS, (0.01, 0.02, 0.03, 0.81, 0.04, 0.04, 0.05), strict=True))
ESTIMATE = Estimate(
    t_ns=0,
    index=0,
    label="happy",
    confidence=0.81,
    probabilities=FUSED,
    modalities={"face": 0.7, "voice": 0.3},
    face=FUSED,
    voice=FUSED,
    abstained=False,
    skew_ns=0,
    latency_us=12_345.678,
    stages_us={},
    level="full",
)
NOTHING = replace(
    ESTIMATE,
    label=None,
    confidence=0.0,
    probabilities={},
    modalities={},
    face=None,
    voice=None,
    abstained=True,
)
"""Neither a face nor a voice."""
