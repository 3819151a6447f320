"""Window in, estimate out, with networks that say what the test tells them."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_edge.engines.base import Arrays, TensorSpec
from emotion_edge.engines.bundles.manifest import LABELS, FusionEntry, Level, Manifest, ModelEntry
from emotion_edge.engines.face_tracker import FaceBox
from emotion_edge.kernels.spec import ImageSpec, MelSpec
from emotion_edge.runtime.clock import FakeClock
from emotion_edge.runtime.messages import Estimate, VideoFrame, Window
from emotion_edge.runtime.perception.pipeline import Pipeline

MS = 1_000_000
FACE_MS, VOICE_MS, CROP_MS, LEVELS_MS = 7, 11, 2, 5
SURE_HAPPY = [0.0, 0, 0, 9, 0, 0, 0]
SURE_SAD = [0.0, 0, 0, 0, 9, 0, 0]
SURE_FEAR = [0.0, 0, 9, 0, 0, 0, 0]
FUSION_MS = 13
NUM_FACES = 4
LEVEL = Level("high", 64)


class ScriptedEngine:
    """Answers with `logits`, in one buffer that it uses again, and takes its time."""

    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()

    def __init__(self, logits: list[float], clock: FakeClock, takes_ms: int) -> None:
        self.logits = logits
        self.feeds: list[Arrays] = []
        self._clock = clock
        self._takes_ms = takes_ms
        self._buffer = np.zeros((1, len(LABELS)), np.float32)
        self.embedding = np.zeros((1, 256), np.float32)

    def infer(self, feed: Arrays) -> Arrays:
        self.feeds.append(feed)
        self._clock.advance(self._takes_ms * MS)
        self._buffer[0] = self.logits
        return {"logits": self._buffer, "embedding": self.embedding}

    def warm_up(self, feed: Arrays) -> None: ...

    def close(self) -> None: ...

    def __enter__(self) -> ScriptedEngine:
        return self

    def __exit__(self, *exc: object) -> None: ...


class ScriptedFusion(ScriptedEngine):
    """Answers `weights` too, and keeps what it was shown as it was then."""

    def __init__(self, logits: list[float], clock: FakeClock, takes_ms: int) -> None:
        super().__init__(logits, clock, takes_ms)
        self.weights = [0.25, 0.75]

    def infer(self, feed: Arrays) -> Arrays:
        kept = {name: array.copy() for name, array in feed.items()}
        answer = super().infer(kept)
        return {"logits": answer["logits"], "weights": np.array([self.weights], np.float32)}

    def shown(self) -> tuple[list[float], list[float], float, float]:
        """Of the last call: first number of each face, face mask, first of the voice, its mask."""
        feed = self.feeds[-1]
        assert {name: array.shape for name, array in feed.items()} == {
            "faces": (1, NUM_FACES, 256),
            "face_mask": (1, NUM_FACES),
            "voice": (1, 256),
            "voice_mask": (1, 1),
        }
        faces, voice = feed["faces"][0, :, 0].tolist(), float(feed["voice"][0, 0])
        return faces, feed["face_mask"][0].tolist(), voice, float(feed["voice_mask"][0, 0])


class ScriptedPreprocessor:
    """A preprocessor and its log-mel: a voice at `loud_db` with pauses."""

    name = "told"
    HISTORY_COLUMNS = 64
    first_column = 0
    next_sample = 0
    num_columns = 10_000
    spec = MelSpec()

    def __init__(self, clock: FakeClock) -> None:
        self.loud_db = -20.0
        self.crops: list[tuple[tuple[float, float, float], int, str]] = []
        self._clock = clock

    @property
    def mel(self) -> ScriptedPreprocessor:
        return self

    def restart(self, first_sample: int) -> None: ...

    def push(self, samples: NDArray[np.float32]) -> int:
        return 0

    def levels_db(self, end_column: int | None = None) -> NDArray[np.float32]:
        self._clock.advance(LEVELS_MS * MS)
        return np.where(np.arange(300) % 60 < 30, self.loud_db, -80.0).astype(np.float32)

    def window(self, end_column: int | None = None) -> tuple[Any, Any]:
        return np.full((1, 64, 300), end_column, np.float32), np.ones((1, 300), np.float32)

    def face(
        self,
        image: NDArray[np.uint8],
        box: tuple[float, float, float],
        size_px: int,
        pixel_format: str = "bgr8",
        device_ptr: int = 0,
    ) -> NDArray[np.float32]:
        self._clock.advance(CROP_MS * MS)
        self.crops.append((box, size_px, pixel_format))
        return np.zeros((1, 3, size_px, size_px), np.float32)


class Bench:
    """A pipeline with all its parts in reach."""

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
        models = {
            name: ModelEntry(f"{name}.onnx", temperature, weight, [0.0] * 7)
            for name, temperature, weight in zip(
                ("face", "voice"), temperatures, weights, strict=True
            )
        }
        manifest = Manifest(
            format=1,
            name="told",
            labels=list(LABELS),
            image=ImageSpec(),
            mel=MelSpec(),
            levels=[level],
            models=models,
            abstain_below=abstain_below,
            files={},
            metrics={},
            provenance={},
            fusion=fusion,
        )
        self.clock = FakeClock(10_000 * MS)
        self.face = ScriptedEngine(SURE_HAPPY, self.clock, FACE_MS)
        self.voice = ScriptedEngine(SURE_SAD, self.clock, VOICE_MS)
        self.preprocessor = ScriptedPreprocessor(self.clock)
        self.fusion = ScriptedFusion(SURE_FEAR, self.clock, FUSION_MS)
        engines = {"face": self.face, "voice": self.voice, "fusion": self.fusion}
        if fusion is not None:
            modalities = (*modalities, "fusion")
        self.pipeline = Pipeline(
            manifest,
            {name: engines[name] for name in modalities},
            self.preprocessor,
            level,
            self.clock,
            smoothing_s,
        )

    def embeddings(self) -> Arrays:
        """The fusion network's input arrays as they are, without its call."""
        memory = self.pipeline._estimator._memory
        assert memory is not None
        return memory.feed(0, face=False, voice=False)

    def estimate(
        self, t_ms: float, face: bool = True, audio: bool = True, frame: bool = True
    ) -> Estimate:
        """The estimate for a picture captured at `t_ms`, got hold of 1 ms later and synchronised
        3 ms after that."""
        t_ns = round(t_ms * MS)
        now_ns = self.clock.now_ns()
        self.clock.advance(4 * MS)
        picture = VideoFrame(t_ns, round(t_ms), np.zeros((9, 9, 3), np.uint8)) if frame else None
        box = FaceBox(1, 2, 3, 1.0, t_ns) if face else None
        window = Window(t_ns, picture, box, 0.0, 500 if audio else None, 5 * MS, 0)
        return self.pipeline.estimate(window, now_ns, now_ns + MS)


def test_both_modalities() -> None:
    """Weighted by the bundle's weights; each one's own opinion is given beside the result."""
    bench = Bench(weights=(0.2, 0.6))
    estimate = bench.estimate(0)
    assert estimate.modalities == pytest.approx({"face": 0.25, "voice": 0.75})
    assert estimate.face is not None
    assert estimate.voice is not None
    assert max(estimate.face, key=estimate.face.__getitem__) == "happy"
    assert max(estimate.voice, key=estimate.voice.__getitem__) == "sad"
    for label in LABELS:
        want = 0.25 * estimate.face[label] + 0.75 * estimate.voice[label]
        assert estimate.probabilities[label] == pytest.approx(want)
    assert estimate.label == "sad"
    assert estimate.confidence == max(estimate.probabilities.values())
    assert (estimate.abstained, estimate.level, estimate.skew_ns) == (False, "high", 5 * MS)
    assert bench.preprocessor.crops == [((1, 2, 3), 64, "bgr8")]


@pytest.mark.parametrize(
    ("there", "missing", "options"),
    [
        ("face", "voice", {"audio": False}),
        ("voice", "face", {"face": False}),
        ("voice", "face", {"face": False, "frame": False}),
    ],
)
def test_one_modality_missing(there: str, missing: str, options: dict[str, bool]) -> None:
    """The other one has all the weight, and the missing one is said to be missing."""
    estimate = Bench(weights=(0.2, 0.6)).estimate(0, **options)
    assert estimate.modalities == {there: 1.0, missing: 0.0}
    assert getattr(estimate, missing) is None
    assert estimate.probabilities == pytest.approx(getattr(estimate, there))
    assert not estimate.abstained


def test_nothing_to_say() -> None:
    """Neither face nor voice: no label, no numbers that look like an answer."""
    estimate = Bench().estimate(0, face=False, audio=False)
    assert estimate.abstained
    assert (estimate.label, estimate.confidence, estimate.probabilities) == (None, 0.0, {})
    assert (estimate.face, estimate.voice) == (None, None)
    assert estimate.modalities == {"face": 0.0, "voice": 0.0}


def test_silence_is_no_voice() -> None:
    """Sound below the level is not shown to the network."""
    bench = Bench()
    bench.preprocessor.loud_db = -56.0
    estimate = bench.estimate(0)
    assert estimate.voice is None
    assert bench.voice.feeds == []
    assert sum(estimate.stages_us.values()) == pytest.approx(estimate.latency_us)
    assert estimate.stages_us["voice"] == 0


@pytest.mark.parametrize("modalities", [("face",), ("voice",)])
def test_bundle_with_one_network(modalities: tuple[str, ...]) -> None:
    """A modality without a network is one that is never seen."""
    estimate = Bench(modalities=modalities).estimate(0)
    assert [name for name, weight in estimate.modalities.items() if weight] == list(modalities)
    assert set(estimate.modalities) == {"face", "voice"}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("modality", ["face", "voice"])
def test_network_with_non_finite_output(
    modality: str, bad: float, caplog: pytest.LogCaptureFixture
) -> None:
    """Its answer is left out and counted, one warning in all; it counts again when it recovers."""
    bench = Bench()
    engine = bench.face if modality == "face" else bench.voice
    good, engine.logits = engine.logits, [0, 0, bad, 0, 0, 0, 0]
    with caplog.at_level(logging.WARNING):
        for n in range(3):
            estimate = bench.estimate(1000 * n)
            assert getattr(estimate, modality) is None
            assert estimate.modalities[modality] == 0.0
            assert np.isfinite(list(estimate.probabilities.values())).all()
    assert bench.pipeline.non_finite_outputs[modality] == 3
    assert sum(bench.pipeline.non_finite_outputs.values()) == 3
    assert len(caplog.records) == 1
    assert f"the {modality} network gave a NaN" in caplog.text
    engine.logits = good
    assert getattr(bench.estimate(3000), modality) is not None


def test_all_networks_broken() -> None:
    """Nothing usable is nothing to say."""
    bench = Bench()
    bench.face.logits = bench.voice.logits = [np.nan] * 7
    assert bench.estimate(0).abstained


@pytest.mark.parametrize("hop_ms", [100, 200, 250])
def test_voice_runs_at_its_own_rate(hop_ms: int) -> None:
    """Once each hop on average at 30 fps; in between its last opinion stays, unchanged."""
    bench = Bench(Level("high", 64, voice_hop_ms=hop_ms))
    times_ms = [n * 1000 / 30 for n in range(301)]
    ran = []
    before: dict[str, float] | None = None
    for t_ms in times_ms:
        bench.voice.logits = [t_ms / 1000, *([0.0] * 6)]
        wanted = bench.pipeline.is_voice_due(round(t_ms * MS))
        count = len(bench.voice.feeds)
        estimate = bench.estimate(t_ms)
        assert (len(bench.voice.feeds) > count) == wanted
        if wanted:
            ran.append(t_ms)
        else:
            assert estimate.voice == before
        before = estimate.voice
    assert len(ran) == pytest.approx(10_000 / hop_ms + 1, abs=1)
    assert np.diff(ran).min() >= hop_ms / 2


def test_no_burst_after_a_pause() -> None:
    """Missed turns are not made up for."""
    bench = Bench()
    bench.estimate(0)
    for t_ms in (5000, 5033, 5066):
        bench.estimate(t_ms)
    assert len(bench.voice.feeds) == 2


def test_stale_voice_is_dropped() -> None:
    """Sound that stopped is noticed at the next turn; between turns an opinion lives a second."""
    bench = Bench()
    assert bench.estimate(0).voice is not None
    assert bench.estimate(150, audio=False).voice is not None
    assert bench.estimate(210, audio=False).voice is None
    slow = Bench(Level("high", 64, voice_hop_ms=5000))
    slow.estimate(0)
    assert slow.estimate(1000).voice is not None
    assert slow.estimate(1000.001).voice is None
    assert len(slow.voice.feeds) == 1


def test_level_without_voice() -> None:
    """The voice network is neither wanted nor run."""
    bench = Bench(Level("low", 48, voice=False))
    assert not bench.pipeline.is_voice_due(0)
    estimate = bench.estimate(0)
    assert bench.voice.feeds == []
    assert estimate.voice is None
    assert estimate.level == "low"
    assert bench.preprocessor.crops[0][1] == 48


def test_class_probabilities_outlive_the_output_buffer() -> None:
    """Engines use their output arrays again; an opinion kept must not change with them."""
    bench = Bench()
    first = bench.estimate(0)
    kept = dict(first.voice or {})
    bench.voice.infer({})  # overwrites its buffer
    bench.voice.logits = SURE_HAPPY
    bench.voice.infer({})
    assert bench.estimate(100).voice == kept


def test_smoothing() -> None:
    """Over time, as long as asked; with 0 every picture stands for itself."""
    rough, calm = Bench(), Bench(smoothing_s=1.0)
    for bench in (rough, calm):
        bench.estimate(0, audio=False)
        bench.face.logits = SURE_SAD
    assert rough.estimate(100, audio=False).label == "sad"
    estimate = calm.estimate(100, audio=False)
    assert estimate.label == "happy"
    assert estimate.face is not None
    assert estimate.face["sad"] > 0.9
    assert estimate.probabilities["sad"] == pytest.approx(1 - np.exp(-0.1), rel=0.02)
    assert sum(estimate.probabilities.values()) == pytest.approx(1)


def test_temperature_softens() -> None:
    """Logits are divided by the bundle's temperature before the softmax."""
    estimate = Bench(temperatures=(3.0, 1.0)).estimate(0, audio=False)
    assert estimate.confidence == pytest.approx(np.exp(3) / (np.exp(3) + 6))


@pytest.mark.parametrize(("below", "abstained"), [(0.5, False), (0.999, False), (0.9999, True)])
def test_abstains_when_unsure(below: float, abstained: bool) -> None:
    """Under the threshold there is no label, but the probabilities are shown."""
    estimate = Bench(abstain_below=below).estimate(0, audio=False)
    assert estimate.confidence == pytest.approx(0.99926, abs=1e-4)
    assert estimate.abstained is abstained
    assert estimate.label == (None if abstained else "happy")
    assert set(estimate.probabilities) == set(LABELS)
    assert estimate.modalities["face"] == 1.0


@pytest.mark.parametrize(
    ("options", "stages_ms"),
    [
        ({}, {"preprocess": CROP_MS + LEVELS_MS, "face": FACE_MS, "voice": VOICE_MS}),
        ({"face": False}, {"preprocess": LEVELS_MS, "face": 0, "voice": VOICE_MS}),
        ({"audio": False}, {"preprocess": CROP_MS, "face": FACE_MS, "voice": 0}),
        ({"face": False, "audio": False}, {"preprocess": 0, "face": 0, "voice": 0}),
    ],
)
def test_stages_sum_up_to_the_latency(
    options: dict[str, bool], stages_ms: dict[str, float]
) -> None:
    """No time is lost between the stages; publishing comes after, and is shown with the next."""
    bench = Bench()
    bench.pipeline.record_publish_time(1234.0)
    estimate = bench.estimate(0, **options)
    want = {"wait": 1, "sync": 3, "fusion": 0, "publish": 1.234, **stages_ms}
    assert {name: us / 1e3 for name, us in estimate.stages_us.items()} == pytest.approx(want)
    total = sum(us for name, us in estimate.stages_us.items() if name != "publish")
    assert total == pytest.approx(estimate.latency_us)


def test_index_without_frames() -> None:
    """Estimates of sound alone go by the number of the last picture."""
    bench = Bench()
    assert bench.estimate(0, frame=False, face=False).index == 0
    assert bench.estimate(33).index == 33
    assert bench.estimate(300, frame=False, face=False).index == 33


def test_face_box_without_a_frame_is_ignored() -> None:
    """A box of the past has nothing to be cut from."""
    estimate = Bench().estimate(0, face=True, frame=False)
    assert estimate.face is None


# With a fusion network

FUSION = FusionEntry("fusion.onnx", NUM_FACES, 1.0, [0.0] * 7, [0.5, 0.5])


def show(bench: Bench, face: float | None = None, voice: float | None = None) -> None:
    """What the networks will say to the next window, as embeddings full of one number."""
    if face is not None:
        bench.face.embedding[:] = face
    if voice is not None:
        bench.voice.embedding[:] = voice


def test_fusion_network_decides() -> None:
    """Its probabilities and weights are the result; each network's own opinion stays beside it."""
    bench = Bench(fusion=FUSION)
    show(bench, face=3, voice=5)
    estimate = bench.estimate(0)
    assert estimate.label == "fear"
    assert estimate.probabilities["fear"] == pytest.approx(np.exp(9) / (np.exp(9) + 6))
    assert estimate.modalities == {"face": 0.25, "voice": 0.75}
    assert estimate.face is not None
    assert estimate.voice is not None
    assert max(estimate.face, key=estimate.face.__getitem__) == "happy"
    assert max(estimate.voice, key=estimate.voice.__getitem__) == "sad"
    assert bench.fusion.shown() == ([0, 0, 0, 3], [0, 0, 0, 1], 5, 1)
    assert bench.pipeline.non_finite_outputs == {"face": 0, "voice": 0, "fusion": 0}


def test_fusion_is_calibrated_and_smoothed() -> None:
    """Its own temperature; then the same calm as any other result."""
    entry = FusionEntry("fusion.onnx", NUM_FACES, 3.0, [0.0] * 7, [0.5, 0.5])
    bench = Bench(fusion=entry, smoothing_s=1.0)
    estimate = bench.estimate(0)
    assert estimate.confidence == pytest.approx(np.exp(3) / (np.exp(3) + 6))
    bench.fusion.logits = SURE_SAD
    assert bench.estimate(100).label == "fear"


def test_fusion_gets_the_newest_faces() -> None:
    """A second of them, newest last; the voice is that of its last run."""
    bench = Bench(Level("high", 64, voice_hop_ms=1000), fusion=FUSION)
    show(bench, voice=50)
    for n in range(1, 7):
        show(bench, face=n)
        bench.estimate(333 * n)
        show(bench, voice=60)
    assert bench.fusion.shown() == ([3, 4, 5, 6], [1, 1, 1, 1], 60, 1)
    show(bench, face=7, voice=70)
    bench.estimate(333 * 7)
    assert bench.fusion.shown() == ([4, 5, 6, 7], [1, 1, 1, 1], 60, 1)


def test_lost_face_leaves_the_fusion() -> None:
    """From one window to the next; who comes back starts afresh."""
    bench = Bench(fusion=FUSION)
    show(bench, face=1, voice=5)
    for t_ms in (0, 250, 500):
        bench.estimate(t_ms)
    bench.fusion.weights = [0.0, 1.0]
    estimate = bench.estimate(533, face=False)
    assert bench.fusion.shown() == ([0, 0, 0, 0], [0, 0, 0, 0], 5, 1)
    assert estimate.modalities == {"face": 0, "voice": 1}
    assert estimate.face is None
    show(bench, face=2)
    bench.estimate(566)
    assert bench.fusion.shown() == ([0, 0, 0, 2], [0, 0, 0, 1], 5, 1)


def test_faces_outlive_a_window_of_audio_alone() -> None:
    """It shows the fusion no face, and forgets none that is younger than a second."""
    bench = Bench(fusion=FUSION)
    for n in range(4):
        show(bench, face=n + 1, voice=5)
        bench.estimate(400 * n)
        if n:
            assert bench.fusion.shown()[0] == [0, *range(n - 1, n + 2)][-4:]
        estimate = bench.estimate(400 * n + 250, face=False, frame=False)
        assert bench.fusion.shown() == ([0, 0, 0, 0], [0, 0, 0, 0], 5, 1)
        assert estimate.face is None
        assert estimate.modalities["face"] == 0
    show(bench, face=9)
    bench.estimate(2250)
    assert bench.fusion.shown()[:2] == ([0, 0, 0, 9], [0, 0, 0, 1])


def test_faces_grow_old_without_frames_and_voice() -> None:
    """Nothing of them is kept, though the fusion is not asked."""
    bench = Bench(fusion=FUSION)
    memory = bench.pipeline._estimator._memory
    assert memory is not None
    show(bench, face=1)
    shown = memory.feed(0, face=True, voice=False)  # the arrays that each call fills
    for t_ms, held in ((0, 1), (1000, 1), (1001, 0)):
        bench.estimate(t_ms, face=t_ms == 0, frame=t_ms == 0, audio=False)
        assert shown["faces"].any() == bool(held)
        assert memory.feed(0, face=True, voice=False)["face_mask"].sum() == held


def test_faces_before_a_gap_are_not_shown() -> None:
    """The camera was away for longer than a face keeps its expression."""
    bench = Bench(fusion=FUSION)
    show(bench, face=1)
    bench.estimate(0)
    show(bench, face=2)
    bench.estimate(1500)
    assert bench.fusion.shown()[:2] == ([0, 0, 0, 2], [0, 0, 0, 1])


def test_fusion_uses_a_voice_embedding_while_it_is_fresh() -> None:
    """Silence at its turn takes it out; so does the second after which it is stale. Then nothing
    is kept of it."""
    bench = Bench(fusion=FUSION)
    show(bench, voice=5)
    bench.estimate(0)
    assert bench.fusion.shown()[2:] == (5, 1)
    bench.estimate(210, audio=False)
    assert bench.fusion.shown()[2:] == (0, 0)
    slow = Bench(Level("high", 64, voice_hop_ms=5000), fusion=FUSION)
    show(slow, voice=5)
    slow.estimate(0)
    slow.estimate(1000)
    assert slow.fusion.shown()[2:] == (5, 1)
    slow.estimate(1000.001)
    assert slow.fusion.shown()[2:] == (0, 0)


def test_fusion_is_not_asked_about_nothing() -> None:
    """Neither face nor voice: it does not run."""
    bench = Bench(fusion=FUSION)
    assert bench.estimate(0, face=False, audio=False).abstained
    assert bench.fusion.feeds == []


@pytest.mark.parametrize(
    ("missing", "options"), [("face", {"face": False}), ("voice", {"audio": False})]
)
def test_fusion_runs_on_one_modality(missing: str, options: dict[str, bool]) -> None:
    """It was trained for that as well; a weight it gives to what is missing is not shown."""
    bench = Bench(fusion=FUSION)
    estimate = bench.estimate(0, **options)
    assert estimate.label == "fear"
    assert estimate.modalities == {"face": 0.25, "voice": 0.75, missing: 0.0}
    assert getattr(estimate, missing) is None
    _, faces, _, voice = bench.fusion.shown()
    assert (faces[-1], voice) == ((0, 1) if missing == "face" else (1, 0))


@pytest.mark.parametrize("modality", ["face", "voice"])
def test_fusion_with_one_network_left_out(modality: str) -> None:
    """A run without the other network shows the fusion only this one."""
    bench = Bench(fusion=FUSION, modalities=(modality,))
    show(bench, face=3, voice=5)
    assert bench.estimate(0).label == "fear"
    want = ([0, 0, 0, 3], [0, 0, 0, 1], 0, 0)
    assert bench.fusion.shown() == (want if modality == "face" else ([0] * 4, [0] * 4, 5, 1))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("output", ["logits", "weights"])
def test_fusion_with_non_finite_output(
    output: str, bad: float, caplog: pytest.LogCaptureFixture
) -> None:
    """Then the opinions are averaged as without it, and it is counted, with one warning."""
    bench = Bench(fusion=FUSION, weights=(0.2, 0.6))
    good = getattr(bench.fusion, output)
    setattr(bench.fusion, output, [bad, *good[1:]])
    with caplog.at_level(logging.WARNING):
        for n in range(3):
            estimate = bench.estimate(1000 * n)
            assert estimate.modalities == pytest.approx({"face": 0.25, "voice": 0.75})
            assert estimate.label == "sad"
    assert bench.pipeline.non_finite_outputs == {"face": 0, "voice": 0, "fusion": 3}
    assert len(caplog.records) == 1
    assert "the fusion network gave a NaN" in caplog.text
    setattr(bench.fusion, output, good)
    assert bench.estimate(3000).label == "fear"


def test_non_finite_face_embedding_is_dropped() -> None:
    """What made the fusion fail may be a face it is shown: the next window starts without it."""
    bench = Bench(fusion=FUSION)
    show(bench, face=1, voice=5)
    bench.estimate(0)
    show(bench, face=np.nan)
    bench.fusion.logits = [np.nan] * 7
    bench.estimate(150)
    bench.fusion.logits = SURE_FEAR
    show(bench, face=2)
    assert bench.estimate(180).label == "fear"
    assert bench.fusion.shown() == ([0, 0, 0, 2], [0, 0, 0, 1], 5, 1)
    assert bench.pipeline.non_finite_outputs == {"face": 0, "voice": 0, "fusion": 1}


def test_bad_answers_leave_no_embedding() -> None:
    """A network that gave no numbers is missing in the fusion as well."""
    bench = Bench(fusion=FUSION)
    show(bench, face=1, voice=5)
    bench.face.logits = [np.nan] * 7
    bench.estimate(0)
    assert bench.fusion.shown() == ([0, 0, 0, 0], [0, 0, 0, 0], 5, 1)
    bench.voice.logits = [np.nan] * 7
    assert bench.estimate(300).abstained
    assert len(bench.fusion.feeds) == 1


def test_fusion_time_is_counted() -> None:
    """In its own stage, and in the latency."""
    estimate = Bench(fusion=FUSION).estimate(0)
    assert estimate.stages_us["fusion"] == FUSION_MS * 1e3
    total = sum(us for name, us in estimate.stages_us.items() if name != "publish")
    assert total == pytest.approx(estimate.latency_us)


def test_wipe() -> None:
    """Nothing of faces and voices is left, with a fusion network and without."""
    bench = Bench(fusion=FUSION)
    show(bench, face=3, voice=5)
    bench.estimate(0)
    bench.pipeline.wipe()
    assert not any(array.any() for name, array in bench.embeddings().items() if "mask" not in name)
    assert bench.estimate(33, face=False).voice is None
    bench = Bench()
    bench.estimate(0)
    bench.pipeline.wipe()
    assert bench.estimate(33, face=False).voice is None
