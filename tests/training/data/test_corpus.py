"""The corpus of a recipe: examples with people, splits and recordings, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from emotion_edge.engines.face_detector import open_detector
from emotion_edge.kernels.spec import MelSpec
from emotion_edge.runtime.capture.demo import draw_face
from emotion_edge.training.data import Corpus, FeatureCache, load_corpus, select_fold
from emotion_edge.training.data.action_units import UNITS
from emotion_edge.training.data.crops import video_recipe
from emotion_edge.training.data.ferplus import hold_out, load_ferplus
from emotion_edge.training.data.folder import SPLITS
from emotion_edge.training.data.label_names import LabelNames
from emotion_edge.training.data.media_files import decode_files
from emotion_edge.training.data.ravdess import EMOTIONS8, TEST_FOLDS, split_actors
from emotion_edge.training.data.recordings import list_ravdess
from emotion_edge.training.data.voices import audio_recipe
from emotion_edge.training.errors import DatasetError
from emotion_edge.training.recipe_file import load_recipe

from ..wav_files import make_noise, write_noise
from .conftest import write_video

Load = Callable[..., Corpus]
SMALL = {"face": {"learning": {"batch_size": 1}}, "voice": {"learning": {"batch_size": 1}}}


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """A function (keys of the recipe) -> its corpus, with batches of one example."""

    def run(**keys: Any) -> Corpus:
        tree = {"labels": ["happy", "sad"], **SMALL, **keys}
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(tree))
        return load_corpus(load_recipe(path), FeatureCache(tmp_path / "cache"))

    return run


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return tmp_path / "mine"


def write_manifest(root: Path, rows: Mapping[str, str]) -> None:
    """Write the manifest (file: "label,subject,split"), and each file that is missing."""
    for number, name in enumerate(rows):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            continue
        if path.suffix == ".png":
            cv2.imwrite(str(path), draw_face(number / 7))
        elif path.suffix == ".wav":
            write_noise(path, number)
        else:
            frames = [draw_face((number + n) / 7) for n in range(10)]
            write_video(path, frames, audio=make_noise(number) / np.float32(32_767))
    lines = [f"{name},{rest}" for name, rest in rows.items()]
    (root / "manifest.csv").write_text("\n".join(["file,label,subject,split", *lines]))


FOLDER = {"data": [{"kind": "folder", "root": "mine"}]}


def test_folder(mine: Path, load: Load) -> None:
    """Pictures have a face, sounds a voice, and a film both, under one recording."""
    rows = {
        f"{person}{label}.{suffix}": f"{label},{person},{split}"
        for person, split in (("ann", "train"), ("bob", "valid"), ("cid", "test"))
        for label, suffix in (("happy", "png"), ("sad", "mkv"), ("happy", "wav"))
    }
    write_manifest(mine, rows)
    corpus = load(**FOLDER)
    faces, voices = corpus.faces, corpus.voices
    assert faces is not None
    assert voices is not None
    assert corpus.labels == ("happy", "sad")
    assert faces.images.shape[1:] == (112, 112)
    recordings = set(faces.recordings)
    assert recordings == {"", "mine:annsad.mkv", "mine:bobsad.mkv", "mine:cidsad.mkv"}
    assert set(zip(faces.people, faces.splits, strict=True)) == {
        ("mine:ann", "train"),
        ("mine:bob", "valid"),
        ("mine:cid", "test"),
    }
    of_ann = faces.select(np.array(faces.recordings) == "mine:annsad.mkv")
    assert 1 < len(of_ann.images) <= 16
    assert (of_ann.images[1:] != of_ann.images[:-1]).any(axis=(1, 2)).all()
    np.testing.assert_array_equal(of_ann.votes, [[0, 1]] * len(of_ann.images))
    assert set(recordings) - {""} <= set(voices.recordings)
    assert sorted(voices.labels.tolist()) == [0, 0, 0, 1, 1, 1]
    assert len(voices.audio_clips) == 6
    assert (voices.fine_names, voices.groups) == (("happy", "sad"), (0, 1))
    assert corpus.skipped == ()


def test_names_of_labels(mine: Path, load: Load) -> None:
    """Usual spellings need no map; "" leaves a name out; a name of its own is a fine label."""
    rows = {
        "1.wav": "Happiness,ann,train",
        "2.wav": "sadness,ann,train",
        "3.wav": "bored,ann,train",
        "4.wav": "calm,ann,train",
        "5.wav": "elated,bob,valid",
        "6.wav": "SAD,bob,valid",
    }
    write_manifest(mine, rows)
    section = {"kind": "folder", "root": "mine", "map": {"Bored": "", "Elated": "happy"}}
    keys = {"data": [section], "face": None}
    with pytest.raises(DatasetError, match=r"line 5: label is 'calm', allowed: happy, sad"):
        load(**keys)
    section["map"]["calm"] = "sad"
    corpus = load(**keys)
    assert corpus.faces is None
    voices = corpus.voices
    assert voices is not None
    assert voices.labels.tolist() == [0, 1, 1, 0, 1]
    assert voices.fine_names == ("calm", "happy", "sad", "elated")
    assert voices.groups == (1, 0, 1, 0)
    assert [voices.fine_names[i] for i in voices.fine_labels] == [
        "happy",
        "sad",
        "calm",
        "elated",
        "sad",
    ]
    coarse = load(**keys, voice={**SMALL["voice"], "fine_labels": False}).voices
    assert coarse is not None
    assert (coarse.fine_names, coarse.groups) == (("happy", "sad"), (0, 1))
    np.testing.assert_array_equal(coarse.fine_labels, coarse.labels)


EMOTIONS = dict(zip(("neutral", "calm", "happy", "sad"), ("01", "02", "03", "04"), strict=True))
MAP = dict.fromkeys(("neutral", "calm", "angry", "fear", "disgust", "surprise"), "")
PEOPLE = {"train": (10, 24), "valid": (3, 6), "test": (2,)}
"""Actors of each split of the first fold."""


def write_film(path: Path, seed: int, sound: bool = True) -> Path:
    """Write ten frames of a drawn face, and noise."""
    frames = [draw_face((seed + n) / 7) for n in range(10)]
    audio = make_noise(seed) / np.float32(32_767) if sound else None
    return write_video(path, frames, audio=audio)


@pytest.fixture
def ravdess(tmp_path: Path) -> Path:
    """Made-up actors in the published folders: of happy a film with sound and a recording, of sad
    a film with sound in one of two archives and a film without in the other."""
    root = tmp_path / "RAVDESS"
    for actor in (actor for actors in PEOPLE.values() for actor in actors):
        films = root / f"Video_Speech_Actor_{actor:02}" / f"Actor_{actor:02}"
        sounds = root / "Audio_Speech_Actors_01-24" / f"Actor_{actor:02}"
        happy, sad = (f"01-{EMOTIONS[name]}-01-01-01-{actor:02}" for name in ("happy", "sad"))
        write_film(films / f"01-{happy}.mkv", actor)
        write_noise(sounds / f"03-{happy}.wav", 100 + actor)
        write_film(films / f"01-{sad}.mkv", 200 + actor)
        write_film(films / f"02-{sad}.mkv", 200 + actor, sound=False)
    return root


RAVDESS = {"data": [{"kind": "ravdess", "root": "RAVDESS", "map": MAP}]}


def test_ravdess(ravdess: Path, load: Load) -> None:
    """Films give faces; voices come from the recording, else from the film. The first fold's actors
    are divided, and those of no fold are for tests."""
    write_noise(ravdess / "Actor_01" / "03-01-03-01-01-01-01.wav", 7)
    corpus = load(**RAVDESS)
    faces, voices = corpus.faces, corpus.voices
    assert faces is not None
    assert voices is not None
    expected = {
        f"ravdess:{actor:02}": split for split, actors in PEOPLE.items() for actor in actors
    }
    assert dict(zip(faces.people, faces.splits, strict=True)) == expected
    expected["ravdess:01"] = "test"
    assert dict(zip(voices.people, voices.splits, strict=True)) == expected
    assert len(voices.recordings) == len(set(voices.recordings)) == 11
    assert set(faces.recordings) == set(voices.recordings) - {"ravdess:01-03-01-01-01-01"}
    heard = voices.audio_clips[voices.recordings.index("ravdess:01-03-01-01-01-10")]
    assert len(heard) == len(make_noise(110))
    assert np.corrcoef(heard, make_noise(110))[0, 1] > 0.9
    label_of = dict(zip(voices.recordings, voices.labels, strict=True))
    assert [label_of[name] for name in faces.recordings if name] == faces.labels.tolist()
    assert (voices.fine_names, voices.groups) == (("happy", "sad"), (0, 1))


def test_broken_files_of_ravdess(ravdess: Path, load: Load) -> None:
    """A broken film is replaced by the one without sound, a broken recording by the film's sound;
    what has no replacement is skipped by name."""
    (film,) = ravdess.rglob("01-01-04-*-02.mkv")
    film.write_bytes(b"broken")
    (recording,) = ravdess.rglob("03-01-03-*-10.wav")
    recording.write_bytes(b"broken")
    corpus = load(**RAVDESS)
    assert corpus.faces is not None
    assert corpus.voices is not None
    assert "ravdess:01-04-01-01-01-02" in corpus.faces.recordings
    assert "ravdess:01-03-01-01-01-10" in corpus.voices.recordings
    assert "ravdess:01-04-01-01-01-02" not in corpus.voices.recordings
    assert [line.partition(": ")[0] for line in corpus.skipped] == [str(film)]


def test_archives_of_ravdess_apart(ravdess: Path, load: Load, tmp_path: Path) -> None:
    """Films and recordings may be data sets of their own; a recording counts once."""
    together = load(**RAVDESS)
    sounds = ravdess / "Audio_Speech_Actors_01-24"
    sounds.rename(tmp_path / "sounds")
    sections = [{**RAVDESS["data"][0], "root": root} for root in ("RAVDESS", "sounds", "sounds")]
    apart = load(data=sections)
    assert together.voices is not None
    assert apart.voices is not None
    assert sorted(apart.voices.recordings) == sorted(together.voices.recordings)
    assert set(apart.voices.people) == set(together.voices.people)


def test_eight_emotions_of_ravdess(tmp_path: Path, load: Load) -> None:
    """Calm counts as neutral; the names keep their published order."""
    for actor in (10, 3, 2):
        for code in range(1, 9):
            name = f"03-01-{code:02}-01-01-01-{actor:02}.wav"
            write_noise(tmp_path / "RAVDESS" / name, 10 * actor + code)
    labels = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]
    keys = {"data": [{"kind": "ravdess", "root": "RAVDESS"}], "labels": labels, "face": None}
    voices = load(**keys).voices
    assert voices is not None
    assert voices.fine_names == EMOTIONS8
    assert voices.groups == (6, 6, 3, 4, 0, 2, 1, 5)
    np.testing.assert_array_equal(np.array(voices.groups)[voices.fine_labels], voices.labels)
    eight = load(**{**keys, "labels": [*labels, "calm"]}).voices
    assert eight is not None
    assert eight.fine_names == (*labels, "calm")
    with pytest.raises(DatasetError, match="RAVDESS has the labels disgust, allowed: "):
        load(**{**keys, "labels": [label for label in labels if label != "disgust"]})


def test_folds_of_ravdess(ravdess: Path, load: Load) -> None:
    """Every fold has its published actors; the networks that ship train on all of them."""
    for actor in (5, 7, 11, 8, 1):
        for code in ("03", "04"):
            name = f"03-01-{code}-01-01-01-{actor:02}.wav"
            write_noise(ravdess / name, 300 + 10 * actor + int(code))
    corpus = load(**RAVDESS, face=None, people={"protocol": "folds"})
    assert corpus.voices is not None
    everybody = set(corpus.voices.people)
    assert len(corpus.folds) == len(TEST_FOLDS)
    shipped = dict(zip(corpus.voices.people, corpus.voices.splits, strict=True))
    assert {person for person, split in shipped.items() if split != "train"} == {"ravdess:01"}
    assert shipped["ravdess:01"] == "test"
    for number in range(len(TEST_FOLDS)):
        voices = select_fold(corpus, number).voices
        assert voices is not None
        for split, actors in zip(SPLITS, split_actors(number), strict=True):
            found = {
                person
                for person, own in zip(voices.people, voices.splits, strict=True)
                if own == split
            }
            assert found == {f"ravdess:{actor:02}" for actor in actors} & everybody
        assert "ravdess:01" not in voices.people


def test_folds_of_people(mine: Path, load: Load) -> None:
    """Anybody is tested once, validated on in the fold before, and else trained on."""
    rows = {
        f"{person}{label}.wav": f"{label},{person},train"
        for person in "abcdefghi"
        for label in ("happy", "sad")
    }
    write_manifest(mine, rows)
    corpus = load(**FOLDER, face=None, people={"protocol": "folds"})
    assert corpus.voices is not None
    assert set(corpus.voices.splits) == {"train"}
    assert len(corpus.folds) == 4
    tested = [person for fold in corpus.folds for person in fold.people("test")]
    assert sorted(tested) == sorted(f"mine:{person}" for person in "abcdefghi")
    for number, fold in enumerate(corpus.folds):
        assert fold.people("test") == corpus.folds[number - 1].people("valid")
        assert len(fold.people("train")) >= 4
        voices = select_fold(corpus, number).voices
        assert voices is not None
        assert dict(zip(voices.people, voices.splits, strict=True)) == dict(fold.splits)


def test_ferplus(write_ferplus: Callable[..., Path], load: Load) -> None:
    """Nobody is known. The faces held out are those of `hold_out`, in its order, and `valid`
    is for tests; votes are shared out."""
    rows = {
        f"{i}.png": {"happiness": 6, "sadness": 4 * (i % 3 == 0), "anger": 2} for i in range(20)
    }
    rows |= {f"{i}.png": {"sadness": 10} for i in range(10, 40)}
    root = write_ferplus(rows)
    section = {"kind": "ferplus", "root": ".", "map": {**MAP, "anger": "sad"}}
    faces = load(data=[section], voice=None).faces
    assert faces is not None
    assert faces.images.shape == (40, 48, 48)
    names = LabelNames(("happy", "sad"), section["map"])
    whole = load_ferplus(root, "train", None, names)
    training, held_out = hold_out(len(whole.labels), 0)
    for split, index in (("train", training), ("valid", held_out)):
        part = faces.select(faces.in_split(split))
        np.testing.assert_array_equal(part.images, whole.images[index])
        np.testing.assert_array_equal(part.votes, whole.votes[index])
        np.testing.assert_array_equal(part.labels, whole.labels[index])
    assert set(faces.people) == set(faces.recordings) == {""}
    for name in ("csv", "zip"):
        (root / f"train.{name}").rename(root / f"valid.{name}")
    write_ferplus({f"{i}.png": {("happiness", "sadness")[i % 2]: 9} for i in range(90)})
    both = load(data=[section], voice=None).faces
    assert both is not None
    assert both.splits.count("test") == 40
    assert both.splits.count("train") + both.splits.count("valid") == 50  # 40 are in both


@pytest.mark.parametrize(("actors", "size_px"), [((2, 3, 6, 10, 24), 112), ((2,), 48)])
def test_faces_of_one_size(
    write_ferplus: Callable[..., Path],
    ravdess: Path,
    load: Load,
    actors: tuple[int, ...],
    size_px: int,
) -> None:
    """FER+ beside films grows to their size, unless they are of test people only: what a face is
    trained on does not depend on those."""
    for path in [path for path in ravdess.rglob("*.*") if int(path.stem[-2:]) not in actors]:
        path.unlink()
    write_ferplus({f"{i}.png": {("happiness", "sadness")[i % 2]: 9} for i in range(20)})
    section = {"kind": "ferplus", "root": ".", "map": MAP}
    faces = load(data=[*RAVDESS["data"], section], voice=None).faces
    assert faces is not None
    assert faces.images.shape[1:] == (size_px, size_px)
    assert faces.people.count("") == 20
    if size_px == 48:
        alone = load(data=[section], voice=None).faces
        assert alone is not None
        nobody = np.array(faces.people) == ""
        np.testing.assert_array_equal(faces.images[nobody], alone.images)


def test_action_units(ravdess: Path, load: Load) -> None:
    """They have the recipe's labels and the recordings' names."""
    clips = [f"01-01-{code}-01-01-01-10" for code in ("01", "03", "04")]
    table = "\n".join([f"clip,{','.join(UNITS)}", *(clip + ",0.5" * len(UNITS) for clip in clips)])
    (ravdess / "openface_au_mean.csv").write_text(table)
    units = load(
        data=[*RAVDESS["data"], {"kind": "action_units", "root": "RAVDESS", "map": MAP}]
    ).units
    assert units is not None
    assert units.labels.tolist() == [0, 1]
    assert units.recording_ids == ["01-03-01-01-01-10", "01-04-01-01-01-10"]
    assert len(units.values) == 2


def everyone(*labels: str) -> dict[str, str]:
    """Return rows of a manifest: each label for a person of each split."""
    return {
        f"{split}{label}.wav": f"{label},{split}er,{split}" for split in SPLITS for label in labels
    }


@pytest.mark.parametrize(
    ("rows", "keys", "named"),
    [
        ({**everyone("happy", "sad"), "a.wav": "sad,trainer,valid"}, {}, "subject 'trainer'"),
        ({"a.wav": "sad,ann,test"}, {}, "no voice for training: the split train has none"),
        (
            {"a.wav": "sad,ann,train", "b.wav": "happy,ann,train"},
            {},
            "no voice for validation: the split valid has none, and there are only mine:ann",
        ),
        ({**everyone("happy"), "a.wav": "sad,ann,valid"}, {}, "for training has the label sad"),
        ({**everyone("happy"), "a.wav": "sad,ann,train"}, {}, "for validation has the label sad"),
        (
            everyone("happy", "sad"),
            {"voice": {"learning": {"batch_size": 3}}},
            "2 voices for training, and voice.learning.batch_size is 3",
        ),
        (everyone("happy", "sad"), {"face": SMALL["face"]}, "the data has no face: face: null"),
        (
            {
                name: row.replace("tester", "valider").replace("test", "valid")
                for name, row in everyone("happy", "sad").items()
            },
            {"people": {"protocol": "folds"}},
            "there are only 2 people, wanted: 3",
        ),
        (
            {**everyone("happy"), "a.wav": "sad,trainer,train"},
            {"people": {"protocol": "folds"}},
            "lacks it",
        ),
    ],
)
def test_what_is_missing(
    mine: Path,
    load: Load,
    monkeypatch: pytest.MonkeyPatch,
    rows: dict[str, str],
    keys: dict[str, Any],
    named: str,
) -> None:
    """It is named in one line, before anything is decoded where that can be known."""
    write_manifest(mine, rows)
    if "batch_size" not in named:
        monkeypatch.setattr("emotion_edge.training.data.voices.decode_audio", None)
    with pytest.raises(DatasetError) as error:
        load(**{**FOLDER, "face": None, **keys})
    assert named in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_actors_are_named(tmp_path: Path, load: Load) -> None:
    """Six actors leave no one to train on in the first fold."""
    for actor in range(1, 7):
        for code in ("03", "04"):
            write_noise(tmp_path / "RAVDESS" / f"03-01-{code}-01-01-01-{actor:02}.wav", actor)
    with pytest.raises(DatasetError) as error:
        load(**RAVDESS, face=None)
    assert "no voice for training" in str(error.value)
    assert "only ravdess:01, ravdess:02" in str(error.value)
    assert "it takes ravdess:08, ravdess:10" in str(error.value)


def test_nothing_can_be_decoded(mine: Path, load: Load) -> None:
    """The last file is named with the reason."""
    write_manifest(mine, everyone("happy", "sad"))
    for path in mine.glob("*.wav"):
        path.write_text(path.name)
    with pytest.raises(DatasetError, match=r"no voice can be decoded: .*\.wav: "):
        load(**FOLDER, face=None)


def test_files_that_leave_too_little(mine: Path, load: Load) -> None:
    """What is then missing is named, and why."""
    write_manifest(mine, everyone("happy", "sad"))
    (mine / "validsad.wav").write_bytes(b"broken")
    with pytest.raises(DatasetError, match=r"validation has the label sad.*validsad\.wav: "):
        load(**FOLDER, face=None)


def test_same_content_in_two_splits(mine: Path, tmp_path: Path, load: Load) -> None:
    """Of the same sound in two files or data sets one stays: that of the later split."""
    rows = everyone("happy", "sad")
    write_manifest(mine, {**rows, "again.wav": "happy,trainer,train"})
    sound = (mine / "testsad.wav").read_bytes()
    (mine / "again.wav").write_bytes(sound)  # another label
    other = tmp_path / "other"
    write_manifest(other, {"1.wav": "sad,dan,train"})
    (other / "1.wav").write_bytes(sound)
    data = [{"kind": "folder", "root": "other"}, *FOLDER["data"]]
    corpus = load(data=data, face=None)
    assert corpus.voices is not None
    assert len(corpus.voices.recordings) == 6
    assert "other:dan" not in corpus.voices.people
    assert sorted(line.partition(": ")[0] for line in corpus.skipped) == [
        str(mine / "again.wav"),
        str(other / "1.wav"),
    ]


def test_people_of_two_folders(mine: Path, tmp_path: Path, load: Load) -> None:
    """Equal names in two folders are two people, and one folder named twice has its people once."""
    write_manifest(mine, everyone("happy", "sad"))
    other = tmp_path / "more" / "mine"
    write_manifest(other, {"1.wav": "sad,trainer,valid", "2.wav": "sad,valider,train"})
    write_noise(other / "1.wav", 81)
    write_noise(other / "2.wav", 82)
    data = [{"kind": "folder", "root": root} for root in ("mine", "more/mine", "mine")]
    corpus = load(data=data, face=None)
    assert corpus.voices is not None
    split_of = dict(zip(corpus.voices.people, corpus.voices.splits, strict=True))
    assert split_of["more/mine:trainer"] == "valid"
    assert len(split_of) == 5
    assert len(corpus.voices.recordings) == 8
    with pytest.raises(DatasetError, match="mine as folder and as ravdess"):
        load(data=[*FOLDER["data"], {"kind": "ravdess", "root": "mine"}])


def test_folder_that_is_named_ravdess(tmp_path: Path, load: Load) -> None:
    """Its people are no actors, who have folds of their own."""
    rows = {
        f"{n}{label}.wav": f"{label},0{n},train" for n in range(3) for label in ("happy", "sad")
    }
    write_manifest(tmp_path / "ravdess", rows)
    data = [{"kind": "folder", "root": "ravdess"}]
    corpus = load(data=data, face=None, people={"protocol": "folds"})
    assert corpus.voices is not None
    assert set(corpus.voices.people) == {f"{tmp_path.name}/ravdess:0{n}" for n in range(3)}
    assert len(corpus.folds) == 3


def test_second_call_decodes_nothing(
    mine: Path, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything comes from the cache."""
    write_manifest(mine, everyone("happy", "sad"))
    first = load(**FOLDER, face=None).voices
    monkeypatch.setattr("emotion_edge.training.data.voices.decode_audio", None)
    second = load(**FOLDER, face=None).voices
    assert first is not None
    assert second is not None
    assert [clip.tobytes() for clip in first.audio_clips] == [
        clip.tobytes() for clip in second.audio_clips
    ]


def test_real_films(shared_data: Path, tmp_path: Path) -> None:
    """The films of one actor give faces and voices of the same recordings."""
    names = LabelNames()
    listing = list_ravdess([(shared_data / "ravdess" / "clips", names)], by_fold=False)
    assert {file.person for file in listing.faces} == {"ravdess:01"}
    sounds, _ = decode_files(listing.voices[:2], audio_recipe(MelSpec()), None)
    films, _ = decode_files(listing.faces[:2], video_recipe(open_detector()), None)
    assert [file.recording for file, _ in sounds] == [file.recording for file, _ in films]
    assert all(len(audio) > 16_000 for _, audio in sounds)
    assert all(crops.shape == (16, 112, 112) for _, crops in films)
