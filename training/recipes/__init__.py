"""Recipes: how each network is trained, and how the bundle that ships is made of them."""

from .face import FaceRecipe, Round, held_out_accuracy, train_face
from .face_detector import DetectorRecipe, DetectorRound, train_detector
from .fusion import PAIRS, FusionRecipe, Pairs, train_fusion
from .voice import Speech, VoiceRecipe, build_voice, prepare_speech, train_voice

__all__ = [
    "PAIRS",
    "DetectorRecipe",
    "DetectorRound",
    "FaceRecipe",
    "FusionRecipe",
    "Pairs",
    "Round",
    "Speech",
    "VoiceRecipe",
    "build_voice",
    "held_out_accuracy",
    "prepare_speech",
    "train_detector",
    "train_face",
    "train_fusion",
    "train_voice",
]
