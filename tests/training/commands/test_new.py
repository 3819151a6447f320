"""`emotion-train new`: looks at data, says what is there, and writes a recipe that is accepted."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from emotion_edge.training.__main__ import main
from emotion_edge.training.data import list_corpus
from emotion_edge.training.data.action_units import UNITS
from emotion_edge.training.data.folder import SPLITS, choose_split
from emotion_edge.training.data.ravdess import TEST_FOLDS
from emotion_edge.training.recipe_file import Recipe, load_recipe

SEVEN = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
ACTORS = [actor for fold in TEST_FOLDS for actor in fold]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "my data"


@pytest.fixture
def draft(root: Path, tmp_path: Path) -> Callable[[], Recipe]:
    """A function () -> the recipe that the command writes for `root`."""

    def run() -> Recipe:
        assert main(["new", str(root), "--out", str(tmp_path / "recipe.yaml")]) == 0
        return load_recipe(tmp_path / "recipe.yaml")

    return run


def write(root: Path, names: Iterable[str]) -> None:
    """Write files that hold their names: nothing is decoded."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


def write_folder(root: Path, suffix: str, labels: Iterable[str] = ("joy", "Sadness")) -> None:
    """Write three people, one for each split, with each label in 8 files."""
    rows = [
        (f"{split}{label}{number}{suffix}", label, f"{split}er", split)
        for split in SPLITS
        for label in labels
        for number in range(8)
    ]
    write(root, [name for name, *_ in rows])
    lines = ["file,label,subject,split", *(",".join(row) for row in rows)]
    (root / "manifest.csv").write_text("\n".join(lines))


def write_ravdess(root: Path, suffixes: Iterable[str], actors: Iterable[int] = ACTORS) -> None:
    write(
        root,
        [
            f"Actor_{actor:02}/{modality}-01-{emotion:02}-01-01-01-{actor:02}{suffix}"
            for actor in actors
            for emotion in range(1, 9)
            for modality, suffix in (
                (("03", ".wav"), ("01", ".mp4"))[s == ".mp4"] for s in suffixes
            )
        ],
    )


@pytest.mark.parametrize(
    ("suffix", "networks"),
    [(".png", ("face",)), (".wav", ("voice",)), (".mp4", ("face", "voice", "fusion"))],
)
def test_folder_of_one_kind(
    root: Path,
    draft: Callable[[], Recipe],
    capsys: pytest.CaptureFixture[str],
    suffix: str,
    networks: tuple[str, ...],
) -> None:
    """Pictures train a face, sounds a voice, films both. Batches fit the few files."""
    write_folder(root, suffix)
    recipe = draft()
    assert [(section.kind, section.root) for section in recipe.data] == [("folder", str(root))]
    assert recipe.labels == ("sad", "joy")
    assert recipe.people.protocol == "split"
    sections = {name: getattr(recipe, name) for name in ("face", "voice", "fusion")}
    assert tuple(name for name, section in sections.items() if section is not None) == networks
    for name in networks[:2]:
        assert sections[name].learning.batch_size == 4
    out = capsys.readouterr().out
    for noun in networks[:2]:
        assert f"{noun}: 48 examples of 3 people: train 16, valid 16, test 16" in out
    assert "sad 24, joy 24" in out
    assert "not enough" not in out


def test_ravdess(root: Path, draft: Callable[[], Recipe]) -> None:
    """In folds; calm counts as neutral."""
    write_ravdess(root, [".wav", ".mp4"])
    recipe = draft()
    assert [section.kind for section in recipe.data] == ["ravdess"]
    assert (recipe.labels, recipe.people.protocol) == (SEVEN, "folds")
    listing = list_corpus(recipe)
    assert len(listing.faces) == len(listing.voices) == 160


def test_ferplus(write_ferplus: Callable[..., Path], root: Path, tmp_path: Path) -> None:
    """Archives with votes, whose contempt has no label."""
    votes = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
    write_ferplus({f"{n}.png": {votes[n % 7]: 9, "contempt": 1} for n in range(280)})
    assert main(["new", str(tmp_path), "--out", str(tmp_path / "recipe.yaml")]) == 0
    recipe = load_recipe(tmp_path / "recipe.yaml")
    assert [(section.kind, section.root) for section in recipe.data] == [("ferplus", str(tmp_path))]
    assert (recipe.labels, recipe.voice, recipe.fusion) == (SEVEN, None, None)
    assert recipe.data[0].map == {}


def test_several_in_subfolders(
    root: Path, draft: Callable[[], Recipe], capsys: pytest.CaptureFixture[str]
) -> None:
    """RAVDESS, its action units, a folder with a manifest, noise, and what belongs to none. What
    not every network can train and validate on is left out."""
    write_ravdess(root / "a" / "sounds", [".wav"])
    write_ravdess(root / "a" / "films", [".mp4"])
    write_folder(root / "mine", ".png", ["happy", "sad", "bored"])
    write(root, ["noise/1-100-A-0.wav", "noise/deep/2-100-A-3.ogg", "holiday.jpg"])
    (root / "units.csv").write_text(f"clip, {', '.join(UNITS)}\n")
    recipe = draft()
    assert [(section.kind, Path(section.root)) for section in recipe.data] == [
        ("folder", root / "mine"),
        ("ravdess", root / "a"),
        ("action_units", root / "units.csv"),
    ]
    assert recipe.data[0].map == {"bored": ""}
    assert Path(recipe.noise) == root / "noise"
    assert (recipe.labels, recipe.people.protocol) == (SEVEN, "split")
    out = capsys.readouterr().out
    assert "left out: bored" in out
    assert "1 pictures" in out


def test_paths_in_the_file(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative to the file where they are below it, so that both can be moved, else absolute."""
    write_folder(root, ".wav")
    monkeypatch.chdir(tmp_path)
    assert main(["new", root.name]) == 0
    assert "root: my data" in (tmp_path / "recipe.yaml").read_text()
    (tmp_path / "elsewhere").mkdir()
    assert main(["new", root.name, "--out", "elsewhere/a.yaml"]) == 0
    assert f"root: {root}" in (tmp_path / "elsewhere" / "a.yaml").read_text()


def test_nothing_is_overwritten(root: Path, tmp_path: Path) -> None:
    write_folder(root, ".wav")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("mine")
    assert main(["new", str(root), "--out", str(recipe)]) == 2
    assert recipe.read_text() == "mine"


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ([], "found no picture"),
        (["a.jpg", "deep/b.png", "c.wav", ".hidden/d.png"], "found 2 pictures and 1 sounds"),
        (["icml_face_data.csv"], "fer2013new.csv"),
    ],
)
def test_no_data_set(
    root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    files: list[str],
    named: str,
) -> None:
    """One line says what is wanted and what is there."""
    root.mkdir()
    write(root, files)
    assert main(["new", str(root), "--out", str(tmp_path / "recipe.yaml")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{root}: ")
    assert named in line
    assert not (tmp_path / "recipe.yaml").exists()


def test_too_little_data(
    root: Path, draft: Callable[[], Recipe], capsys: pytest.CaptureFixture[str]
) -> None:
    """A recipe is written, and what is missing is named."""
    write_ravdess(root, [".wav"], actors=range(1, 7))
    assert draft().labels == SEVEN
    assert "not enough to train on yet: no voice for training" in capsys.readouterr().out


def test_people_without_splits(root: Path, draft: Callable[[], Recipe]) -> None:
    """Three people whose hashes put nobody in valid are divided into folds."""
    people = [person for person in string.ascii_lowercase if choose_split(person) == "train"][:3]
    names = [f"{person}{label}.wav" for person in people for label in ("happy", "sad")]
    write(root, names)
    lines = ["file,label,subject", *(f"{name},{name[1:-4]},{name[0]}" for name in names)]
    (root / "manifest.csv").write_text("\n".join(lines))
    recipe = draft()
    assert (recipe.labels, recipe.people.protocol) == (("happy", "sad"), "folds")
