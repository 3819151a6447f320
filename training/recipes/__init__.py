"""One recipe for each network, and the recipe of the bundle that ships."""

from .face import FaceRecipe, Round, train_face
from .fusion import PAIRS, FusionRecipe, Pairs, train_fusion
from .voice import Speech, VoiceRecipe, build_voice, prepare_speech, train_voice

__all__ = [
    "PAIRS",
    "FaceRecipe",
    "FusionRecipe",
    "Pairs",
    "Round",
    "Speech",
    "VoiceRecipe",
    "build_voice",
    "prepare_speech",
    "train_face",
    "train_fusion",
    "train_voice",
]
