"""Window in, estimate out, with scripted networks. What is fused how: tests/engines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_edge.engines.base import Arrays, TensorSpec
from emotion_edge.engines.bundles import LABELS, FusionEntry, Level, Manifest, ModelEntry
from emotion_edge.engines.face_tracker import FaceBox
from emotion_edge.engines.speech_tracker import Speech, SpeechTracker
from emotion_edge.kernels import Box
from emotion_edge.kernels.spec import ImageSpec, MelSpec
from emotion_edge.runtime.clock import FakeClock
from emotion_edge.runtime.messages import Estimate, VideoFrame, Window
from emotion_edge.runtime.perception.pipeline import Pipeline

MS = 1_000_000
FACE_MS, VOICE_MS, FUSION_MS, CROP_MS, SPEECH_MS = 7, 11, 13, 2, 5
HAPPY = [0.0, 0, 0, 9, 0, 0, 0]
SAD = [0.0, 0, 0, 0, 9, 0, 0]
FEAR = [0.0, 0, 9, 0, 0, 0, 0]
LEVEL = Level("high", 64)
FUSION = FusionEntry("fusion.onnx", 4, 1.0, [0.0] * 7, [0.5, 0.5])


class ScriptedEngine:
    """Gives `logits` in a buffer that it uses again, and takes its time."""

    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()

    def __init__(self, logits: list[float], clock: FakeClock, takes_ms: int) -> None:
        self.logits = logits
        self.feeds: list[Arrays] = []
        self._clock = clock
        self._takes_ms = takes_ms
        self._buffers = {
            "logits": np.zeros((4, len(LABELS)), np.float32),
            "embedding": np.ones((4, 256), np.float32),
            "weights": np.array([[0.25, 0.75]] * 4, np.float32),
        }

    def infer(self, feed: Arrays) -> Arrays:
        self.feeds.append(feed)
        self._clock.advance(self._takes_ms * MS)
        rows = len(next(iter(feed.values())))
        self._buffers["logits"][:] = self.logits
        return {name: array[:rows] for name, array in self._buffers.items()}

    def warm_up(self, feed: Arrays, num_runs: int = 3) -> None: ...

    def close(self) -> None: ...

    def __enter__(self) -> ScriptedEngine:
        return self

    def __exit__(self, *exc: object) -> None: ...


class ScriptedPreprocessor:
    """A preprocessor and its log-mel: speech at `loud_db` with pauses."""

    name = "scripted"
    HISTORY_COLUMNS = 64
    first_column = 0
    next_sample = 0
    num_columns = 10_000
    spec = MelSpec()

    def __init__(self, clock: FakeClock) -> None:
        self.crops: list[tuple[list[Box], int, str]] = []
        self._clock = clock

    @property
    def mel(self) -> ScriptedPreprocessor:
        return self

    def restart(self, first_sample: int) -> None: ...

    def push(self, samples: NDArray[np.float32]) -> int:
        return 0

    def levels_db(self, end_column: int | None = None) -> NDArray[np.float32]:
        return np.full(300, -20.0, np.float32)

    def window(self, end_column: int | None = None) -> tuple[Any, Any]:
        return np.full((1, 64, 300), end_column, np.float32), np.ones((1, 300), np.float32)

    def faces(
        self,
        image: NDArray[np.uint8],
        boxes: Sequence[Box],
        size_px: int,
        pixel_format: str = "bgr8",
        device_ptr: int = 0,
    ) -> NDArray[np.float32]:
        self._clock.advance(CROP_MS * MS)
        self.crops.append((list(boxes), size_px, pixel_format))
        return np.zeros((len(boxes), 3, size_px, size_px), np.float32)


class ScriptedTracker:
    """Says `speech` of every moment, and takes its time."""

    def __init__(self, clock: FakeClock) -> None:
        self.speech = Speech(0.9, True)
        self._clock = clock

    def find(self, sample: float) -> Speech:
        self._clock.advance(SPEECH_MS * MS)
        return self.speech


class Bench:
    """A pipeline with all its parts in reach."""

    def __init__(
        self,
        level: Level = LEVEL,
        smoothing_s: float = 0.0,
        modalities: tuple[str, ...] = ("face", "voice"),
        fusion: FusionEntry | None = None,
        max_faces: int = 1,
    ) -> None:
        models = {
            name: ModelEntry(f"{name}.onnx", 1.0, weight, [0.0] * 7)
            for name, weight in (("face", 0.2), ("voice", 0.6))
        }
        manifest = Manifest(
            format=1,
            name="bench",
            labels=list(LABELS),
            image=ImageSpec(),
            mel=MelSpec(),
            levels=[level],
            models=models,
            abstain_below=0.0,
            files={},
            metrics={},
            provenance={},
            fusion=fusion,
        )
        self.clock = FakeClock(10_000 * MS)
        self.face = ScriptedEngine(HAPPY, self.clock, FACE_MS)
        self.voice = ScriptedEngine(SAD, self.clock, VOICE_MS)
        self.fusion = ScriptedEngine(FEAR, self.clock, FUSION_MS)
        self.preprocessor = ScriptedPreprocessor(self.clock)
        self.tracker = ScriptedTracker(self.clock)
        engines = {"face": self.face, "voice": self.voice, "fusion": self.fusion}
        networks = (*modalities, "fusion") if fusion else modalities
        self.pipeline = Pipeline(
            manifest,
            {name: engines[name] for name in networks},
            self.preprocessor,
            level,
            self.clock,
            smoothing_s,
            max_faces=max_faces,
            speech=cast(SpeechTracker, self.tracker),
        )

    def estimate(
        self,
        t_ms: float,
        face: bool = True,
        audio: bool = True,
        frame: bool = True,
        faces: tuple[FaceBox, ...] = (),
    ) -> Estimate:
        """The estimate for a frame captured at `t_ms`, received 1 ms later and synchronised 3 ms
        after that."""
        t_ns = round(t_ms * MS)
        now_ns = self.clock.now_ns()
        self.clock.advance(4 * MS)
        image = VideoFrame(t_ns, round(t_ms), np.zeros((9, 9, 3), np.uint8)) if frame else None
        boxes = faces or ((FaceBox(1, 2, 3, 1.0, t_ns, 0.4, "anna"),) if face else ())
        due = self.pipeline.is_voice_due(t_ns)
        window = Window(t_ns, image, boxes, 0.0, 500 if audio else None, 5 * MS, 0, due)
        return self.pipeline.estimate(window, now_ns, now_ns + MS)


def test_estimate_of_both_modalities() -> None:
    """Every field, from crop and log-mel to the fused probabilities."""
    bench = Bench()
    estimate = bench.estimate(0)
    assert estimate.modalities == pytest.approx({"face": 0.25, "voice": 0.75})
    assert estimate.face is not None
    assert estimate.voice is not None
    assert max(estimate.face, key=estimate.face.__getitem__) == "happy"
    assert max(estimate.voice, key=estimate.voice.__getitem__) == "sad"
    for label in LABELS:
        mean = 0.25 * estimate.face[label] + 0.75 * estimate.voice[label]
        assert estimate.probabilities[label] == pytest.approx(mean)
    assert estimate.label == "sad"
    assert estimate.confidence == max(estimate.probabilities.values())
    assert (estimate.abstained, estimate.level, estimate.skew_ns) == (False, "high", 5 * MS)
    assert bench.preprocessor.crops == [([(1, 2, 3, 0.4)], 64, "bgr8")]
    assert (bench.voice.feeds[0]["mel"] == 500).all()


def test_estimate_with_a_fusion_network() -> None:
    """Its result, and its time in a stage of its own."""
    estimate = Bench(fusion=FUSION).estimate(0)
    assert estimate.label == "fear"
    assert estimate.modalities == {"face": 0.25, "voice": 0.75}
    assert estimate.stages_us["fusion"] == FUSION_MS * 1e3


def test_estimate_of_nothing() -> None:
    """Neither face nor voice: no label and no numbers."""
    estimate = Bench().estimate(0, face=False, audio=False)
    assert estimate.abstained
    assert (estimate.label, estimate.confidence, estimate.probabilities) == (None, 0.0, {})
    assert (estimate.face, estimate.voice) == (None, None)
    assert estimate.modalities == {"face": 0.0, "voice": 0.0}


def test_silence_is_no_voice() -> None:
    """Audio without enough speech does not reach the network."""
    bench = Bench()
    bench.tracker.speech = Speech(0.4, False)
    estimate = bench.estimate(0)
    assert (estimate.voice, estimate.voice_activity) == (None, 0.4)
    assert bench.voice.feeds == []


@pytest.mark.parametrize("fusion", [None, FUSION])
def test_voice_ends_with_the_speech(fusion: FusionEntry | None) -> None:
    """At the next frame, long before the voice network is due again."""
    bench = Bench(Level("slow", 64, voice_hop_ms=2000), fusion=fusion)
    estimate = bench.estimate(0)
    assert (estimate.voice is not None, estimate.voice_activity) == (True, 0.9)
    bench.tracker.speech = Speech(0.2, False)
    estimate = bench.estimate(33)
    assert estimate.voice is None
    if fusion is not None:
        assert not bench.fusion.feeds[-1]["voice_mask"].any()
    assert bench.estimate(66, face=False).label is None


@pytest.mark.parametrize("modality", ["face", "voice"])
def test_run_with_one_network(modality: str) -> None:
    """The other modality is always missing, and its input is not made."""
    bench = Bench(modalities=(modality,))
    estimate = bench.estimate(0)
    assert {name for name, weight in estimate.modalities.items() if weight} == {modality}
    assert bool(bench.preprocessor.crops) == (modality == "face")


def test_voice_network_runs_when_it_is_due() -> None:
    """Once a hop; in between its last probabilities stay."""
    bench = Bench()
    before = None
    for n in range(60):
        due = bench.pipeline.is_voice_due(round(n * 1000 / 30 * MS))
        count = len(bench.voice.feeds)
        estimate = bench.estimate(n * 1000 / 30)
        assert (len(bench.voice.feeds) > count) == due
        assert due or estimate.voice == before
        before = estimate.voice
    assert len(bench.voice.feeds) == pytest.approx(2000 / LEVEL.voice_hop_ms, abs=1)


def test_level() -> None:
    """The crop's size and the voice follow it, from the next window on."""
    bench = Bench()
    bench.estimate(0)
    low = Level("low", 48, voice=False)
    bench.pipeline.use_level(low, {"face": bench.face, "voice": bench.voice})
    assert not bench.pipeline.is_voice_due(1000 * MS)
    estimate = bench.estimate(1500)
    assert (estimate.level, estimate.voice) == ("low", None)
    assert len(bench.voice.feeds) == 1
    assert [size_px for _, size_px, _ in bench.preprocessor.crops] == [64, 48]


def test_probabilities_outlive_the_output_buffer() -> None:
    """Engines use their output arrays again."""
    bench = Bench()
    voice = bench.estimate(0).voice
    bench.voice.logits = HAPPY
    bench.voice.infer(bench.voice.feeds[-1])
    assert bench.estimate(100).voice == voice


def test_smoothing() -> None:
    """With 0 every frame stands for itself."""
    rough, calm = Bench(), Bench(smoothing_s=1.0)
    for bench in (rough, calm):
        bench.estimate(0, audio=False)
        bench.face.logits = SAD
    assert rough.estimate(100, audio=False).label == "sad"
    assert calm.estimate(100, audio=False).label == "happy"


def test_non_finite_outputs_are_counted() -> None:
    """By network, for the health report."""
    bench = Bench(fusion=FUSION)
    bench.face.logits = bench.voice.logits = [np.nan] * 7
    assert bench.estimate(0).abstained
    assert bench.pipeline.non_finite_outputs == {"face": 1, "voice": 1, "fusion": 0}


@pytest.mark.parametrize(
    ("options", "stages_ms"),
    [
        ({}, {"preprocess": CROP_MS + SPEECH_MS, "face": FACE_MS, "voice": VOICE_MS}),
        ({"face": False}, {"preprocess": SPEECH_MS, "face": 0, "voice": VOICE_MS}),
        ({"audio": False}, {"preprocess": CROP_MS, "face": FACE_MS, "voice": 0}),
        ({"face": False, "audio": False}, {"preprocess": 0, "face": 0, "voice": 0}),
    ],
)
@pytest.mark.parametrize("fusion", [None, FUSION])
def test_stages_sum_up_to_the_latency(
    options: dict[str, bool], stages_ms: dict[str, float], fusion: FusionEntry | None
) -> None:
    """No time is lost between the stages; publishing comes after, and is in the next estimate."""
    bench = Bench(fusion=fusion)
    bench.pipeline.record_publish_time(1234.0)
    estimate = bench.estimate(0, **options)
    fusion_ms = FUSION_MS if fusion and any(stages_ms.values()) else 0
    expected = {"wait": 1, "sync": 3, "fusion": fusion_ms, "publish": 1.234, **stages_ms}
    assert {name: us / 1e3 for name, us in estimate.stages_us.items()} == pytest.approx(expected)
    total_us = sum(us for name, us in estimate.stages_us.items() if name != "publish")
    assert total_us == pytest.approx(estimate.latency_us)


def test_index_without_frames() -> None:
    """Estimates from audio alone have the index of the last frame."""
    bench = Bench()
    assert bench.estimate(0, frame=False, face=False).index == 0
    assert bench.estimate(33).index == 33
    assert bench.estimate(300, frame=False, face=False).index == 33


def test_face_box_without_a_frame_is_ignored() -> None:
    """There is nothing to crop."""
    bench = Bench()
    assert bench.estimate(0, face=True, frame=False).face is None
    assert bench.preprocessor.crops == []


def test_wipe() -> None:
    """The voice of before is not fused after it."""
    bench = Bench()
    bench.estimate(0)
    bench.pipeline.wipe()
    assert bench.estimate(33, face=False).voice is None


# Several faces


def crowd(*names: str) -> tuple[FaceBox, ...]:
    return tuple(FaceBox(10 * n, 20, 30, 0.5, 0, 0.1 * n, name) for n, name in enumerate(names))


def test_all_faces_in_one_call_of_the_network() -> None:
    """Each has its box, score and result in the estimate, the main one first."""
    bench = Bench(max_faces=4)
    estimate = bench.estimate(0, faces=crowd("anna", "ben", "carl"))
    (feed,) = bench.face.feeds
    assert feed["image"].shape == (3, 3, 64, 64)
    assert [face.id for face in estimate.faces] == ["anna", "ben", "carl"]
    assert [face.box for face in estimate.faces] == [(0, 20, 30), (10, 20, 30), (20, 20, 30)]
    assert {face.score for face in estimate.faces} == {0.5}
    main, *others = estimate.faces
    assert main.label == estimate.label == "sad", "fused with the voice"
    assert main.confidence == estimate.confidence
    assert main.probabilities == estimate.probabilities
    assert [face.label for face in others] == ["happy", "happy"]
    assert others[0].probabilities == pytest.approx(estimate.face)


@pytest.mark.parametrize(("max_faces", "of_level", "count"), [(4, 2, 2), (2, 4, 2), (1, 4, 1)])
def test_most_faces(max_faces: int, of_level: int, count: int) -> None:
    """The smaller of the two limits."""
    bench = Bench(Level("high", 64, faces=of_level), max_faces=max_faces)
    estimate = bench.estimate(0, faces=crowd("anna", "ben", "carl"))
    assert [face.id for face in estimate.faces] == ["anna", "ben", "carl"][:count]
    assert len(bench.face.feeds[0]["image"]) == count


def test_no_faces_without_a_frame() -> None:
    """An estimate from audio alone lists none."""
    bench = Bench()
    assert len(bench.estimate(0).faces) == 1
    assert bench.estimate(33, frame=False).faces == ()
    assert bench.estimate(66, face=False).faces == ()


def test_face_that_is_not_trusted_has_no_label() -> None:
    """The network does not run on it, and it is not fused with the voice; its box is there."""
    anna, poster = crowd("anna", "poster")
    poster = replace(poster, trusted=False)
    bench = Bench(max_faces=4)
    estimate = bench.estimate(0, faces=(anna, poster))
    assert len(bench.face.feeds[0]["image"]) == 1
    assert [(face.id, face.label) for face in estimate.faces] == [("anna", "sad"), ("poster", None)]
    assert estimate.faces[1].box == (10, 20, 30)
    assert (estimate.faces[1].confidence, estimate.faces[1].probabilities) == (0.0, {})
    alone = bench.estimate(33, faces=(poster,))
    assert len(bench.face.feeds) == 1
    assert (alone.face, alone.modalities["face"]) == (None, 0.0)
    assert alone.faces[0].label is None
    silent = Bench().estimate(0, faces=(poster,), audio=False)
    assert silent.abstained
    assert silent.label is None
