"""Opening a run, with a fake GPU and a fake TensorRT, and the times that a run records."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import emotion_edge.engines
import emotion_edge.kernels
from emotion_edge.engines.base import Arrays, EngineError, Feed, GpuHangsError
from emotion_edge.engines.bundles import Level
from emotion_edge.engines.null import NullEngine
from emotion_edge.runtime import session
from emotion_edge.runtime.clock import FakeClock, MonotonicClock
from emotion_edge.runtime.config import Config, load_config
from emotion_edge.runtime.messages import SourceError, Window
from emotion_edge.runtime.quality import levels as quality_levels
from emotion_edge.runtime.quality.levels import RunLevel
from emotion_edge.runtime.session import Runtime, open_runtime, warm_up_several_faces

from ..engines.fake_cuda import FakeGpu
from ..engines.fake_tensorrt import use_fake_tensorrt

if TYPE_CHECKING:
    from .conftest import Collector

MS = 1_000_000

# Opening


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeGpu:
    """A GPU for the engines. The kernels have none, so the CPU preprocesses."""
    monkeypatch.setattr(emotion_edge.engines, "has_gpu", lambda: True)
    monkeypatch.setattr(emotion_edge.kernels, "has_gpu", lambda: False)
    return use_fake_tensorrt(monkeypatch, tmp_path / "cache")


@pytest.mark.usefixtures("gpu")
def test_networks_on_a_gpu() -> None:
    """Face and voice run on TensorRT, the fusion network on the CPU."""
    with open_runtime(load_config(None), MonotonicClock()) as runtime:
        assert dict(runtime.engines) == {
            "face": "tensorrt fp16",
            "voice": "tensorrt fp16",
            "fusion": "onnx fp32",
        }


def test_auto_falls_back_from_an_engine_with_wrong_output(
    gpu: FakeGpu, caplog: pytest.LogCaptureFixture
) -> None:
    """It runs on ONNX Runtime, with one warning per network."""
    gpu.is_off_by = 1.0
    with (
        caplog.at_level(logging.WARNING, "emotion_edge"),
        open_runtime(load_config(None), MonotonicClock()) as runtime,
    ):
        assert set(runtime.engines.values()) == {"onnx fp32"}
        assert not runtime.on_gpu
    levels = [record for record in caplog.records if record.name == quality_levels.__name__]
    assert levels
    assert all(record.args and isinstance(record.args[0], EngineError) for record in levels)  # type: ignore[index]


def test_configured_engine_with_wrong_output_fails(gpu: FakeGpu) -> None:
    """No other engine replaces `engines.name`."""
    gpu.is_off_by = 1.0
    config = load_config(None, ["engines.name=tensorrt"])
    with (
        pytest.raises(EngineError),
        open_runtime(config, MonotonicClock()),
    ):
        pass


def test_gpu_that_hangs_ends_the_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At once, with the reason on stderr, because closing would hang too."""

    def leave(code: int) -> None:
        raise SystemExit(code)

    def hang(*_: object) -> None:
        raise GpuHangsError("face fp16: the GPU has not answered for 5 s")

    monkeypatch.setattr(session.os, "_exit", leave)
    config = load_config(None, ["engines.name=null"])
    window = Window(0, None, (), None, None, 0, 0, False)
    with open_runtime(config, MonotonicClock()) as runtime:
        monkeypatch.setattr(runtime.pipeline, "estimate", hang)
        with pytest.raises(SystemExit) as left:
            runtime.process(window, 0, 0, [])
    assert left.value.code == session.EXIT_GPU_HANGS
    assert capsys.readouterr().err == "face fp16: the GPU has not answered for 5 s\n"


@pytest.mark.parametrize(
    ("controlled", "socket", "counted"),
    [(True, "/run/systemd/notify", True), (True, "", False), (False, "/run/systemd/notify", False)],
)
def test_only_starts_of_the_service_are_counted(
    monkeypatch: pytest.MonkeyPatch, controlled: bool, socket: str, counted: bool
) -> None:
    """A run by hand or a benchmark has no effect on the trial of a bundle."""
    monkeypatch.setenv("NOTIFY_SOCKET", socket)
    starting_values: list[bool] = []

    def choose(*_: object, starting: bool) -> None:
        starting_values.append(starting)
        raise EngineError("end of the test")

    monkeypatch.setattr(session, "choose_bundle", choose)
    with (
        pytest.raises(EngineError, match="end of the test"),
        open_runtime(load_config(None), MonotonicClock(), controlled=controlled),
    ):
        pass
    assert starting_values == [counted]


def test_face_detector_opens_before_the_bundle_is_chosen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A missing YuNet file does not count against the bundle."""
    monkeypatch.setattr(session, "choose_bundle", lambda *_, **__: pytest.fail("chosen"))
    config = load_config(None, [f"face.yunet_file='{tmp_path / 'none.onnx'}'"])
    with pytest.raises(SourceError, match=r"none\.onnx"):
        open_runtime(config, MonotonicClock()).__enter__()


# Publishing


class SlowRun:
    """A run on a fake clock whose sink takes time."""

    def __init__(self, runtime: Runtime, clock: FakeClock, collector: Collector) -> None:
        self.runtime = runtime
        self.collector = collector
        self._clock = clock

    def process(self, captured_ms: float, woke_ms: float, publish_ms: float) -> str | None:
        """Estimate a window and publish it for `publish_ms` -> the cause of its miss, if any."""
        woke_ns = round(woke_ms * MS)
        self._clock.advance(woke_ns - self._clock.now_ns())
        self.collector.on_publish = lambda _: self._clock.advance(round(publish_ms * MS))
        window = Window(round(captured_ms * MS), None, (), None, None, 0, 0, False)
        self.runtime.process(window, window.t_ns, woke_ns, [self.collector])
        return self.runtime.trace.rows()[-1].cause


@pytest.fixture
def slow(configure: Callable[..., Config], collector: Collector) -> Iterator[SlowRun]:
    clock = FakeClock()
    with open_runtime(configure("demo", "budget_ms=45"), clock) as runtime:
        yield SlowRun(runtime, clock, collector)


def test_publishing_time_belongs_to_its_own_frame(slow: SlowRun) -> None:
    """In the trace and the histogram. The estimate carries the time of the previous one, and its
    latency excludes publishing."""
    published_ms = [3.0, 7.0, 11.0]
    for number, publish_ms in enumerate(published_ms):
        slow.process(100 * number, 100 * number + 1, publish_ms)
    rows = slow.runtime.trace.rows()
    assert [row.stages_us["publish"] / 1e3 for row in rows] == published_ms
    histogram = slow.runtime.latency.stages["publish"]
    assert (histogram.count, histogram.sum_us / 1e3) == (3, sum(published_ms))
    estimates = slow.collector.estimates
    assert [e.stages_us["publish"] / 1e3 for e in estimates] == [0.0, 3.0, 7.0]
    assert [e.latency_us / 1e3 for e in estimates] == [1.0] * 3


@pytest.mark.parametrize(
    ("captured_ms", "woke_ms", "cause"),
    [
        (1002, 1060, "publish"),  # captured while the sink took the previous estimate
        (1040, 1110, "wait"),  # waited mostly after that
        (1058, 1120, "wait"),  # captured after that
    ],
)
def test_miss_caused_by_publishing_of_the_previous_frame(
    slow: SlowRun, captured_ms: float, woke_ms: float, cause: str
) -> None:
    """A sink takes 58 ms, and the next frame misses its budget of 45 ms."""
    for number in range(20):
        assert slow.process(20 * number, 20 * number + 1, 1) is None
    assert slow.process(1000, 1000, 58) is None
    assert slow.process(captured_ms, woke_ms, 1) == cause
    assert slow.runtime.latency.misses_by_cause[cause] == 1


def test_every_number_of_faces_is_warm(configure: Callable[..., Config]) -> None:
    """The face network has run on each number that a level allows, up to `faces.max`, at each
    size, before the first frame."""
    seen = set()

    class Recording(NullEngine):
        def infer(self, feed: Feed) -> Arrays:
            seen.add(feed["image"].shape)
            return super().infer(feed)

    with open_runtime(configure("faces.max=3"), FakeClock(), controlled=True) as runtime:
        engine = Recording(runtime.bundle.manifest, "face")
        levels = [
            RunLevel(level, {"face": engine})
            for level in (Level("high", 64, faces=16), Level("low", 48, faces=2))
        ]
        warm_up_several_faces(levels, runtime.pipeline._preprocessor, 3)
    assert seen == {(2, 3, 64, 64), (3, 3, 64, 64), (2, 3, 48, 48)}


@pytest.mark.usefixtures("no_thread_left")
def test_slow_start_says_why(
    configure: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Again and again, as long as kernels are compiled. A report that fails harms nothing."""
    monkeypatch.setattr(session, "SLOW_START_S", 0.001)
    reported = threading.Semaphore(0)
    real = session.open_preprocessor_for
    texts: list[str] = []

    def open_slowly(*arguments: Any) -> Any:
        assert reported.acquire(timeout=500)
        assert reported.acquire(timeout=500)
        return real(*arguments)

    def report(text: str) -> None:
        texts.append(text)
        reported.release()
        raise RuntimeError

    monkeypatch.setattr(session, "open_preprocessor_for", open_slowly)
    with open_runtime(configure("demo"), FakeClock(), report):
        pass
    assert len(texts) >= 2
    assert "compiling" in texts[0]
