"""A bundle with INT8 variants: complete and verified, or the old one unchanged."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from emotion_edge.calibration import variants
from emotion_edge.calibration.accuracy_gate import Row
from emotion_edge.calibration.options import CalibrationOptions
from emotion_edge.calibration.recipe import calibrate
from emotion_edge.calibration.samples import Samples
from emotion_edge.calibration.variants import QuantizedNetwork, record_precisions, write_variants
from emotion_edge.engines import open_engine
from emotion_edge.engines.base import EngineError
from emotion_edge.engines.bundles import Bundle, load_bundle
from emotion_edge.engines.golden import check_golden_output, golden_input
from emotion_edge.training.export.onnx import ExportError

MakeSamples = Callable[..., Samples]
Quantize = Callable[..., dict[str, QuantizedNetwork]]


@pytest.fixture
def quantize_bundle(bundle: Bundle, make_samples: MakeSamples) -> Quantize:
    """A function (names of networks) -> the networks at INT8."""

    def run(*names: str) -> dict[str, QuantizedNetwork]:
        networks = {}
        for name in names or ("face", "voice"):
            data = bundle.model_path(name).read_bytes()
            quantized, _ = calibrate(
                data, name, make_samples(name), 1.5, CalibrationOptions("minmax", 0.5)
            )
            networks[name] = QuantizedNetwork(quantized, "ranges by minmax", {"agreement": 0.97})
        return networks

    return run


def list_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_both_precisions(bundle: Bundle, quantize_bundle: Quantize, tmp_path: Path) -> None:
    """The FP32 networks are unchanged; an INT8 network stands beside each."""
    networks = quantize_bundle()
    written = write_variants(bundle, tmp_path / "int8", networks)
    assert written.path == tmp_path / "int8"
    assert load_bundle(tmp_path / "int8").sha256 == written.sha256
    for name in ("face", "voice"):
        assert written.model_path(name).read_bytes() == bundle.model_path(name).read_bytes()
        assert written.model_path(name, "int8").read_bytes() == networks[name].data
        assert written.model_path(name, "int8").name == f"{name}_int8.onnx"
        before, after = (each.manifest.models[name] for each in (bundle, written))
        assert after.temperature == before.temperature
        assert after.golden_logits == before.golden_logits
        assert after.variants["int8"].golden_logits != after.golden_logits
    assert bundle.manifest.models["face"].variants == {}, "the given bundle is unchanged"
    assert not (bundle.path / "face_int8.onnx").exists()


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("network", ["face", "voice"])
def test_golden_outputs_are_checked(
    bundle: Bundle, quantize_bundle: Quantize, tmp_path: Path, network: str, precision: str
) -> None:
    """The golden check at start-up passes at each precision, each with its own outputs."""
    written = write_variants(bundle, tmp_path / "int8", quantize_bundle())
    with open_engine("onnx", written, network, 1, precision) as engine:
        assert engine.precision == precision
        check_golden_output(engine, written, network)
        logits = engine.infer(golden_input(written.manifest, network))["logits"][0]
    golden = written.manifest.models[network].at(precision).golden_logits
    np.testing.assert_allclose(logits, golden, atol=1e-4)


def test_quantization_is_recorded(
    bundle: Bundle, quantize_bundle: Quantize, tmp_path: Path
) -> None:
    """In provenance, metrics and model card; earlier entries stay."""
    written = write_variants(bundle, tmp_path / "int8", quantize_bundle())
    manifest = written.manifest
    assert manifest.provenance["int8"] == dict.fromkeys(("face", "voice"), "ranges by minmax")
    for name, metrics in manifest.metrics["int8"].items():
        size = manifest.files[manifest.models[name].variants["int8"].file].bytes
        assert metrics == {"bytes": size, "agreement": 0.97}
    assert manifest.provenance["earlier"] == "kept"
    assert manifest.metrics["earlier"] == {"accuracy": 0.5}
    card = (written.path / "MODEL_CARD.md").read_text()
    assert "MODEL_CARD.md" in manifest.files
    assert "int8" in card


def test_in_its_own_place(bundle: Bundle, quantize_bundle: Quantize, tmp_path: Path) -> None:
    """A bundle can replace itself; no other folder is left."""
    written = write_variants(bundle, bundle.path, quantize_bundle())
    assert load_bundle(bundle.path).sha256 == written.sha256
    assert [path.name for path in tmp_path.iterdir()] == [bundle.path.name]


def test_same_bytes_twice(bundle: Bundle, quantize_bundle: Quantize, tmp_path: Path) -> None:
    """The same bundle and samples give the same hash."""
    first = write_variants(bundle, tmp_path / "a" / "int8", quantize_bundle())
    second = write_variants(bundle, tmp_path / "b" / "int8", quantize_bundle())
    assert first.manifest.files == second.manifest.files
    assert first.sha256 == second.sha256


def test_one_network_alone_and_then_the_other(
    bundle: Bundle, quantize_bundle: Quantize, tmp_path: Path
) -> None:
    """The INT8 network that a bundle has already stays, with its provenance and metrics."""
    first = write_variants(bundle, tmp_path / "first", quantize_bundle("face"))
    assert set(first.manifest.models["voice"].variants) == set()
    second = write_variants(first, tmp_path / "second", quantize_bundle("voice"))
    for name in ("face", "voice"):
        with open_engine("onnx", second, name, 1, "int8") as engine:
            check_golden_output(engine, second, name)
    assert set(second.manifest.provenance["int8"]) == {"face", "voice"}
    assert set(second.manifest.metrics["int8"]) == {"face", "voice"}


def test_network_that_does_not_open(
    bundle: Bundle, quantize_bundle: Quantize, tmp_path: Path
) -> None:
    """A network that does not run is not written, and the old folder is unchanged."""
    old = write_variants(bundle, tmp_path / "int8", quantize_bundle())
    before = list_files(old.path)
    with pytest.raises(EngineError, match=r"face_int8\.onnx"):
        write_variants(bundle, old.path, {"face": QuantizedNetwork(b"no network", "toy", {})})
    assert list_files(old.path) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["int8", "plain"]


def test_failed_golden_check(
    bundle: Bundle, quantize_bundle: Quantize, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Golden outputs that the engine does not reproduce: the old folder is unchanged."""
    old = write_variants(bundle, tmp_path / "int8", quantize_bundle())
    before = list_files(old.path)
    real = golden_input
    monkeypatch.setattr(
        variants,
        "golden_input",
        lambda *given: {name: 3 * values for name, values in real(*given).items()},
    )
    with pytest.raises(EngineError, match=r"models\.face\.variants\.int8"):
        write_variants(bundle, old.path, quantize_bundle())
    assert list_files(old.path) == before


def test_move_that_fails(
    bundle: Bundle, quantize_bundle: Quantize, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the last step fails, the old bundle is restored."""
    old = write_variants(bundle, tmp_path / "int8", quantize_bundle())
    before, networks = list_files(old.path), quantize_bundle()
    rename = Path.rename

    def fail_in_place(self: Path, target: Path) -> Path:
        if self.parent.name == "new":
            raise OSError(errno.ENOSPC, "no space left")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_in_place)
    with pytest.raises(ExportError, match=r"int8: .*no space left"):
        write_variants(bundle, old.path, networks)
    assert list_files(old.path) == before


def test_record(bundle: Bundle, quantize_bundle: Quantize, tmp_path: Path) -> None:
    """The gate's rows are in the metrics and on the model card; nothing else changes."""
    old = write_variants(bundle, tmp_path / "int8", quantize_bundle())
    rows = [
        Row("face", "fp32", 0.8, 0.7, 0.01, 1.0, 50, 1000),
        Row("face", "int8", 0.79, 0.69, 0.02, 0.98765, 50, 300),
    ]
    new = record_precisions(old, rows, "toy faces")
    precisions = new.manifest.metrics["precisions"]
    assert precisions["protocol"] == "toy faces"
    assert precisions["face"]["int8"] == {
        "accuracy": 0.79,
        "uar": 0.69,
        "ece": 0.02,
        "agreement": 0.9877,
        "n": 50,
    }
    assert new.manifest.models == old.manifest.models
    assert new.manifest.provenance == old.manifest.provenance
    assert "toy faces" in (new.path / "MODEL_CARD.md").read_text()
