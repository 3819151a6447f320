"""Augmentation that keeps the label, and corruptions for robustness tests."""

from .corruptions import (
    Audio,
    Image,
    add_noise,
    blur_image,
    compress_image,
    cut_silence,
    darken_image,
    make_noise,
    make_response,
    measure_rt60,
    occlude_image,
    reverberate,
)
from .exposure import ExposureSpec, expose
from .face_scenes import FACE, FaceScene, FaceSceneMaterial, FaceSceneSpec, render_face_scene
from .occluders import cover_half, draw_sunglasses
from .speech_scenes import SceneMaterial, SceneSettings, make_scenes
from .speechless_sounds import make_speechless
from .transforms import compress_faces, jitter_faces, mask_mel, scale_pixels
from .voice_variants import draw_noise, make_noise_only, make_variants

__all__ = [
    "FACE",
    "Audio",
    "ExposureSpec",
    "FaceScene",
    "FaceSceneMaterial",
    "FaceSceneSpec",
    "Image",
    "SceneMaterial",
    "SceneSettings",
    "add_noise",
    "blur_image",
    "compress_faces",
    "compress_image",
    "cover_half",
    "cut_silence",
    "darken_image",
    "draw_noise",
    "draw_sunglasses",
    "expose",
    "jitter_faces",
    "make_noise",
    "make_noise_only",
    "make_response",
    "make_scenes",
    "make_speechless",
    "make_variants",
    "mask_mel",
    "measure_rt60",
    "occlude_image",
    "render_face_scene",
    "reverberate",
    "scale_pixels",
]
