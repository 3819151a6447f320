"""A bundle is scored on a data set: what counts, what is left out, what is repeated corrupted."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from emotion_edge.engines.bundles import LABELS
from emotion_edge.engines.bundles.manifest import Bundle, load_bundle, write_manifest
from emotion_edge.training.errors import DatasetError
from emotion_edge.training.evaluation.evaluate import RobustnessOptions, evaluate_bundle
from emotion_edge.training.export import describe_people

CODES = ("01", "03", "05")


@pytest.fixture
def bundle(null_bundle: Path) -> Bundle:
    return load_bundle(null_bundle)


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Three recordings of each of three actors: noise that comes and goes, a second each."""
    root = tmp_path / "recordings"
    root.mkdir()
    rng = np.random.default_rng(0)
    for actor in (2, 3, 10):
        for code in CODES:
            swell = np.clip(np.sin(np.arange(16_000) / 800), 0.01, None)
            pcm = (3_000 * swell * rng.standard_normal(16_000)).astype(np.int16)[None]
            path = root / f"03-01-{code}-01-01-01-{actor:02}.wav"
            with av.open(str(path), "w") as container:
                stream = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
                frame = av.AudioFrame.from_ndarray(pcm, format="s16", layout="mono")
                frame.sample_rate = 16_000
                container.mux(stream.encode(frame))
                container.mux(stream.encode(None))
    return root


def evaluate(bundle: Bundle, root: Path, **more: Any) -> dict[str, Any]:
    return evaluate_bundle(bundle, "ravdess", root, engine="null", **more)


def test_metrics_and_their_protocol(bundle: Bundle, recordings: Path) -> None:
    """Every promised key, people by number, and the scope."""
    metrics = evaluate(bundle, recordings, level="low")
    assert metrics["n"] == 9
    assert np.array(metrics["confusion"]).sum() == 9
    assert metrics["labels"] == list(LABELS)
    assert list(metrics["subjects"]) == ["2", "3", "10"]
    assert set(metrics["groups"]) == {"sex", "intensity", "statement", "acted emotion"}
    wanted = {"dataset": "ravdess", "modality": "voice", "actors": "all", "level": "low"}
    assert wanted.items() <= metrics.items()
    assert metrics["engines"] == {"voice": "null"}
    assert metrics["precisions"] == {"voice": "fp32"}
    assert metrics["bundle"] == bundle.sha256
    assert metrics["ci95_by"] == "subject"
    assert "calm" in metrics["protocol"]
    assert "robustness" not in metrics


def test_other_labels(write_bundle: Callable[..., Bundle], recordings: Path) -> None:
    """The figures are of the bundle's labels."""
    bundle = write_bundle(labels=("angry", "calm", "happy"))
    metrics = evaluate(bundle, recordings)
    assert metrics["labels"] == ["angry", "calm", "happy"]
    assert np.array(metrics["confusion"]).shape == (3, 3)
    assert (metrics["n"], metrics["skipped"]) == (6, 3)


def test_files_that_cannot_be_read_are_named_and_counted(
    bundle: Bundle, recordings: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No audio file, an empty one, too short a one: the others are scored."""
    (recordings / "03-01-01-01-01-01-02.wav").write_bytes(b"no audio")
    (recordings / "03-01-03-01-01-01-02.wav").write_bytes(b"")
    cut = recordings / "03-01-05-01-01-01-02.wav"
    cut.write_bytes(cut.read_bytes()[:244])  # 100 samples
    with caplog.at_level(logging.WARNING):
        metrics = evaluate(bundle, recordings)
    assert (metrics["n"], metrics["skipped"]) == (6, 3)
    for code in CODES:
        assert f"{recordings}/03-01-{code}-01-01-01-02.wav" in caplog.text


def test_absent_labels_are_logged_once(
    bundle: Bundle, recordings: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        evaluate(bundle, recordings)
    (line,) = [record.getMessage() for record in caplog.records if "disgust" in record.getMessage()]
    assert "disgust, fear, sad, surprise" in line
    assert "happy" not in line


def test_nothing_readable_is_an_error(bundle: Bundle, recordings: Path) -> None:
    for path in recordings.iterdir():
        path.write_bytes(b"")
    with pytest.raises(DatasetError, match=r"recordings: .*\b9\b"):
        evaluate(bundle, recordings)


def test_unknown_level_is_an_error(bundle: Bundle, recordings: Path) -> None:
    with pytest.raises(DatasetError, match=r"'huge'.* high, low"):
        evaluate(bundle, recordings, level="huge")


PEOPLE = {
    "voice": {"training": ["ravdess:03", "ravdess:11"], "validation": ["ravdess:10"]},
    "face": {"training": ["ravdess:02"]},
}


def retell(folder: Path, bundle: Bundle, provenance: dict[str, Any]) -> Bundle:
    """Write the bundle with another provenance."""
    fields = {name: getattr(bundle.manifest, name) for name in bundle.manifest.__struct_fields__}
    del fields["format"], fields["files"]
    folder.mkdir()
    for name in ("face", "voice"):
        (folder / f"{name}.onnx").write_bytes(b"no network")
    return write_manifest(folder, {**fields, "provenance": provenance})


@pytest.mark.parametrize(
    ("provenance", "named"),
    [
        ({"voice": {"actors": [3, 10, 11]}, "face": "somewhere"}, ["2 of the 3", "(3, 10)"]),
        (describe_people(PEOPLE), ["1 of the 3", "(3)", "1 of the 3", "(10)"]),
        (describe_people(PEOPLE, "salt"), ["1 of the 3", "(3)", "1 of the 3", "(10)"]),
    ],
    ids=["old bundle", "people", "hashed people"],
)
def test_known_people_are_reported(
    provenance: dict[str, Any],
    named: list[str],
    tmp_path: Path,
    bundle: Bundle,
    recordings: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A score on people whom the bundle was trained or validated on has a warning for each."""
    trained = retell(tmp_path / "trained", bundle, provenance)
    notes = evaluate(trained, recordings)["notes"]
    assert len(notes) == len(named) // 2
    text = " ".join(notes)
    for words in named:
        assert words in text
        text = text.split(words, 1)[1]
    assert all(note in caplog.text for note in notes)
    assert evaluate(trained, recordings, actors=[2])["notes"] == []
    assert evaluate(bundle, recordings)["notes"] == []


def test_known_subjects_of_a_folder(tmp_path: Path, bundle: Bundle, recordings: Path) -> None:
    """Those of a folder with a manifest as well."""
    lines = [f"{path.name},happy,{path.stem[-2:]}" for path in sorted(recordings.glob("*.wav"))]
    rows = [f"{line},valid" for line in lines]
    (recordings / "manifest.csv").write_text("\n".join(["file,label,subject,split", *rows]))
    people = {"voice": {"training": ["recordings:02", "other:03"]}}
    trained = retell(tmp_path / "trained", bundle, describe_people(people))
    (note,) = evaluate_bundle(trained, "folder", recordings, engine="null")["notes"]
    assert "1 of the 3" in note
    assert "(02)" in note


@pytest.mark.parametrize(
    ("provenance", "num_notes"),
    [
        ({"data_sets": [{"name": "FER+", "networks": ["face"]}]}, 1),
        ({"data_sets": [{"name": "mine", "networks": ["face"]}]}, 0),
        ({"data_sets": "unusual"}, 0),
        ({}, 0),
    ],
)
def test_training_images_are_reported(
    provenance: dict[str, Any],
    num_notes: int,
    tmp_path: Path,
    bundle: Bundle,
    write_ferplus: Callable[..., Path],
) -> None:
    """FER+ train, scored with a bundle that was trained on it."""
    root = write_ferplus({f"{i}.png": {"happiness": 10} for i in range(3)})
    trained = retell(tmp_path / "trained", bundle, provenance)
    figures = evaluate_bundle(trained, "ferplus", root, "train", engine="null")
    assert len(figures["notes"]) == num_notes


def test_robustness_repeats_the_evaluation(bundle: Bundle, recordings: Path) -> None:
    """The clean row is the evaluation itself; corruptions change the probabilities."""
    metrics = evaluate(bundle, recordings, robustness=RobustnessOptions())
    clean, *rows = metrics["robustness"]
    assert clean["condition"] == "clean"
    assert all(clean[name] == metrics[name] for name in ("accuracy", "uar", "ece", "n"))
    assert len(rows) == 15
    assert all(set(row) == set(clean) and row["n"] == 9 for row in rows)
    assert any(row["ece"] != clean["ece"] for row in rows)
    assert [row["noise"] for row in metrics["noise_only"]] == ["white noise", "pink noise"]


def test_robustness_is_seeded_by_name(tmp_path: Path, bundle: Bundle, recordings: Path) -> None:
    """The same seed gives the same rows, in any folder and with other people beside."""
    first = evaluate(bundle, recordings, actors=[2], robustness=RobustnessOptions())
    other = evaluate(bundle, recordings, actors=[2], robustness=RobustnessOptions(seed=1))
    moved = recordings.rename(tmp_path / "elsewhere")
    for path in moved.glob("*-03.wav"):
        path.unlink()
    again = evaluate(bundle, moved, actors=[2, 3], robustness=RobustnessOptions())
    assert again["robustness"] == first["robustness"]
    assert again["noise_only"] == first["noise_only"]
    assert other["robustness"] != first["robustness"]


def test_faces_are_corrupted_too(write_ferplus: Callable[..., Path], bundle: Bundle) -> None:
    """More faces than a batch; without audio there is no noise."""
    votes = {f"{i}.png": {("happiness", "sadness")[i % 2]: 10} for i in range(70)}
    root = write_ferplus(votes)
    metrics = evaluate_bundle(
        bundle, "ferplus", root, "train", engine="null", robustness=RobustnessOptions()
    )
    assert metrics["n"] == 70
    assert metrics["subjects"] == {}
    assert metrics["split"] == "train"
    names = {row["condition"] for row in metrics["robustness"]}
    assert names == {"clean", "low light", "blur", "JPEG", "occlusion"}
    assert {row["n"] for row in metrics["robustness"]} == {70}
    assert "noise_only" not in metrics


def test_missing_modality_costs_examples(
    bundle: Bundle,
    recordings: Path,
    write_video: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without faces in the videos, nothing is left when the voice is missing: that row is absent,
    the others have their n."""

    class Blind:
        def detect(self, image: object, pixel_format: str) -> list[object]:
            return []

    monkeypatch.setattr(
        "emotion_edge.training.evaluation.ravdess_examples.open_detector", lambda *_: Blind()
    )
    for path in list(recordings.iterdir()):
        write_video(recordings / f"02{path.stem[2:]}.mp4", 1.0, 0)
    metrics = evaluate(bundle, recordings, robustness=RobustnessOptions())
    assert metrics["modality"] == "fusion"
    rows = {row["condition"]: row["n"] for row in metrics["robustness"]}
    assert rows["face missing"] == 9
    assert "voice missing" not in rows
    voice = evaluate(bundle, recordings, modality="voice")
    assert metrics["confusion"] == voice["confusion"], "without faces, fusion is the voice"
