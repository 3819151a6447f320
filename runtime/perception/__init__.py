"""One window in, one estimate out: the hot path."""

from .buffers import FrameRing
from .face_tracker import FaceTracker, one_opencv_thread, open_detector
from .pacing import AudioOnlyTimer, FrameRateLimiter
from .pipeline import Pipeline
from .sync import Synchroniser

__all__ = [
    "AudioOnlyTimer",
    "FaceTracker",
    "FrameRateLimiter",
    "FrameRing",
    "Pipeline",
    "Synchroniser",
    "one_opencv_thread",
    "open_detector",
]
