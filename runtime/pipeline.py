"""One window in, one estimate out: preprocessing, networks, fusion, smoothing. No threads."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

from ..engines.base import Engine, Feed
from ..engines.bundle import FUSION, MODALITIES, Level, Manifest
from ..engines.fusion import Opinion, calibrate_one, fuse
from ..kernels import Preprocessor
from ..kernels.device_array import Tensor
from .clock import Clock
from .embeddings import EmbeddingMemory
from .messages import Estimate, FaceBox, VideoFrame, Window
from .smoothing import Smoother
from .speech import is_speech_like

log = logging.getLogger(__name__)

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
        self.bad_outputs = dict.fromkeys(engines, 0)
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
        self._voice: Opinion | None = None
        self._voice_ns = 0
        self._voice_due_ns: int | None = None
        self._published_us = 0.0
        self._index = 0

    def use_level(self, level: Level, engines: Mapping[str, Engine]) -> None:
        """From the next window on. `engines` are the same networks, at the level's precision."""
        self.level = level
        self._engines = engines
        self._voice_due_ns = None

    def wants_voice(self, t_ns: int) -> bool:
        """Whether the voice network is to run on the window at `t_ns`."""
        if not self.level.voice or "voice" not in self._engines:
            return False
        return self._voice_due_ns is None or t_ns >= self._voice_due_ns

    def estimate(self, window: Window, captured_ns: int, woke_ns: int) -> Estimate:
        """On `clock`: `captured_ns` is when the picture was captured (in a replay: handed out),
        `woke_ns` when the main thread got hold of it."""
        marks = _StageMarks(self._clock)
        stages = {"wait": (woke_ns - captured_ns) / 1e3, "sync": (marks.last_ns - woke_ns) / 1e3}
        stages.update(preprocess=0.0, face=0.0, voice=0.0)
        opinions: dict[str, Opinion] = {}
        if window.frame is not None and window.face is not None and "face" in self._engines:
            image = self._face_input(window.frame, window.face)
            face = self._run("face", window.t_ns, {"image": image}, stages, marks)
            if face is not None:
                opinions["face"] = face
        if self._memory is not None and "face" not in opinions:
            if window.frame is None:  # nobody has been seen to leave
                self._memory.forget_old_faces(window.t_ns)
            else:
                self._memory.forget_faces()
        voice = self._listen(window, stages, marks)
        if voice is not None:
            opinions["voice"] = voice
        fields = self._conclude(window.t_ns, opinions)
        stages["fusion"] = marks.lap_us()
        stages["publish"] = self._published_us
        if window.frame is not None:
            self._index = window.frame.index
        return Estimate(
            t_ns=window.t_ns,
            index=self._index,
            **fields,
            skew_ns=window.skew_ns,
            latency_us=(marks.last_ns - captured_ns) / 1e3,
            stages_us=stages,
            level=self.level.name,
        )

    def note_published(self, took_us: float) -> None:
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

    def _listen(
        self, window: Window, stages: dict[str, float], marks: _StageMarks
    ) -> Opinion | None:
        """The voice's opinion: a new one when it is due, else the last while it is fresh."""
        if self.wants_voice(window.t_ns):
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
                    self._voice = self._run("voice", window.t_ns, feed, stages, marks)
        elif window.t_ns - self._voice_ns > MAX_VOICE_AGE_NS:
            self._voice = None
        if self._voice is None and self._memory is not None:
            self._memory.forget_voice()
        return self._voice

    def _run(
        self, modality: str, t_ns: int, feed: Feed, stages: dict[str, float], marks: _StageMarks
    ) -> Opinion | None:
        """Calibrated probabilities, or None when the network gave no numbers."""
        stages["preprocess"] += marks.lap_us()
        answer = self._engines[modality].infer(feed)
        opinion = calibrate_one(answer["logits"][0].tolist(), self._temperatures[modality])
        good = math.isfinite(opinion[0])  # and so is the embedding, which the logits are made of
        if self._memory is not None and good:
            self._memory.add(modality, t_ns, answer["embedding"])
        stages[modality] = marks.lap_us()
        if good:
            return opinion
        self._count_bad(modality)
        return None

    def _count_bad(self, network: str) -> None:
        self.bad_outputs[network] += 1
        if self.bad_outputs[network] == 1:
            log.warning("the %s network gave a NaN; such answers are left out", network)

    def _weigh(
        self, t_ns: int, opinions: dict[str, Opinion]
    ) -> tuple[Opinion, Mapping[str, float]]:
        """Probabilities and the weight of each modality: the fusion network's, or the average of
        the opinions when there is no such network or it gave no numbers."""
        if self._memory is not None:
            feed = self._memory.feed(t_ns, face="face" in opinions, voice="voice" in opinions)
            answer = self._engines[FUSION].infer(feed)
            fused = calibrate_one(answer["logits"][0].tolist(), self._temperatures[FUSION])
            weights = answer["weights"][0].tolist()
            if math.isfinite(fused[0] + sum(weights)):
                named = zip(MODALITIES, weights, strict=True)
                return fused, {name: w if name in opinions else 0.0 for name, w in named}
            self._count_bad(FUSION)
            self._memory.forget_faces()  # if one of them was the reason, it must not stay
        return fuse(opinions, self._weights)

    def _conclude(self, t_ns: int, opinions: dict[str, Opinion]) -> dict[str, Any]:
        labels = self._manifest.labels
        named = {
            name: dict(zip(labels, opinion, strict=True)) for name, opinion in opinions.items()
        }
        fields: dict[str, Any] = {"face": named.get("face"), "voice": named.get("voice")}
        if not opinions:
            weights = dict.fromkeys(MODALITIES, 0.0)
            return {
                **fields,
                "label": None,
                "confidence": 0.0,
                "probabilities": {},
                "modalities": weights,
                "abstained": True,
            }
        fused, shares = self._weigh(t_ns, opinions)
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


class _StageMarks:
    """Laps of the clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.last_ns = clock.now_ns()

    def lap_us(self) -> float:
        now = self._clock.now_ns()
        took, self.last_ns = (now - self.last_ns) / 1e3, now
        return took
