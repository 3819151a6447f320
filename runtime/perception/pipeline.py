"""One window in, one estimate out: preprocessing, networks, fusion, smoothing. No threads.

Calm output: an exponential mean over time of the fused probabilities.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

from ...engines.base import Engine, Feed
from ...engines.bundles import FUSION, MODALITIES, Level, Manifest
from ...engines.estimator import ClassProbabilities, calibrate_one, fuse
from ...kernels import Preprocessor
from ...kernels.memory import Tensor
from ..clock import Clock
from ..messages import Estimate, FaceBox, VideoFrame, Window
from .embeddings import EmbeddingMemory
from .vad import is_speech_like

log = logging.getLogger(__name__)


class Smoother:
    """`time_constant_s` 0 passes everything through."""

    RESET_S = 2.0
    """After this long without anything to see or hear, the past is another person's."""

    def __init__(self, time_constant_s: float) -> None:
        self._time_constant_ns = time_constant_s * 1e9
        self._mean: ClassProbabilities | None = None
        self._last_ns = 0

    def update(self, t_ns: int, probabilities: ClassProbabilities) -> ClassProbabilities:
        """The mean up to `t_ns`, which must not go back."""
        elapsed = t_ns - self._last_ns
        self._last_ns = t_ns
        if self._mean is None or elapsed > self.RESET_S * 1e9 or self._time_constant_ns <= 0:
            self._mean = list(probabilities)
        else:
            keep = math.exp(-max(0, elapsed) / self._time_constant_ns)
            self._mean = [
                keep * old + (1 - keep) * new
                for old, new in zip(self._mean, probabilities, strict=True)
            ]
        return self._mean


MAX_VOICE_AGE_NS = 1_000_000_000
"""A voice opinion older than this is not shown beside a new face."""


class Pipeline:
    """Owns nothing it did not make; one thread."""

    def __init__(
        self,
        manifest: Manifest,
        engines: Mapping[str, Engine],
        preprocessor: Preprocessor,
        level: Level,
        clock: Clock,
        smoothing_s: float = 0.5,
        min_level_db: float = -55.0,
    ) -> None:
        """`engines` by modality; one that is missing is a modality that is never seen. With
        "fusion" that network weighs the two, without it their opinions are averaged."""
        self.level = level
        self.non_finite_outputs = dict.fromkeys(engines, 0)
        """Answers that were not finite, by network."""
        self._manifest = manifest
        self._engines = engines
        self._preprocessor = preprocessor
        self._clock = clock
        self._smoother = Smoother(smoothing_s)
        self._min_level_db = min_level_db
        self._weights = {
            name: manifest.models[name].fusion_weight for name in MODALITIES if name in engines
        }
        self._temperatures = {name: manifest.networks[name].temperature for name in engines}
        self._memory: EmbeddingMemory | None = None
        if manifest.fusion is not None and FUSION in engines:
            self._memory = EmbeddingMemory(manifest.fusion.num_faces)
        self._voice: ClassProbabilities | None = None
        self._voice_ns = 0
        self._voice_due_ns: int | None = None
        self._published_us = 0.0
        self._index = 0

    def use_level(self, level: Level, engines: Mapping[str, Engine]) -> None:
        """From the next window on. `engines` are the same networks, at the level's precision."""
        self.level = level
        self._engines = engines
        self._voice_due_ns = None

    def is_voice_due(self, t_ns: int) -> bool:
        """Whether the voice network is to run on the window at `t_ns`."""
        if not self.level.voice or "voice" not in self._engines:
            return False
        return self._voice_due_ns is None or t_ns >= self._voice_due_ns

    def estimate(self, window: Window, captured_ns: int, woke_ns: int) -> Estimate:
        """On `clock`: `captured_ns` is when the picture was captured (in a replay: handed out),
        `woke_ns` when the main thread got hold of it."""
        timer = _StageTimer(self._clock)
        stages = {"wait": (woke_ns - captured_ns) / 1e3, "sync": (timer.last_ns - woke_ns) / 1e3}
        stages.update(preprocess=0.0, face=0.0, voice=0.0)
        modality_probabilities: dict[str, ClassProbabilities] = {}
        if window.frame is not None and window.face is not None and "face" in self._engines:
            image = self._face_input(window.frame, window.face)
            face = self._run("face", window.t_ns, {"image": image}, stages, timer)
            if face is not None:
                modality_probabilities["face"] = face
        if self._memory is not None and "face" not in modality_probabilities:
            if window.frame is None:  # nobody has been seen to leave
                self._memory.forget_old_faces(window.t_ns)
            else:
                self._memory.clear_faces()
        voice = self._estimate_voice(window, stages, timer)
        if voice is not None:
            modality_probabilities["voice"] = voice
        fields = self._make_result(window.t_ns, modality_probabilities)
        stages["fusion"] = timer.lap_us()
        stages["publish"] = self._published_us
        if window.frame is not None:
            self._index = window.frame.index
        return Estimate(
            t_ns=window.t_ns,
            index=self._index,
            **fields,
            skew_ns=window.skew_ns,
            latency_us=(timer.last_ns - captured_ns) / 1e3,
            stages_us=stages,
            level=self.level.name,
        )

    def record_publish_time(self, took_us: float) -> None:
        """How long the sinks took the last estimate; the next one carries it as "publish"."""
        self._published_us = took_us

    def wipe(self) -> None:
        """Overwrite what is kept of faces and voices; for the end of a run."""
        if self._memory is not None:
            self._memory.wipe()

    def _face_input(self, frame: VideoFrame, face: FaceBox) -> Tensor:
        box = (face.x, face.y, face.size)
        return self._preprocessor.face(
            frame.image, box, self.level.face_px, frame.format, frame.device_ptr
        )

    def _estimate_voice(
        self, window: Window, stages: dict[str, float], timer: _StageTimer
    ) -> ClassProbabilities | None:
        """The voice's opinion: a new one when it is due, else the last while it is fresh."""
        if self.is_voice_due(window.t_ns):
            hop_ns = self.level.voice_hop_ms * 1_000_000
            due = window.t_ns if self._voice_due_ns is None else self._voice_due_ns
            self._voice_due_ns = max(due + hop_ns, window.t_ns + hop_ns // 2)
            self._voice, self._voice_ns = None, window.t_ns
            if window.end_column is not None:
                mel = self._preprocessor.mel
                levels = mel.levels_db(window.end_column)
                if is_speech_like(levels, self._min_level_db):
                    view, mask = mel.window(window.end_column)
                    feed = {"mel": view, "mask": mask}
                    self._voice = self._run("voice", window.t_ns, feed, stages, timer)
        elif window.t_ns - self._voice_ns > MAX_VOICE_AGE_NS:
            self._voice = None
        if self._voice is None and self._memory is not None:
            self._memory.forget_voice()
        return self._voice

    def _run(
        self, modality: str, t_ns: int, feed: Feed, stages: dict[str, float], timer: _StageTimer
    ) -> ClassProbabilities | None:
        """Calibrated probabilities, or None when the network gave no numbers."""
        stages["preprocess"] += timer.lap_us()
        outputs = self._engines[modality].infer(feed)
        class_probabilities = calibrate_one(
            outputs["logits"][0].tolist(), self._temperatures[modality]
        )
        good = math.isfinite(
            class_probabilities[0]
        )  # and so is the embedding, which the logits are made of
        if self._memory is not None and good:
            self._memory.add(modality, t_ns, outputs["embedding"])
        stages[modality] = timer.lap_us()
        if good:
            return class_probabilities
        self._count_non_finite(modality)
        return None

    def _count_non_finite(self, network: str) -> None:
        self.non_finite_outputs[network] += 1
        if self.non_finite_outputs[network] == 1:
            log.warning("the %s network gave a NaN; such answers are left out", network)

    def _fuse(
        self, t_ns: int, modality_probabilities: dict[str, ClassProbabilities]
    ) -> tuple[ClassProbabilities, Mapping[str, float]]:
        """Probabilities and the weight of each modality: the fusion network's, or the average of
        the opinions when there is no such network or it gave no numbers."""
        if self._memory is not None:
            feed = self._memory.feed(
                t_ns, face="face" in modality_probabilities, voice="voice" in modality_probabilities
            )
            outputs = self._engines[FUSION].infer(feed)
            fused = calibrate_one(outputs["logits"][0].tolist(), self._temperatures[FUSION])
            weights = outputs["weights"][0].tolist()
            if math.isfinite(fused[0] + sum(weights)):
                named = zip(MODALITIES, weights, strict=True)
                return fused, {
                    name: w if name in modality_probabilities else 0.0 for name, w in named
                }
            self._count_non_finite(FUSION)
            self._memory.clear_faces()  # if one of them was the reason, it must not stay
        return fuse(modality_probabilities, self._weights)

    def _make_result(
        self, t_ns: int, modality_probabilities: dict[str, ClassProbabilities]
    ) -> dict[str, Any]:
        labels = self._manifest.labels
        named = {
            name: dict(zip(labels, class_probabilities, strict=True))
            for name, class_probabilities in modality_probabilities.items()
        }
        fields: dict[str, Any] = {"face": named.get("face"), "voice": named.get("voice")}
        if not modality_probabilities:
            weights = dict.fromkeys(MODALITIES, 0.0)
            return {
                **fields,
                "label": None,
                "confidence": 0.0,
                "probabilities": {},
                "modalities": weights,
                "abstained": True,
            }
        fused, shares = self._fuse(t_ns, modality_probabilities)
        smooth = self._smoother.update(t_ns, fused)
        confidence = max(smooth)
        abstained = confidence < self._manifest.abstain_below
        return {
            **fields,
            "label": None if abstained else labels[smooth.index(confidence)],
            "confidence": confidence,
            "probabilities": dict(zip(labels, smooth, strict=True)),
            "modalities": {name: shares.get(name, 0.0) for name in MODALITIES},
            "abstained": abstained,
        }


class _StageTimer:
    """Laps of the clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.last_ns = clock.now_ns()

    def lap_us(self) -> float:
        now = self._clock.now_ns()
        took, self.last_ns = (now - self.last_ns) / 1e3, now
        return took
