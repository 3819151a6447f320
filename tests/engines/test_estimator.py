"""Network outputs in, predictions out: fusion, voice schedule, age limits, calibration."""

from __future__ import annotations

import logging
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from emotion_edge.engines.base import Arrays, Engine
from emotion_edge.engines.bundles import LABELS, FusionEntry, Level, Manifest, ModelEntry
from emotion_edge.engines.estimator import Estimator, FacePrediction, Prediction
from emotion_edge.engines.probabilities import calibrate, calibrate_one, fuse_late
from emotion_edge.kernels.spec import ImageSpec, MelSpec

MS = 1_000_000
NUM_FACES = 4
LEVEL = Level("high", 64)
FUSION = FusionEntry("fusion.onnx", NUM_FACES, 1.0, [0.0] * 7, [0.5, 0.5])
BAD = (np.nan, np.inf, -np.inf)


def make_logits(label: str, value: float = 9.0) -> list[float]:
    return [value * (name == label) for name in LABELS]


def make_outputs(label: str | list[float], embedding: float = 0.0) -> dict[str, NDArray[Any]]:
    """Outputs of a face or voice network that is sure of `label`, or has these logits."""
    logits = make_logits(label) if isinstance(label, str) else label
    return {
        "logits": np.array([logits], np.float32),
        "embedding": np.full((1, 256), embedding, np.float32),
    }


HAPPY, SAD = make_outputs("happy"), make_outputs("sad")


class FusionEngine:
    """A fusion network with constant outputs; it stores its inputs."""

    def __init__(self) -> None:
        self.logits = make_logits("fear")
        self.weights = [0.25, 0.75]
        self.feeds: list[dict[str, NDArray[np.float32]]] = []

    def infer(self, feed: Arrays) -> Arrays:
        self.feeds.append({name: array.copy() for name, array in feed.items()})
        rows = len(feed["faces"])
        return {
            "logits": np.array([self.logits] * rows, np.float32),
            "weights": np.array([self.weights] * rows, np.float32),
        }

    def newest(self) -> tuple[list[float], list[float], float, float]:
        """The last input: first number of each face, face mask, first of the voice, voice mask."""
        feed = self.feeds[-1]
        faces, voice = feed["faces"][0, :, 0].tolist(), float(feed["voice"][0, 0])
        return faces, feed["face_mask"][0].tolist(), voice, float(feed["voice_mask"][0, 0])


def make_manifest(
    level: Level = LEVEL,
    abstain_below: float = 0.0,
    weights: tuple[float, float] = (0.5, 0.5),
    temperatures: tuple[float, float] = (1.0, 1.0),
    fusion: FusionEntry | None = None,
) -> Manifest:
    entries = zip(("face", "voice"), temperatures, weights, strict=True)
    return Manifest(
        format=1,
        name="bench",
        labels=list(LABELS),
        image=ImageSpec(),
        mel=MelSpec(),
        levels=[level],
        models={
            name: ModelEntry(f"{name}.onnx", temperature, weight, [0.0] * 7)
            for name, temperature, weight in entries
        },
        abstain_below=abstain_below,
        files={},
        metrics={},
        provenance={},
        fusion=fusion,
    )


class Bench:
    """An estimator and its fusion network, fed as the pipeline does."""

    def __init__(
        self,
        level: Level = LEVEL,
        smoothing_s: float = 0.0,
        abstain_below: float = 0.0,
        weights: tuple[float, float] = (0.5, 0.5),
        temperatures: tuple[float, float] = (1.0, 1.0),
        modalities: tuple[str, ...] = ("face", "voice"),
        fusion: FusionEntry | None = None,
    ) -> None:
        manifest = make_manifest(level, abstain_below, weights, temperatures, fusion)
        self.fusion = FusionEngine()
        networks = (*modalities, "fusion") if fusion else modalities
        self.engines = dict.fromkeys(networks, cast(Engine, self.fusion))
        self.estimator = Estimator(manifest, self.engines, level, smoothing_s)

    def step(
        self,
        t_ms: float,
        face: Arrays | None = HAPPY,
        voice: Arrays | None = SAD,
        frame: bool = True,
    ) -> Prediction:
        """The prediction at `t_ms`; the voice counts only when it is due."""
        t_ns = round(t_ms * MS)
        if frame:
            outputs = face if "face" in self.engines else None
            self.estimator.update_faces(t_ns, () if outputs is None else ("anna",), outputs)
        if self.estimator.is_voice_due(t_ns):
            self.estimator.update_voice(t_ns, voice)
        return self.estimator.estimate(t_ns)


def list_stored(estimator: Estimator) -> list[NDArray[np.float32]]:
    """All arrays with embeddings."""
    fusion_input = estimator._fusion_input
    assert fusion_input is not None
    people = [*estimator._people.values(), *estimator._free]
    rings = [person.memory._ring for person in people if person.memory is not None]
    return [*fusion_input._arrays.values(), *rings]


# One prediction


def test_late_fusion_of_both() -> None:
    """Weighted by the bundle's weights; each modality's own probabilities are beside it."""
    prediction = Bench(weights=(0.2, 0.6)).step(0)
    assert prediction.weights == pytest.approx({"face": 0.25, "voice": 0.75})
    assert prediction.face == pytest.approx(calibrate_one(make_logits("happy"), 1.0))
    assert prediction.voice == pytest.approx(calibrate_one(make_logits("sad"), 1.0))
    rows = np.array([prediction.face, prediction.voice])
    assert prediction.probabilities == pytest.approx([0.25, 0.75] @ rows)
    assert prediction.label == "sad"
    assert prediction.confidence == max(prediction.probabilities)
    assert not prediction.abstained


@pytest.mark.parametrize(
    ("present", "missing", "options"),
    [
        ("face", "voice", {"voice": None}),
        ("voice", "face", {"face": None}),
        ("voice", "face", {"frame": False}),
    ],
)
@pytest.mark.parametrize("fusion", [None, FUSION])
def test_one_modality_missing(
    present: str, missing: str, options: dict[str, Any], fusion: FusionEntry | None
) -> None:
    """The missing one is None with a weight of 0, whatever the fusion network gives it."""
    prediction = Bench(weights=(0.2, 0.6), fusion=fusion).step(0, **options)
    assert getattr(prediction, missing) is None
    assert prediction.weights[missing] == 0.0
    assert not prediction.abstained
    if fusion is None:
        assert prediction.weights[present] == 1.0
        assert prediction.probabilities == pytest.approx(getattr(prediction, present))


@pytest.mark.parametrize("modality", ["face", "voice"])
@pytest.mark.parametrize("fusion", [None, FUSION])
def test_run_with_one_network(modality: str, fusion: FusionEntry | None) -> None:
    """A modality without a network is always missing."""
    prediction = Bench(modalities=(modality,), fusion=fusion).step(0)
    assert {name for name, weight in prediction.weights.items() if weight} == {modality}
    assert set(prediction.weights) == {"face", "voice"}


@pytest.mark.parametrize("fusion", [None, FUSION])
def test_neither_face_nor_voice(fusion: FusionEntry | None) -> None:
    """No label and no numbers, and the fusion network does not run."""
    bench = Bench(fusion=fusion)
    prediction = bench.step(0, face=None, voice=None)
    assert prediction == Prediction(None, 0.0, True, [], {"face": 0.0, "voice": 0.0}, None, None)
    assert bench.fusion.feeds == []


def test_temperature_softens() -> None:
    """Logits are divided by the bundle's temperature before the softmax."""
    prediction = Bench(temperatures=(3.0, 1.0)).step(0, voice=None)
    assert prediction.confidence == pytest.approx(np.exp(3) / (np.exp(3) + 6))


@pytest.mark.parametrize(("below", "abstained"), [(0.5, False), (0.999, False), (0.9999, True)])
def test_abstains_below_the_threshold(below: float, abstained: bool) -> None:
    """There is no label then, but the probabilities are given."""
    prediction = Bench(abstain_below=below).step(0, voice=None)
    assert prediction.confidence == pytest.approx(0.99926, abs=1e-4)
    assert prediction.abstained is abstained
    assert prediction.label == (None if abstained else "happy")
    assert len(prediction.probabilities) == len(LABELS)
    assert prediction.weights["face"] == 1.0


@pytest.mark.parametrize("fusion", [None, FUSION])
def test_smoothing(fusion: FusionEntry | None) -> None:
    """The mean over time decides; a modality's own probabilities stay as they are."""
    bench = Bench(smoothing_s=1.0, fusion=fusion)
    bench.step(0, voice=None)
    bench.fusion.logits = make_logits("sad")
    prediction = bench.step(100, face=SAD, voice=None)
    assert prediction.label == ("fear" if fusion else "happy")
    assert prediction.face is not None
    assert LABELS[int(np.argmax(prediction.face))] == "sad"
    sad = prediction.probabilities[LABELS.index("sad")]
    assert sad == pytest.approx(1 - np.exp(-0.1), rel=0.02)
    assert sum(prediction.probabilities) == pytest.approx(1)


# The voice between two runs of its network


@pytest.mark.parametrize("hop_ms", [100, 200, 250])
def test_voice_is_due_once_a_hop(hop_ms: int) -> None:
    """On average, at 30 frames a second; in between its last probabilities stay."""
    bench = Bench(Level("high", 64, voice_hop_ms=hop_ms))
    due_ms = []
    newest = None
    for n in range(301):
        t_ms = n * 1000 / 30
        due = bench.estimator.is_voice_due(round(t_ms * MS))
        prediction = bench.step(t_ms, voice=make_outputs([t_ms / 1000, *([0.0] * 6)]))
        if due:
            due_ms.append(t_ms)
            newest = prediction.voice
        assert prediction.voice == newest
    assert len(due_ms) == pytest.approx(10_000 / hop_ms + 1, abs=1)
    assert np.diff(due_ms).min() >= hop_ms / 2


def test_no_burst_after_a_pause() -> None:
    """Missed hops are not made up for."""
    bench = Bench()
    bench.step(0)
    due = []
    for t_ms in (5000, 5033, 5066):
        due.append(bench.estimator.is_voice_due(t_ms * MS))
        bench.step(t_ms)
    assert due == [True, False, False]


@pytest.mark.parametrize("fusion", [None, FUSION])
def test_voice_expires(fusion: FusionEntry | None) -> None:
    """Silence at the next hop ends it at once; without a hop it lasts one second. The fusion
    network's input holds nothing of it then."""
    bench = Bench(fusion=fusion)
    voice = make_outputs("sad", embedding=5)
    assert bench.step(0, voice=voice).voice is not None
    assert bench.step(150, voice=None).voice is not None
    assert bench.step(210, voice=None).voice is None
    slow = Bench(Level("high", 64, voice_hop_ms=5000), fusion=fusion)
    slow.step(0, voice=voice)
    assert slow.step(1000).voice is not None
    assert slow.step(1000.001).voice is None
    if fusion is not None:
        assert [feed["voice"][0, 0] for feed in bench.fusion.feeds] == [5, 5, 0]
        assert [feed["voice_mask"][0, 0] for feed in slow.fusion.feeds] == [1, 1, 0]
        assert not slow.fusion.feeds[-1]["voice"].any()


def test_levels() -> None:
    """A level without voice never wants it. With the next level it is due at once."""
    bench = Bench()
    bench.step(0)
    assert not bench.estimator.is_voice_due(33 * MS)
    bench.estimator.use_level(Level("low", 48, voice=False), bench.engines)
    assert not bench.estimator.is_voice_due(10_000 * MS)
    bench.estimator.use_level(LEVEL, bench.engines)
    assert bench.estimator.is_voice_due(33 * MS)


# The fusion network


def test_fusion_network_decides() -> None:
    """Its calibrated probabilities and its weights are the result."""
    bench = Bench(fusion=FUSION)
    prediction = bench.step(0, make_outputs("happy", 3), make_outputs("sad", 5))
    assert prediction.label == "fear"
    assert prediction.confidence == pytest.approx(np.exp(9) / (np.exp(9) + 6))
    assert prediction.weights == {"face": 0.25, "voice": 0.75}
    assert bench.fusion.newest() == ([0, 0, 0, 3], [0, 0, 0, 1], 5, 1)
    warm = Bench(fusion=FusionEntry("fusion.onnx", NUM_FACES, 3.0, [0.0] * 7, [0.5, 0.5]))
    assert warm.step(0).confidence == pytest.approx(np.exp(3) / (np.exp(3) + 6))


def test_fusion_gets_the_newest_faces() -> None:
    """Those of a second, newest last, with the voice of its last run."""
    bench = Bench(Level("high", 64, voice_hop_ms=1000), fusion=FUSION)
    for n in range(1, 8):
        bench.step(333 * n, make_outputs("happy", n), make_outputs("sad", 10 * n))
    assert bench.fusion.newest() == ([4, 5, 6, 7], [1, 1, 1, 1], 50, 1)


def test_frame_without_a_face_clears_the_faces() -> None:
    """The next face starts alone: it may be another person's."""
    bench = Bench(fusion=FUSION)
    for t_ms in (0, 250, 500):
        bench.step(t_ms, make_outputs("happy", 1), make_outputs("sad", 5))
    assert bench.step(533, face=None).face is None
    assert bench.fusion.newest() == ([0, 0, 0, 0], [0, 0, 0, 0], 5, 1)
    bench.step(566, make_outputs("happy", 2))
    assert bench.fusion.newest() == ([0, 0, 0, 2], [0, 0, 0, 1], 5, 1)


def test_faces_outlive_a_window_of_audio_alone() -> None:
    """It fuses no face, and drops none that is younger than a second."""
    bench = Bench(fusion=FUSION)
    for n in range(4):
        bench.step(400 * n, make_outputs("happy", n + 1), make_outputs("sad", 5))
        if n:
            assert bench.fusion.newest()[0] == [0, *range(n - 1, n + 2)][-4:]
        prediction = bench.step(400 * n + 250, voice=make_outputs("sad", 5), frame=False)
        assert bench.fusion.newest() == ([0, 0, 0, 0], [0, 0, 0, 0], 5, 1)
        assert (prediction.face, prediction.weights["face"]) == (None, 0)
    bench.step(2250, make_outputs("happy", 9))
    assert bench.fusion.newest()[:2] == ([0, 0, 0, 9], [0, 0, 0, 1])


def test_faces_expire_without_frames_and_voice() -> None:
    """Their embeddings are overwritten, though the fusion network does not run."""
    bench = Bench(fusion=FUSION)
    fusion_input = bench.estimator._fusion_input
    assert fusion_input is not None
    faces = fusion_input._arrays["faces"]
    bench.step(0, make_outputs("happy", 1), voice=None)
    for t_ms, held in ((1000, True), (1001, False)):
        bench.step(t_ms, voice=None, frame=False)
        assert faces.any() == held


# Several faces


class Crowd:
    """An estimator of several faces."""

    def __init__(self, fusion: FusionEntry | None = None, smoothing_s: float = 0.0) -> None:
        self.bench = Bench(fusion=fusion, smoothing_s=smoothing_s)
        manifest = make_manifest(fusion=fusion)
        engines = self.bench.engines
        self.estimator = Estimator(manifest, engines, LEVEL, smoothing_s, max_faces=3)

    def step(
        self, t_ms: float, faces: dict[str, Arrays], voice: Arrays | None = None
    ) -> Prediction:
        """The prediction at `t_ms` with the outputs of each face by its id, the main one first."""
        t_ns = round(t_ms * MS)
        outputs = None
        if faces:
            outputs = {
                name: np.concatenate([face[name] for face in faces.values()])
                for name in ("logits", "embedding")
            }
        self.estimator.update_faces(t_ns, list(faces), outputs)
        if self.estimator.is_voice_due(t_ns):
            self.estimator.update_voice(t_ns, voice)
        return self.estimator.estimate(t_ns)


def by_label(prediction: Prediction) -> dict[str, str | None]:
    return {face.id: face.label for face in prediction.faces}


def test_each_face_has_its_own_result() -> None:
    """The main one is fused with the voice, and is the whole result; the others are without it."""
    prediction = Crowd().step(0, {"anna": HAPPY, "ben": SAD}, make_outputs("fear", 0.0))
    assert by_label(prediction) == {"anna": prediction.label, "ben": "sad"}
    anna, ben = prediction.faces
    assert anna == FacePrediction(
        "anna", prediction.label, prediction.confidence, prediction.probabilities
    )
    assert prediction.weights == {"face": 0.5, "voice": 0.5}
    assert ben.probabilities == pytest.approx(calibrate_one(make_logits("sad"), 1.0))
    assert prediction.face == pytest.approx(calibrate_one(make_logits("happy"), 1.0))


def test_one_call_of_the_fusion_network_for_all_faces() -> None:
    """Each face in its own row with its own last second; the voice is only in the main one's."""
    crowd = Crowd(FUSION)
    for n in range(3):
        faces = {"anna": make_outputs("happy", n + 1), "ben": make_outputs("sad", 10 * (n + 1))}
        crowd.step(333 * n, faces, make_outputs("fear", 7))
    assert len(crowd.bench.fusion.feeds) == 3
    feed = crowd.bench.fusion.feeds[-1]
    assert feed["faces"][:, :, 0].tolist() == [[0, 1, 2, 3], [0, 10, 20, 30]]
    assert feed["voice_mask"].tolist() == [[1], [0]]
    assert feed["voice"][:, 0].tolist() == [7, 0]


def test_main_face_changes() -> None:
    """The other person's memory and smoothing go with the face: nothing is mixed."""
    crowd = Crowd(FUSION, smoothing_s=10.0)
    fusion = crowd.bench.fusion
    for n in range(3):
        crowd.step(33 * n, {"anna": make_outputs("happy", 1), "ben": make_outputs("sad", 2)})
    fusion.logits = make_logits("sad")
    first = crowd.step(100, {"carl": make_outputs("sad", 3), "anna": make_outputs("happy", 1)})
    assert fusion.feeds[-1]["faces"][:, :, 0].tolist() == [[0, 0, 0, 3], [0, 0, 1, 1]]
    assert by_label(first) == {"carl": "sad", "anna": "fear"}
    assert first.label == "sad", "not smoothed with what Anna showed"
    back = crowd.step(133, {"anna": make_outputs("happy", 1)})
    assert back.label == "fear", "smoothed with what she showed before"


def test_one_face_after_another_is_not_mixed() -> None:
    """Somebody leaves, and somebody else comes: neither embeddings nor smoothing are carried on.
    The same person goes on."""
    for name, label in (("ben", "sad"), ("anna", "fear")):
        crowd = Crowd(FUSION, smoothing_s=10.0)
        crowd.step(0, {"anna": make_outputs("happy", 1)})
        crowd.step(33, {})
        crowd.bench.fusion.logits = make_logits("sad")
        prediction = crowd.step(66, {name: make_outputs("sad", 2)})
        assert prediction.label == label
        assert crowd.bench.fusion.feeds[-1]["faces"][0, :, 0].tolist() == [0, 0, 0, 2]


def test_forgotten_face_is_overwritten() -> None:
    """At once, also in the network's input, and the memory is used again: it does not grow."""
    crowd = Crowd(FUSION)
    stored = list_stored(crowd.estimator)
    for n in range(20):
        names = {f"{letter}{n}": make_outputs("sad", 5) for letter in "abc"}
        crowd.step(33 * n, names)
        assert {id(array) for array in list_stored(crowd.estimator)} == {
            id(array) for array in stored
        }
    crowd.step(700, {"a19": make_outputs("sad", 5)})
    assert sum(array.any() for array in stored[4:]) == 1
    crowd.step(733, {})
    assert not any(array.any() for array in stored if array.shape[-1] == 256)


@pytest.mark.parametrize("bad", ["anna", "ben"])
def test_face_with_non_finite_output(bad: str) -> None:
    """It has no result; the other one has. The voice stays without the main face."""
    crowd = Crowd(FUSION)
    faces = {"anna": make_outputs("happy", 1), "ben": make_outputs("sad", 2)}
    faces[bad] = make_outputs([np.nan] * 7, np.nan)
    prediction = crowd.step(0, faces, make_outputs("fear", 7))
    labels = {"anna": "fear", "ben": "fear", bad: None}
    assert by_label(prediction) == labels
    assert prediction.label == "fear"
    assert (prediction.face is None) == (bad == "anna")
    assert all(np.isfinite(array).all() for array in crowd.bench.fusion.feeds[-1].values())
    silent = Crowd(FUSION).step(0, faces)
    assert silent.label == (None if bad == "anna" else "fear")
    assert by_label(silent) == labels


# Outputs that are not finite


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("modality", ["face", "voice"])
def test_network_with_non_finite_output(
    modality: str, bad: float, caplog: pytest.LogCaptureFixture
) -> None:
    """It counts as missing, with one warning in all, until it recovers."""
    bench = Bench(fusion=FUSION)
    outputs = make_outputs([0, 0, bad, 0, 0, 0, 0], embedding=bad)
    for n in range(3):
        prediction = bench.step(1000 * n, **{modality: outputs})
        assert getattr(prediction, modality) is None
        assert prediction.weights[modality] == 0.0
        assert np.isfinite(prediction.probabilities).all()
        assert all(np.isfinite(array).all() for array in bench.fusion.feeds[-1].values())
    assert bench.estimator.non_finite_outputs == {"face": 0, "voice": 0, "fusion": 0, modality: 3}
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert modality in caplog.text
    assert getattr(bench.step(3000), modality) is not None
    assert bench.step(4000, make_outputs([bad] * 7), make_outputs([bad] * 7)).abstained


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("output", ["logits", "weights"])
def test_fusion_with_non_finite_output(
    output: str, bad: float, caplog: pytest.LogCaptureFixture
) -> None:
    """Late fusion replaces it, with one warning in all, until it recovers."""
    bench = Bench(fusion=FUSION, weights=(0.2, 0.6))
    good = getattr(bench.fusion, output)
    setattr(bench.fusion, output, [bad, *good[1:]])
    for n in range(3):
        prediction = bench.step(1000 * n)
        assert prediction.weights == pytest.approx({"face": 0.25, "voice": 0.75})
        assert prediction.label == "sad"
    assert bench.estimator.non_finite_outputs == {"face": 0, "voice": 0, "fusion": 3}
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "fusion" in caplog.text
    setattr(bench.fusion, output, good)
    assert bench.step(3000).label == "fear"


def test_face_that_breaks_the_fusion_is_dropped() -> None:
    """The next window starts without the stored faces."""
    bench = Bench(fusion=FUSION)
    bench.step(0, make_outputs("happy", 1), make_outputs("sad", 5))
    bench.fusion.logits = [np.nan] * 7
    bench.step(150, make_outputs("happy", np.nan))
    bench.fusion.logits = make_logits("fear")
    assert bench.step(180, make_outputs("happy", 2)).label == "fear"
    assert bench.fusion.newest() == ([0, 0, 0, 2], [0, 0, 0, 1], 5, 1)


@pytest.mark.parametrize("fusion", [None, FUSION])
def test_wipe(fusion: FusionEntry | None) -> None:
    """Nothing of faces and voices is left."""
    bench = Bench(fusion=fusion)
    bench.step(0, make_outputs("happy", 3), make_outputs("sad", 5))
    bench.estimator.wipe()
    if fusion is not None:
        assert not any(array.any() for array in list_stored(bench.estimator))
    assert bench.step(33, face=None).abstained


# Calibration and late fusion

LOGITS = st.lists(st.floats(-1e4, 1e4, width=32), min_size=7, max_size=7)
WEIGHT = st.floats(0.01, 1.0)


@settings(max_examples=50)
@given(logits=LOGITS, temperature=st.floats(0.01, 100))
def test_calibrated_is_a_distribution(logits: list[float], temperature: float) -> None:
    """It sums to 1, is never negative and keeps the order, however large the logits; one row at
    a time gives the same."""
    array = np.array(logits, np.float32)
    probabilities = calibrate(array, temperature)
    assert probabilities.sum() == pytest.approx(1.0)
    assert (probabilities >= 0).all()
    assert probabilities[array.argmax()] == probabilities.max()
    row = calibrate_one(logits, temperature)
    np.testing.assert_allclose(row, probabilities, rtol=1e-9, atol=1e-300)


@pytest.mark.parametrize("bad", BAD)
def test_one_bad_logit_makes_all_nan(bad: float) -> None:
    assert np.isnan(calibrate_one([0.0, bad, 1.0], 1.0)).all()


def test_temperature() -> None:
    """1 is the softmax, higher is less sure, lower is surer; computed by hand for two labels."""
    logits = np.array([[np.log(3.0), 0.0]], np.float32)
    np.testing.assert_allclose(calibrate(logits, 1.0), [[0.75, 0.25]], rtol=1e-6)
    np.testing.assert_allclose(calibrate(logits, 0.5), [[0.9, 0.1]], rtol=1e-6)
    assert calibrate(logits, 4.0)[0, 0] == pytest.approx(3**0.25 / (1 + 3**0.25))


@settings(max_examples=50)
@given(face=LOGITS, voice=LOGITS, face_weight=WEIGHT, voice_weight=WEIGHT)
def test_fused_is_a_distribution(
    face: list[float], voice: list[float], face_weight: float, voice_weight: float
) -> None:
    """Whatever the inputs, it lies between the two, label by label."""
    rows = calibrate_one(face, 1.3), calibrate_one(voice, 0.7)
    fused, shares = fuse_late(*rows, {"face": face_weight, "voice": voice_weight})
    assert sum(fused) == pytest.approx(1.0)
    assert sum(shares.values()) == pytest.approx(1.0)
    assert shares["face"] / shares["voice"] == pytest.approx(face_weight / voice_weight)
    assert (np.array(fused) >= np.minimum(*rows) - 1e-12).all()
    assert (np.array(fused) <= np.maximum(*rows) + 1e-12).all()
