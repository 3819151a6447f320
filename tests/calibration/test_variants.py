"""A bundle with 8 bits beside 32: whole and proven, or the old one as it was."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from emotion_edge.calibration import variants
from emotion_edge.calibration.accuracy_gate import Row
from emotion_edge.calibration.errors import CalibrationError
from emotion_edge.calibration.recipe import CalibrationOptions, calibrate
from emotion_edge.calibration.samples import Samples
from emotion_edge.calibration.variants import QuantizedNetwork, record_precisions, write_variants
from emotion_edge.engines import open_engine
from emotion_edge.engines.base import EngineError
from emotion_edge.engines.bundles.manifest import Bundle, BundleError, load_bundle
from emotion_edge.engines.golden import check_golden_output, golden_input
from emotion_edge.training.export.onnx import ExportError

MakeSamples = Callable[..., Samples]
Quantise = Callable[..., dict[str, QuantizedNetwork]]


@pytest.fixture
def quantize_bundle(bundle: Bundle, make_samples: MakeSamples) -> Quantise:
    """A function (networks' names) -> them at 8 bits."""

    def run(*names: str) -> dict[str, QuantizedNetwork]:
        made = {}
        for name in names or ("face", "voice"):
            data = bundle.model_path(name).read_bytes()
            quantized, _ = calibrate(
                data, name, make_samples(name), 1.5, CalibrationOptions("minmax", 0.5)
            )
            made[name] = QuantizedNetwork(quantized, "ranges by minmax", {"agreement": 0.97})
        return made

    return run


def list_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_both_precisions(bundle: Bundle, quantize_bundle: Quantise, tmp_path: Path) -> None:
    """All networks at 32 bits as they were, and beside each the one at 8."""
    made = quantize_bundle()
    written = write_variants(bundle, tmp_path / "int8", made)
    assert written.path == tmp_path / "int8"
    assert load_bundle(tmp_path / "int8").sha256 == written.sha256
    for name in ("face", "voice"):
        assert written.model_path(name).read_bytes() == bundle.model_path(name).read_bytes()
        assert written.model_path(name, "int8").read_bytes() == made[name].data
        assert written.model_path(name, "int8").name == f"{name}_int8.onnx"
        before, after = (one.manifest.models[name] for one in (bundle, written))
        assert after.temperature == before.temperature
        assert after.golden_logits == before.golden_logits
        assert after.variants["int8"].golden_logits != after.golden_logits
    assert bundle.manifest.models["face"].variants == {}, "the given bundle is left alone"
    assert not (bundle.path / "face_int8.onnx").exists()


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("network", ["face", "voice"])
def test_golden_outputs_are_checked(
    bundle: Bundle, quantize_bundle: Quantise, tmp_path: Path, network: str, precision: str
) -> None:
    """The device's proof at start-up passes at each precision, each by its own answers."""
    written = write_variants(bundle, tmp_path / "int8", quantize_bundle())
    with open_engine("onnx", written, network, 1, precision) as engine:
        assert engine.precision == precision
        check_golden_output(engine, written, network)
        logits = engine.infer(golden_input(written.manifest, network))["logits"][0]
    golden = written.manifest.models[network].at(precision).golden_logits
    np.testing.assert_allclose(logits, golden, atol=1e-4)


def test_quantization_is_recorded(
    bundle: Bundle, quantize_bundle: Quantise, tmp_path: Path
) -> None:
    """Provenance, metrics and a model card; what they said before stays."""
    written = write_variants(bundle, tmp_path / "int8", quantize_bundle())
    manifest = written.manifest
    assert manifest.provenance["int8"] == dict.fromkeys(("face", "voice"), "ranges by minmax")
    for name, found in manifest.metrics["int8"].items():
        size = manifest.files[manifest.models[name].variants["int8"].file].bytes
        assert found == {"bytes": size, "agreement": 0.97}
    assert manifest.provenance["earlier"] == "kept"
    assert manifest.metrics["earlier"] == {"accuracy": 0.5}
    card = (written.path / "MODEL_CARD.md").read_text()
    assert "MODEL_CARD.md" in manifest.files
    assert "int8" in card


def test_in_its_own_place(bundle: Bundle, quantize_bundle: Quantise, tmp_path: Path) -> None:
    """A bundle can be written over itself; what is left is whole and alone."""
    written = write_variants(bundle, bundle.path, quantize_bundle())
    assert load_bundle(bundle.path).sha256 == written.sha256
    assert [path.name for path in tmp_path.iterdir()] == [bundle.path.name]


def test_same_bytes_twice(bundle: Bundle, quantize_bundle: Quantise, tmp_path: Path) -> None:
    """The same bundle and samples: the same hash."""
    first = write_variants(bundle, tmp_path / "a" / "int8", quantize_bundle())
    second = write_variants(bundle, tmp_path / "b" / "int8", quantize_bundle())
    assert first.manifest.files == second.manifest.files
    assert first.sha256 == second.sha256


def test_one_network_alone_and_then_the_other(
    bundle: Bundle, quantize_bundle: Quantise, tmp_path: Path
) -> None:
    """What a bundle holds at 8 bits already is kept, with what is told of it."""
    first = write_variants(bundle, tmp_path / "first", quantize_bundle("face"))
    assert set(first.manifest.models["voice"].variants) == set()
    second = write_variants(first, tmp_path / "second", quantize_bundle("voice"))
    for name in ("face", "voice"):
        with open_engine("onnx", second, name, 1, "int8") as engine:
            check_golden_output(engine, second, name)
    assert set(second.manifest.provenance["int8"]) == {"face", "voice"}
    assert set(second.manifest.metrics["int8"]) == {"face", "voice"}


def test_network_that_is_none(bundle: Bundle, quantize_bundle: Quantise, tmp_path: Path) -> None:
    """What does not run is not written, and the old folder survives."""
    old = write_variants(bundle, tmp_path / "int8", quantize_bundle())
    before = list_files(old.path)
    with pytest.raises(EngineError, match=r"face_int8\.onnx: ONNX Runtime cannot open it"):
        write_variants(bundle, old.path, {"face": QuantizedNetwork(b"no network", "toy", {})})
    assert list_files(old.path) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["int8", "plain"]


def test_failed_golden_check(
    bundle: Bundle, quantize_bundle: Quantise, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Golden answers that the engine does not give."""
    old = write_variants(bundle, tmp_path / "int8", quantize_bundle())
    before = list_files(old.path)
    real = golden_input
    monkeypatch.setattr(
        variants,
        "golden_input",
        lambda *given: {name: 3 * values for name, values in real(*given).items()},
    )
    with pytest.raises(EngineError, match=r"golden input .* models\.face\.variants\.int8"):
        write_variants(bundle, old.path, quantize_bundle())
    assert list_files(old.path) == before


def test_move_that_fails(
    bundle: Bundle, quantize_bundle: Quantise, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the last step the old one is put back."""
    old = write_variants(bundle, tmp_path / "int8", quantize_bundle())
    before, made = list_files(old.path), quantize_bundle()
    rename = Path.rename

    def fail_in_place(self: Path, target: Path) -> Path:
        if self.parent.name == "new":
            raise OSError(errno.ENOSPC, "no space left")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_in_place)
    with pytest.raises(CalibrationError, match="cannot be written: no space left"):
        write_variants(bundle, old.path, made)
    assert list_files(old.path) == before


def test_other_files_are_not_replaced(
    bundle: Bundle, quantize_bundle: Quantise, tmp_path: Path
) -> None:
    """A folder that holds something else is no old bundle."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(ExportError, match=r"mine: holds files but no bundle\.json"):
        write_variants(bundle, tmp_path / "mine", quantize_bundle())
    assert list_files(tmp_path / "mine") == {"thesis.txt": b"years of work"}


def test_changed_file_is_noticed(bundle: Bundle, quantize_bundle: Quantise, tmp_path: Path) -> None:
    """A variant is a file of the bundle as the others are."""
    written = write_variants(bundle, tmp_path / "int8", quantize_bundle())
    path = written.model_path("face", "int8")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(BundleError, match=r"face_int8\.onnx: changed"):
        load_bundle(written.path)


def test_record(bundle: Bundle, quantize_bundle: Quantise, tmp_path: Path) -> None:
    """What the gate found stands in the bundle and on its card; nothing else changes."""
    old = write_variants(bundle, tmp_path / "int8", quantize_bundle())
    rows = [
        Row("face", "fp32", 0.8, 0.7, 0.01, 1.0, 50, 1000),
        Row("face", "int8", 0.79, 0.69, 0.02, 0.98765, 50, 300),
    ]
    new = record_precisions(old, rows, "toy faces")
    found = new.manifest.metrics["precisions"]
    assert found["protocol"] == "toy faces"
    assert found["face"]["int8"] == {
        "accuracy": 0.79,
        "uar": 0.69,
        "ece": 0.02,
        "agreement": 0.9877,
        "n": 50,
    }
    assert new.manifest.models == old.manifest.models
    assert new.manifest.provenance == old.manifest.provenance
    assert "toy faces" in (new.path / "MODEL_CARD.md").read_text()
