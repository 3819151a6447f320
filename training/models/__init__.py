"""The networks: face, voice, and two that fuse them."""

from .count import count_cost
from .face import EMBEDDING_SIZE, FaceNet, MirrorAveraged, fold_luma
from .fusion import NUM_FACES, AttentionFusion, ChannelFusion
from .members import member_loss
from .voice import SevenLabelVoice, VoiceNet, merge_calm

__all__ = [
    "EMBEDDING_SIZE",
    "NUM_FACES",
    "AttentionFusion",
    "ChannelFusion",
    "FaceNet",
    "MirrorAveraged",
    "SevenLabelVoice",
    "VoiceNet",
    "count_cost",
    "fold_luma",
    "member_loss",
    "merge_calm",
]
