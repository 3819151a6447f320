"""The program from Python: what a program of others may rely on."""

from __future__ import annotations

import inspect
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import emotion_edge
from emotion_edge.runtime import mailbox
from emotion_edge.runtime.capture.demo import draw_face
from emotion_edge.runtime.messages import AudioChunk, Estimate, SinkClosed, VideoFrame

from .devices import FakeCamera, FakeMicrophone
from .sinks.estimates import ESTIMATE

pytestmark = pytest.mark.usefixtures("no_thread_left")


@pytest.fixture
def null(null_bundle: Path) -> dict[str, Any]:
    """Settings of a run without networks, on which no frame is late."""
    return {"bundle": null_bundle, "engines_name": "null", "budget_ms": 10_000}


@pytest.fixture
def film(make_video: Callable[..., Path]) -> Path:
    return make_video("film.mp4", [(n / 30, draw_face(n / 30)) for n in range(12)])


def test_import_loads_nothing() -> None:
    """Neither OpenCV, Numba and ONNX Runtime nor NumPy. Names are there all the same."""
    code = (
        "import sys, emotion_edge\n"
        "emotion_edge.Error, emotion_edge.__version__, dir(emotion_edge)\n"
        "heavy = {'cv2', 'numba', 'onnxruntime', 'av', 'numpy', 'msgspec'}\n"
        "print(sorted(heavy & {*sys.modules}))\n"
        "print([name for name in sys.modules if name.startswith('emotion_edge.')])\n"
        "from emotion_edge import *\n"
        "print(stream.__module__, len(set(emotion_edge.__all__) - set(globals())))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=500, check=False
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["[]", "[]", "emotion_edge.runtime.interface 0"]


@pytest.mark.parametrize("name", sorted({*emotion_edge.__all__} - {"__version__"}))
def test_public_names_are_documented(name: str) -> None:
    """Each has a docstring, and so has each method and property of a class of ours."""
    value = getattr(emotion_edge, name)
    assert (value.__doc__ or "").strip()
    for key, member in vars(value).items() if inspect.isclass(value) else ():
        if not key.startswith("_") and (inspect.isfunction(member) or isinstance(member, property)):
            assert (member.__doc__ or "").strip(), f"{name}.{key}"


def test_errors_have_one_root() -> None:
    """And they are still the kinds of Python that fit."""
    for error, kind in (
        (emotion_edge.ConfigError, ValueError),
        (emotion_edge.SourceError, OSError),
        (emotion_edge.OutputError, OSError),
    ):
        assert issubclass(error, emotion_edge.Error)
        assert issubclass(error, kind)
        assert str(error("in one line")) == "in one line"
    from emotion_edge.runtime.command_line import ENVIRONMENT_ERRORS

    assert all(issubclass(error, emotion_edge.Error) for error in ENVIRONMENT_ERRORS)
    with pytest.raises(AttributeError, match="nothing"):
        emotion_edge.nothing  # noqa: B018


def test_stream_of_a_film(film: Path, null: dict[str, Any]) -> None:
    """In real time the last frame is the end."""
    estimates = list(emotion_edge.stream(film, **null))
    assert all(isinstance(estimate, emotion_edge.Estimate) for estimate in estimates)
    assert estimates[-1].index == 11


def test_analysis_is_that_of_the_program(
    film: Path, null: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every frame, the same twice, and the same as by `stream(pace="max")`, whose reader may be as
    slow as it likes."""
    monkeypatch.setattr(mailbox, "MAX_WAITING", 2)
    first = emotion_edge.analyze(film, **null)
    assert [estimate.index for estimate in first] == list(range(12))
    for others in (
        emotion_edge.analyze(str(film), **null),
        list(emotion_edge.stream(film, pace="max", **null)),
    ):
        assert [(e.t_ns, e.probabilities) for e in others] == [
            (e.t_ns, e.probabilities) for e in first
        ]


def test_closing_stops_the_run(null: dict[str, Any]) -> None:
    """By `break`, by `close`, and at the end of the block: no thread is left. The newest estimate
    and the source stay readable."""
    for estimate in emotion_edge.stream("demo", **null):
        assert estimate.index >= 0
        break
    estimates = emotion_edge.stream("demo", pace="max", **null)
    next(estimates)
    estimates.close()  # type: ignore[attr-defined]
    with emotion_edge.open("demo", **null) as run:
        for _ in run:
            if run.health is not None:
                break
    assert run.source == "demo"
    assert len(run.labels) == 7
    assert run.newest is not None
    assert run.health is not None
    assert run.health.frames > 0
    assert list(run) == []
    run.close()


def test_slow_reader_of_a_live_run() -> None:
    """It gets the newest estimates; what it lost is counted. After the end it gets what waits."""
    box = mailbox.Mailbox(replay=False)
    for index in range(mailbox.MAX_WAITING + 3):
        box.publish(replace(ESTIMATE, index=index))
    box.end()
    taken = []
    while (estimate := box.take()) is not None:
        taken.append(estimate.index)
    assert (taken, box.lost) == (list(range(3, mailbox.MAX_WAITING + 3)), 3)
    box.stop()
    with pytest.raises(SinkClosed):
        box.publish(ESTIMATE)


class Own:
    """A sink and its record."""

    def __init__(self) -> None:
        self.indices: list[int] = []
        self.closed = False

    def publish(self, estimate: Estimate) -> None:
        self.indices.append(estimate.index)

    def close(self) -> None:
        self.closed = True


class Broken(Own):
    def publish(self, estimate: Estimate) -> None:
        raise KeyError("x")


def test_sinks_by_name_and_of_ones_own(film: Path, null: dict[str, Any], tmp_path: Path) -> None:
    """Each gets every estimate and is closed at the end."""
    out, own = tmp_path / "out.jsonl", Own()
    estimates = list(emotion_edge.stream(film, pace="max", sinks=[own, f"jsonl:{out}"], **null))
    written = [json.loads(line)["index"] for line in out.read_text().splitlines()]
    assert written == own.indices == [estimate.index for estimate in estimates]
    assert own.closed


def test_broken_sink_harms_nothing_else(
    film: Path, null: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Estimates and the other sink go on to the end, where the loss is an error."""
    own = Own()
    estimates: list[Estimate] = []
    stream = emotion_edge.stream(film, pace="max", sinks=[Broken(), own], **null)
    with caplog.at_level(logging.ERROR), pytest.raises(emotion_edge.OutputError, match="Broken"):
        estimates.extend(stream)
    assert len(estimates) == len(own.indices) == 12
    assert len(caplog.records) == 1


class OwnCamera:
    """No more than the protocol asks for."""

    def __init__(self) -> None:
        self.camera = FakeCamera(20)

    def read(self) -> emotion_edge.VideoFrame | None:
        try:
            frame = self.camera.read()
        except OSError:
            return None
        assert frame is None or isinstance(frame, VideoFrame)
        return frame

    def close(self) -> None:
        self.camera.close()


def test_sources_of_ones_own(null: dict[str, Any]) -> None:
    """A camera and a microphone of the caller's."""
    microphone: Any = FakeMicrophone()
    assert isinstance(microphone.read(), AudioChunk)
    camera = OwnCamera()
    with emotion_edge.open(video=camera, audio=microphone, seconds=1, **null) as run:
        estimates = list(run)
    assert any(estimate.face for estimate in estimates)
    assert any(estimate.voice for estimate in estimates)


class IntegerMicrophone:
    """Delivers what the driver has."""

    def __init__(self, sample_rate_hz: int = 16_000) -> None:
        self.sample_rate_hz = sample_rate_hz

    def read(self) -> emotion_edge.AudioChunk | None:
        return AudioChunk(0, 0, np.zeros(160, np.int16))  # type: ignore[arg-type]

    def close(self) -> None: ...


def test_audio_of_another_kind(null: dict[str, Any]) -> None:
    """Samples and rates that would be heard as something else are refused."""
    with pytest.raises(emotion_edge.ConfigError, match="int16"):
        list(emotion_edge.stream(audio=IntegerMicrophone(), **null))
    with pytest.raises(emotion_edge.ConfigError, match="48000"):
        emotion_edge.stream(audio=IntegerMicrophone(48_000), **null)


class FailingCamera(OwnCamera):
    def read(self) -> emotion_edge.VideoFrame | None:
        raise ZeroDivisionError


def test_error_of_a_source_of_ones_own(null: dict[str, Any]) -> None:
    """It comes out of the iteration."""
    camera = FailingCamera()
    with pytest.raises(ZeroDivisionError):
        list(emotion_edge.stream(video=camera, **null))


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"output_smoothing_s": -1}, "output.smoothing_s is '-1'"),
        ({"source_rotate": 45}, "source.rotate is '45'"),
        ({"budget_ms": None}, "budget_ms is None"),
        ({"color": "red"}, "unknown key color"),
        ({"output_color": "red"}, "unknown key output.color"),
        ({"profile": "school"}, "profile is 'school'"),
        ({"pace": "fast"}, "pace is 'fast'"),
        ({"seconds": 0}, "seconds is 0"),
        ({"sinks": "console"}, "sinks is 'console'"),
        ({"output_sinks": ["console"]}, "output_sinks"),
        ({"video": object(), "source": "demo"}, "video"),
        ({"config": "none.yaml"}, "none.yaml"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], names: str) -> None:
    """They are reported by the call itself, by name and value."""
    with pytest.raises(emotion_edge.ConfigError, match=names):
        emotion_edge.stream(**settings)


def test_settings_by_keyword(film: Path, null: dict[str, Any], tmp_path: Path) -> None:
    """Text, numbers, yes and no, over those of a file, whose sinks are not used."""
    file = tmp_path / "config.yaml"
    file.write_text("level: high\noutput: {sinks: ['jsonl:unwanted']}\nfaces: {max: 1}\n")
    settings = {"level": "low", "source_mirror": True, "output_smoothing_s": 0.25}
    estimates = emotion_edge.analyze(film, config=file, **null, **settings)
    assert {estimate.level for estimate in estimates} == {"low"}
    assert not Path("unwanted").exists()


@pytest.mark.parametrize("source", ["none.mp4", "empty.mp4"])
def test_source_that_does_not_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, null: dict[str, Any], source: str
) -> None:
    """`open` raises it, and so does the first estimate of a stream."""
    monkeypatch.chdir(tmp_path)
    Path("empty.mp4").touch()
    with pytest.raises(emotion_edge.SourceError, match=source):
        emotion_edge.open(source, **null)
    with pytest.raises(emotion_edge.SourceError, match=source):
        next(emotion_edge.stream(source, **null))
    with pytest.raises(emotion_edge.SourceError, match=source):
        emotion_edge.analyze(source, **null)


def test_several_runs_at_once(null: dict[str, Any]) -> None:
    """Two kiosks in one program."""
    with emotion_edge.open("demo", **null) as one, emotion_edge.open("demo", **null) as other:
        assert next(one).index >= 0
        assert next(other).index >= 0
        assert threading.active_count() > 4
