"""The proof at start-up: a network that answers otherwise than when it was exported is refused."""

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

MAX_BUNDLE_BYTES = 16_000_000


class Replaced(NullEngine):
    """Answers with `answer`, whatever it is asked."""

    answer: Arrays = MappingProxyType({})

    def infer(self, feed: Arrays) -> Arrays:
        return self.answer


@pytest.mark.parametrize("modality", MODALITIES)
def test_good_bundle_passes_its_golden_check(bundle: Bundle, modality: str) -> None:
    """With the engine that made the answers."""
    with open_engine("onnx", bundle, modality, 1) as engine:
        check_golden_output(engine, bundle, modality)


@pytest.mark.parametrize("modality", MODALITIES)
def test_golden_input_is_a_formula(bundle: Bundle, modality: str) -> None:
    """The same everywhere, float32, filling its range and not constant along any axis."""
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


def test_golden_input_of_the_fusion(fused: Bundle) -> None:
    """Everything is present, and no two embeddings are alike."""
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
    assert embeddings.reshape(-1)[1279] == pytest.approx(
        np.sin(127.9 + 1e-5 * 1279**2), abs=1e-6
    ), "the wave goes on"
    assert len(np.unique(embeddings, axis=0)) == 5


def test_golden_input_needs_a_fusion_network(bundle: Bundle) -> None:
    """How many faces it reads is not known otherwise."""
    with pytest.raises(KeyError, match="fusion"):
        golden_input(bundle.manifest, "fusion")


def test_fusion_passes_its_golden_check(fused: Bundle) -> None:
    """With the engine that made the answers, and so do the other two beside it."""
    for network in fused.manifest.networks:
        with open_engine("onnx", fused, network, 1) as engine:
            check_golden_output(engine, fused, network)


@pytest.mark.parametrize("output", ["logits", "weights"])
@pytest.mark.parametrize("off_by", [TOLERANCE * 1.5, -TOLERANCE * 1.5, np.nan, np.inf])
def test_other_answer_of_the_fusion_is_refused(fused: Bundle, output: str, off_by: float) -> None:
    """Any of its outputs."""
    entry = fused.manifest.fusion
    assert entry is not None
    answer = {
        "logits": np.array([entry.golden_logits], np.float32),
        "weights": np.array([entry.golden_weights], np.float32),
    }
    engine = Replaced(fused.manifest, "fusion")
    engine.answer = answer
    check_golden_output(engine, fused, "fusion")
    answer[output][0, 1] += off_by
    with pytest.raises(EngineError, match=rf"fusion\.onnx: .* fusion\.golden_{output}"):
        check_golden_output(engine, fused, "fusion")
    del answer[output]
    with pytest.raises(EngineError, match=rf"fusion\.onnx: .*{output}"):
        check_golden_output(engine, fused, "fusion")


def test_fusion_needs_embeddings(bundle: Bundle, fused: Bundle) -> None:
    """A face network without one is refused beside a fusion network, before the first picture;
    alone it is good."""
    golden = np.array([bundle.manifest.models["face"].golden_logits], np.float32)
    engine = Replaced(bundle.manifest, "face")
    engine.answer = {"logits": golden}
    check_golden_output(engine, bundle, "face")
    with pytest.raises(EngineError, match=r"face\.onnx: .*embedding"):
        check_golden_output(engine, fused, "face")
    engine.answer = {"logits": golden, "embedding": np.zeros((1, 128), np.float32)}
    with pytest.raises(EngineError, match=r"face\.onnx: its output embedding is \[1, 128\]"):
        check_golden_output(engine, fused, "face")


@pytest.mark.parametrize("off_by", [TOLERANCE * 1.5, -TOLERANCE * 1.5, np.nan, np.inf])
def test_other_answer_is_refused(bundle: Bundle, off_by: float) -> None:
    """One logit of seven beyond the tolerance, or not a number; inside it, all is well."""
    golden = np.array([bundle.manifest.models["face"].golden_logits], np.float32)
    engine = Replaced(bundle.manifest, "face")
    engine.answer = {"logits": golden + np.float32(TOLERANCE / 2)}
    check_golden_output(engine, bundle, "face")
    wrong = golden.copy()
    wrong[0, 3] += off_by
    engine.answer = {"logits": wrong}
    with pytest.raises(EngineError, match=r"face\.onnx: .* models\.face\.golden_logits"):
        check_golden_output(engine, bundle, "face")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_each_precision_has_its_answer(quantized: Bundle, precision: str) -> None:
    """And its tolerance; a refusal names the file and the field that belong to it."""
    entry = quantized.manifest.models["face"]
    tolerance = INT8_TOLERANCE if precision == "int8" else TOLERANCE
    engine = Replaced(quantized.manifest, "face")
    engine.precision = precision
    golden = np.array([entry.at(precision).golden_logits], np.float32)
    engine.answer = {"logits": golden + np.float32(0.9 * tolerance)}
    check_golden_output(engine, quantized, "face")
    engine.answer = {"logits": golden + np.float32(1.1 * tolerance)}
    is_int8 = precision == "int8"
    file, field = ("face.int8.onnx", "variants.int8.") if is_int8 else ("face.onnx", "")
    with pytest.raises(EngineError, match=f"{file}: .* models.face.{field}golden_logits"):
        check_golden_output(engine, quantized, "face")


def test_network_of_another_shape_is_refused(bundle: Bundle) -> None:
    """No logits, eight of them, or one that wants other inputs: an EngineError with the file."""
    engine = Replaced(bundle.manifest, "face")
    for answer in ({}, {"logits": np.zeros((1, 8), np.float32)}):
        engine.answer = answer
        with pytest.raises(EngineError, match=r"face\.onnx"):
            check_golden_output(engine, bundle, "face")
    narrow = msgspec.structs.replace(bundle.manifest.mel, num_frames=200)
    other = Bundle(bundle.path, msgspec.structs.replace(bundle.manifest, mel=narrow), "")
    with (
        open_engine("onnx", bundle, "voice", 1) as voice,
        pytest.raises(EngineError, match=r"voice\.onnx.*mel"),
    ):
        check_golden_output(voice, other, "voice")


@pytest.fixture(scope="module")
def shipped() -> Bundle:
    """The bundle that ships."""
    if not DEFAULT_BUNDLE.is_dir():
        pytest.skip(f"{DEFAULT_BUNDLE} has not been made yet")
    return load_bundle(DEFAULT_BUNDLE)


def test_shipped_bundle_is_small(shipped: Bundle) -> None:
    """At most 16 MB, nothing unlisted in it, both networks there."""
    files = {path.name for path in Path(shipped.path).iterdir()}
    assert files == {"bundle.json", *shipped.manifest.files}
    assert sum(path.stat().st_size for path in shipped.path.iterdir()) <= MAX_BUNDLE_BYTES
    assert set(shipped.manifest.models) == set(MODALITIES)
    assert shipped.manifest.metrics
    assert shipped.manifest.provenance


@pytest.mark.parametrize("modality", MODALITIES)
def test_shipped_bundle_passes_its_golden_check(shipped: Bundle, modality: str) -> None:
    """On this machine, at every level's picture size, alone and two at a time."""
    with open_engine("auto", shipped, modality, 1) as engine:
        check_golden_output(engine, shipped, modality)
        feed = golden_input(shipped.manifest, modality)
        twice = {name: np.concatenate([array, array]) for name, array in feed.items()}
        pair = engine.infer(twice)["logits"]
        np.testing.assert_allclose(pair[0], pair[1], rtol=1e-3, atol=1e-3)
        for level in shipped.manifest.levels if modality == "face" else ():
            small = feed["image"][:, :, : level.face_px, : level.face_px]
            assert np.isfinite(engine.infer({"image": small})["logits"]).all()
