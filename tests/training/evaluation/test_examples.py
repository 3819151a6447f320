"""Examples of each data set, by modality; what a data set lacks is one error."""

from __future__ import annotations

import dataclasses
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from emotion_edge.engines.base import EngineError
from emotion_edge.engines.bundles import LABELS
from emotion_edge.engines.bundles.manifest import Bundle
from emotion_edge.training.data.folder import choose_split
from emotion_edge.training.errors import DatasetError
from emotion_edge.training.evaluation.examples import find_examples
from emotion_edge.training.evaluation.material import Example
from emotion_edge.training.evaluation.selection import Selection

WriteVideo = Callable[..., Path]
middle = pytest.mark.usefixtures("found_in_the_middle")


def select(root: Path, **more: object) -> Selection:
    return Selection("ravdess", root, **more)  # type: ignore[arg-type]


@pytest.fixture
def recordings_folder(tmp_path: Path, write_video: WriteVideo) -> Path:
    """Three clips of actors 3 and 4: video with audio, video and recording, recording alone."""
    root = tmp_path / "clips"
    write_video(root / "01-01-03-01-01-01-03.mp4", 1.0, 1.0)
    write_video(root / "Actor_04" / "02-01-02-02-02-01-04.mp4", 1.0, 0)
    write_video(root / "Actor_04" / "03-01-02-02-02-01-04.wav", 0, 1.2)
    write_video(root / "Actor_04" / "03-01-05-01-01-01-04.wav", 0, 0.8)
    return root


@middle
@pytest.mark.parametrize(
    ("modality", "num", "has_faces", "has_audio"),
    [("fusion", 2, True, True), ("voice", 3, False, True), ("face", 2, True, False)],
)
def test_recordings_by_modality(
    recordings_folder: Path,
    bundle: Bundle,
    modality: str,
    num: int,
    has_faces: bool,
    has_audio: bool,
) -> None:
    """Video and recording of a clip are one example; a video's own audio will do."""
    chosen = find_examples(select(recordings_folder, modality=modality), bundle)
    assert chosen.modality == modality
    assert len(chosen.examples) == num
    for example in chosen.examples:
        media = example.load()
        assert bool(media.faces) == has_faces
        assert (media.audio is not None) == has_audio
    assert {example.subject for example in chosen.examples} == {"3", "4"}
    calm = next(x for x in chosen.examples if x.groups["acted emotion"] == "calm")
    assert LABELS[calm.label] == "neutral"
    assert calm.groups["sex"] == "female"
    assert calm.groups["intensity"] == "strong"


@middle
@pytest.mark.parametrize("modality", ["face", "fusion"])
def test_frames_of_a_video(recordings_folder: Path, bundle: Bundle, modality: str) -> None:
    """Each with the face where the detector finds it, and all frame times for fusion."""
    (example,) = find_examples(
        select(recordings_folder, modality=modality, actors=[3]), bundle
    ).examples
    media = example.load()
    times_s = np.arange(10) / 10
    np.testing.assert_allclose([face.t_s for face in media.faces], times_s, atol=1e-3)
    assert {face.box[2] for face in media.faces} == {32.0}
    if modality == "fusion":
        np.testing.assert_allclose(media.frame_times_s, times_s, atol=1e-3)
        assert media.audio is not None
        assert len(media.audio) == pytest.approx(16_000, abs=2_100)


@middle
def test_most_frequent_modality_is_evaluated(recordings_folder: Path, bundle: Bundle) -> None:
    """Three recordings and two videos: voice. As many pairs: fusion."""
    assert find_examples(select(recordings_folder), bundle).modality == "voice"
    assert find_examples(select(recordings_folder, actors=[3]), bundle).modality == "fusion"


@middle
def test_video_without_a_face_has_none(
    tmp_path: Path, write_video: WriteVideo, bundle: Bundle
) -> None:
    """It still has frames and a voice."""
    write_video(tmp_path / "01-01-03-01-01-01-03.mp4", 0.5, 0.5, gray=0)
    (example,) = find_examples(select(tmp_path, modality="fusion"), bundle).examples
    media = example.load()
    assert media.faces == ()
    assert len(media.frame_times_s) == 5
    assert media.audio is not None


def test_archive_of_faces(tmp_path: Path, bundle: Bundle) -> None:
    """A folder per clip; other folders and other actors are no examples."""
    face = cv2.imencode(".png", np.full((224, 224), 90, np.uint8))[1].tobytes()
    with zipfile.ZipFile(tmp_path / "faces_some.zip", "w") as archive:
        for i in range(3):
            archive.writestr(f"01-01-04-01-01-01-05/{i:02}.png", face)
        archive.writestr("01-01-04-01-01-01-06/00.png", face)
        archive.writestr("holiday/00.png", face)
    chosen = find_examples(select(tmp_path, actors=[5]), bundle)
    assert chosen.modality == "face"
    (example,) = chosen.examples
    assert LABELS[example.label] == "sad"
    assert len(example.load().faces) == 3
    assert example.load().faces[0].box == (0.0, 0.0, 224.0, 0.0)


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"actors": [9, 8]}, r"actors \[8, 9\]"),
        ({"modality": "face"}, "--modality face: .* voice"),
        ({"modality": "fusion"}, "--modality fusion: .* voice"),
    ],
)
def test_missing_modality_is_an_error(
    tmp_path: Path, write_video: WriteVideo, bundle: Bundle, more: dict[str, object], error: str
) -> None:
    write_video(tmp_path / "03-01-05-01-01-01-04.wav", 0, 0.3)
    with pytest.raises(DatasetError, match=error):
        find_examples(select(tmp_path, **more), bundle)


def test_missing_folder_or_network_is_an_error(
    tmp_path: Path, write_video: WriteVideo, write_bundle: Callable[..., Bundle]
) -> None:
    face_only = write_bundle(modalities=("face",))
    with pytest.raises(DatasetError, match="none"):
        find_examples(select(tmp_path / "none"), face_only)
    write_video(tmp_path / "03-01-05-01-01-01-04.wav", 0, 0.3)
    with pytest.raises(DatasetError, match=r"face .* voice"):
        find_examples(select(tmp_path), face_only)
    with pytest.raises(DatasetError, match=r"face .* voice"):
        find_examples(select(tmp_path, modality="voice"), face_only)


def test_missing_detector_is_an_error(recordings_folder: Path, bundle: Bundle) -> None:
    with pytest.raises(EngineError, match=r"none\.onnx"):
        find_examples(select(recordings_folder, modality="face", yunet="none.onnx"), bundle)


def test_ferplus_faces(write_ferplus: Callable[..., Path], bundle: Bundle) -> None:
    """Those on whose label voters agreed; the others are counted."""
    votes = {"a.png": {"happiness": 10}, "b.png": {"anger": 5, "fear": 5}, "c.png": {"sadness": 9}}
    root = write_ferplus(votes)
    chosen = find_examples(Selection("ferplus", root, "train"), bundle)
    assert [LABELS[example.label] for example in chosen.examples] == ["happy", "sad"]
    assert chosen.skipped == 1
    assert chosen.examples[0].load().faces[0].image.shape == (48, 48, 3)
    first, second = (example.load().faces[0].image for example in chosen.examples)
    assert (first != second).any(), "each loads its own face"
    with pytest.raises(DatasetError, match=r"--modality voice: .* face"):
        find_examples(Selection("ferplus", root, "train", modality="voice"), bundle)
    with pytest.raises(DatasetError, match="--actors"):
        find_examples(Selection("ferplus", root, "train", actors=[1]), bundle)


def names_of(examples: Sequence[Example], labels: Sequence[str]) -> list[str]:
    return [labels[example.label] for example in examples]


@middle
def test_other_labels(
    tmp_path: Path,
    recordings_folder: Path,
    write_ferplus: Callable[..., Path],
    write_bundle: Callable[..., Bundle],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Labels are found by name; those that the bundle lacks are left out, counted and named in one
    line; a bundle with calm keeps it apart."""
    labels = ("surprise", "happiness", "calm")
    bundle = write_bundle(labels=labels)
    chosen = find_examples(select(recordings_folder, modality="voice"), bundle)
    assert sorted(names_of(chosen.examples, labels)) == ["calm", "happiness"]
    assert chosen.skipped == 1
    (line,) = caplog.messages
    assert "angry" in line
    assert "neutral" not in chosen.protocol
    caplog.clear()
    votes = {"a.png": {"happiness": 10}, "b.png": {"anger": 10}, "c.png": {"surprise": 9}}
    chosen = find_examples(Selection("ferplus", write_ferplus(votes), "train"), bundle)
    assert names_of(chosen.examples, labels) == ["happiness", "surprise"]
    assert chosen.skipped == 1
    (line,) = (message for message in caplog.messages if "anger" in message)
    assert "happiness," not in line.partition(" are ")[0]
    (tmp_path / "manifest.csv").write_text("file,label,subject\na.png,surprise,ann\n")
    split = choose_split("ann")
    (example,) = find_examples(Selection("folder", tmp_path, split), bundle).examples
    assert names_of([example], labels) == ["surprise"]
    with pytest.raises(DatasetError, match="yes, no"):
        find_examples(select(recordings_folder), write_bundle(labels=("yes", "no")))


@middle
def test_folder_with_a_manifest(tmp_path: Path, write_video: WriteVideo, bundle: Bundle) -> None:
    """Images have a face, recordings a voice, videos both; the subject is the manifest's."""
    image = np.full((60, 80, 3), 90, np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    cv2.imwrite(str(tmp_path / "dark.png"), 0 * image)
    cv2.imwrite(str(tmp_path / "cut.png"), 0 * image[:, :60])
    write_video(tmp_path / "b.wav", 0, 0.5)
    write_video(tmp_path / "c.mp4", 0.5, 0.5)
    rows = ["a.png,happy,ann", "dark.png,sad,ann", "cut.png,sad,ann", "b.wav,sad,bob"]
    (tmp_path / "manifest.csv").write_text(
        "file,label,subject,split\n"
        + "".join(f"{row},valid\n" for row in [*rows, "c.mp4,angry,cy"])
    )

    def find(modality: str) -> dict[str, Example]:
        chosen = find_examples(Selection("folder", tmp_path, modality=modality), bundle)
        return {Path(example.name).name: example for example in chosen.examples}

    assert find_examples(Selection("folder", tmp_path), bundle).modality == "face"
    assert set(find("voice")) == {"b.wav", "c.mp4"}
    (video,) = find("fusion").values()
    assert video.subject == "cy"
    assert video.load().faces
    assert video.load().audio is not None
    by_name = find("face")
    assert set(by_name) == {"a.png", "dark.png", "cut.png", "c.mp4"}
    assert by_name["a.png"].load().faces[0].box[2] == 32.0
    assert by_name["cut.png"].load().faces[0].box == (0.0, 0.0, 60.0, 0.0)
    with pytest.raises(DatasetError, match=r"dark\.png"):
        by_name["dark.png"].load()
    with pytest.raises(DatasetError, match="test"):
        find_examples(Selection("folder", tmp_path, "test"), bundle)


def test_map_of_names(
    tmp_path: Path,
    recordings_folder: Path,
    write_ferplus: Callable[..., Path],
    write_bundle: Callable[..., Bundle],
) -> None:
    """It gives names of all data sets a label, or leaves them out."""
    bundle = write_bundle(labels=("bored", "happy"))
    rows = ("1.wav,Bored,ann,valid", "2.wav,happiness,bob,valid", "3.wav,odd,bob,valid")
    for row in rows:
        (tmp_path / row[:5]).write_text(row)
    (tmp_path / "manifest.csv").write_text("\n".join(("file,label,subject,split", *rows)))
    folder = Selection("folder", tmp_path, modality="voice", label_map={"odd": ""})
    assert [example.label for example in find_examples(folder, bundle).examples] == [0, 1]
    with pytest.raises(DatasetError, match="line 4: label is 'odd', allowed: bored, happy"):
        find_examples(Selection("folder", tmp_path), bundle)
    ravdess = select(recordings_folder, modality="voice", label_map={"anger": "bored", "calm": ""})
    chosen = find_examples(ravdess, bundle)
    assert {e.groups["acted emotion"]: e.label for e in chosen.examples} == {"angry": 0, "happy": 1}
    assert " angry counts as bored;" in chosen.protocol
    root = write_ferplus({"a.png": {"happiness": 9}, "b.png": {"anger": 9}, "c.png": {"fear": 9}})
    faces = Selection("ferplus", root, "train", label_map={"angry": "bored", "fear": "bored"})
    assert [e.label for e in find_examples(faces, bundle).examples] == [1, 0, 0]
    wrong = dataclasses.replace(faces, label_map={"angry": "sad"})
    with pytest.raises(DatasetError, match=r"map\.angry is 'sad', allowed: .* bored, happy"):
        find_examples(wrong, bundle)
