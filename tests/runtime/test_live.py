"""Live runs in this process: devices that come and go, ends, failures, process-wide settings."""

from __future__ import annotations

import gc
import itertools
import logging
import os
import socket
import sys
import threading
import types
import urllib.request
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import pytest

from emotion_edge.runtime import health
from emotion_edge.runtime import live as live_module
from emotion_edge.runtime.board import open_board
from emotion_edge.runtime.capture import Sources, microphone, pipe
from emotion_edge.runtime.capture.reconnect import ReconnectingAudio, ReconnectingVideo
from emotion_edge.runtime.clock import FakeClock
from emotion_edge.runtime.config import Config, ConfigError
from emotion_edge.runtime.live import SWITCH_INTERVAL_S, LiveRun
from emotion_edge.runtime.messages import (
    AudioChunk,
    Estimate,
    Health,
    SourceError,
    VideoFrame,
)
from emotion_edge.runtime.perception.sync import Synchroniser
from emotion_edge.runtime.sinks import SinkClosed

from .devices import FakeCamera, FakeMicrophone
from .media import RATE, draw_video, voice_at

if TYPE_CHECKING:
    from .conftest import Collector

SECOND = 1_000_000_000
VideoMaker = Callable[..., Path]


@pytest.fixture
def live(
    configure: Callable[..., Config],
    collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
    no_thread_left: None,
) -> Callable[..., tuple[LiveRun, Collector]]:
    """A function (video, audio) -> a run that reads them, and its sink."""

    def make(video: object, audio: object) -> tuple[LiveRun, Collector]:
        sources = Sources(video, audio, "fake")  # type: ignore[arg-type]
        monkeypatch.setattr(live_module, "open_sources", lambda *_, **__: sources)
        return LiveRun(configure("camera"), [collector]), collector

    return make


LiveMaker = Callable[..., tuple[LiveRun, "Collector"]]


def reopen_when(back: threading.Event, first: Any, second: Callable[[], Any]) -> Callable[[], Any]:
    """A function that opens `first` once, then fails until `back` is set, then opens `second`."""
    devices = iter([first])

    def open_device() -> Any:
        device = next(devices, None)
        if device is not None:
            return device
        if not back.wait(0.02):
            raise SourceError("still unplugged")
        return second()

    return open_device


def test_camera_that_vanishes_and_returns(live: LiveMaker) -> None:
    """Meanwhile estimates are from the voice alone. Frames return with continued numbers."""
    back = threading.Event()
    video = ReconnectingVideo("camera", reopen_when(back, FakeCamera(25), FakeCamera), FakeClock())
    run, sink = live(video, FakeMicrophone())
    alone: list[Estimate] = []

    def watch(estimate: Estimate) -> None:
        if len(sink.estimates) > 1 and estimate.index == sink.estimates[-2].index == 24:
            alone.append(estimate)
            if len(alone) == 2:
                back.set()
        if estimate.index >= 40:
            run.stop()

    sink.on_publish = watch
    run.run()
    assert len(alone) >= 2
    assert all(e.face is None and e.voice is not None for e in alone)
    assert all(e.modalities == {"face": 0.0, "voice": 1.0} for e in alone)
    assert sink.estimates[-1].index >= 40
    assert sink.estimates[-1].face is not None
    times = [e.t_ns for e in sink.estimates]
    assert all(b > a for a, b in itertools.pairwise(times))


def test_frames_that_the_source_lost_are_counted(live: LiveMaker) -> None:
    """By a camera's driver, or by a film that is decoded too slowly."""

    class Lossy(FakeCamera):
        def read(self) -> VideoFrame | None:
            frame = super().read()
            if frame is None or frame.index == 4:
                return None
            return replace(frame, index=5 + frame.index * 3)

    run, _ = live(Lossy(), None)
    runtime = run.run()
    assert runtime.missing_frames == 6
    assert health.measure_health(runtime, 0.0, open_board().read()).drops["source_frames"] == 6


def test_microphone_that_vanishes_and_returns(live: LiveMaker) -> None:
    """The face goes on at full rate. The voice is missing once its audio is a second old, and comes
    back with the microphone. The gap is counted."""
    back = threading.Event()
    audio = ReconnectingAudio(
        "microphone", reopen_when(back, FakeMicrophone(0.9), FakeMicrophone), FakeClock()
    )
    run, sink = live(FakeCamera(), audio)
    phases: list[bool] = []
    """Whether there is a voice, from the first one on, at each change."""

    def watch(estimate: Estimate) -> None:
        has_voice = estimate.voice is not None
        if (phases or has_voice) and (not phases or phases[-1] != has_voice):
            phases.append(has_voice)
        if phases == [True, False]:
            back.set()
        if phases == [True, False, True]:
            run.stop()

    sink.on_publish = watch
    runtime = run.run()
    assert phases == [True, False, True]
    assert all(e.face is not None for e in sink.estimates[15:])
    assert max(e.skew_ns for e in sink.estimates) < SECOND
    assert runtime.synchroniser.audio_clock.gaps == 1


class MutedMicrophone(FakeMicrophone):
    """Gives neither audio nor an error once `mute` is set, as a driver that hangs."""

    def __init__(self) -> None:
        super().__init__()
        self.mute = threading.Event()

    def read(self) -> AudioChunk | None:
        if not self.mute.is_set():
            return super().read()
        self._stop.wait()
        return None


def test_stale_audio_gives_no_estimates(
    configure: Callable[..., Config],
    collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
    no_thread_left: None,
) -> None:
    """Without frames and new audio there are no estimates, and the monitor goes on."""
    microphone = MutedMicrophone()
    sources = Sources(None, microphone, "fake")
    monkeypatch.setattr(live_module, "open_sources", lambda *_, **__: sources)
    monkeypatch.setattr(health, "PERIOD_NS", SECOND // 10)
    monkeypatch.setattr(Synchroniser, "MAX_SKEW_NS", 3 * SECOND // 10)
    collector.on_publish = lambda _: microphone.mute.set()
    states: list[Health] = []

    def on_health(state: Health) -> None:
        if microphone.mute.is_set():
            states.append(state)
            if len(states) == 20:
                run.stop()

    run = LiveRun(configure("camera"), [collector], on_health=on_health)
    run.run()
    assert len(collector.estimates) >= 1
    assert max(e.stages_us["wait"] for e in collector.estimates) <= 300_000  # however busy it is


def test_stop_from_another_thread(live: LiveMaker) -> None:
    """The run ends; a second `stop` has no effect."""
    run, sink = live(FakeCamera(), FakeMicrophone())
    sink.on_publish = lambda _: threading.Thread(target=run.stop).start()
    run.run()
    assert sink.estimates
    run.stop()


def test_stop_before_the_first_frame(live: LiveMaker) -> None:
    """A camera that never gives a frame does not delay the end."""
    run, sink = live(FakeCamera(0), None)
    run.stop()
    run.run()
    assert sink.estimates == []


class BrokenCamera(FakeCamera):
    def read(self) -> VideoFrame | None:
        raise RuntimeError("bug")


@pytest.mark.parametrize(
    ("camera", "error"), [(FakeCamera(3), SourceError), (BrokenCamera(), RuntimeError)]
)
def test_error_of_a_thread_ends_the_run(
    live: LiveMaker, camera: FakeCamera, error: type[Exception]
) -> None:
    """A camera that is not reopened, or a bug: `run` raises it after all threads have stopped."""
    run, _ = live(camera, FakeMicrophone())
    with pytest.raises(error):
        run.run()


def test_closed_output_ends_the_run(live: LiveMaker) -> None:
    """A closed pipe is an orderly end."""
    run, sink = live(FakeCamera(), None)

    def close(_: Estimate) -> None:
        raise SinkClosed("pipe")

    sink.on_publish = close
    run.run()
    assert len(sink.estimates) == 1


def test_seconds_of_a_live_run(live: LiveMaker) -> None:
    """They count from the first frame."""
    run, sink = live(FakeCamera(), None)
    run.run(0.3)
    assert sink.estimates
    assert sink.estimates[-1].t_ns - sink.estimates[0].t_ns < 0.3 * SECOND


def test_metrics_and_traces_of_a_live_run(
    configure: Callable[..., Config],
    collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
    no_thread_left: None,
    tmp_path: Path,
) -> None:
    """Metrics are served, a trace is written on request, and the controller sets the level."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    sources = Sources(FakeCamera(), FakeMicrophone(), "fake")  # type: ignore[arg-type]
    monkeypatch.setattr(live_module, "open_sources", lambda *_, **__: sources)
    monkeypatch.setattr(health, "PERIOD_NS", SECOND // 20)
    settings = [f"metrics.port={port}", f"trace.folder='{tmp_path}'", "budget_ms=0.001"]
    pages: list[str] = []

    def on_health(state: Health) -> None:
        if state.level == "low" and not pages:
            url = f"http://127.0.0.1:{port}/metrics"
            pages.append(urllib.request.urlopen(url, timeout=500).read().decode())
            run.request_trace()
        elif pages and any(tmp_path.iterdir()):
            run.stop()

    run = LiveRun(configure("camera", *settings), [collector], on_health=on_health)
    runtime = run.run()
    assert {e.level for e in collector.estimates} == {"high", "low"}
    assert runtime.level_switches == 1
    assert runtime.quality is not None
    assert runtime.quality.overloaded
    assert 'emotion_edge_level_info{level="low"} 1.0' in pages[0]
    assert "\nemotion_edge_pictures_total " in pages[0]  # scripts/check_health reads it


def test_trace_folder_that_is_missing(configure: Callable[..., Config]) -> None:
    """A usage error before anything is opened."""
    with pytest.raises(ConfigError, match=r"trace\.folder is 'nowhere'"):
        LiveRun(configure("demo", "trace.folder=nowhere"), []).run(1)


def test_live_replay_ends_with_the_file(
    make_video: VideoMaker,
    configure: Callable[..., Config],
    collector: Collector,
    no_thread_left: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """At real pace: the last frame is the end; late frames are dropped and counted."""
    video_file = make_video("clip.mp4", draw_video(0.7), voice_at(RATE, 0.7))
    with caplog.at_level(logging.WARNING):
        runtime = LiveRun(configure(video_file), [collector]).run()
    assert collector.estimates[-1].index == 20
    assert len(collector.estimates) + runtime.dropped_frames == 21
    latencies_ms = [e.latency_us / 1e3 for e in collector.estimates]
    assert min(latencies_ms) > 0
    assert caplog.records == []


def test_live_run_of_an_audio_file(
    make_video: VideoMaker,
    configure: Callable[..., Config],
    collector: Collector,
    no_thread_left: None,
) -> None:
    """At real pace: estimates at most four times a second, and an orderly end."""
    LiveRun(configure(make_video("voice.m4a", [], voice_at(RATE, 1.4))), [collector]).run()
    assert all(e.face is None for e in collector.estimates)
    assert collector.estimates[-1].voice is not None
    steps_ns = [b.t_ns - a.t_ns for a, b in itertools.pairwise(collector.estimates)]
    assert all(step_ns > 0 and step_ns % (SECOND // 4) == 0 for step_ns in steps_ns)


def test_live_run_goes_on_to_the_end_of_the_audio(
    make_video: VideoMaker,
    configure: Callable[..., Config],
    collector: Collector,
    no_thread_left: None,
) -> None:
    """At real pace, without frames."""
    video_file = make_video("clip.mp4", draw_video(0.5), voice_at(RATE, 2.0))
    LiveRun(configure(video_file), [collector]).run()
    first, last = collector.estimates[0], collector.estimates[-1]
    assert first.t_ns - first.index * SECOND // 30 + 1.7 * SECOND < last.t_ns
    assert last.face is None
    assert last.voice is not None
    times_ns = [e.t_ns for e in collector.estimates]
    assert all(b > a for a, b in itertools.pairwise(times_ns))


class EarlyError(Exception):
    """Raised by a sink."""


@pytest.mark.usefixtures("no_thread_left")
def test_microphone_alone(
    configure: Callable[..., Config], collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Estimates come from audio, four a second. While the microphone is away the run is alive."""
    monkeypatch.setitem(sys.modules, "pyaudio", types.ModuleType("pyaudio"))
    opened: list[FakeMicrophone] = []

    def open_microphone(*_: object, **__: object) -> FakeMicrophone:
        opened.append(FakeMicrophone(0.8))
        return opened[-1]

    monkeypatch.setattr(microphone, "Microphone", open_microphone)
    run = LiveRun(configure("none"), [collector])
    collector.on_publish = lambda _: run.stop() if len(opened) == 2 else None
    runtime = run.run()
    assert runtime.capture_path is None
    assert {estimate.face for estimate in collector.estimates} == {None}
    times = [estimate.t_ns for estimate in collector.estimates]
    assert times == sorted(times)


@pytest.mark.usefixtures("no_thread_left")
def test_fifo_without_a_writer(
    configure: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run waits for a known reason, shows it as a fault, and can be stopped."""
    monkeypatch.setattr(pipe, "WAIT_NS", 0)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    faults: list[str] = []

    def on_health(state: Health) -> None:
        faults.extend(state.faults)
        if state.faults:
            run.stop()

    run = LiveRun(configure(fifo), [], on_health=on_health)
    run.run()
    assert str(fifo) in faults[0]


@pytest.mark.parametrize("fails", [False, True])
def test_process_is_left_as_it_was(
    configure: Callable[..., Config], collector: Collector, no_thread_left: None, fails: bool
) -> None:
    """The switch interval, garbage collection and threads of OpenCV are restored, however the run
    ends."""

    def settings() -> tuple[float, int, bool]:
        return sys.getswitchinterval(), cv2.getNumThreads(), gc.get_freeze_count() > 0

    def record(_: object) -> None:
        inside.append(settings())
        if fails:
            raise EarlyError

    inside: list[tuple[float, int, bool]] = []
    threads, interval_s = cv2.getNumThreads(), sys.getswitchinterval()
    sys.setswitchinterval(7e-3)
    cv2.setNumThreads(3)
    before = settings()
    collector.on_publish = record
    try:
        run = LiveRun(configure("demo"), [collector])
        with pytest.raises(EarlyError) if fails else nullcontext():
            run.run(0.05)
        after = settings()
    finally:
        sys.setswitchinterval(interval_s)
        cv2.setNumThreads(threads)
    assert inside[0] == (pytest.approx(SWITCH_INTERVAL_S), 1, True)
    assert after == before
