"""Bundles for the null engine, with and without a fusion network, and small videos."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_edge.engines.bundles import LABELS
from emotion_edge.engines.bundles.manifest import (
    Bundle,
    FusionEntry,
    Level,
    ModelEntry,
    load_bundle,
    write_manifest,
)
from emotion_edge.engines.face_detector import Detection
from emotion_edge.kernels.spec import ImageSpec, MelSpec
from emotion_edge.training.evaluation.material import Face, whole_face
from emotion_edge.training.evaluation.networks import Networks, open_networks

RATE_HZ = 16_000


class CentralFace:
    """Detects one face of 32 pixels in the middle of every image that is not black."""

    def detect(self, image: NDArray[np.uint8], pixel_format: str) -> list[Detection]:
        height, width = image.shape[:2]
        return [Detection(width / 2, height / 2, 32.0, 1.0)] if image.max() > 20 else []


@pytest.fixture
def bundle(null_bundle: Path) -> Bundle:
    """Face and voice, no fusion network."""
    return load_bundle(null_bundle)


@pytest.fixture
def write_bundle(tmp_path: Path) -> Callable[..., Bundle]:
    """A function (modalities, fusion, provenance, labels) -> a bundle for the null engine."""

    def write(
        modalities: tuple[str, ...] = ("face", "voice"),
        fusion: bool = False,
        provenance: dict[str, Any] | None = None,
        labels: Sequence[str] = LABELS,
    ) -> Bundle:
        folder = tmp_path / "other"
        folder.mkdir(exist_ok=True)
        for name in (*modalities, "fusion"):
            (folder / f"{name}.onnx").write_bytes(b"no network")
        golden = [0.0] * len(labels)
        fields: dict[str, Any] = {
            "name": "other",
            "labels": list(labels),
            "image": ImageSpec(),
            "mel": MelSpec(),
            "levels": [Level("high", 64)],
            "models": {n: ModelEntry(f"{n}.onnx", 1.0, 0.5, golden) for n in modalities},
            "abstain_below": 0.3,
            "metrics": {},
            "provenance": provenance or {},
        }
        if fusion:
            fields["fusion"] = FusionEntry("fusion.onnx", 4, 1.0, golden, [0.5, 0.5])
        return write_manifest(folder, fields)

    return write


@pytest.fixture
def open_null() -> Iterator[Callable[[Bundle, str], Networks]]:
    """A function (bundle, modality) -> its networks, run by the null engine."""
    with ExitStack() as stack:

        def run(bundle: Bundle, modality: str) -> Networks:
            level = bundle.manifest.levels[0]
            return stack.enter_context(open_networks(bundle, modality, "null", level))

        yield run


@pytest.fixture
def found_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every opened detector is a `CentralFace`."""
    folder = "emotion_edge.training.evaluation"
    for module in ("examples", "ravdess_examples"):
        monkeypatch.setattr(f"{folder}.{module}.open_detector", lambda *_: CentralFace())


def make_faces(count: int, every_s: float = 0.1, seed: int = 0) -> tuple[Face, ...]:
    """Faces of noise."""
    rng = np.random.default_rng(seed)
    return tuple(
        whole_face(n * every_s, rng.integers(0, 256, (48, 48), dtype=np.uint8))
        for n in range(count)
    )


def make_voice(seconds: float, seed: int = 0) -> NDArray[np.float32]:
    """Syllables: a tone with noise, three a second."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    tone = np.sin(2 * np.pi * (200 + 40 * seed) * t) + 0.2 * rng.standard_normal(len(t))
    return (0.2 * tone * np.clip(np.sin(2 * np.pi * 3 * t), 0.01, None)).astype(np.float32)


@pytest.fixture
def voice() -> NDArray[np.float32]:
    """Four seconds, 16 kHz."""
    return make_voice(4.0)


@pytest.fixture
def write_video() -> Callable[..., Path]:
    """A function (path, seconds of video, seconds of audio, brightness) -> the path. No video or no
    audio where its seconds are 0; frames are 64 x 48, ten a second."""

    def write(path: Path, video_s: float, audio_s: float, gray: int = 128) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w") as container:
            streams: list[tuple[Any, Any]] = []
            if video_s:
                video = container.add_stream("mpeg4", rate=10)
                video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
                pixels = np.full((48, 64, 3), gray, np.uint8)
                pixels[:, 32:] //= 2
                for i in range(round(10 * video_s)):
                    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                    frame.pts, frame.time_base = i, Fraction(1, 10)
                    streams.append((video, frame))
            if audio_s:
                codec = "pcm_s16le" if path.suffix == ".wav" else "aac"
                audio = container.add_stream(codec, rate=RATE_HZ, layout="mono")
                pcm = (make_voice(audio_s, seed=gray % 7) * 32_767).astype(np.int16)[None]
                block = av.AudioFrame.from_ndarray(pcm, format="s16", layout="mono")
                block.sample_rate = RATE_HZ
                streams.append((audio, block))
            for stream, frame in streams:
                container.mux(stream.encode(frame))
            for stream in container.streams:
                container.mux(stream.encode(None))
        return path

    return write
