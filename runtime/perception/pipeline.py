"""One window in, one estimate out: the hot path.

window → face crops → face network → log-mel → voice network → estimator → `Estimate` with the time
that each stage took. Runs on the main thread. State between windows is the estimator's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...engines.base import Engine
from ...engines.bundles import Level, Manifest
from ...engines.estimator import Estimator, FacePrediction
from ...engines.face_tracker import FaceBox
from ...engines.probabilities import ClassProbabilities
from ...engines.speech_tracker import SpeechTracker
from ...kernels import Preprocessor
from ..clock import Clock
from ..messages import Estimate, FaceEstimate, Window
from .voice_gate import VoiceGate


class Pipeline:
    """Closes none of the engines it is given. For one thread."""

    def __init__(
        self,
        manifest: Manifest,
        engines: Mapping[str, Engine],
        preprocessor: Preprocessor,
        level: Level,
        clock: Clock,
        smoothing_s: float = 0.5,
        min_level_db: float = -100.0,
        max_faces: int = 1,
        speech: SpeechTracker | None = None,
    ) -> None:
        """`engines` by network. Without "face" or "voice" that modality is always missing. Without
        "fusion" class probabilities are averaged. `max_faces` limits the faces in one frame, as the
        level does. `speech` and `min_level_db` are for `VoiceGate`."""
        self.level = level
        self._labels = tuple(manifest.labels)
        self._engines = engines
        self._preprocessor = preprocessor
        self._clock = clock
        self._voice_gate = VoiceGate(preprocessor.mel, speech, min_level_db)
        self._estimator = Estimator(manifest, engines, level, smoothing_s, max_faces)
        self._max_faces = max_faces
        self.num_faces = 0
        """Faces in the newest window that the face network ran on."""
        self._published_us = 0.0
        self._index = 0

    @property
    def non_finite_outputs(self) -> Mapping[str, int]:
        """Outputs with a NaN or an infinity, by network. They are ignored."""
        return self._estimator.non_finite_outputs

    @property
    def fault(self) -> str:
        """Why the voice is not used although there is speech; "" for no reason."""
        return self._voice_gate.fault

    def use_level(self, level: Level, engines: Mapping[str, Engine]) -> None:
        """Switch the level from the next window on. `engines` are the same networks, at the level's
        precision."""
        self.level = level
        self._engines = engines
        self._estimator.use_level(level, engines)

    def is_voice_due(self, t_ns: int) -> bool:
        """Return whether the voice network is to run on the window at `t_ns`."""
        return self._estimator.is_voice_due(t_ns)

    def estimate(self, window: Window, captured_ns: int, woke_ns: int) -> Estimate:
        """Run the networks on `window` and fuse them.

        On `clock`, `captured_ns` is the frame's time of capture (in a replay, of its delivery) and
        `woke_ns` is when the main thread received it.
        """
        timer = _StageTimer(self._clock)
        stages = {"wait": (woke_ns - captured_ns) / 1e3, "sync": (timer.last_ns - woke_ns) / 1e3}
        stages.update(preprocess=0.0, face=0.0, voice=0.0)
        t_ns, frame = window.t_ns, window.frame
        most = min(self.level.faces, self._max_faces) if frame is not None else 0
        boxes = window.faces[:most]
        trusted = [box for box in boxes if box.trusted]
        estimator = self._estimator
        self.num_faces = 0

        if frame is not None:
            outputs = None
            if trusted and "face" in self._engines:
                image = self._preprocessor.faces(
                    frame.image,
                    [(box.x, box.y, box.size, box.roll) for box in trusted],
                    self.level.face_px,
                    frame.format,
                    frame.device_ptr,
                )
                stages["preprocess"] += timer.lap_us()
                outputs = self._engines["face"].infer({"image": image})
                self.num_faces = len(trusted)
            estimator.update_faces(t_ns, [box.id for box in trusted], outputs)
            if outputs is not None:
                stages["face"] = timer.lap_us()

        speech = self._voice_gate.check(window)
        if window.voice_due:
            outputs = None
            if speech.is_usable:
                mel, mask = self._preprocessor.mel.window(window.end_column)
                stages["preprocess"] += timer.lap_us()
                outputs = self._engines["voice"].infer({"mel": mel, "mask": mask})
            estimator.update_voice(t_ns, outputs)
            if outputs is not None:
                stages["voice"] = timer.lap_us()
        elif not speech.is_usable:
            estimator.drop_voice()

        prediction = estimator.estimate(t_ns)
        face, voice = self._name(prediction.face), self._name(prediction.voice)
        probabilities = self._name(prediction.probabilities) or {}
        stages["fusion"] = timer.lap_us()
        stages["publish"] = self._published_us

        if frame is not None:
            self._index = frame.index
        return Estimate(
            t_ns=t_ns,
            index=self._index,
            label=prediction.label,
            confidence=prediction.confidence,
            probabilities=probabilities,
            modalities=prediction.weights,
            face=face,
            voice=voice,
            abstained=prediction.abstained,
            skew_ns=window.skew_ns,
            latency_us=(timer.last_ns - captured_ns) / 1e3,
            stages_us=stages,
            level=self.level.name,
            faces=self._list_faces(boxes, prediction.faces),
            voice_activity=speech.activity,
            labels=self._labels,
        )

    def record_publish_time(self, took_us: float) -> None:
        """Store how long the sinks took the last estimate; the next one carries it as "publish"."""
        self._published_us = took_us

    def wipe(self) -> None:
        """Overwrite what is stored of faces and voices; for the end of a run."""
        self._estimator.wipe()

    def _list_faces(
        self, boxes: Sequence[FaceBox], predictions: Sequence[FacePrediction]
    ) -> tuple[FaceEstimate, ...]:
        by_id = {prediction.id: prediction for prediction in predictions}
        faces = []
        for box in boxes:
            of = by_id.get(box.id, FacePrediction(box.id, None, 0.0, []))
            probabilities = self._name(of.probabilities) or {}
            place = box.x, box.y, box.size
            faces.append(
                FaceEstimate(box.id, place, box.score, of.label, of.confidence, probabilities)
            )
        return tuple(faces)

    def _name(self, row: ClassProbabilities | None) -> dict[str, float] | None:
        return dict(zip(self._labels, row, strict=True)) if row else None


class _StageTimer:
    """Measures the laps between stages."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.last_ns = clock.now_ns()

    def lap_us(self) -> float:
        """Return the time since the last lap."""
        now_ns = self._clock.now_ns()
        took_us, self.last_ns = (now_ns - self.last_ns) / 1e3, now_ns
        return took_us
