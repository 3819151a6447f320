"""The whole program in this process: films as they come, devices that come and go."""

from __future__ import annotations

import gc
import itertools
import logging
import shutil
import socket
import sys
import threading
import urllib.request
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_edge.engines.bundles.manifest import FusionEntry, Level, load_bundle, write_manifest
from emotion_edge.kernels import open_preprocessor
from emotion_edge.runtime import health as monitor
from emotion_edge.runtime import live as app
from emotion_edge.runtime import session
from emotion_edge.runtime.capture import Sources
from emotion_edge.runtime.capture.demo import draw_face, synthesize_speech
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
    Window,
)
from emotion_edge.runtime.perception.buffers import AudioRing
from emotion_edge.runtime.perception.sync import Synchroniser
from emotion_edge.runtime.replay import run_replay
from emotion_edge.runtime.session import Runtime
from emotion_edge.runtime.sinks import SinkClosed

from .devices import Camera, Microphone

if TYPE_CHECKING:
    from .conftest import Collector

RATE = 16_000
SECOND = 1_000_000_000
VideoMaker = Callable[..., Path]


@pytest.fixture
def replay(configure: Callable[..., Config], collector: Collector) -> Callable[..., list[Estimate]]:
    """A function (source, settings, seconds=) -> the estimates of the whole film."""

    def play(source: object, *settings: str, seconds: float | None = None) -> list[Estimate]:
        run_replay(configure(source, *settings), [collector], seconds)
        return collector.estimates

    return play


def video_times(seconds: float, fps: float = 30) -> list[float]:
    return [n / fps for n in range(round(seconds * fps))]


def draw_video(seconds: float) -> list[tuple[float, NDArray[np.uint8]]]:
    """The demo's face."""
    return [(t_s, draw_face(t_s)) for t_s in video_times(seconds)]


def black_video(seconds: float, height: int = 180) -> list[tuple[float, NDArray[np.uint8]]]:
    return [(t_s, np.zeros((height, 320, 3), np.uint8)) for t_s in video_times(seconds)]


def voice_at(rate_hz: int, seconds: float, gain: float = 1.0) -> NDArray[np.float32]:
    """The demo's voice at another rate: (1, n)."""
    sound = synthesize_speech(0, round(seconds * RATE))
    at = np.arange(round(seconds * rate_hz)) * RATE / rate_hz
    resampled = np.interp(at, np.arange(len(sound)), sound)
    return np.clip(gain * resampled, -1, 1).astype(np.float32)[None]


# Films


def test_demo(replay: Callable[..., list[Estimate]]) -> None:
    """One estimate for each picture, in order, with the face at once and the voice after the
    half second that says whether it is one."""
    estimates = replay("demo", seconds=2)
    assert [e.index for e in estimates] == list(range(60))
    assert [e.t_ns for e in estimates] == [n * SECOND // 30 for n in range(60)]
    assert all(e.face is not None for e in estimates)
    assert all(e.voice is None for e in estimates[:15])
    assert all(e.voice is not None for e in estimates[25:])
    assert all(0 <= e.skew_ns < 20_000_000 for e in estimates if e.voice is not None)
    assert {e.level for e in estimates} == {"high"}


def test_level_is_chosen_by_name(replay: Callable[..., list[Estimate]]) -> None:
    """The one asked for, with what it leaves out."""
    estimates = replay("demo", "level=low", seconds=1)
    assert {e.level for e in estimates} == {"low"}
    assert all(e.voice is None for e in estimates)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["level=medium"], "level is 'medium', allowed: high, low"),
        (["engines.name=fast"], "engines.name is 'fast', allowed: auto, tensorrt, onnx, null"),
    ],
)
def test_names_that_do_not_exist(
    replay: Callable[..., list[Estimate]], settings: list[str], says: str
) -> None:
    """One line with the names there are."""
    with pytest.raises(ConfigError) as error:
        replay("demo", *settings)
    assert str(error.value) == says


@pytest.mark.parametrize("source", ["camera", "auto", "/dev/video0", "nowhere.mp4"])
def test_what_cannot_be_replayed(replay: Callable[..., list[Estimate]], source: str) -> None:
    """A camera has no end and no past; a missing file is missing."""
    with pytest.raises(SourceError) as error:
        replay(source)
    assert "\n" not in str(error.value)
    assert source in str(error.value)


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("film.mp4", "aac", {"rate_hz": 48_000}),
        ("film.mkv", "pcm_s16le", {"rate_hz": 16_000}),
        ("film.mkv", "pcm_s16le", {"rate_hz": 44_100}),
    ],
)
@pytest.mark.parametrize(("flash_s", "click_s"), [(1.0, 1.237), (2.0, 0.873)])
def test_flash_and_click_keep_their_offset(
    make_video: VideoMaker,
    configure: Callable[..., Config],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    codec: str,
    options: dict[str, int],
    flash_s: float,
    click_s: float,
) -> None:
    """A white picture and a click, known to the millisecond, through file, decoder, resampler,
    ring, clock and log-mel: their offset is kept within 5 ms."""
    rate_hz = options["rate_hz"]
    sound = np.zeros((1, 3 * rate_hz), np.float32)
    begin = round(click_s * rate_hz)
    length = rate_hz // 500
    sound[0, begin : begin + length] = 0.9 * np.sin(2 * np.pi * 2000 / rate_hz * np.arange(length))
    images = black_video(3.0)
    images[round(flash_s * 30)][1][:] = 255
    video_file = make_video(name, images, sound, audio=codec, **options)

    windows: list[Window] = []
    heard: list[NDArray[np.float32]] = []
    process, put = Runtime.process, AudioRing.put

    def spy_window(self: Runtime, window: Window, *rest: object) -> None:
        windows.append(window)
        process(self, window, *rest)  # type: ignore[arg-type]

    def spy_audio(self: AudioRing, chunk: AudioChunk) -> None:
        heard.append(chunk.samples)
        put(self, chunk)

    monkeypatch.setattr(Runtime, "process", spy_window)
    monkeypatch.setattr(AudioRing, "put", spy_audio)
    # The runtime's log-mel, to see in which column the click arrives.
    columns: list[tuple[int, NDArray[np.float32]]] = []

    def spy_preprocessor(*what: Any) -> object:
        preprocessor = open_preprocessor(*what)
        mel, close = preprocessor.mel, preprocessor.close

        def look_and_close() -> None:
            columns.append((mel.num_columns, mel.levels_db(mel.num_columns).copy()))
            close()

        monkeypatch.setattr(preprocessor, "close", look_and_close)
        return preprocessor

    monkeypatch.setattr(session, "open_preprocessor", spy_preprocessor)
    run_replay(configure(video_file), [])

    def brightness(window: Window) -> float:
        assert window.frame is not None
        return float(window.frame.image.mean())

    flash = max(windows, key=brightness)
    assert brightness(flash) > 200
    assert flash.audio_sample is not None
    loudness = np.abs(np.concatenate(heard))
    click = int(np.argmax(loudness > 0.5 * loudness.max()))
    offset_ms = (click - flash.audio_sample) / RATE * 1e3
    assert offset_ms == pytest.approx((click_s - flash_s) * 1e3, abs=5.0)
    ((num_columns, levels),) = columns
    column = num_columns - len(levels) + int(np.argmax(levels))
    assert column * 160 <= click + 40
    assert click < column * 160 + 400


def test_video_without_audio(make_video: VideoMaker, replay: Callable[..., list[Estimate]]) -> None:
    """The face alone, for every picture."""
    estimates = replay(make_video("film.mp4", draw_video(1.0)))
    assert len(estimates) == 30
    assert all(e.face is not None and e.voice is None for e in estimates)
    assert all(e.modalities == {"face": 1.0, "voice": 0.0} for e in estimates)
    assert not any(e.abstained for e in estimates)


@pytest.mark.parametrize(("name", "codec"), [("voice.m4a", "aac"), ("voice.wav", "pcm_s16le")])
def test_audio_without_video(
    make_video: VideoMaker, replay: Callable[..., list[Estimate]], name: str, codec: str
) -> None:
    """The voice alone, four times a second."""
    video_file = make_video(name, [], voice_at(RATE, 3.0), audio=codec)
    estimates = replay(video_file)
    assert [e.t_ns for e in estimates][:11] == [n * SECOND // 4 for n in range(1, 12)]
    assert all(e.face is None and e.index == 0 for e in estimates)
    assert estimates[0].abstained  # half a second is heard first
    assert all(e.modalities == {"face": 0.0, "voice": 1.0} for e in estimates[2:])


@pytest.mark.parametrize(
    ("rate_hz", "channels", "codec", "gain"),
    [
        (8_000, 1, "pcm_s16le", 1.0),
        (48_000, 2, "aac", 1.0),
        (44_100, 2, "pcm_s16le", 1.0),
        (16_000, 1, "pcm_s16le", 30.0),  # clipping
    ],
)
def test_any_audio_format_gives_a_voice(
    make_video: VideoMaker,
    replay: Callable[..., list[Estimate]],
    rate_hz: int,
    channels: int,
    codec: str,
    gain: float,
) -> None:
    """8 kHz, 48 kHz stereo, clipped: the voice is heard, and its numbers are numbers."""
    sound = np.repeat(voice_at(rate_hz, 2.0, gain), channels, axis=0)
    name = "film.mp4" if codec == "aac" else "film.mkv"
    video_file = make_video(name, black_video(2.0), sound, rate_hz=rate_hz, audio=codec)
    estimates = replay(video_file)
    assert len(estimates) == 60
    assert all(e.face is None for e in estimates)
    assert all(e.voice is not None for e in estimates[30:])
    assert np.isfinite([list(e.probabilities.values()) for e in estimates[30:]]).all()


def test_black_and_silent(make_video: VideoMaker, replay: Callable[..., list[Estimate]]) -> None:
    """Nothing to see and nothing to hear: an estimate for each picture that says just that."""
    video_file = make_video("film.mp4", black_video(1.0), np.zeros((1, RATE), np.float32))
    estimates = replay(video_file)
    assert len(estimates) == 30
    for estimate in estimates:
        assert estimate.abstained
        assert (estimate.label, estimate.face, estimate.voice) == (None, None, None)
        assert estimate.probabilities == {}


def test_face_that_goes_away(make_video: VideoMaker, replay: Callable[..., list[Estimate]]) -> None:
    """Kept for `lost_after_s`, then honestly missing, then back."""
    images = draw_video(3.0)
    for t_s, image in images:
        if 1.0 <= t_s < 2.5:
            image[:] = 0
    estimates = replay(make_video("film.mp4", images), "face.lost_after_s=0.3")
    seen = [e.face is not None for e in estimates]
    assert all(seen[:38])
    assert not any(seen[round((1.0 + 0.3 + 0.15) * 30) : 75])
    assert all(seen[82:])


@pytest.mark.parametrize("size", [(321, 181), (17, 255), (2, 2)])
def test_odd_sizes(
    make_video: VideoMaker, replay: Callable[..., list[Estimate]], size: tuple[int, int]
) -> None:
    """Widths that codecs pad, and pictures too small to hold anything."""
    noise = np.random.default_rng(3).integers(0, 255, (size[1], size[0], 3), np.uint8)
    images = [(n / 30, noise) for n in range(5)]
    estimates = replay(make_video("film.mkv", images, video="ffv1", pixels="bgr0"))
    assert len(estimates) == 5
    assert all(e.abstained for e in estimates)


def test_variable_frame_rate(make_video: VideoMaker, replay: Callable[..., list[Estimate]]) -> None:
    """Every frame at its own time, with the audio of that time; audio alone in the pauses that are
    long for what went before."""
    times_s = [0.0, 0.033, 0.1, 0.45, 0.46, 0.7, 1.2, 1.9]
    images = [(t_s, draw_face(t_s)) for t_s in times_s]
    video_file = make_video("film.mkv", images, voice_at(RATE, 2.0), audio="pcm_s16le")
    every = replay(video_file)
    estimates = [e for e in every if e.face is not None]
    assert [e.t_ns for e in estimates] == [round(t_s * SECOND) for t_s in times_s]
    assert [e.t_ns / SECOND for e in every if e.face is None] == pytest.approx([0.35, 1.06, 1.725])
    assert all(abs(e.skew_ns) < 20_000_000 for e in every)
    assert [e.voice is not None for e in estimates] == [False] * 5 + [True] * 3


@pytest.mark.parametrize("content", [b"", b"not a film", b"\0" * 5000])
def test_file_that_is_no_video(
    tmp_path: Path, replay: Callable[..., list[Estimate]], content: bytes
) -> None:
    """Of no length, or of no sense: one line that names the file."""
    path = tmp_path / "film.mp4"
    path.write_bytes(content)
    with pytest.raises(SourceError) as error:
        replay(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_seconds_are_media_time(replay: Callable[..., list[Estimate]]) -> None:
    """`--seconds` of a replay counts the film's time, not ours."""
    assert len(replay("demo", seconds=0.5)) == 15


def test_audio_is_wiped_at_the_end(configure: Callable[..., Config]) -> None:
    """After a run no second of it is left in memory."""
    runtime = run_replay(configure("demo"), [], 1)
    kept = np.ones(2 * RATE, np.float32)
    _, count = runtime.synchroniser.ring.read(0, kept)
    assert count > RATE // 2
    assert not kept[:count].any()


@pytest.fixture
def fused_bundle(null_bundle: Path, tmp_path: Path) -> Path:
    """The null bundle with a fusion network."""
    folder = shutil.copytree(null_bundle, tmp_path / "fused")
    (folder / "fusion.onnx").write_bytes(b"no network")
    manifest = load_bundle(folder).manifest
    fields = {name: getattr(manifest, name) for name in manifest.__struct_fields__}
    del fields["format"], fields["files"]
    fields["fusion"] = FusionEntry("fusion.onnx", 8, 1.0, [0.0] * 7, [0.5, 0.5])
    write_manifest(folder, fields)
    return folder


@pytest.fixture
def slow_bundle(null_bundle: Path, tmp_path: Path) -> Path:
    """The null bundle, whose only level wants ten frames a second."""
    folder = shutil.copytree(null_bundle, tmp_path / "slow")
    manifest = load_bundle(folder).manifest
    fields = {name: getattr(manifest, name) for name in manifest.__struct_fields__}
    del fields["format"], fields["files"]
    fields["levels"] = [Level("slow", 48, voice=False, camera_fps=10)]
    write_manifest(folder, fields)
    return folder


def test_replay_at_the_rate_of_the_level(
    configure: Callable[..., Config], collector: Collector, slow_bundle: Path
) -> None:
    """As in a live run, frames that the level does not want are skipped and counted."""
    runtime = run_replay(configure("demo", f"bundle='{slow_bundle}'"), [collector], 2)
    assert [e.index for e in collector.estimates] == list(range(0, 60, 3))
    assert runtime.rate_limiter.skipped == 40
    assert runtime.dropped_frames == 0


def test_bundle_with_a_fusion_network(
    configure: Callable[..., Config], collector: Collector, fused_bundle: Path
) -> None:
    """It is opened with the others, weighs what is there, is watched, and forgets in the end."""
    config = configure("demo", f"bundle='{fused_bundle}'", "output.smoothing_s=0")
    runtime = run_replay(config, [collector], 2)
    first, last = collector.estimates[0], collector.estimates[-1]
    assert first.modalities == {"face": 1.0, "voice": 0.0}
    assert last.modalities == {"face": 0.5, "voice": 0.5}
    assert last.face is not None
    assert last.voice is not None
    # The null fusion averages logits, so the result lies between the two opinions.
    for label, value in last.probabilities.items():
        low, high = sorted((last.face[label], last.voice[label]))
        assert low - 0.05 <= value <= high + 0.05
    assert runtime.pipeline.non_finite_outputs["fusion"] == 0
    memory = runtime.pipeline._estimator._memory
    assert memory is not None
    assert not any(array.any() for array in memory.feed(last.t_ns, face=True, voice=False).values())


# Devices that come and go


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
        monkeypatch.setattr(app, "open_sources", lambda *_, **__: sources)
        return LiveRun(configure("camera"), [collector]), collector

    return make


LiveMaker = Callable[..., tuple[LiveRun, "Collector"]]


def reopen_when(back: threading.Event, first: Any, second: Callable[[], Any]) -> Callable[[], Any]:
    """A function that opens `first`, and after its end fails until `back` is set."""
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
    """The voice goes on alone, four times a second, and says that the face is missing; the
    pictures come back with numbers that go on."""
    back = threading.Event()
    video = ReconnectingVideo("camera", reopen_when(back, Camera(25), Camera), FakeClock())
    run, sink = live(video, Microphone())
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
    assert min(b - a for a, b in itertools.pairwise(times)) > -50_000_000


def test_microphone_that_vanishes_and_returns(live: LiveMaker) -> None:
    """The face goes on at full rate, the voice is missing when its last sound is a second old,
    and is heard again when it is back; the gap is counted."""
    back = threading.Event()
    audio = ReconnectingAudio(
        "microphone", reopen_when(back, Microphone(0.9), Microphone), FakeClock()
    )
    run, sink = live(Camera(), audio)
    phases: list[bool] = []
    """Voice there or not, each time it changed."""

    def watch(estimate: Estimate) -> None:
        there = estimate.voice is not None
        if not phases or phases[-1] != there:
            phases.append(there)
        if phases == [False, True, False]:
            back.set()
        if phases == [False, True, False, True]:
            run.stop()

    sink.on_publish = watch
    runtime = run.run()
    assert phases == [False, True, False, True]
    assert all(e.face is not None for e in sink.estimates[15:])
    assert max(e.skew_ns for e in sink.estimates) < SECOND
    assert runtime.synchroniser.audio_clock.gaps == 1


class MutedMicrophone(Microphone):
    """Falls silent, as a dead driver does, once `mute` is set: no sound, no error."""

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
    """Neither pictures nor fresh sound: no estimates, and the monitor goes on looking."""
    microphone = MutedMicrophone()
    sources = Sources(None, microphone, "fake")
    monkeypatch.setattr(app, "open_sources", lambda *_, **__: sources)
    monkeypatch.setattr(monitor, "PERIOD_NS", SECOND // 10)
    monkeypatch.setattr(Synchroniser, "MAX_SKEW_NS", 3 * SECOND // 10)
    collector.on_publish = lambda _: microphone.mute.set()
    looks_after: list[Health] = []

    def look(health: Health) -> None:
        if microphone.mute.is_set():
            looks_after.append(health)
            if len(looks_after) == 20:
                run.stop()

    run = LiveRun(configure("camera"), [collector], on_health=look)
    run.run()
    assert len(collector.estimates) >= 1
    assert max(e.stages_us["wait"] for e in collector.estimates) <= 300_000  # however busy it is


def test_stop_from_elsewhere(live: LiveMaker) -> None:
    """Another thread, a signal: the run ends, and may be told so twice."""
    run, sink = live(Camera(), Microphone())
    sink.on_publish = lambda _: threading.Thread(target=run.stop).start()
    run.run()
    assert sink.estimates
    run.stop()


def test_stop_before_anything_came(live: LiveMaker) -> None:
    """A camera that never gives a picture cannot hold the end up."""
    run, sink = live(Camera(0), None)
    run.stop()
    run.run()
    assert sink.estimates == []


def test_camera_that_fails_for_good(live: LiveMaker) -> None:
    """Without anybody to open it again, its error ends the run and is the user's to read."""
    run, _ = live(Camera(3), Microphone())
    with pytest.raises(SourceError, match="unplugged"):
        run.run()


class BrokenCamera(Camera):
    def read(self) -> VideoFrame | None:
        raise RuntimeError("a bug of ours")


def test_bug_in_a_thread_is_not_swallowed(live: LiveMaker) -> None:
    """It comes out of `run`, with the other threads stopped."""
    run, _ = live(BrokenCamera(), Microphone())
    with pytest.raises(RuntimeError, match="a bug of ours"):
        run.run()


def test_closed_output_ends_the_run(live: LiveMaker) -> None:
    """A closed pipe is a clean end."""
    run, sink = live(Camera(), None)

    def close(_: Estimate) -> None:
        raise SinkClosed("head has seen enough")

    sink.on_publish = close
    run.run()
    assert len(sink.estimates) == 1


def test_seconds_of_a_live_run(live: LiveMaker) -> None:
    """Counted from the first picture."""
    run, sink = live(Camera(), None)
    run.run(0.3)
    assert sink.estimates
    assert sink.estimates[-1].t_ns - sink.estimates[0].t_ns < 0.3 * SECOND


def test_figures_and_traces_of_a_live_run(
    configure: Callable[..., Config],
    collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
    no_thread_left: None,
    tmp_path: Path,
) -> None:
    """Served while it runs, written when asked for; the level follows the controller."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    sources = Sources(Camera(), Microphone(), "fake")  # type: ignore[arg-type]
    monkeypatch.setattr(app, "open_sources", lambda *_, **__: sources)
    monkeypatch.setattr(monitor, "PERIOD_NS", SECOND // 20)
    settings = [f"metrics.port={port}", f"trace.folder='{tmp_path}'", "budget_ms=0.001"]
    said: list[str] = []

    def look(health: Health) -> None:
        if health.level == "low" and not said:
            url = f"http://127.0.0.1:{port}/metrics"
            said.append(urllib.request.urlopen(url, timeout=500).read().decode())
            run.request_trace()
        elif said and any(tmp_path.iterdir()):
            run.stop()

    run = LiveRun(configure("camera", *settings), [collector], on_health=look)
    runtime = run.run()
    assert {e.level for e in collector.estimates} == {"high", "low"}
    assert runtime.level_switches == 1
    assert runtime.quality is not None
    assert runtime.quality.overloaded
    assert 'emotion_edge_level_info{level="low"} 1.0' in said[0]


def test_trace_folder_that_is_missing(configure: Callable[..., Config]) -> None:
    """Said before anything is opened."""
    with pytest.raises(ConfigError, match=r"trace.folder is 'nowhere': no such folder"):
        LiveRun(configure("demo", "trace.folder=nowhere"), []).run(1)


def test_live_replay_ends_with_the_file(
    make_video: VideoMaker,
    configure: Callable[..., Config],
    collector: Collector,
    no_thread_left: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """At real pace: the last picture is the end; what is too late is counted, not queued."""
    film = make_video("film.mp4", draw_video(0.7), voice_at(RATE, 0.7))
    with caplog.at_level(logging.WARNING):
        runtime = LiveRun(configure(film), [collector]).run()
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
    """Sound alone at real pace: estimates at most four times a second, and a clean end."""
    LiveRun(configure(make_video("voice.m4a", [], voice_at(RATE, 1.4))), [collector]).run()
    assert all(e.face is None for e in collector.estimates)
    assert collector.estimates[-1].voice is not None
    times_ns = [e.t_ns + e.stages_us["wait"] * 1e3 for e in collector.estimates]
    assert all(b - a >= 0.249 * SECOND for a, b in itertools.pairwise(times_ns))


class EarlyError(Exception):
    """Raised by what the run calls."""


@pytest.mark.parametrize("fails", [False, True])
def test_process_is_left_as_it_was(
    configure: Callable[..., Config], collector: Collector, no_thread_left: None, fails: bool
) -> None:
    """Settings of the interpreter, its collector and OpenCV hold while a run lasts, however it
    ends."""

    def settings() -> tuple[float, int, bool]:
        return sys.getswitchinterval(), cv2.getNumThreads(), gc.get_freeze_count() > 0

    def look(_: object) -> None:
        inside.append(settings())
        if fails:
            raise EarlyError

    inside: list[tuple[float, int, bool]] = []
    threads, interval_s = cv2.getNumThreads(), sys.getswitchinterval()
    sys.setswitchinterval(7e-3)
    cv2.setNumThreads(3)
    before = settings()
    collector.on_publish = look
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
