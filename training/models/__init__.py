"""The networks: face, voice, and two that fuse them."""

from .count import count_cost
from .face import EMBEDDING_SIZE, FaceNet, MirrorAveraged, fold_luma
from .face_detector import STRIDES, FaceDetectorGraph, FaceDetectorNet, Predictions, cell_centres
from .fusion import NUM_FACES, AttentionFusion, ChannelFusion
from .members import member_loss
from .voice import SevenLabelVoice, VoiceNet, merge_calm

__all__ = [
    "EMBEDDING_SIZE",
    "NUM_FACES",
    "STRIDES",
    "AttentionFusion",
    "ChannelFusion",
    "FaceDetectorGraph",
    "FaceDetectorNet",
    "FaceNet",
    "MirrorAveraged",
    "Predictions",
    "SevenLabelVoice",
    "VoiceNet",
    "cell_centres",
    "count_cost",
    "fold_luma",
    "member_loss",
    "merge_calm",
]
