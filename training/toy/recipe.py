"""The recipe of the folder of made-up people: tiny networks and few epochs."""

from __future__ import annotations

import msgspec

from ...engines.bundles import Level
from ..config import FaceNetwork, OptimizerConfig, Round, Stage, VoiceAugmentation, VoiceNetwork
from ..recipe_file import (
    DataSection,
    FaceSection,
    FusionOptimizer,
    FusionSection,
    Int8Section,
    Recipe,
    VoiceOptimizer,
    VoiceSection,
)
from .people import EXPRESSIONS

LEVELS = (
    Level("high", face_px=48, voice_hop_ms=200, face_find_hz=8),
    Level("low", face_px=48, voice_hop_ms=800, face_find_hz=2, faces=1, camera_fps=15),
)


def make_toy_recipe(root: str = ".") -> Recipe:
    """Return a recipe that takes two minutes on two cores."""
    return Recipe(
        name="toy",
        labels=tuple(EXPRESSIONS),
        data=(DataSection(kind="folder", root=root),),
        levels=LEVELS,
        face=shrink_face(FaceSection()),
        voice=shrink_voice(VoiceSection()),
        fusion=FusionSection(learning=FusionOptimizer(batch_size=8), num_epochs=20),
        int8=Int8Section(method="percentile", min_agreement=0.99),
    )


def shrink_face(section: FaceSection) -> FaceSection:
    """Return settings for few and easy faces."""
    return msgspec.structs.replace(
        section,
        network=FaceNetwork(dropout=0.0, max_drop=0.0),
        rounds=(Round((Stage(8, (48,)),)),),
        learning=OptimizerConfig(
            batch_size=8, peak_lr=1e-3, weight_decay=0.01, ema_decay=0.9, label_smoothing=0.0
        ),
        compile_model=False,
    )


def shrink_voice(section: VoiceSection) -> VoiceSection:
    """Return settings for few and easy voices."""
    return msgspec.structs.replace(
        section,
        network=VoiceNetwork(num_members=1, channels=(8, 16, 16), lstm_size=16, dropout=0.1),
        augmentation=VoiceAugmentation(num_variants=3),
        learning=VoiceOptimizer(batch_size=8, peak_lr=5e-3, ema_decay=0.9),
        num_epochs=20,
    )
