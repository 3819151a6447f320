"""The corpus of a recipe: examples with people, splits and recordings, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from emotion_edge.runtime.capture.demo import draw_face
from emotion_edge.training.data import Corpus, FeatureCache, load_corpus
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
    with pytest.raises(DatasetError, match=r"line 5: label is 'calm', allowed: happy, sad"):
        load(data=[section])
    section["map"]["calm"] = "sad"
    corpus = load(data=[section])
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
    coarse = load(data=[section], voice={**SMALL["voice"], "fine_labels": False}).voices
    assert coarse is not None
    assert (coarse.fine_names, coarse.groups) == (("happy", "sad"), (0, 1))
    np.testing.assert_array_equal(coarse.fine_labels, coarse.labels)
