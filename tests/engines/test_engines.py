"""The engine interface over every engine that loads here, and ONNX Runtime's own behaviour."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from emotion_edge.engines import ENGINES, onnx_runtime, open_engine
from emotion_edge.engines.base import Engine, EngineError, TensorSpec
from emotion_edge.engines.bundles.manifest import MODALITIES, Bundle
from emotion_edge.engines.onnx_runtime import OnnxEngine

onnx = pytest.importorskip("onnx", reason="onnx is in the test extra")
Feed = dict[str, NDArray[Any]]
FAKE_TENSORRT = "fake tensorrt"


def make_feed(modality: str, batch: int = 1, seed: int = 0) -> Feed:
    rng = np.random.default_rng(seed)
    if modality == "face":
        return {"image": rng.standard_normal((batch, 3, 32, 32)).astype(np.float32)}
    if modality == "fusion":
        return {
            "faces": rng.standard_normal((batch, 4, 256)).astype(np.float32),
            "face_mask": np.ones((batch, 4), np.float32),
            "voice": rng.standard_normal((batch, 256)).astype(np.float32),
            "voice_mask": np.ones((batch, 1), np.float32),
        }
    return {
        "mel": rng.standard_normal((batch, 64, 300)).astype(np.float32),
        "mask": np.ones((batch, 300), np.float32),
    }


@pytest.fixture(params=[*(name for name in ENGINES if name != "auto"), FAKE_TENSORRT])
def engine_name(
    request: pytest.FixtureRequest,
    bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> str:
    """Each engine that loads here, and TensorRT's on a fake."""
    if request.param == FAKE_TENSORRT:
        request.getfixturevalue("gpu")
        return "tensorrt"
    monkeypatch.setenv("EMOTION_EDGE_CACHE", str(tmp_path / "cache"))
    try:
        open_engine(request.param, bundle, "face", num_threads=1).close()
    except EngineError as error:
        pytest.skip(f"engine {request.param}: {error}")
    return str(request.param)


@pytest.fixture(params=[*MODALITIES, "fusion"])
def modality(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def engine(engine_name: str, modality: str, fused: Bundle) -> Engine:
    return open_engine(engine_name, fused, modality, num_threads=1)


def test_names_and_shapes(engine: Engine, modality: str) -> None:
    """Inputs and outputs describe the arrays for any batch size."""
    assert [spec.name for spec in engine.inputs] == list(make_feed(modality))
    other = ("weights", 2) if modality == "fusion" else ("embedding", 256)
    assert {spec.name: spec.shape for spec in engine.outputs} == {
        other[0]: (None, other[1]),
        "logits": (None, 7),
    }
    for batch in (1, 3, 1):
        out = engine.infer(make_feed(modality, batch))
        assert out[other[0]].shape == (batch, other[1])
        assert out["logits"].shape == (batch, 7)
        assert out["logits"].dtype == np.float32


def test_deterministic(engine: Engine, modality: str) -> None:
    """The same input gives the same logits after a warm-up, other inputs, and in a batch."""
    feed = make_feed(modality)
    engine.warm_up(feed)
    first = engine.infer(feed)["logits"].copy()
    other = make_feed(modality, seed=1)
    assert np.abs(engine.infer(other)["logits"] - first).max() > 1e-4
    np.testing.assert_array_equal(engine.infer(feed)["logits"], first)
    both = {name: np.concatenate([other[name], feed[name]]) for name in feed}
    np.testing.assert_allclose(engine.infer(both)["logits"][1], first[0], rtol=1e-5, atol=1e-5)


def test_wrong_shape_or_type_is_named(engine: Engine, modality: str) -> None:
    """The error has the input and both shapes; the engine still works afterwards."""
    feed = make_feed(modality)
    name = next(iter(feed))
    for wrong in (feed[name][0], feed[name][:, :2], feed[name].astype(np.float64)):
        with pytest.raises(ValueError, match=rf"^{name}: .*float32\[None, "):
            engine.infer({**feed, name: wrong})  # type: ignore[dict-item]
    assert np.isfinite(engine.infer(feed)["logits"]).all()


def test_missing_input_is_named(engine: Engine, modality: str) -> None:
    """An EngineError, not a KeyError."""
    feed = make_feed(modality)
    for name in feed:
        rest = {key: array for key, array in feed.items() if key != name}
        with pytest.raises(EngineError, match=f"input {name} "):
            engine.infer(rest)


def test_name_and_precision(engine: Engine, engine_name: str, modality: str) -> None:
    """The library and the precision, which select the golden output."""
    is_tensorrt = engine_name == "tensorrt" and modality != "fusion"
    assert engine.name == ("onnx" if engine_name == "tensorrt" and not is_tensorrt else engine_name)
    assert engine.precision == ("fp16" if is_tensorrt else "fp32")


def test_close_twice(engine: Engine) -> None:
    """`close` may be called twice, and inside `with`."""
    with engine as entered:
        assert entered is engine
        engine.close()
    engine.close()


def test_non_contiguous_input(engine: Engine, modality: str) -> None:
    """A view is read by its strides."""
    feed = make_feed(modality)
    want = engine.infer(feed)["logits"].copy()
    views = {name: np.asfortranarray(array) for name, array in feed.items()}
    np.testing.assert_allclose(engine.infer(views)["logits"], want, rtol=1e-5, atol=1e-6)


def test_null_depends_on_the_input_alone(bundle: Bundle) -> None:
    """Two engines agree, and a brighter slice of the input raises its label."""
    image = np.zeros((1, 3, 32, 32), np.float32)
    image.reshape(1, -1)[:, 440:870] = 1.0  # the second of seven slices
    answers = [open_engine("null", bundle, "face").infer({"image": image}) for _ in range(2)]
    np.testing.assert_array_equal(answers[0]["logits"], answers[1]["logits"])
    assert answers[0]["logits"][0].argmax() == 1


def test_null_fuses_present_modalities(fused: Bundle) -> None:
    """Faces and voice are averaged by their masks."""
    face = open_engine("null", fused, "face").infer(make_feed("face"))
    np.testing.assert_array_equal(face["embedding"][:, :7], face["logits"])
    feed = make_feed("fusion", batch=3)
    feed["face_mask"][0, :2] = 0
    feed["face_mask"][1] = 0
    feed["voice_mask"][2] = 0
    answer = open_engine("null", fused, "fusion").infer(feed)
    np.testing.assert_array_equal(answer["weights"], [[0.5, 0.5], [0, 1], [1, 0]])
    faces, voice = feed["faces"][:, :, :7], feed["voice"][:, :7]
    want = [(faces[0, 2:].mean(axis=0) + voice[0]) / 2, voice[1], faces[2].mean(axis=0)]
    np.testing.assert_allclose(answer["logits"], want, rtol=1e-5, atol=1e-6)


def test_fusion_runs_on_one_thread(fused: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the number for the other networks."""
    threads: list[int] = []
    monkeypatch.setattr(
        onnx_runtime, "OnnxEngine", lambda path, num_threads, *_: threads.append(num_threads)
    )
    for network in ("face", "voice", "fusion"):
        open_engine("onnx", fused, network, 3)
    assert threads == [3, 3, 1]


def test_onnx_equals_a_plain_session(fused: Bundle, modality: str) -> None:
    """With bound buffers the outputs are those of `InferenceSession.run`."""
    path = fused.model_path(modality)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    plain = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    with OnnxEngine(path, num_threads=1) as engine:
        for seed in range(5):
            feed = make_feed(modality, batch=1 + seed % 2, seed=seed)
            names = [spec.name for spec in engine.outputs]
            want = plain.run(names, feed)
            got = engine.infer(feed)
            for name, value in zip(names, want, strict=True):
                np.testing.assert_array_equal(got[name], value)


def test_onnx_reuses_its_buffers(bundle: Bundle) -> None:
    """One buffer per batch size, overwritten by the next call of that size."""
    with OnnxEngine(bundle.model_path("face"), num_threads=1) as engine:
        first = engine.infer(make_feed("face"))["logits"]
        before = first.copy()
        engine.infer(make_feed("face", batch=3, seed=1))
        np.testing.assert_array_equal(first, before)
        assert engine.infer(make_feed("face", seed=2))["logits"] is first
        assert np.abs(first - before).max() > 1e-4


def test_onnx_reads_each_new_array(bundle: Bundle) -> None:
    """A new array, and new values in a bound one, are both read."""
    with OnnxEngine(bundle.model_path("face"), num_threads=1) as engine:
        feeds = [make_feed("face", seed=seed) for seed in range(4)]
        answers = [engine.infer(feed)["logits"].copy() for feed in feeds]
        reused = make_feed("face")
        for feed, want in zip(feeds, answers, strict=True):
            reused["image"][:] = feed["image"]
            np.testing.assert_array_equal(engine.infer(reused)["logits"], want)


def test_onnx_unequal_batches(bundle: Bundle) -> None:
    """Two log-mels with three masks are an error; the engine still works afterwards."""
    with OnnxEngine(bundle.model_path("voice"), num_threads=1) as engine:
        odd = {"mel": make_feed("voice", 2)["mel"], "mask": make_feed("voice", 3)["mask"]}
        with pytest.raises(EngineError, match=r"voice\.onnx"):
            engine.infer(odd)
        assert np.isfinite(engine.infer(make_feed("voice", 2))["logits"]).all()


@pytest.mark.parametrize(
    "data", [b"", b"garbage", b"\x08\x08" * 500], ids=["empty", "text", "bits"]
)
def test_not_an_onnx_file(tmp_path: Path, data: bytes) -> None:
    """An EngineError with the path, whatever ONNX Runtime raises."""
    path = tmp_path / "broken.onnx"
    path.write_bytes(data)
    with pytest.raises(EngineError, match=r"broken\.onnx: ONNX Runtime cannot open it"):
        OnnxEngine(path)
    with pytest.raises(EngineError, match=r"none\.onnx"):
        OnnxEngine(tmp_path / "none.onnx")


def test_onnx_other_number_types_are_refused(tmp_path: Path) -> None:
    """A network that wants whole numbers is not one of ours; its input is named."""
    helper = onnx.helper
    ports = [
        helper.make_tensor_value_info(name, onnx.TensorProto.INT64, [1]) for name in ("x", "y")
    ]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])], "g", *[[p] for p in ports]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(tmp_path / "whole.onnx"))
    with pytest.raises(EngineError, match=r"whole\.onnx: x is tensor\(int64\)"):
        OnnxEngine(tmp_path / "whole.onnx")


def test_tensor_spec_check() -> None:
    """None allows any size, but not another number of dimensions."""
    spec = TensorSpec("image", (None, 3, None, None))
    spec.check(np.zeros((2, 3, 4, 5), np.float32))
    for wrong in (np.zeros((2, 3, 4), np.float32), np.zeros((2, 4, 4, 4), np.float32)):
        with pytest.raises(ValueError, match="image: float32"):
            spec.check(wrong)
