"""The golden check: a network whose outputs differ from the exported ones is refused."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

import msgspec
import numpy as np
import pytest

from emotion_edge.engines import open_engine
from emotion_edge.engines.base import Arrays, EngineError
from emotion_edge.engines.bundles.manifest import DEFAULT_BUNDLE, MODALITIES, Bundle, load_bundle
from emotion_edge.engines.golden import INT8_TOLERANCE, TOLERANCE, check_golden_output, golden_input
from emotion_edge.engines.null import NullEngine

from .conftest import add_fusion, add_variant, write_bundle_folder

MAX_BUNDLE_BYTES = 16_000_000


class FixedEngine(NullEngine):
    """An engine that always returns `fixed`."""

    fixed: Arrays = MappingProxyType({})

    def infer(self, feed: Arrays) -> Arrays:
        return self.fixed


@pytest.mark.parametrize("modality", MODALITIES)
def test_golden_input_is_a_formula(bundle: Bundle, modality: str) -> None:
    """It is the same everywhere, float32, and not constant along any axis."""
    feed = golden_input(bundle.manifest, modality)
    again = golden_input(bundle.manifest, modality)
    name = "image" if modality == "face" else "mel"
    array = feed[name]
    assert array.shape == ((1, 3, 64, 64) if modality == "face" else (1, 64, 300))
    assert array.dtype == np.float32
    assert array.reshape(-1)[100] == pytest.approx(np.sin(10.1))
    assert all(np.abs(np.diff(array, axis=axis)).max() > 0.01 for axis in range(1, array.ndim))
    for key in feed:
        np.testing.assert_array_equal(feed[key], again[key])


@pytest.mark.parametrize("num_labels", [2, 12, 32])
def test_other_labels(tmp_path: Path, num_labels: int) -> None:
    """Every network at every precision gives as many logits, as the manifest says; so does the null
    engine, which tells the labels apart."""
    labels = [f"state {n}" for n in range(num_labels)]
    bundle = load_bundle(add_variant(add_fusion(write_bundle_folder(tmp_path, labels))).path)
    assert bundle.manifest.labels == labels
    for network, precision in (("face", "int8"), *((n, "fp32") for n in bundle.manifest.networks)):
        with open_engine("onnx", bundle, network, precision=precision) as engine:
            check_golden_output(engine, bundle, network)
        logits = NullEngine(bundle.manifest, network).infer(golden_input(bundle.manifest, network))
        assert logits["logits"].shape == (1, num_labels)
        assert len(np.unique(logits["logits"])) == num_labels


def test_golden_input_of_the_fusion(fused: Bundle) -> None:
    """Every mask is 1, and all embeddings differ."""
    feed = golden_input(fused.manifest, "fusion")
    assert {name: array.shape for name, array in feed.items()} == {
        "faces": (1, 4, 256),
        "face_mask": (1, 4),
        "voice": (1, 256),
        "voice_mask": (1, 1),
    }
    assert feed["face_mask"].all()
    assert feed["voice_mask"].all()
    assert all(array.flags.c_contiguous for array in feed.values())
    embeddings = np.concatenate([feed["faces"][0], feed["voice"]])
    assert embeddings.reshape(-1)[1279] == pytest.approx(np.sin(127.9 + 1e-5 * 1279**2), abs=1e-6)
    assert len(np.unique(embeddings, axis=0)) == 5


def test_golden_input_needs_a_fusion_network(bundle: Bundle) -> None:
    """The manifest has its number of faces."""
    with pytest.raises(KeyError, match="fusion"):
        golden_input(bundle.manifest, "fusion")


def test_good_bundle_passes_its_golden_check(fused: Bundle) -> None:
    """All three networks pass with the engine that made the golden outputs."""
    for network in fused.manifest.networks:
        with open_engine("onnx", fused, network, 1) as engine:
            check_golden_output(engine, fused, network)


@pytest.mark.parametrize("output", ["logits", "weights"])
@pytest.mark.parametrize("off_by", [TOLERANCE * 1.5, -TOLERANCE * 1.5, np.nan, np.inf])
def test_wrong_output_of_the_fusion(fused: Bundle, output: str, off_by: float) -> None:
    """Each of its outputs is checked."""
    entry = fused.manifest.fusion
    assert entry is not None
    outputs = {
        "logits": np.array([entry.golden_logits], np.float32),
        "weights": np.array([entry.golden_weights], np.float32),
    }
    engine = FixedEngine(fused.manifest, "fusion")
    engine.fixed = outputs
    check_golden_output(engine, fused, "fusion")
    outputs[output][0, 1] += off_by
    with pytest.raises(EngineError, match=rf"fusion\.onnx: .* fusion\.golden_{output}"):
        check_golden_output(engine, fused, "fusion")
    del outputs[output]
    with pytest.raises(EngineError, match=rf"fusion\.onnx: .*{output}"):
        check_golden_output(engine, fused, "fusion")


def test_fusion_needs_embeddings(bundle: Bundle, fused: Bundle) -> None:
    """A face network without an embedding is refused, if the bundle has a fusion network."""
    golden = np.array([bundle.manifest.models["face"].golden_logits], np.float32)
    engine = FixedEngine(bundle.manifest, "face")
    engine.fixed = {"logits": golden}
    check_golden_output(engine, bundle, "face")
    with pytest.raises(EngineError, match=r"face\.onnx: .*embedding"):
        check_golden_output(engine, fused, "face")
    engine.fixed = {"logits": golden, "embedding": np.zeros((1, 128), np.float32)}
    with pytest.raises(EngineError, match=r"face\.onnx: .*embedding is \[1, 128\]"):
        check_golden_output(engine, fused, "face")


@pytest.mark.parametrize("off_by", [TOLERANCE * 1.5, -TOLERANCE * 1.5, np.nan, np.inf])
def test_wrong_output(bundle: Bundle, off_by: float) -> None:
    """One logit of seven outside the tolerance, or not finite, is refused."""
    golden = np.array([bundle.manifest.models["face"].golden_logits], np.float32)
    engine = FixedEngine(bundle.manifest, "face")
    engine.fixed = {"logits": golden + np.float32(TOLERANCE / 2)}
    check_golden_output(engine, bundle, "face")
    wrong = golden.copy()
    wrong[0, 3] += off_by
    engine.fixed = {"logits": wrong}
    with pytest.raises(EngineError, match=r"face\.onnx: .* models\.face\.golden_logits"):
        check_golden_output(engine, bundle, "face")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_each_precision_has_its_golden_output(quantized: Bundle, precision: str) -> None:
    """Each also has its tolerance, and the error its file and field."""
    entry = quantized.manifest.models["face"]
    tolerance = INT8_TOLERANCE if precision == "int8" else TOLERANCE
    engine = FixedEngine(quantized.manifest, "face")
    engine.precision = precision
    golden = np.array([entry.at(precision).golden_logits], np.float32)
    engine.fixed = {"logits": golden + np.float32(0.9 * tolerance)}
    check_golden_output(engine, quantized, "face")
    engine.fixed = {"logits": golden + np.float32(1.1 * tolerance)}
    is_int8 = precision == "int8"
    file, field = ("face.int8.onnx", "variants.int8.") if is_int8 else ("face.onnx", "")
    with pytest.raises(EngineError, match=f"{file}: .* models.face.{field}golden_logits"):
        check_golden_output(engine, quantized, "face")


def test_wrong_shapes(bundle: Bundle) -> None:
    """No logits, eight of them, or other inputs: an EngineError with the file."""
    engine = FixedEngine(bundle.manifest, "face")
    for outputs in ({}, {"logits": np.zeros((1, 8), np.float32)}):
        engine.fixed = outputs
        with pytest.raises(EngineError, match=r"face\.onnx"):
            check_golden_output(engine, bundle, "face")
    short = msgspec.structs.replace(bundle.manifest.mel, num_frames=200)
    other = Bundle(bundle.path, msgspec.structs.replace(bundle.manifest, mel=short), "")
    with (
        open_engine("onnx", bundle, "voice", 1) as voice,
        pytest.raises(EngineError, match=r"voice\.onnx.*mel"),
    ):
        check_golden_output(voice, other, "voice")


@pytest.fixture(scope="module")
def shipped() -> Bundle:
    """The bundle that ships."""
    if not DEFAULT_BUNDLE.is_dir():
        pytest.skip(f"no {DEFAULT_BUNDLE}")
    return load_bundle(DEFAULT_BUNDLE)


def test_shipped_bundle_is_small(shipped: Bundle) -> None:
    """At most 16 MB, without unlisted files, with both networks."""
    files = {path.name for path in Path(shipped.path).iterdir()}
    assert files == {"bundle.json", *shipped.manifest.files}
    assert sum(path.stat().st_size for path in shipped.path.iterdir()) <= MAX_BUNDLE_BYTES
    assert set(shipped.manifest.models) == set(MODALITIES)
    assert shipped.manifest.metrics
    assert shipped.manifest.provenance


@pytest.mark.parametrize("modality", MODALITIES)
def test_shipped_bundle_passes_its_golden_check(shipped: Bundle, modality: str) -> None:
    """On this machine, at every level's image size, alone and in a batch of two."""
    with open_engine("auto", shipped, modality, 1) as engine:
        check_golden_output(engine, shipped, modality)
        feed = golden_input(shipped.manifest, modality)
        twice = {name: np.concatenate([array, array]) for name, array in feed.items()}
        pair = engine.infer(twice)["logits"]
        np.testing.assert_allclose(pair[0], pair[1], rtol=1e-3, atol=1e-3)
        for level in shipped.manifest.levels if modality == "face" else ():
            small = feed["image"][:, :, : level.face_px, : level.face_px]
            assert np.isfinite(engine.infer({"image": small})["logits"]).all()
