"""The networks: face, voice, and two that fuse them."""

from .count import count_cost
from .face import EMBEDDING_SIZE, FaceNet, MirrorAveraged, fold_luma
from .face_detector import STRIDES, FaceDetectorGraph, FaceDetectorNet, Predictions, cell_centres
from .fusion import NUM_FACES, AttentionFusion, ChannelFusion
from .members import member_loss
from .merged_labels import MergedLabels, check_groups, merge_logits
from .voice import VoiceNet
from .voice_activity import NUM_COLUMNS, STRIDE_COLUMNS, LastProbability, VoiceActivityNet

__all__ = [
    "EMBEDDING_SIZE",
    "NUM_COLUMNS",
    "NUM_FACES",
    "STRIDES",
    "STRIDE_COLUMNS",
    "AttentionFusion",
    "ChannelFusion",
    "FaceDetectorGraph",
    "FaceDetectorNet",
    "FaceNet",
    "LastProbability",
    "MergedLabels",
    "MirrorAveraged",
    "Predictions",
    "VoiceActivityNet",
    "VoiceNet",
    "cell_centres",
    "check_groups",
    "count_cost",
    "fold_luma",
    "member_loss",
    "merge_logits",
]
