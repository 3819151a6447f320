"""The calibration recipe from network to INT8, and that its table saves the second run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime as ort
import pytest

from emotion_edge.calibration.divergence import compare_logits, compute_logits
from emotion_edge.calibration.errors import CalibrationError
from emotion_edge.calibration.options import METHODS, CalibrationOptions
from emotion_edge.calibration.recipe import calibrate
from emotion_edge.calibration.samples import Samples
from emotion_edge.calibration.table import load_table, save_table

MakeNetwork = Callable[..., bytes]
MakeSamples = Callable[..., Samples]


@pytest.fixture
def opened_sessions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows with each network that ONNX Runtime opens."""
    opened: list[str] = []
    real = ort.InferenceSession

    def count(*given: object, **named: object) -> object:
        opened.append("network")
        return real(*given, **named)

    monkeypatch.setattr(ort, "InferenceSession", count)
    return opened


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("network", ["face", "voice"])
def test_every_method(
    make_network: MakeNetwork, make_samples: MakeSamples, method: str, network: str
) -> None:
    """Every method quantizes a simple network; the table holds the measured difference."""
    data, samples = make_network(network), make_samples(network)
    quantized, table = calibrate(data, network, samples, 1.5, CalibrationOptions(method, 0.9))
    feeds = samples.batches(16)
    measured = compare_logits(compute_logits(data, feeds), compute_logits(quantized, feeds), 1.5)
    assert table.agreement == measured.agreement >= 0.9
    assert table.divergence == pytest.approx(measured.divergence, rel=1e-3, abs=1e-6)
    assert (table.excluded, table.ranking) == ([], {})
    assert table.key.method == method
    assert table.used in METHODS[1:]
    assert method in ("auto", table.used)
    assert table.key.model == hashlib.sha256(data).hexdigest()
    assert table.key.samples == samples.sha256


def test_auto_uses_the_best_plain_method(
    make_network: MakeNetwork, make_samples: MakeSamples
) -> None:
    """No plain method has less divergence."""
    data, samples = make_network("face", "rare"), make_samples("face")
    _, table = calibrate(data, "face", samples, 1.5, CalibrationOptions("auto", 0.9))
    plain = {
        method: calibrate(data, "face", samples, 1.5, CalibrationOptions(method, 0.0))[1].divergence
        for method in ("mse", "percentile", "entropy", "minmax")
    }
    assert table.divergence == min(plain.values()) == plain[table.used]
    assert table.excluded == []
    assert plain["minmax"] > 100 * table.divergence


@pytest.mark.parametrize(
    ("method", "min_agreement", "used"), [("minmax", 0.9, "minmax"), ("auto", 0.96, "answer")]
)
def test_most_sensitive_layer_is_excluded(
    make_network: MakeNetwork,
    make_samples: MakeSamples,
    method: str,
    min_agreement: float,
    used: str,
) -> None:
    """Where no range is good enough, the layer is not quantized and stands in the table."""
    data, samples = make_network("face", "always"), make_samples("face")
    options = CalibrationOptions(method, min_agreement)
    quantized, table = calibrate(data, "face", samples, 1.5, options)
    assert (table.used, table.excluded) == (used, ["mix"])
    assert next(iter(table.ranking)) == "mix"
    assert len(table.ranking) == 5
    feeds = samples.batches(16)
    measured = compare_logits(compute_logits(data, feeds), compute_logits(quantized, feeds), 1.5)
    assert measured.agreement >= min_agreement


def test_second_call_runs_no_inference(
    make_network: MakeNetwork, make_samples: MakeSamples, tmp_path: Path, opened_sessions: list[str]
) -> None:
    """With a table the network is not run again; the bytes are those without a table."""
    data, samples = make_network("face", "always"), make_samples("face")
    options = CalibrationOptions("minmax", 0.9, tmp_path / "tables")
    first, table = calibrate(data, "face", samples, 1.5, options)
    assert opened_sessions
    written = (tmp_path / "tables" / "face.json").read_bytes()
    opened_sessions.clear()
    second, again = calibrate(data, "face", samples, 1.5, options)
    assert opened_sessions == []
    assert (second, again) == (first, table)
    assert (tmp_path / "tables" / "face.json").read_bytes() == written
    assert calibrate(data, "face", samples, 1.5, replace(options, folder=None))[0] == first
    assert list((tmp_path / "tables").iterdir()) == [tmp_path / "tables" / "face.json"]


def test_table_is_followed(
    make_network: MakeNetwork, make_samples: MakeSamples, tmp_path: Path, opened_sessions: list[str]
) -> None:
    """A layer that is excluded in the table by hand is not quantized."""
    data, samples = make_network("face"), make_samples("face")
    options = CalibrationOptions("minmax", 0.9, tmp_path)
    first, table = calibrate(data, "face", samples, 1.5, options)
    save_table(tmp_path / "face.json", msgspec.structs.replace(table, excluded=["head", "mix"]))
    opened_sessions.clear()
    second, _ = calibrate(data, "face", samples, 1.5, options)
    assert second != first
    assert opened_sessions == []


@pytest.mark.parametrize("changed", ["model", "samples", "method", "min_agreement"])
def test_another_key_is_calibrated_anew(
    make_network: MakeNetwork,
    make_samples: MakeSamples,
    tmp_path: Path,
    opened_sessions: list[str],
    changed: str,
) -> None:
    """Another network, other samples or options: the table is replaced."""
    data, samples = make_network("face"), make_samples("face")
    options = CalibrationOptions("minmax", 0.9, tmp_path)
    calibrate(data, "face", samples, 1.5, options)
    before = load_table(tmp_path / "face.json")
    if changed == "model":
        data = make_network("face", seed=4)
    elif changed == "samples":
        image = samples.inputs["image"] + np.float32(1e-3)
        samples = replace(samples, inputs={"image": image})
    elif changed == "method":
        options = replace(options, method="percentile")
    else:
        options = replace(options, min_agreement=0.5)
    opened_sessions.clear()
    _, table = calibrate(data, "face", samples, 1.5, options)
    assert opened_sessions
    assert load_table(tmp_path / "face.json") == table != before


def test_unreachable_agreement(
    make_network: MakeNetwork, make_samples: MakeSamples, tmp_path: Path
) -> None:
    """An error, and no table is written."""
    options = CalibrationOptions("minmax", 1.01, tmp_path)
    with pytest.raises(CalibrationError, match=r"1\.01"):
        calibrate(make_network("face"), "face", make_samples("face"), 1.5, options)
    assert list(tmp_path.iterdir()) == []
