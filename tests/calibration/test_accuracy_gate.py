"""The accuracy gate: its rows are those of `evaluate`, and each violated limit has a line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from emotion_edge.calibration.accuracy_gate import (
    Row,
    compare_precisions,
    count_bytes,
    find_violations,
)
from emotion_edge.calibration.errors import CalibrationError
from emotion_edge.calibration.options import Limits
from emotion_edge.calibration.recipe import CalibrationOptions, calibrate
from emotion_edge.calibration.samples import Samples
from emotion_edge.calibration.variants import QuantizedNetwork, write_variants
from emotion_edge.engines.base import EngineError
from emotion_edge.engines.bundles.manifest import Bundle
from emotion_edge.training.errors import DatasetError
from emotion_edge.training.evaluation.evaluate import evaluate_bundle
from emotion_edge.training.evaluation.selection import Selection

FULL = Row("face", "fp32", 0.80, 0.70, 0.05, 1.0, 1000, 16_000_000)
LIMITS = Limits()


@pytest.fixture
def quantized(bundle: Bundle, make_samples: Callable[..., Samples], tmp_path: Path) -> Bundle:
    """The bundle with INT8 variants of both networks."""
    networks = {}
    for name in ("face", "voice"):
        data = bundle.model_path(name).read_bytes()
        int8, _ = calibrate(data, name, make_samples(name), 1.5, CalibrationOptions("minmax", 0.5))
        networks[name] = QuantizedNetwork(int8, "toy", {})
    return write_variants(bundle, tmp_path / "int8", networks)


def worst(row: Row, limits: Limits = LIMITS) -> list[str]:
    return list(
        find_violations([FULL, replace(FULL, precision="int8", agreement=1.0), row], limits)
    )


def test_nothing_lost() -> None:
    """Equal, better, or exactly at the limit: no violation."""
    assert list(find_violations([], LIMITS)) == []
    for row in (
        FULL,
        replace(FULL, precision="int8", accuracy=0.9, ece=0.0, agreement=0.98),
        replace(FULL, precision="int8", accuracy=0.7951, ece=0.0699, agreement=0.98),
    ):
        assert worst(row) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"accuracy": 0.7949}, ["face int8", "accuracy 0.7949", "fp32", "0.8000", "0.005"]),
        ({"agreement": 0.9799}, ["face int8", "agreement 0.9799", "0.98"]),
        ({"ece": 0.0701}, ["face int8", "0.0701", "fp32", "0.0500", "0.02"]),
    ],
)
def test_each_limit(change: dict[str, float], named: list[str]) -> None:
    """One line for the violated limit, with its numbers, and none for the others."""
    row = replace(FULL, precision="int8", **change)  # type: ignore[arg-type]
    (line,) = worst(row)
    assert all(name in line for name in named)
    assert worst(row, Limits(0.5, 0.1, 0.5)) == []


@pytest.mark.parametrize(
    ("name", "allowed", "violates"),
    [("accuracy", 0.75, 0.74), ("agreement", 0.95, 0.94), ("ece", 0.16, 0.17)],
)
def test_few_examples(name: str, allowed: float, violates: float) -> None:
    """One of 20 may change, and the calibration error by its standard error."""
    full = replace(FULL, n=20)
    for value, num in ((allowed, 0), (violates, 1)):
        row = replace(full, precision="int8", **{name: value})  # type: ignore[arg-type]
        assert len(list(find_violations([full, row], LIMITS))) == num


def test_all_limits_of_all_networks() -> None:
    """Each network is compared with its own FP32 row."""
    bad = replace(FULL, precision="int8", accuracy=0.1, agreement=0.2, ece=0.9)
    voice = replace(FULL, network="voice", accuracy=0.1, ece=0.9)
    rows = [FULL, bad, voice, replace(voice, precision="int8"), replace(bad, precision="fp16")]
    lines = list(find_violations(rows, LIMITS))
    assert [line.split(":")[0] for line in lines] == ["face int8"] * 3 + ["face fp16"] * 3


def test_rows_of_a_toy_bundle(quantized: Bundle, ferplus_root: Path) -> None:
    """FP32 agrees with itself, the others nearly; the metrics are those of `evaluate`."""
    rows = compare_precisions(quantized, Selection("ferplus", ferplus_root, "valid", None, "face"))
    assert [row.precision for row in rows] == ["fp32", "fp16", "int8"]
    assert {row.network for row in rows} == {"face"}
    assert {row.n for row in rows} == {21}
    assert rows[0].agreement == 1.0
    assert all(row.agreement > 0.85 for row in rows)
    for row in rows:
        metrics = evaluate_bundle(
            quantized, "ferplus", ferplus_root, engine="onnx", precision=row.precision
        )
        assert (row.accuracy, row.uar, row.ece) == tuple(
            metrics[name] for name in ("accuracy", "uar", "ece")
        )
        assert row.bytes == quantized.model_path("face", row.precision).stat().st_size
    assert rows[0].bytes == rows[1].bytes != rows[2].bytes
    assert rows[0].describe()["agreement"] == 1.0


def test_rows_of_voices(quantized: Bundle, ravdess_root: Path) -> None:
    """Of the selected actors only."""
    selection = Selection("ravdess", ravdess_root, "valid", (2, 5), "voice")
    rows = compare_precisions(quantized, selection, ("fp32", "int8"))
    assert [(row.network, row.n) for row in rows] == [("voice", 8), ("voice", 8)]
    assert rows[0].agreement == 1.0


def test_what_the_bundle_lacks(bundle: Bundle, ferplus_root: Path) -> None:
    """Another level is evaluated; a level or a precision that is missing is named."""
    selection = Selection("ferplus", ferplus_root, "valid", None, "face")
    assert len(compare_precisions(bundle, selection, ("fp32",), "low")) == 1
    with pytest.raises(DatasetError, match="huge"):
        compare_precisions(bundle, selection, ("fp32",), "huge")
    with pytest.raises(EngineError, match="int8"):
        compare_precisions(bundle, selection)


def test_nothing_to_evaluate(bundle: Bundle, ravdess_root: Path, tmp_path: Path) -> None:
    """No recording can be read: the data set is named."""
    name = "03-01-03-01-01-01-02.wav"
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / name).write_bytes((ravdess_root / name).read_bytes()[:20])
    with pytest.raises((CalibrationError, DatasetError), match="some"):
        compare_precisions(
            bundle, Selection("ravdess", tmp_path / "some", modality="voice"), ("fp32",)
        )


def test_bytes(quantized: Bundle) -> None:
    """The sum over the networks that a run at the precision reads."""
    sizes = {name: file.bytes for name, file in quantized.manifest.files.items()}
    assert count_bytes(quantized, "fp32") == sizes["face.onnx"] + sizes["voice.onnx"]
    assert count_bytes(quantized, "fp16") == count_bytes(quantized, "fp32")
    assert count_bytes(quantized, "int8") == sizes["face_int8.onnx"] + sizes["voice_int8.onnx"]
    with pytest.raises(KeyError):
        count_bytes(quantized, "int4")
