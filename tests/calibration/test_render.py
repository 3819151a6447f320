"""From an id to what the network is shown: the device's preprocessing, and chance by the id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_edge.calibration.errors import CalibrationError
from emotion_edge.calibration.render import render_faces, render_voices
from emotion_edge.calibration.sample_lists import (
    BLANKS,
    FACE_CONDITIONS,
    VOICE_CONDITIONS,
    SampleEntry,
    name_face,
    name_voice,
)
from emotion_edge.engines.bundles.manifest import LABELS, Level, Manifest
from emotion_edge.kernels import open_preprocessor
from emotion_edge.kernels.spec import ImageSpec, MelSpec
from emotion_edge.training.data.ferplus import FaceSet
from emotion_edge.training.data.voices import VoiceSet
from emotion_edge.training.data.windows import mel_windows, window_ends

NUM = 20
CORRUPTED_FACES = sorted(set(FACE_CONDITIONS) - {"plain"})
CORRUPTED_VOICES = sorted(set(VOICE_CONDITIONS) - {"plain"})
Float32 = NDArray[np.float32]


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    levels = [Level("full", 48), Level("low", 32)]
    return Manifest(1, "toy", list(LABELS), ImageSpec(), MelSpec(), levels, {}, 0.3, {}, {}, {})


@pytest.fixture(scope="module")
def faces() -> FaceSet:
    """Slopes of all brightnesses with noise on them."""
    rng = np.random.default_rng(0)
    slope = np.linspace(20, 220, 48)[None, None] * rng.uniform(0.4, 1.0, (NUM, 1, 1))
    images = np.clip(slope + rng.normal(0, 8, (NUM, 48, 48)), 0, 255).astype(np.uint8)
    votes = np.full((NUM, 7), 1 / 7, np.float32)
    return FaceSet(images, votes, np.arange(NUM) % 7, 0)


@pytest.fixture(scope="module")
def voices() -> VoiceSet:
    """Four seconds each: half a second of silence, then a tone that comes and goes."""
    t = np.arange(64_000) / 16_000
    audio_clips = []
    for i in range(NUM):
        tone = 0.3 * np.sin(2 * np.pi * (200 + 70 * i) * t) * np.sin(2 * np.pi * 3 * t) ** 2
        tone[:8_000] = 0
        audio_clips.append(tone.astype(np.float32))
    actors = 2 + np.arange(NUM) % 3
    names = [f"03-01-{i:02}" for i in range(NUM)]
    return VoiceSet(audio_clips, np.zeros(NUM, np.int64), np.zeros(NUM, np.int64), actors, names)


def face_entries(faces: FaceSet, condition: str = "plain") -> list[SampleEntry]:
    return [SampleEntry(name_face(image), condition) for image in faces.images]


def voice_entries(voices: VoiceSet, condition: str = "plain") -> list[SampleEntry]:
    return [
        SampleEntry(name_voice(int(actor), name), condition)
        for actor, name in zip(voices.actors, voices.names, strict=True)
    ]


def by_id(ids: Sequence[str], values: Float32) -> dict[str, Float32]:
    return dict(zip(ids, values, strict=True))


def test_plain_face_is_what_the_device_shows(faces: FaceSet, manifest: Manifest) -> None:
    """The grey picture in three colours, edge repeated, cut and scaled by the preprocessor at the
    best level's size."""
    samples = render_faces(face_entries(faces), faces, manifest)
    assert samples.inputs["image"].shape == (NUM, 3, 48, 48)
    assert samples.ids == tuple(name_face(image) for image in faces.images)
    preprocessor = open_preprocessor("cpu", manifest.image, manifest.mel)
    for row, image in zip(samples.inputs["image"], faces.images, strict=True):
        picture = np.repeat(np.pad(image, 8, mode="edge")[..., None], 3, axis=2)
        shown = preprocessor.face(picture, (8.0, 8.0, 48.0), 48, "rgb8")
        np.testing.assert_array_equal(row, np.asarray(shown)[0])


def test_plain_voice_is_what_the_device_hears(voices: VoiceSet, manifest: Manifest) -> None:
    """One of the windows that judge the recording, number by number."""
    samples = render_voices(voice_entries(voices), voices, [], manifest)
    assert samples.inputs["mel"].shape == (NUM, 64, 300)
    assert samples.inputs["mask"].shape == (NUM, 300)
    spec = manifest.mel
    preprocessor = open_preprocessor("cpu", manifest.image, spec)
    places = set()
    for i, audio in enumerate(voices.audio_clips):
        found = []
        for end in window_ends(len(audio), spec):
            mels, masks = mel_windows(audio, [end], preprocessor.mel)
            if np.array_equal(mels[0], samples.inputs["mel"][i]):
                assert np.array_equal(masks[0], samples.inputs["mask"][i])
                found.append(end)
        assert found
        places |= set(found)
    assert len(places) > 1, "not always the same window"


@pytest.mark.parametrize("condition", CORRUPTED_FACES)
def test_every_condition_changes_a_face(faces: FaceSet, manifest: Manifest, condition: str) -> None:
    """Each picture, by something that can be seen."""
    plain = render_faces(face_entries(faces), faces, manifest).inputs["image"]
    corrupted = render_faces(face_entries(faces, condition), faces, manifest).inputs["image"]
    assert (np.abs(plain - corrupted).max(axis=(1, 2, 3)) > 0.05).all()
    if condition in ("dark2", "dark4", "half"):
        assert (corrupted.mean(axis=(1, 2, 3)) < plain.mean(axis=(1, 2, 3)) - 0.1).all()


@pytest.mark.parametrize("condition", CORRUPTED_VOICES)
def test_every_condition_changes_a_voice(
    voices: VoiceSet, manifest: Manifest, condition: str
) -> None:
    """Each sound is another one than any of the plain windows, in its loudness too where that is
    what the condition is about."""
    corrupted = render_voices(voice_entries(voices, condition), voices, [], manifest).inputs
    spec = manifest.mel
    preprocessor = open_preprocessor("cpu", manifest.image, spec)
    for mel, mask, audio in zip(
        corrupted["mel"], corrupted["mask"], voices.audio_clips, strict=True
    ):
        windows, _ = mel_windows(audio, window_ends(len(audio), spec), preprocessor.mel)
        assert (np.abs(windows - mel).max(axis=(1, 2)) > 0.05).all()
        if condition == "short":
            assert 100 < mask.sum() < 130, "1.2 s of 3 s"
        else:
            assert mask.all()


@pytest.mark.parametrize("reverse", [False, True])
def test_order_of_the_list_changes_no_sample(
    faces: FaceSet, voices: VoiceSet, manifest: Manifest, reverse: bool
) -> None:
    """Chance comes from the id: half of a list, or the list from its end, gives the same."""
    step = -1 if reverse else 1
    for condition in ("covered25", "dark4"):
        entries = face_entries(faces, condition)
        entries += [SampleEntry("blank/noise", "plain"), SampleEntry("blank/dark-noise", "plain")]
        whole, some = (
            render_faces(chosen, faces, manifest) for chosen in (entries, entries[4:][::step])
        )
        full = by_id(whole.ids, whole.inputs["image"])
        for name, image in by_id(some.ids, some.inputs["image"]).items():
            np.testing.assert_array_equal(image, full[name])
    heard = voice_entries(voices, "snr0")
    heard += [
        SampleEntry(f"{kind}/{i}", "plain") for kind in ("noise", "silence") for i in range(3)
    ]
    noises = [np.random.default_rng(i).normal(0, 0.1, 50_000).astype(np.float32) for i in (1, 2)]
    whole, some = (
        render_voices(chosen, voices, noises, manifest) for chosen in (heard, heard[5:][::step])
    )
    full = by_id(whole.ids, whole.inputs["mel"])
    for name, mel in by_id(some.ids, some.inputs["mel"]).items():
        np.testing.assert_array_equal(mel, full[name])


def test_same_list_same_sha256(faces: FaceSet, voices: VoiceSet, manifest: Manifest) -> None:
    """And another condition another one."""
    entries = face_entries(faces, "dark2")
    first = render_faces(entries, faces, manifest).sha256
    assert first == render_faces(entries, faces, manifest).sha256
    assert first != render_faces(face_entries(faces, "dark4"), faces, manifest).sha256
    spoken = voice_entries(voices, "snr10")
    first = render_voices(spoken, voices, [], manifest).sha256
    assert first == render_voices(spoken, voices, [], manifest).sha256


def test_blanks(faces: FaceSet, manifest: Manifest) -> None:
    """Every blank is a picture of its own: black, grey and white all over."""
    entries = [SampleEntry(f"blank/{name}", "plain") for name in BLANKS] + face_entries(faces)
    images = render_faces(entries, faces, manifest).inputs["image"]
    blanks = dict(zip(BLANKS, images, strict=False))
    assert len({image.tobytes() for image in blanks.values()}) == len(BLANKS)
    for name in ("black", "grey", "white"):
        assert (blanks[name] == blanks[name][:, :1, :1]).all()
    assert blanks["black"].mean() < blanks["grey"].mean() < blanks["white"].mean()
    assert blanks["dark-noise"].mean() < blanks["noise"].mean()


def test_noise_and_silence(voices: VoiceSet, manifest: Manifest) -> None:
    """Noise of the given recordings fills the window; silence is far quieter; no two alike."""
    noises = [np.random.default_rng(3).normal(0, 0.1, 20_000).astype(np.float32)]
    quiet = [SampleEntry(f"{kind}/{i}", "plain") for kind in ("noise", "silence") for i in range(8)]
    samples = render_voices(quiet, voices, noises, manifest)
    mel = samples.inputs["mel"]
    assert samples.inputs["mask"].all()
    assert len({one.tobytes() for one in mel}) == 16
    assert mel[:8].mean() > mel[8:].mean() + 1.0


@pytest.mark.parametrize("num", [1, 3])
def test_ids_that_the_data_lacks(
    faces: FaceSet, voices: VoiceSet, manifest: Manifest, num: int
) -> None:
    """How many of how many, and one by its name."""
    lost = [SampleEntry(f"ferplus/{i:016x}", "plain") for i in range(num)]
    with pytest.raises(CalibrationError) as caught:
        render_faces([*face_entries(faces), *lost], faces, manifest)
    said = (
        f"FER+ train here lacks {num} of the {NUM + num} samples on the list, such as {lost[0].id}:"
    )
    assert str(caught.value).startswith(said)
    lost = [SampleEntry(f"ravdess/24/03-{i}", "plain") for i in range(num)]
    with pytest.raises(CalibrationError) as caught:
        render_voices([*voice_entries(voices), *lost], voices, [], manifest)
    said = f"RAVDESS here lacks {num} of the {NUM + num} samples on the list, such as {lost[0].id}:"
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    "condition", ["foggy", "dark", "darkest", "blurx", "jpegs", "jpeg", "covered", "", "snr10"]
)
def test_unknown_condition_of_a_face(faces: FaceSet, manifest: Manifest, condition: str) -> None:
    """It and its sample are named."""
    entries = face_entries(faces)
    entries[3] = replace(entries[3], condition=condition)
    with pytest.raises(CalibrationError) as caught:
        render_faces(entries, faces, manifest)
    assert str(caught.value) == f"face list: {entries[3].id}: unknown condition {condition}"


@pytest.mark.parametrize("condition", ["shouted", "snr", "snrx", "rooms", "dark2"])
def test_unknown_condition_of_a_voice(voices: VoiceSet, manifest: Manifest, condition: str) -> None:
    """It and its sample are named."""
    entries = voice_entries(voices)
    entries[3] = replace(entries[3], condition=condition)
    with pytest.raises(CalibrationError) as caught:
        render_voices(entries, voices, [], manifest)
    assert str(caught.value) == f"voice list: {entries[3].id}: unknown condition {condition}"


def test_ids_of_no_kind(faces: FaceSet, voices: VoiceSet, manifest: Manifest) -> None:
    """Neither of the data set nor a blank, noise or silence."""
    with pytest.raises(CalibrationError, match="blank/pink is neither of FER"):
        render_faces([SampleEntry("blank/pink", "plain")], faces, manifest)
    with pytest.raises(CalibrationError, match="cremad/1 is neither of RAVDESS"):
        render_voices([SampleEntry("cremad/1", "plain")], voices, [], manifest)


def test_too_few_are_no_samples(faces: FaceSet, voices: VoiceSet, manifest: Manifest) -> None:
    """A list of three, or one that shows the same again and again."""
    with pytest.raises(CalibrationError, match="face list: 3 face samples, at least 16"):
        render_faces(face_entries(faces)[:3], faces, manifest)
    with pytest.raises(CalibrationError, match="voice list: 3 voice samples, at least 16"):
        render_voices(voice_entries(voices)[:3], voices, [], manifest)
    with pytest.raises(CalibrationError, match="face list: all 20 face samples are alike"):
        render_faces([SampleEntry("blank/black", "plain")] * 20, faces, manifest)
