"""What the tests of the runtime share: films made on the spot, a sink that keeps, runs without
models."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_edge.runtime.config import Config, load_config
from emotion_edge.runtime.messages import Estimate
from emotion_edge.runtime.quality import profiling

Image = tuple[float, NDArray[np.uint8]]


class Collector:
    """A sink that keeps every estimate."""

    def __init__(self) -> None:
        self.estimates: list[Estimate] = []
        self.on_publish: Callable[[Estimate], None] = lambda _: None

    def publish(self, estimate: Estimate) -> None:
        self.estimates.append(estimate)
        self.on_publish(estimate)

    def close(self) -> None: ...


@pytest.fixture(autouse=True)
def _fast_level_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits for what a level costs to be known well."""
    monkeypatch.setattr(profiling, "START_S", 0.0)


@pytest.fixture
def collector() -> Collector:
    return Collector()


@pytest.fixture
def configure(null_bundle: Path) -> Callable[..., Config]:
    """A function (source, settings) -> a configuration with the null engine, and a budget that no
    machine misses."""

    def make(source: object, *settings: str) -> Config:
        fixed = [f"source.name='{source}'", f"bundle='{null_bundle}'", "engines.name=null"]
        return load_config(None, [*fixed, "budget_ms=10000", *settings])

    return make


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Programs that the test starts heed SIGINT: a shell that starts the tests in the background
    has it ignored, and what is ignored is inherited."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def no_thread_left() -> Iterator[None]:
    """Whatever the test starts must have ended with it."""
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) - before == set()


def write_video(
    path: Path,
    images: Sequence[Image] = (),
    sound: NDArray[np.float32] | None = None,
    *,
    rate_hz: int = 16000,
    video: str = "mpeg4",
    pixels: str = "yuv420p",
    audio: str = "aac",
) -> Path:
    """Encode pictures (time in seconds, BGR) and sound (channels, n)."""
    with av.open(str(path), "w") as container:
        if images:
            film: Any = container.add_stream(video, rate=30)
            film.height, film.width = images[0][1].shape[:2]
            film.pix_fmt = pixels
            film.codec_context.time_base = Fraction(1, 1000)
        if sound is not None:
            layout = {1: "mono", 2: "stereo"}[len(sound)]
            track: Any = container.add_stream(audio, rate=rate_hz, layout=layout)
        for t_s, image in images:
            picture = av.VideoFrame.from_ndarray(image, format="bgr24")
            picture.pts, picture.time_base = round(t_s * 1000), Fraction(1, 1000)
            container.mux(film.encode(picture))
        if images:
            container.mux(film.encode(None))
        if sound is not None:
            context = track.codec_context
            to_codec = av.AudioResampler(context.format.name, layout, rate_hz)
            step = context.frame_size or rate_hz // 50
            for at in range(0, sound.shape[1], step):
                piece = np.ascontiguousarray(sound[:, at : at + step])
                block = av.AudioFrame.from_ndarray(piece, format="fltp", layout=layout)
                block.sample_rate = rate_hz
                for ready in to_codec.resample(block):
                    ready.pts, ready.time_base = at, Fraction(1, rate_hz)
                    container.mux(track.encode(ready))
            container.mux(track.encode(None))
    return path


@pytest.fixture
def make_video(tmp_path: Path) -> Callable[..., Path]:
    """A function (name, what `write_video` takes) -> path of a new film."""

    def make(name: str, *what: object, **options: object) -> Path:
        return write_video(tmp_path / name, *what, **options)  # type: ignore[arg-type]

    return make
