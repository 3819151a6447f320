"""Examples of RAVDESS: recordings, videos with and without audio, and faces cut out of videos.

In: a selection and the bundle to score. Out: examples.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from ...engines.bundles import FUSION, Bundle
from ...engines.face_detector import open_detector
from ..data import (
    EMOTIONS8,
    Clip,
    LabelNames,
    find_video_clips,
    find_voice_clips,
    load_face_zip,
    name_actor,
    parse_clip,
)
from ..errors import DatasetError
from .loading import FACE_EVERY_S, load_audio, load_pair, load_video
from .material import Example, ExampleMedia, whole_face
from .selection import ExampleSet, Selection, choose_modality

log = logging.getLogger(__name__)

ARCHIVES = "faces_*.zip"
"""Faces cut out of videos: a folder per clip. Read only where there are no videos."""
PROTOCOLS = {
    FUSION: "every frame and the audio through the device's own code, without its speech detector"
    " and smoothing, averaged over each clip from 1.5 s on",
    "voice": "windows four times a second, averaged over each recording",
    "face": "faces, ten a second, averaged over each video",
}


def find_recordings(selection: Selection, bundle: Bundle) -> ExampleSet:
    """Return one example per clip. A video without audio uses the recording of the same clip."""
    root, actors = selection.root, selection.actors
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder")
    names = selection.names(bundle)
    recordings = _find(find_voice_clips, root, actors)
    videos = _find(find_video_clips, root, actors)
    unknown = {
        recording_id: clip.emotion
        for recording_id, clip in {**recordings, **videos}.items()
        if not names.find(clip.emotion)
    }
    for recording_id in unknown:
        recordings.pop(recording_id, None)
        videos.pop(recording_id, None)
    voices = {
        **{recording_id: clip for recording_id, clip in videos.items() if clip.modality == "both"},
        **recordings,
    }
    pairs = {
        recording_id: (clip, clip if clip.modality == "both" else recordings[recording_id])
        for recording_id, clip in videos.items()
        if clip.modality == "both" or recording_id in recordings
    }
    archived = {} if videos else dict(_find_archived(root, actors, names, unknown))
    if unknown:
        log.warning(
            "%s: %d recordings of %s are left out: the bundle's labels are %s",
            root,
            len(unknown),
            ", ".join(sorted(set(unknown.values()))),
            ", ".join(names.labels),
        )
    if unknown and not (voices or videos or archived):
        raise DatasetError(
            f"{root}: no recording with one of the bundle's labels {', '.join(names.labels)}"
        )
    if not (voices or videos or archived):
        raise DatasetError(
            f"{root}: no RAVDESS speech (03-01-....wav or .flac, 01-01-....mp4, 02-01-....mp4,"
            f" {ARCHIVES}) of actors {'all' if actors is None else sorted(actors)}"
        )
    by_modality: dict[str, Mapping[str, object]] = {
        FUSION: pairs,
        "voice": voices,
        "face": videos or archived,
    }
    modality = choose_modality(selection, bundle, by_modality)
    rate_hz = bundle.manifest.mel.sample_rate_hz
    if modality == "voice":
        examples = [
            _describe(clip, names, partial(load_audio, clip.path, rate_hz))
            for clip in voices.values()
        ]
    elif modality == "face" and archived:
        examples = list(archived.values())
    else:
        detector = open_detector(selection.yunet, bundle)
        if modality == "face":
            examples = [
                _describe(clip, names, partial(load_video, clip.path, detector))
                for clip in videos.values()
            ]
        else:
            examples = [
                _describe(
                    video, names, partial(load_pair, video.path, voice.path, detector, bundle)
                )
                for video, voice in pairs.values()
            ]
    others = [f" {name} counts as {label};" for name, label in _list_renamed(names)]
    return ExampleSet(
        examples,
        modality,
        {"actors": "all" if actors is None else list(actors)},
        f"RAVDESS speech, actors {'all' if actors is None else ', '.join(map(str, actors))};"
        f"{''.join(others)} {PROTOCOLS[modality]}. Acted emotions: the label is what the actor was"
        " asked to show.",
        len(unknown),
    )


def _list_renamed(names: LabelNames) -> list[tuple[str, str]]:
    """Return the emotions that count as another label."""
    found = [(emotion, names.find(emotion)) for emotion in EMOTIONS8]
    return [(emotion, label) for emotion, label in found if label and label != emotion]


def _find(
    find: Callable[[Path, Sequence[int] | None], list[Clip]],
    root: Path,
    actors: Sequence[int] | None,
) -> dict[str, Clip]:
    """Return clips by recording; none is no error, as there may be files of another kind."""
    try:
        return {clip.recording_id: clip for clip in find(root, actors)}
    except DatasetError:
        return {}


def _describe(clip: Clip, names: LabelNames, load: Callable[[], ExampleMedia]) -> Example:
    return Example(
        str(clip.path),
        names.labels.index(names.find(clip.emotion) or ""),
        str(clip.actor),
        load,
        {
            "sex": "male" if clip.actor % 2 else "female",
            "intensity": ("normal", "strong")[clip.intensity - 1],
            "statement": str(clip.statement),
            "acted emotion": clip.emotion,
        },
        name_actor(clip.actor),
    )


def _find_archived(
    root: Path, actors: Sequence[int] | None, names: LabelNames, unknown: dict[str, str]
) -> Iterator[tuple[str, Example]]:
    """Yield recordings and their faces. Those whose emotion has no label are added to `unknown`."""
    for archive in sorted(root.rglob(ARCHIVES)):
        for name, images in load_face_zip(archive):
            clip = parse_clip(archive / name)
            if clip is None or (actors is not None and clip.actor not in actors):
                continue
            if not names.find(clip.emotion):
                unknown[clip.recording_id] = clip.emotion
                continue
            faces = tuple(whole_face(i * FACE_EVERY_S, image) for i, image in enumerate(images))
            yield clip.recording_id, _describe(clip, names, partial(ExampleMedia, faces))
