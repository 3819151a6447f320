"""Estimates that the screen's tests show."""

from __future__ import annotations

from emotion_edge.runtime.messages import Estimate

LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
FUSED = dict(zip(LABELS, (0.01, 0.02, 0.03, 0.81, 0.04, 0.04, 0.05), strict=True))
FRAME_NS = 1_000_000_000 // 30
NOTICE = "Reads apparent emotion, not what a person feels. No picture or sound is kept or sent."
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
    latency_us=12_340.0,
    stages_us={},
    level="full",
)
