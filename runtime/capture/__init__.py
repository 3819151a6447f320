"""Camera frames and audio with capture times, from devices, files and the demo.

`open_sources` opens what a run reads in real time, `open_media` what can be read at any speed.
"""

from __future__ import annotations

from .audio_devices import InputDevice, list_inputs, list_microphones
from .camera import CameraSettings, list_cameras
from .camera_opener import CameraOpener
from .catching_up import DueTime
from .opening import Sources, open_media, open_sources
from .playback import Media, Playback, merge_events
from .reconnect import WaitPolicy
from .source_name import find_kind, find_path, is_camera, show_source

__all__ = [
    "CameraOpener",
    "CameraSettings",
    "DueTime",
    "InputDevice",
    "Media",
    "Playback",
    "Sources",
    "WaitPolicy",
    "find_kind",
    "find_path",
    "is_camera",
    "list_cameras",
    "list_inputs",
    "list_microphones",
    "merge_events",
    "open_media",
    "open_sources",
    "show_source",
]
