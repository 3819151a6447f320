"""From frames and audio to estimates: buffers, alignment, pacing, face search, the hot path."""

from .buffers import FrameRing
from .face_tracker import one_opencv_thread, open_yunet, run_face_tracker
from .pacing import AudioOnlyTimer, FrameRateLimiter
from .pipeline import Pipeline
from .sync import Synchroniser

__all__ = [
    "AudioOnlyTimer",
    "FrameRateLimiter",
    "FrameRing",
    "Pipeline",
    "Synchroniser",
    "one_opencv_thread",
    "open_yunet",
    "run_face_tracker",
]
