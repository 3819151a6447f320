"""`emotion-calibrate` from the data sets to the accuracy gate, and its one-line errors."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from emotion_edge.calibration.__main__ import main
from emotion_edge.calibration.samples import Samples, load_samples, save_samples
from emotion_edge.calibration.variants import QuantizedNetwork, write_variants
from emotion_edge.engines.bundles.manifest import Bundle, load_bundle
from emotion_edge.training.stored_network import (
    NetworkDescription,
    build_network,
    save_network,
)

from ..conftest import build_network as build_toy_network
from ..conftest import write_toy_bundle

COMMANDS = ("samples", "quantize", "sensitivity", "compare", "folds")
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory,
    ferplus_root: Path,
    ravdess_root: Path,
    shared_bundle: Bundle,
) -> Path:
    """A folder with lists, samples.npz, tables and the bundle "int8", made by the commands."""
    root = tmp_path_factory.mktemp("commands")
    samples = ["samples", str(ferplus_root), str(ravdess_root), str(root / "samples.npz")]
    samples += ["--bundle", str(shared_bundle.path), "--lists", str(root / "lists")]
    assert main([*samples, "--choose", "3"]) == 0
    quantize = ["quantize", "--bundle", str(shared_bundle.path), "--out", str(root / "int8")]
    quantize += ["--samples", str(root / "samples.npz"), "--method", "minmax"]
    assert main([*quantize, "--min-agreement", "0.8", "--tables", str(root / "tables")]) == 0
    return root


def refuse(capsys: Capture, *command: str, code: int = 2) -> str:
    """Run a failing command and return its one line on standard error."""
    capsys.readouterr()
    assert main(command) == code
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


def test_lists_that_ship_are_not_overwritten(tmp_path: Path, capsys: Capture) -> None:
    """New lists are chosen only for a folder of one's own."""
    line = refuse(capsys, "samples", "ferplus", "ravdess", str(tmp_path / "s"), "--choose", "1")
    assert "--lists" in line


@pytest.mark.parametrize("command", [*COMMANDS, ""])
def test_help(command: str, capsys: Capture) -> None:
    """The program's help names all commands."""
    with pytest.raises(SystemExit) as exit_info:
        main([command, "--help"] if command else ["--help"])
    assert exit_info.value.code == 0
    output = capsys.readouterr().out
    assert output.startswith(f"usage: emotion-calibrate {command}".rstrip())
    assert all(name in output for name in COMMANDS if not command)


@pytest.mark.parametrize(
    "command",
    [
        "",
        "guess",
        "quantize --bundle b",
        "quantize --bundle b --samples s --out o --method guess",
        "quantize --bundle b --samples s --out o --min-agreement 1.5",
        "quantize --bundle b --samples s --out o --min-agreement nan",
        "compare --bundle b --ferplus f --split train",
        "compare --bundle b --ferplus f --max-drop much",
        "sensitivity --bundle b --samples s --network fusion",
    ],
)
def test_usage_error(command: str) -> None:
    """Nothing is opened. FER+ train is not for evaluation."""
    with pytest.raises(SystemExit) as exit_info:
        main(command.split())
    assert exit_info.value.code == 2


def test_samples(place: Path) -> None:
    """The samples are those of the lists; the lists are those of the data."""
    samples = load_samples(place / "samples.npz")
    assert len(samples["face"].ids) == 70 + 6
    assert samples["face"].inputs["image"].shape == (76, 3, 48, 48)
    assert len(samples["voice"].ids) == 20 * 4 + 48
    lists = [(place / "lists" / f"{name}.txt").read_text().split() for name in ("face", "voice")]
    assert [tuple(words[::2]) for words in lists] == [each.ids for each in samples.values()]


def test_samples_again(
    place: Path, ferplus_root: Path, ravdess_root: Path, shared_bundle: Bundle, tmp_path: Path
) -> None:
    """The same lists and data give the same bytes; the lists are unchanged."""
    before = (place / "lists" / "face.txt").read_bytes()
    command = ["samples", str(ferplus_root), str(ravdess_root), str(tmp_path / "again.npz")]
    command += ["--bundle", str(shared_bundle.path), "--lists", str(place / "lists")]
    assert main(command) == 0
    assert (tmp_path / "again.npz").read_bytes() == (place / "samples.npz").read_bytes()
    assert (place / "lists" / "face.txt").read_bytes() == before


def test_samples_of_other_data(
    ferplus_root: Path, ravdess_root: Path, shared_bundle: Bundle, tmp_path: Path, capsys: Capture
) -> None:
    """The data lacks the faces of the committed lists."""
    command = ["samples", str(ferplus_root), str(ravdess_root), str(tmp_path / "s.npz")]
    line = refuse(capsys, *command, "--bundle", str(shared_bundle.path))
    assert "FER+ train" in line
    assert not (tmp_path / "s.npz").exists()


@pytest.mark.parametrize("missing", ["ferplus", "ravdess", "noise", "lists", "bundle"])
def test_samples_of_missing_files(
    place: Path,
    ferplus_root: Path,
    ravdess_root: Path,
    shared_bundle: Bundle,
    tmp_path: Path,
    capsys: Capture,
    missing: str,
) -> None:
    """The missing file, level or option is named."""
    none = tmp_path / "none"
    roots = [none if missing == "ferplus" else ferplus_root]
    roots += [none if missing == "ravdess" else ravdess_root]
    bundle = none if missing == "bundle" else shared_bundle.path
    lists = none if missing == "lists" else place / "lists"
    command = ["samples", *map(str, roots), str(tmp_path / "s.npz"), "--bundle", str(bundle)]
    command += ["--lists", str(lists)] + (["--noise", str(none)] if missing == "noise" else [])
    assert str(none) in refuse(capsys, *command)
    assert list(tmp_path.iterdir()) == []


def test_quantize(place: Path) -> None:
    """INT8 variants of both networks with provenance and metrics, and a table for each."""
    bundle = load_bundle(place / "int8")
    samples = load_samples(place / "samples.npz")
    for name in ("face", "voice"):
        assert "int8" in bundle.manifest.models[name].variants
        origin = bundle.manifest.provenance["int8"][name]
        assert samples[name].sha256 in origin
        assert f"{len(samples[name].ids)} samples" in origin
        assert "ranges by minmax" in origin
        assert bundle.manifest.metrics["int8"][name]["spared_layers"] == []
        assert bundle.manifest.metrics["int8"][name]["agreement_on_samples"] >= 0.8
    assert sorted(path.name for path in (place / "tables").iterdir()) == ["face.json", "voice.json"]


def test_quantize_again(
    place: Path, shared_bundle: Bundle, tmp_path: Path, capsys: Capture
) -> None:
    """With the tables the same bundle; sizes and hash are printed."""
    command = ["quantize", "--bundle", str(shared_bundle.path), "--out", str(tmp_path / "int8")]
    command += ["--samples", str(place / "samples.npz"), "--method", "minmax"]
    command += ["--min-agreement", "0.8", "--tables", str(place / "tables")]
    assert main(command) == 0
    written = load_bundle(tmp_path / "int8")
    assert written.manifest.files == load_bundle(place / "int8").manifest.files
    output = capsys.readouterr().out
    for name in ("face", "voice"):
        sizes = [written.model_path(name, it).stat().st_size for it in ("fp32", "int8")]
        assert f"{name}: {sizes[0]} -> {sizes[1]} bytes, ranges by minmax" in output
    assert written.sha256[:16] in output


@pytest.mark.parametrize("missing", ["samples", "bundle"])
def test_quantize_missing_files(
    place: Path, shared_bundle: Bundle, tmp_path: Path, capsys: Capture, missing: str
) -> None:
    """The missing file or folder is named; no bundle is written."""
    none = str(tmp_path / "none")
    bundle = none if missing == "bundle" else str(shared_bundle.path)
    samples = none if missing == "samples" else str(place / "samples.npz")
    command = ["quantize", "--bundle", bundle, "--samples", samples, "--out", str(tmp_path / "o")]
    assert none in refuse(capsys, *command)
    assert list(tmp_path.iterdir()) == []


def test_quantize_refuses_before_work(
    place: Path, shared_bundle: Bundle, tmp_path: Path, capsys: Capture
) -> None:
    """A folder that holds other files is not replaced, and nothing is calibrated."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    command = ["quantize", "--bundle", str(shared_bundle.path), "--out", str(tmp_path / "mine")]
    command += ["--samples", str(place / "samples.npz"), "--tables", str(tmp_path / "tables")]
    assert str(tmp_path / "mine") in refuse(capsys, *command)
    assert {path.name for path in tmp_path.rglob("*")} == {"mine", "thesis.txt"}


@pytest.mark.parametrize("broken", ["table", "samples"])
def test_quantize_names_a_broken_file(
    place: Path,
    shared_bundle: Bundle,
    make_samples: Callable[..., Samples],
    tmp_path: Path,
    capsys: Capture,
    broken: str,
) -> None:
    """A corrupted table; samples of another shape, with the shape. No bundle is written."""
    samples = place / "samples.npz"
    (tmp_path / "tables").mkdir()
    if broken == "table":
        (tmp_path / "tables" / "face.json").write_text("no table")
    else:
        face = make_samples("face")
        face = Samples(face.ids, {"image": face.inputs["image"][:, 0]})
        samples = tmp_path / "flat.npz"
        save_samples(samples, {"face": face, "voice": make_samples("voice")})
    command = ["quantize", "--bundle", str(shared_bundle.path), "--samples", str(samples)]
    command += ["--out", str(tmp_path / "out"), "--method", "minmax"]
    line = refuse(capsys, *command, "--tables", str(tmp_path / "tables"))
    assert ("face.json" if broken == "table" else "image [32, 16, 16]") in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("method", ["minmax", "answer"])
def test_sensitivity(
    place: Path,
    write_bundle: Callable[..., Bundle],
    make_network: Callable[..., bytes],
    capsys: Capture,
    method: str,
) -> None:
    """The layer that INT8 ruins is first; --top limits the number of lines."""
    bundle = write_bundle(face=make_network("face", "always"))
    command = ["sensitivity", "--bundle", str(bundle.path), "--method", method]
    command += ["--samples", str(place / "samples.npz"), "--top", "3"]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0].endswith("  mix")
    assert all(float(line.split()[0]) >= 0 for line in lines)
    assert "voice" in refuse(capsys, *command, "--network", "voice")


def test_compare(
    place: Path, ferplus_root: Path, ravdess_root: Path, tmp_path: Path, capsys: Capture
) -> None:
    """A row for each network and precision, on standard output and in a file."""
    out = tmp_path / "report.json"
    command = ["compare", "--bundle", str(place / "int8"), "--ferplus", str(ferplus_root)]
    command += ["--ravdess", str(ravdess_root), "--actors", "2,5", "--json", str(out)]
    easy = ["--min-agreement", "0.5", "--max-drop", "0.5", "--max-ece-rise", "0.5"]
    assert main([*command, *easy]) == 0
    report = json.loads(out.read_text())
    bundle = load_bundle(place / "int8")
    assert report["bundle"] == bundle.sha256
    assert report["refused"] == []
    assert [(row["network"], row["precision"], row["n"]) for row in report["rows"]] == [
        (name, precision, num)
        for name, num in (("face", 21), ("voice", 8))
        for precision in ("fp32", "fp16", "int8")
    ]
    assert [row["agreement"] for row in report["rows"][::3]] == [1.0, 1.0]
    assert report["bytes"]["int8"] == sum(
        bundle.model_path(name, "int8").stat().st_size for name in ("face", "voice")
    )
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 6 + 1
    assert lines[-1] == ", ".join(f"{k} networks {v} bytes" for k, v in report["bytes"].items())


def test_other_labels(place: Path, ferplus_root: Path, tmp_path: Path, capsys: Capture) -> None:
    """A bundle of three labels is quantized, and compared on the faces that have one of them."""
    labels = ("sad", "bored", "happiness")
    face = build_toy_network("face", num_labels=len(labels))
    plain = write_toy_bundle(tmp_path / "plain", {"face": face}, labels).path
    out, report = tmp_path / "int8", tmp_path / "report.json"
    quantize = ["quantize", "--bundle", str(plain), "--out", str(out), "--method", "minmax"]
    samples = str(place / "samples.npz")
    assert main([*quantize, "--samples", samples, "--min-agreement", "0.5"]) == 0
    assert len(load_bundle(out).manifest.models["face"].variants["int8"].golden_logits) == 3
    compare = ["compare", "--bundle", str(out), "--ferplus", str(ferplus_root)]
    easy = ["--min-agreement", "0", "--max-drop", "1", "--max-ece-rise", "1"]
    assert main([*compare, *easy, "--json", str(report)]) == 0
    assert {row["n"] for row in json.loads(report.read_text())["rows"]} == {6}


def test_compare_records(
    place: Path, ferplus_root: Path, ravdess_root: Path, tmp_path: Path
) -> None:
    """--record writes the metrics and their data sets into the bundle."""
    bundle = shutil.copytree(place / "int8", tmp_path / "int8")
    command = ["compare", "--bundle", str(bundle), "--record", "--actors", "2,5"]
    assert main([*command, "--ferplus", str(ferplus_root), "--ravdess", str(ravdess_root)]) in (
        0,
        1,
    )
    precisions = load_bundle(bundle).manifest.metrics["precisions"]
    assert set(precisions["voice"]) == {"fp32", "fp16", "int8"}
    assert "FER+ valid" in precisions["protocol"]
    assert "RAVDESS" in precisions["protocol"]


def test_compare_refuses(place: Path, ferplus_root: Path, tmp_path: Path, capsys: Capture) -> None:
    """Exit code 1 and the violated limit; the file is written all the same."""
    out = tmp_path / "report.json"
    command = ["compare", "--bundle", str(place / "int8"), "--ferplus", str(ferplus_root)]
    command += ["--min-agreement", "0.5", "--max-drop", "0.5", "--max-ece-rise", "0.5"]
    line = refuse(capsys, *command, "--max-bytes", "1000", "--json", str(out), code=1)
    assert line.startswith("refused: int8: ")
    assert "1000" in line
    assert json.loads(out.read_text())["refused"] == [line.removeprefix("refused: ")]


def test_compare_finds_a_ruined_network(
    ferplus_root: Path,
    place: Path,
    write_bundle: Callable[..., Bundle],
    make_network: Callable[..., bytes],
    tmp_path: Path,
    capsys: Capture,
) -> None:
    """A network that INT8 ruins fails; with the sensitive layer in FP16 it passes."""
    bundle = write_bundle(face=make_network("face", "always"))
    samples = ["--samples", str(place / "samples.npz"), "--method", "minmax"]
    command = ["compare", "--ferplus", str(ferplus_root), "--max-ece-rise", "1", "--max-drop", "1"]
    for limit, code in (("0", 1), ("0.98", 0)):
        out = str(tmp_path / limit)
        quantize = ["quantize", "--bundle", str(bundle.path), "--out", out, *samples]
        assert main([*quantize, "--min-agreement", limit]) == 0
        assert main([*command, "--min-agreement", "0.9", "--bundle", out]) == code
    assert "face int8: agreement" in capsys.readouterr().err


def test_compare_a_bundle_without_int8(
    shared_bundle: Bundle, ferplus_root: Path, capsys: Capture
) -> None:
    """The bundle and the precision are named."""
    command = ["compare", "--bundle", str(shared_bundle.path), "--ferplus", str(ferplus_root)]
    line = refuse(capsys, *command)
    assert str(shared_bundle.path) in line
    assert "int8" in line


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "--ferplus"),
        (["--ferplus", "none"], "none"),
        (["--ravdess", "none"], "none"),
        (["--ferplus", "FERPLUS", "--split", "test"], "test.csv"),
        (["--ferplus", "FERPLUS", "--level", "huge"], "huge"),
        (["--ravdess", "RAVDESS", "--actors", "1"], "[1]"),
        (["--ferplus", "FERPLUS", "--json", "none/report.json"], "none/report.json"),
        (["--bundle", "none", "--ferplus", "FERPLUS"], "none"),
    ],
)
def test_compare_missing_files(
    place: Path,
    ferplus_root: Path,
    ravdess_root: Path,
    tmp_path: Path,
    capsys: Capture,
    arguments: list[str],
    named: str,
) -> None:
    """The missing file, level or option is named."""
    known = {"FERPLUS": str(ferplus_root), "RAVDESS": str(ravdess_root)}
    given = [str(tmp_path / it) if it.startswith("none") else known.get(it, it) for it in arguments]
    assert named in refuse(capsys, "compare", "--bundle", str(place / "int8"), *given)


def test_compare_without_the_network(
    write_bundle: Callable[..., Bundle],
    make_network: Callable[..., bytes],
    ravdess_root: Path,
    capsys: Capture,
) -> None:
    """A bundle without a voice network is not evaluated on voices."""
    data = make_network("face")
    bundle = write_bundle(face=data)
    networks = {"face": QuantizedNetwork(data, "toy", {})}
    folder = str(write_variants(bundle, bundle.path.with_name("int8"), networks).path)
    assert "voice" in refuse(capsys, "compare", "--bundle", folder, "--ravdess", str(ravdess_root))


def test_folds(
    place: Path,
    shared_bundle: Bundle,
    ravdess_root: Path,
    tmp_path: Path,
    capsys: Capture,
) -> None:
    """The rows of a fold and of all folds; one line where networks or samples are missing."""
    work = tmp_path / "work"
    command = ["folds", str(ravdess_root), str(work), "--bundle", str(shared_bundle.path)]
    command += ["--method", "minmax", "--min-agreement", "0", "--samples"]
    assert str(work) in refuse(capsys, *command, str(place / "samples.npz"))
    description = NetworkDescription(
        "voice",
        tuple(shared_bundle.manifest.labels),
        settings={"num_members": 1, "channels": (4, 4, 8), "lstm_size": 8},
        mel=shared_bundle.manifest.mel,
    )
    save_network(work / "voice.pt", build_network(description), description)
    row = {"fold": 1, "seed": 0, "weights": "voice.pt", "temperature": 1.0}
    (work / "folds.json").write_text(json.dumps({"voice": [row]}))
    assert main([*command, str(place / "samples.npz")]) in (0, 1)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines[1:]] == [
        f"{name} {precision}"
        for name in ("voice-fold1", "all folds")
        for precision in ("fp32", "int8")
    ]
    assert "none.npz" in refuse(capsys, *command, str(tmp_path / "none.npz"))
