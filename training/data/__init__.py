"""Data sets in the layouts that their authors publish, decoded once and kept in a cache.

FER+ faces, RAVDESS recordings and videos, their action units, noise, and folders with a manifest.
"""

from .action_units import ActionUnits, load_action_units, pair
from .cache import FeatureCache
from .crops import CropSet, load_crops
from .face_labels import Teacher, load_people, load_pictures, load_tight_faces
from .face_pictures import FacePicture, cut_picture, move_label, warp_picture
from .face_scenes import FACE, Scene, SceneMaterial, SceneSpec, render_scene
from .faces import load_face_zip, read_faces
from .ferplus import FaceSet, load_ferplus
from .folder import FolderItem, load_folder
from .images import read_image
from .media import decode_audio, decode_frames
from .noise import SUFFIXES, is_for_training, load_noises
from .ravdess import (
    EMOTIONS8,
    TEST_FOLDS,
    Clip,
    find_video_clips,
    find_voice_clips,
    parse_clip,
    split_actors,
)
from .voices import VoiceSet, load_voices
from .windows import WINDOW_EVERY_S, mel_windows, open_mel, window_ends

__all__ = [
    "EMOTIONS8",
    "FACE",
    "SUFFIXES",
    "TEST_FOLDS",
    "WINDOW_EVERY_S",
    "ActionUnits",
    "Clip",
    "CropSet",
    "FacePicture",
    "FaceSet",
    "FeatureCache",
    "FolderItem",
    "Scene",
    "SceneMaterial",
    "SceneSpec",
    "Teacher",
    "VoiceSet",
    "cut_picture",
    "decode_audio",
    "decode_frames",
    "find_video_clips",
    "find_voice_clips",
    "is_for_training",
    "load_action_units",
    "load_crops",
    "load_face_zip",
    "load_ferplus",
    "load_folder",
    "load_noises",
    "load_people",
    "load_pictures",
    "load_tight_faces",
    "load_voices",
    "mel_windows",
    "move_label",
    "open_mel",
    "pair",
    "parse_clip",
    "read_faces",
    "read_image",
    "render_scene",
    "split_actors",
    "warp_picture",
    "window_ends",
]
