"""From frames and audio to estimates: buffers, alignment, pacing, face search, the hot path."""

from .buffers import FrameRing
from .face_tracker import FaceSearch, one_opencv_thread, open_yunet
from .pacing import EstimateTimer, FrameRateLimiter, find_shown
from .pipeline import Pipeline
from .sync import Synchroniser

__all__ = [
    "EstimateTimer",
    "FaceSearch",
    "FrameRateLimiter",
    "FrameRing",
    "Pipeline",
    "Synchroniser",
    "find_shown",
    "one_opencv_thread",
    "open_yunet",
]
