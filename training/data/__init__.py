"""Data sets in the layouts that their authors publish, decoded once and kept in a cache.

FER+ faces, RAVDESS recordings and videos, their action units, noise, and folders with a manifest.
"""

from .action_units import ActionUnits, load_action_units, pair
from .cache import FeatureCache
from .corpus import list_corpus, load_corpus
from .crops import CropSet, load_crops
from .espeak import HELD_OUT_LANGUAGES, LANGUAGES, synthesise_speech
from .examples import Corpus, FaceExamples, VoiceExamples, select_fold
from .face_labels import Teacher, load_people, load_pictures, load_tight_faces
from .face_pictures import (
    LABEL_SIZE,
    FacePicture,
    Gray,
    Labels,
    cut_picture,
    move_label,
    warp_picture,
)
from .faces import load_face_zip, read_faces
from .ferplus import OPTIONAL_VOTES, VOTES, FaceSet, hold_out, load_ferplus
from .folder import MANIFEST, FolderItem, load_folder
from .folds import Fold, make_folds
from .images import read_image
from .label_names import LabelNames
from .media import decode_audio, decode_frames
from .noise import SUFFIXES, TRAINING_SOUND_FOLDS, esc_fold, is_for_training, load_noises
from .people import list_spellings, name_actor, name_subject
from .ravdess import (
    EMOTION_GROUPS,
    EMOTIONS8,
    TEST_FOLDS,
    Clip,
    find_video_clips,
    find_voice_clips,
    parse_clip,
    split_actors,
)
from .speech_sources import SpeechClip, list_audio_files, load_audio, mark_speech, remove_speech
from .speech_teacher import SpeechTeacher
from .voices import VoiceSet, load_voices
from .windows import WINDOW_EVERY_S, mel_columns, mel_windows, open_mel, window_ends

__all__ = [
    "EMOTIONS8",
    "EMOTION_GROUPS",
    "HELD_OUT_LANGUAGES",
    "LABEL_SIZE",
    "LANGUAGES",
    "MANIFEST",
    "OPTIONAL_VOTES",
    "SUFFIXES",
    "TEST_FOLDS",
    "TRAINING_SOUND_FOLDS",
    "VOTES",
    "WINDOW_EVERY_S",
    "ActionUnits",
    "Clip",
    "Corpus",
    "CropSet",
    "FaceExamples",
    "FacePicture",
    "FaceSet",
    "FeatureCache",
    "Fold",
    "FolderItem",
    "Gray",
    "LabelNames",
    "Labels",
    "SpeechClip",
    "SpeechTeacher",
    "Teacher",
    "VoiceExamples",
    "VoiceSet",
    "cut_picture",
    "decode_audio",
    "decode_frames",
    "esc_fold",
    "find_video_clips",
    "find_voice_clips",
    "hold_out",
    "is_for_training",
    "list_audio_files",
    "list_corpus",
    "list_spellings",
    "load_action_units",
    "load_audio",
    "load_corpus",
    "load_crops",
    "load_face_zip",
    "load_ferplus",
    "load_folder",
    "load_noises",
    "load_people",
    "load_pictures",
    "load_tight_faces",
    "load_voices",
    "make_folds",
    "mark_speech",
    "mel_columns",
    "mel_windows",
    "move_label",
    "name_actor",
    "name_subject",
    "open_mel",
    "pair",
    "parse_clip",
    "read_faces",
    "read_image",
    "remove_speech",
    "select_fold",
    "split_actors",
    "synthesise_speech",
    "warp_picture",
    "window_ends",
]
