"""Replays of files and of the demo, from decoding to estimates, with the null engine."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_edge.engines.bundles.manifest import FusionEntry, Level, load_bundle, write_manifest
from emotion_edge.kernels import open_preprocessor
from emotion_edge.runtime import session
from emotion_edge.runtime.capture.demo import draw_face
from emotion_edge.runtime.config import Config, ConfigError
from emotion_edge.runtime.messages import AudioChunk, Estimate, SourceError, Window
from emotion_edge.runtime.perception.buffers import AudioRing
from emotion_edge.runtime.replay import run_replay
from emotion_edge.runtime.session import Runtime

from .media import RATE, draw_video, video_times, voice_at

if TYPE_CHECKING:
    from .conftest import Collector

SECOND = 1_000_000_000
VideoMaker = Callable[..., Path]


@pytest.fixture
def replay(configure: Callable[..., Config], collector: Collector) -> Callable[..., list[Estimate]]:
    """A function (source, settings, seconds=) -> the estimates of a replay."""

    def play(source: object, *settings: str, seconds: float | None = None) -> list[Estimate]:
        run_replay(configure(source, *settings), [collector], seconds)
        return collector.estimates

    return play


def black_video(seconds: float, height: int = 180) -> list[tuple[float, NDArray[np.uint8]]]:
    return [(t_s, np.zeros((height, 320, 3), np.uint8)) for t_s in video_times(seconds)]


def test_demo(replay: Callable[..., list[Estimate]]) -> None:
    """One estimate per frame, in order: the face at once, the voice after half a second."""
    estimates = replay("demo", seconds=2)
    assert [e.index for e in estimates] == list(range(60))
    assert [e.t_ns for e in estimates] == [n * SECOND // 30 for n in range(60)]
    assert all(e.face is not None for e in estimates)
    assert all(e.voice is None for e in estimates[:15])
    assert all(e.voice is not None for e in estimates[25:])
    assert all(0 <= e.skew_ns < 20_000_000 for e in estimates if e.voice is not None)
    assert {e.level for e in estimates} == {"high"}


def test_configured_level(replay: Callable[..., list[Estimate]]) -> None:
    """All estimates have the level `low`, which has no voice."""
    estimates = replay("demo", "level=low", seconds=1)
    assert {e.level for e in estimates} == {"low"}
    assert all(e.voice is None for e in estimates)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("level=medium", "level is 'medium'.*: high, low"),
        ("engines.name=fast", "engines.name is 'fast'.*: auto, tensorrt, onnx, null"),
    ],
)
def test_unknown_names(replay: Callable[..., list[Estimate]], setting: str, message: str) -> None:
    """A usage error that lists the known names."""
    with pytest.raises(ConfigError, match=message):
        replay("demo", setting)


@pytest.mark.parametrize("source", ["camera", "auto", "/dev/video0", "nowhere.mp4"])
def test_sources_that_cannot_be_replayed(
    replay: Callable[..., list[Estimate]], source: str
) -> None:
    """A camera or a missing file: one line that names it."""
    with pytest.raises(SourceError) as error:
        replay(source)
    assert "\n" not in str(error.value)
    assert source in str(error.value)


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("clip.mp4", "aac", {"rate_hz": 48_000}),
        ("clip.mkv", "pcm_s16le", {"rate_hz": 16_000}),
        ("clip.mkv", "pcm_s16le", {"rate_hz": 44_100}),
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
    """The offset of a white frame and a click stays within 5 ms through file, decoder, resampler,
    ring, clock and log-mel."""
    rate_hz = options["rate_hz"]
    samples = np.zeros((1, 3 * rate_hz), np.float32)
    begin = round(click_s * rate_hz)
    length = rate_hz // 500
    samples[0, begin : begin + length] = 0.9 * np.sin(
        2 * np.pi * 2000 / rate_hz * np.arange(length)
    )
    images = black_video(3.0)
    images[round(flash_s * 30)][1][:] = 255
    video_file = make_video(name, images, samples, audio=codec, **options)

    windows: list[Window] = []
    chunks: list[NDArray[np.float32]] = []
    process, put = Runtime.process, AudioRing.put

    def spy_window(self: Runtime, window: Window, *rest: object) -> None:
        windows.append(window)
        process(self, window, *rest)  # type: ignore[arg-type]

    def spy_audio(self: AudioRing, chunk: AudioChunk) -> None:
        chunks.append(chunk.samples)
        put(self, chunk)

    monkeypatch.setattr(Runtime, "process", spy_window)
    monkeypatch.setattr(AudioRing, "put", spy_audio)
    # The log-mel of the run: it has the click in one column.
    columns: list[tuple[int, NDArray[np.float32]]] = []

    def spy_preprocessor(*arguments: Any) -> object:
        preprocessor = open_preprocessor(*arguments)
        mel, close = preprocessor.mel, preprocessor.close

        def record_and_close() -> None:
            columns.append((mel.num_columns, mel.levels_db(mel.num_columns).copy()))
            close()

        monkeypatch.setattr(preprocessor, "close", record_and_close)
        return preprocessor

    monkeypatch.setattr(session, "open_preprocessor", spy_preprocessor)
    run_replay(configure(video_file), [])

    def brightness(window: Window) -> float:
        assert window.frame is not None
        return float(window.frame.image.mean())

    flash = max(windows, key=brightness)
    assert brightness(flash) > 200
    assert flash.audio_sample is not None
    loudness = np.abs(np.concatenate(chunks))
    click = int(np.argmax(loudness > 0.5 * loudness.max()))
    offset_ms = (click - flash.audio_sample) / RATE * 1e3
    assert offset_ms == pytest.approx((click_s - flash_s) * 1e3, abs=5.0)
    ((num_columns, levels),) = columns
    column = num_columns - len(levels) + int(np.argmax(levels))
    assert column * 160 <= click + 40
    assert click < column * 160 + 400


def test_video_without_audio(make_video: VideoMaker, replay: Callable[..., list[Estimate]]) -> None:
    """Each frame gives an estimate from the face alone."""
    estimates = replay(make_video("clip.mp4", draw_video(1.0)))
    assert len(estimates) == 30
    assert all(e.face is not None and e.voice is None for e in estimates)
    assert all(e.modalities == {"face": 1.0, "voice": 0.0} for e in estimates)
    assert not any(e.abstained for e in estimates)


@pytest.mark.parametrize(("name", "codec"), [("voice.m4a", "aac"), ("voice.wav", "pcm_s16le")])
def test_audio_without_video(
    make_video: VideoMaker, replay: Callable[..., list[Estimate]], name: str, codec: str
) -> None:
    """Estimates from the voice alone, four times a second."""
    video_file = make_video(name, [], voice_at(RATE, 3.0), audio=codec)
    estimates = replay(video_file)
    assert [e.t_ns for e in estimates][:11] == [n * SECOND // 4 for n in range(1, 12)]
    assert all(e.face is None and e.index == 0 for e in estimates)
    assert estimates[0].abstained  # speech needs half a second
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
    """8 kHz, 48 kHz stereo, clipped: there is a voice, and all probabilities are finite."""
    samples = np.repeat(voice_at(rate_hz, 2.0, gain), channels, axis=0)
    name = "clip.mp4" if codec == "aac" else "clip.mkv"
    video_file = make_video(name, black_video(2.0), samples, rate_hz=rate_hz, audio=codec)
    estimates = replay(video_file)
    assert len(estimates) == 60
    assert all(e.face is None for e in estimates)
    assert all(e.voice is not None for e in estimates[30:])
    assert np.isfinite([list(e.probabilities.values()) for e in estimates[30:]]).all()


def test_black_and_silent(make_video: VideoMaker, replay: Callable[..., list[Estimate]]) -> None:
    """Without face and voice, each frame gives an estimate that abstains."""
    video_file = make_video("clip.mp4", black_video(1.0), np.zeros((1, RATE), np.float32))
    estimates = replay(video_file)
    assert len(estimates) == 30
    for estimate in estimates:
        assert estimate.abstained
        assert (estimate.label, estimate.face, estimate.voice) == (None, None, None)
        assert estimate.probabilities == {}


def test_face_that_leaves_and_returns(
    make_video: VideoMaker, replay: Callable[..., list[Estimate]]
) -> None:
    """It stays for `lost_after_s`, is missing, and is back."""
    images = draw_video(3.0)
    for t_s, image in images:
        if 1.0 <= t_s < 2.5:
            image[:] = 0
    estimates = replay(make_video("clip.mp4", images), "face.lost_after_s=0.3")
    seen = [e.face is not None for e in estimates]
    assert all(seen[:38])
    assert not any(seen[round((1.0 + 0.3 + 0.15) * 30) : 75])
    assert all(seen[82:])


@pytest.mark.parametrize("size", [(321, 181), (17, 255), (2, 2)])
def test_odd_sizes(
    make_video: VideoMaker, replay: Callable[..., list[Estimate]], size: tuple[int, int]
) -> None:
    """Widths that codecs pad, and frames too small for a face."""
    noise = np.random.default_rng(3).integers(0, 255, (size[1], size[0], 3), np.uint8)
    images = [(n / 30, noise) for n in range(5)]
    estimates = replay(make_video("clip.mkv", images, video="ffv1", pixels="bgr0"))
    assert len(estimates) == 5
    assert all(e.abstained for e in estimates)


def test_variable_frame_rate(make_video: VideoMaker, replay: Callable[..., list[Estimate]]) -> None:
    """Every frame at its own time, with the audio of that time. In the pauses that are long for
    what went before there are estimates too, with the frame that is still shown."""
    times_s = [0.0, 0.033, 0.1, 0.45, 0.46, 0.7, 1.2, 1.9]
    images = [(t_s, draw_face(t_s)) for t_s in times_s]
    video_file = make_video("clip.mkv", images, voice_at(RATE, 2.0), audio="pcm_s16le")
    every = replay(video_file)
    assert all(e.face is not None for e in every)
    assert all(abs(e.skew_ns) < 20_000_000 for e in every)
    frames_ns = [round(t_s * SECOND) for t_s in times_s]
    pauses = [(e.t_ns / SECOND, e.index) for e in every if e.t_ns not in frames_ns]
    assert pauses == [(0.35, 2), (1.06, 5), (1.725, 6)]
    estimates = [e for e in every if e.t_ns in frames_ns]
    assert [e.t_ns for e in estimates] == frames_ns
    assert [e.voice is not None for e in estimates] == [False] * 5 + [True] * 3


def test_audio_goes_on_after_the_last_frame(
    make_video: VideoMaker, replay: Callable[..., list[Estimate]]
) -> None:
    """Four times a second to its end, without the face of a video that ended."""
    video_file = make_video("clip.mp4", draw_video(1.0), voice_at(RATE, 4.0))
    estimates = replay(video_file)
    assert [e.index for e in estimates[:30]] == [*range(30)]
    assert all(e.face is not None for e in estimates[:30])
    alone = estimates[30:]
    last_ns = estimates[29].t_ns
    assert [e.t_ns - last_ns for e in alone] == [n * SECOND // 4 for n in range(1, len(alone) + 1)]
    assert 4 * SECOND - SECOND // 4 < alone[-1].t_ns <= 4.1 * SECOND
    assert all(e.face is None and e.voice is not None and e.index == 29 for e in alone)
    assert all(0 <= e.skew_ns < 20_000_000 for e in alone)


def test_audio_begins_before_the_first_frame(
    make_video: VideoMaker, replay: Callable[..., list[Estimate]]
) -> None:
    """Four times a second from its beginning."""
    images = [(1.6 + t_s, image) for t_s, image in draw_video(0.5)]
    estimates = replay(make_video("clip.mkv", images, voice_at(RATE, 2.2), audio="pcm_s16le"))
    assert [e.t_ns for e in estimates[:6]] == [n * SECOND // 4 for n in range(1, 7)]
    assert all(e.face is None for e in estimates[:6])
    assert all(e.voice is not None for e in estimates[2:])
    assert [e.index for e in estimates[6:]] == [*range(15)]
    assert all(e.face is not None for e in estimates[6:])


@pytest.mark.parametrize("codec", ["mpeg4", "mjpeg"])
def test_one_image_and_speech(
    make_video: VideoMaker, replay: Callable[..., list[Estimate]], codec: str
) -> None:
    """A still image, and a cover that is not marked as one, do not keep the audio from going on.
    The image is shown to the end: the duration that is stated is that of a frame rate."""
    pixels = {"mpeg4": "yuv420p", "mjpeg": "yuvj420p"}[codec]
    image = [(0.0, draw_face(0.0))]
    video_file = make_video("clip.mp4", image, voice_at(RATE, 4.0), video=codec, pixels=pixels)
    estimates = replay(video_file)
    assert [e.t_ns for e in estimates] == [n * SECOND // 4 for n in range(len(estimates))]
    assert all(e.face is not None for e in estimates)
    assert all(e.voice is not None for e in estimates[3:])
    assert estimates[-1].t_ns >= 4 * SECOND - SECOND // 4


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.mov"])
def test_face_of_a_still_image(
    make_video: VideoMaker, replay: Callable[..., list[Estimate]], name: str
) -> None:
    """It is used as long as the file states that the image is shown."""
    image = [(0.0, draw_face(0.0))]
    video_file = make_video(name, image, voice_at(RATE, 5.0), shown_s=3.1)
    estimates = replay(video_file)
    assert [e.t_ns for e in estimates] == [n * SECOND // 4 for n in range(21)]
    assert [e.face is not None for e in estimates] == [True] * 13 + [False] * 8


@pytest.mark.parametrize("content", [b"", b"no video", b"\0" * 5000])
def test_file_that_is_no_video(
    tmp_path: Path, replay: Callable[..., list[Estimate]], content: bytes
) -> None:
    """Empty or invalid: one line that names the file."""
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(SourceError) as error:
        replay(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_seconds_are_media_time(replay: Callable[..., list[Estimate]]) -> None:
    """`--seconds` of a replay is time of the file."""
    assert len(replay("demo", seconds=0.5)) == 15


def test_audio_is_wiped_at_the_end(configure: Callable[..., Config]) -> None:
    """After a run its audio ring is silent."""
    runtime = run_replay(configure("demo"), [], 1)
    samples = np.ones(2 * RATE, np.float32)
    _, count = runtime.synchroniser.ring.read(0, samples)
    assert count > RATE // 2
    assert not samples[:count].any()


def copy_bundle(bundle: Path, folder: Path, **changes: object) -> Path:
    """Copy a bundle, with other fields in its manifest and a file for a fusion network."""
    shutil.copytree(bundle, folder)
    (folder / "fusion.onnx").write_bytes(b"no network")
    manifest = load_bundle(folder).manifest
    fields = {name: getattr(manifest, name) for name in manifest.__struct_fields__}
    del fields["format"], fields["files"]
    write_manifest(folder, {**fields, **changes})
    return folder


def test_frame_rate_of_the_level(
    configure: Callable[..., Config], collector: Collector, null_bundle: Path, tmp_path: Path
) -> None:
    """As in a live run, frames beyond the rate of the level are skipped and counted."""
    levels = [Level("slow", 48, voice=False, camera_fps=10)]
    bundle = copy_bundle(null_bundle, tmp_path / "slow", levels=levels)
    runtime = run_replay(configure("demo", f"bundle='{bundle}'"), [collector], 2)
    assert [e.index for e in collector.estimates] == list(range(0, 60, 3))
    assert runtime.rate_limiter.skipped == 40
    assert runtime.dropped_frames == 0


def test_bundle_with_a_fusion_network(
    configure: Callable[..., Config], collector: Collector, null_bundle: Path, tmp_path: Path
) -> None:
    """It weighs the modalities that are present, and its memory is empty at the end."""
    fusion = FusionEntry("fusion.onnx", 8, 1.0, [0.0] * 7, [0.5, 0.5])
    bundle = copy_bundle(null_bundle, tmp_path / "fused", fusion=fusion)
    config = configure("demo", f"bundle='{bundle}'", "output.smoothing_s=0")
    runtime = run_replay(config, [collector], 2)
    first, last = collector.estimates[0], collector.estimates[-1]
    assert first.modalities == {"face": 1.0, "voice": 0.0}
    assert last.modalities == {"face": 0.5, "voice": 0.5}
    assert last.face is not None
    assert last.voice is not None
    # The null fusion averages logits, so the result lies between face and voice.
    for label, value in last.probabilities.items():
        low, high = sorted((last.face[label], last.voice[label]))
        assert low - 0.05 <= value <= high + 0.05
    assert runtime.pipeline.non_finite_outputs["fusion"] == 0
    estimator = runtime.pipeline._estimator
    assert estimator._fusion_input is not None
    people = [*estimator._people.values(), *estimator._free]
    rings = [person.memory._ring for person in people if person.memory is not None]
    assert rings
    assert not any(array.any() for array in (*estimator._fusion_input._arrays.values(), *rings))
