"""Recipes: how each network is trained."""

from .action_units import UnitsRecipe, predict_units, train_units
from .face import (
    FaceRecipe,
    Round,
    face_logits,
    held_out_accuracy,
    prepare_faces,
    split_held_out,
    train_face,
)
from .face_detector import DetectorRecipe, DetectorRound, train_detector
from .fusion import (
    PAIRS,
    FusionRecipe,
    Pairs,
    attach_heads,
    build_fusion,
    fuse_pairs,
    train_fusion,
)
from .voice import (
    HeldOutSpeech,
    Speech,
    VoiceRecipe,
    WindowPredictions,
    build_voice,
    held_out_voice_accuracy,
    predict_windows,
    prepare_speech,
    train_voice,
)

__all__ = [
    "PAIRS",
    "DetectorRecipe",
    "DetectorRound",
    "FaceRecipe",
    "FusionRecipe",
    "HeldOutSpeech",
    "Pairs",
    "Round",
    "Speech",
    "UnitsRecipe",
    "VoiceRecipe",
    "WindowPredictions",
    "attach_heads",
    "build_fusion",
    "build_voice",
    "face_logits",
    "fuse_pairs",
    "held_out_accuracy",
    "held_out_voice_accuracy",
    "predict_units",
    "predict_windows",
    "prepare_faces",
    "prepare_speech",
    "split_held_out",
    "train_detector",
    "train_face",
    "train_fusion",
    "train_units",
    "train_voice",
]
