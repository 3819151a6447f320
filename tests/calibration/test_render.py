"""Rendering of samples: the device's preprocessing, and randomness seeded by the entry."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_edge.calibration.errors import CalibrationError
from emotion_edge.calibration.render import InputSpecs, render_faces, render_voices
from emotion_edge.calibration.sample_lists import (
    BLANKS,
    FACE_CONDITIONS,
    VOICE_CONDITIONS,
    SampleEntry,
    index_faces,
    index_voices,
    name_face,
    name_voice,
)
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
def specs() -> InputSpecs:
    return InputSpecs(ImageSpec(), MelSpec(), 48)


@pytest.fixture(scope="module")
def faces() -> FaceSet:
    """Gradients of all brightnesses, with noise."""
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


def test_plain_face_is_the_device_input(faces: FaceSet, specs: InputSpecs) -> None:
    """The gray image in three channels, its edge repeated, cropped and scaled by the preprocessor
    at the best level's size."""
    samples = render_faces(face_entries(faces), index_faces(faces), specs)
    assert samples.inputs["image"].shape == (NUM, 3, 48, 48)
    assert samples.ids == tuple(name_face(image) for image in faces.images)
    preprocessor = open_preprocessor("cpu", specs.image, specs.mel)
    for row, image in zip(samples.inputs["image"], faces.images, strict=True):
        color = np.repeat(np.pad(image, 8, mode="edge")[..., None], 3, axis=2)
        expected = preprocessor.faces(color, [(8.0, 8.0, 48.0, 0.0)], 48, "rgb8")
        np.testing.assert_array_equal(row, np.asarray(expected)[0])


def test_plain_voice_is_the_device_input(voices: VoiceSet, specs: InputSpecs) -> None:
    """Exactly one of the windows on which the recording is evaluated."""
    samples = render_voices(voice_entries(voices), index_voices(voices), [], specs)
    assert samples.inputs["mel"].shape == (NUM, 64, 300)
    assert samples.inputs["mask"].shape == (NUM, 300)
    spec = specs.mel
    preprocessor = open_preprocessor("cpu", specs.image, spec)
    chosen = set()
    for i, audio in enumerate(voices.audio_clips):
        ends = []
        for end in window_ends(len(audio), spec):
            mels, masks = mel_windows(audio, [end], preprocessor.mel)
            if np.array_equal(mels[0], samples.inputs["mel"][i]):
                assert np.array_equal(masks[0], samples.inputs["mask"][i])
                ends.append(end)
        assert ends
        chosen |= set(ends)
    assert len(chosen) > 1, "not always the same window"


@pytest.mark.parametrize("condition", CORRUPTED_FACES)
def test_every_condition_changes_a_face(faces: FaceSet, specs: InputSpecs, condition: str) -> None:
    """Each image changes visibly."""
    plain = render_faces(face_entries(faces), index_faces(faces), specs).inputs["image"]
    corrupted = render_faces(face_entries(faces, condition), index_faces(faces), specs).inputs[
        "image"
    ]
    assert (np.abs(plain - corrupted).max(axis=(1, 2, 3)) > 0.05).all()
    if condition in ("dark2", "dark4", "half"):
        assert (corrupted.mean(axis=(1, 2, 3)) < plain.mean(axis=(1, 2, 3)) - 0.1).all()


@pytest.mark.parametrize("condition", CORRUPTED_VOICES)
def test_every_condition_changes_a_voice(
    voices: VoiceSet, specs: InputSpecs, condition: str
) -> None:
    """Each window differs from all plain windows of its recording."""
    corrupted = render_voices(
        voice_entries(voices, condition), index_voices(voices), [], specs
    ).inputs
    spec = specs.mel
    preprocessor = open_preprocessor("cpu", specs.image, spec)
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
    faces: FaceSet, voices: VoiceSet, specs: InputSpecs, reverse: bool
) -> None:
    """Randomness depends on the entry: a part of the list, or its reverse, gives the same."""
    step = -1 if reverse else 1
    for condition in ("covered25", "dark4"):
        entries = face_entries(faces, condition)
        entries += [SampleEntry("blank/noise", "plain"), SampleEntry("blank/dark-noise", "plain")]
        whole, part = (
            render_faces(chosen, index_faces(faces), specs)
            for chosen in (entries, entries[4:][::step])
        )
        full = by_id(whole.ids, whole.inputs["image"])
        for name, image in by_id(part.ids, part.inputs["image"]).items():
            np.testing.assert_array_equal(image, full[name])
    entries = voice_entries(voices, "snr0")
    entries += [
        SampleEntry(f"{kind}/{i}", "plain") for kind in ("noise", "silence") for i in range(3)
    ]
    noises = [np.random.default_rng(i).normal(0, 0.1, 50_000).astype(np.float32) for i in (1, 2)]
    whole, part = (
        render_voices(chosen, index_voices(voices), noises, specs)
        for chosen in (entries, entries[5:][::step])
    )
    full = by_id(whole.ids, whole.inputs["mel"])
    for name, mel in by_id(part.ids, part.inputs["mel"]).items():
        np.testing.assert_array_equal(mel, full[name])


def test_blanks(faces: FaceSet, specs: InputSpecs) -> None:
    """All blanks differ; black, grey and white are uniform."""
    entries = [SampleEntry(f"blank/{name}", "plain") for name in BLANKS] + face_entries(faces)
    images = render_faces(entries, index_faces(faces), specs).inputs["image"]
    blanks = dict(zip(BLANKS, images, strict=False))
    assert len({image.tobytes() for image in blanks.values()}) == len(BLANKS)
    for name in ("black", "grey", "white"):
        assert (blanks[name] == blanks[name][:, :1, :1]).all()
    assert blanks["black"].mean() < blanks["grey"].mean() < blanks["white"].mean()
    assert blanks["dark-noise"].mean() < blanks["noise"].mean()


def test_noise_and_silence(voices: VoiceSet, specs: InputSpecs) -> None:
    """Noise of the recordings fills the window, silence is far quieter, all samples differ."""
    noises = [np.random.default_rng(3).normal(0, 0.1, 20_000).astype(np.float32)]
    quiet = [SampleEntry(f"{kind}/{i}", "plain") for kind in ("noise", "silence") for i in range(8)]
    samples = render_voices(quiet, index_voices(voices), noises, specs)
    mel = samples.inputs["mel"]
    assert samples.inputs["mask"].all()
    assert len({window.tobytes() for window in mel}) == 16
    assert mel[:8].mean() > mel[8:].mean() + 1.0


@pytest.mark.parametrize("num", [1, 3])
def test_ids_that_the_data_lacks(
    faces: FaceSet, voices: VoiceSet, specs: InputSpecs, num: int
) -> None:
    """How many of how many, and one of them by its id."""
    lost = [SampleEntry(f"ferplus/{i:016x}", "plain") for i in range(num)]
    with pytest.raises(CalibrationError, match=rf"FER.* {num} of the {NUM + num} .*{lost[0].id}:"):
        render_faces([*face_entries(faces), *lost], index_faces(faces), specs)
    lost = [SampleEntry(f"ravdess/24/03-{i}", "plain") for i in range(num)]
    with pytest.raises(CalibrationError, match=rf"RAV.* {num} of the {NUM + num} .*{lost[0].id}:"):
        render_voices([*voice_entries(voices), *lost], index_voices(voices), [], specs)


@pytest.mark.parametrize(
    "condition", ["foggy", "dark", "darkest", "blurx", "jpegs", "jpeg", "covered", "", "snr10"]
)
def test_unknown_condition_of_a_face(faces: FaceSet, specs: InputSpecs, condition: str) -> None:
    """The condition and its sample are named."""
    entries = face_entries(faces)
    entries[3] = replace(entries[3], condition=condition)
    with pytest.raises(CalibrationError, match=rf"{re.escape(entries[3].id)}: .*{condition}$"):
        render_faces(entries, index_faces(faces), specs)


@pytest.mark.parametrize("condition", ["shouted", "snr", "snrx", "rooms", "dark2"])
def test_unknown_condition_of_a_voice(voices: VoiceSet, specs: InputSpecs, condition: str) -> None:
    """The condition and its sample are named."""
    entries = voice_entries(voices)
    entries[3] = replace(entries[3], condition=condition)
    with pytest.raises(CalibrationError, match=rf"{re.escape(entries[3].id)}: .*{condition}$"):
        render_voices(entries, index_voices(voices), [], specs)


def test_unknown_kinds_of_ids(faces: FaceSet, voices: VoiceSet, specs: InputSpecs) -> None:
    """Neither of the data set nor a blank, noise or silence: the id is named."""
    with pytest.raises(CalibrationError, match="blank/pink"):
        render_faces([SampleEntry("blank/pink", "plain")], index_faces(faces), specs)
    with pytest.raises(CalibrationError, match="cremad/1"):
        render_voices([SampleEntry("cremad/1", "plain")], index_voices(voices), [], specs)


def test_too_few_samples(faces: FaceSet, voices: VoiceSet, specs: InputSpecs) -> None:
    """A list of three, or one with the same sample 20 times."""
    with pytest.raises(CalibrationError, match="3 face samples"):
        render_faces(face_entries(faces)[:3], index_faces(faces), specs)
    with pytest.raises(CalibrationError, match="3 voice samples"):
        render_voices(voice_entries(voices)[:3], index_voices(voices), [], specs)
    with pytest.raises(CalibrationError, match="20 face samples"):
        render_faces([SampleEntry("blank/black", "plain")] * 20, index_faces(faces), specs)
