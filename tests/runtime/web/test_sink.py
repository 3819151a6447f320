"""The sink for a page: what it sends, and that the pipeline never waits for it."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace

import cv2
import msgspec
import numpy as np
import pytest

from emotion_edge.engines.bundles import LABELS
from emotion_edge.runtime import config
from emotion_edge.runtime.clock import FakeClock
from emotion_edge.runtime.config import ConfigError
from emotion_edge.runtime.messages import FaceEstimate, Health, RunInfo, VideoFrame
from emotion_edge.runtime.sinks.jsonl import encode_estimate
from emotion_edge.runtime.web import sink as module
from emotion_edge.runtime.web.sink import BOXES_NS, PICTURE_NS, STALE_NS, WebSink
from emotion_edge.runtime.web.wire import ESTIMATE, HEALTH, PICTURE, Picture

from ..sinks.estimates import ESTIMATE as HAPPY
from .test_metrics import HEALTH as RUN

FACE = FaceEstimate("abcdef", (100.0, 50.0, 80.0), 0.9, "happy", 0.8, {"happy": 0.8})
BGR = np.zeros((720, 1280, 3), np.uint8)
BGR[:, :640] = (0, 0, 255)
FRAME = VideoFrame(1000, 1, BGR)


class FakeProcess:
    """Records what is sent to it."""

    def __init__(self, listener: object, settings: object, clock: object) -> None:
        listener.close()  # type: ignore[attr-defined]
        self.port = 8080
        self.fault = ""
        self.dropped = 0
        self.sent: list[bytes] = []
        self.starts = True
        self.full = False

    def tick(self) -> bool:
        started, self.starts = self.starts, False
        return started

    def send(self, message: bytes) -> bool:
        if not self.full:
            self.sent.append(message)
        return not self.full

    def close(self) -> None: ...

    def take(self, kind: bytes) -> list[bytes]:
        """The bodies of this kind since the last call."""
        bodies = [message[1:] for message in self.sent if message[:1] == kind]
        self.sent = [message for message in self.sent if message[:1] != kind]
        return bodies


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(1000)


@pytest.fixture(params=[True])
def web(
    request: pytest.FixtureRequest, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[WebSink, FakeProcess]]:
    """A sink without its thread, and the process it feeds. The parameter is `web.picture`."""
    monkeypatch.setattr(module, "ServerProcess", FakeProcess)
    monkeypatch.setattr(WebSink, "_run", lambda _: None)
    settings = config.Web(port=0, picture=request.param)
    with WebSink(settings, 45.0, encode_estimate, clock=clock) as sink:
        process = sink._process
        assert isinstance(process, FakeProcess)
        yield sink, process


Web = tuple[WebSink, FakeProcess]


def test_the_newest_estimate_is_sent_once(web: Web, clock: FakeClock) -> None:
    """As the line of `jsonl:`. Those between are left out."""
    sink, process = web
    for index in range(5):
        sink.publish(replace(HAPPY, index=index))
    sink._turn(clock.now_ns())
    sink._turn(clock.now_ns())
    assert process.take(ESTIMATE) == [encode_estimate(replace(HAPPY, index=4))]
    sink._turn(clock.now_ns())
    assert process.sent == []


def test_a_new_process_is_told_everything(web: Web, clock: FakeClock) -> None:
    sink, process = web
    sink.begin(RunInfo("camera", LABELS))
    sink.show_health(RUN)
    sink.publish(HAPPY)
    sink._turn(clock.now_ns())
    assert len(process.sent) == 2
    process.starts = True
    sink._turn(clock.now_ns())
    assert len(process.sent) == 4


def test_health(web: Web, clock: FakeClock) -> None:
    """With the source's name and the size that boxes refer to. It is sent again if there was no
    room for it."""
    sink, process = web
    sink.begin(RunInfo("/dev/video0", LABELS))
    sink.show_frames(lambda: FRAME)
    drops = {"frames": 3}
    sink.show_health(replace(RUN, faults=("camera is missing",), drops=drops, fps=np.float32(30)))
    process.full = True
    sink._turn(clock.now_ns())
    process.full = False
    process.dropped = 2
    sink._turn(clock.now_ns())
    (health,) = map(json.loads, process.take(HEALTH))
    assert health["source"] == "/dev/video0"
    assert health["frame"] == [1280, 720]
    assert health["faults"] == ["camera is missing"]
    assert health["drops"] == {"frames": 3, "page_messages": 2}
    assert (health["latency_p99_ms"], health["fps"]) == (11.0, 30.0)


@pytest.mark.parametrize("image_format", ["bgr8", "rgb8", "yuyv", "nv12"])
def test_picture(web: Web, clock: FakeClock, image_format: str) -> None:
    """Scaled down, with the faces of its moment, five times a second."""
    sink, process = web
    shapes = {"yuyv": (720, 1280, 2), "nv12": (1080, 1280)}
    image = BGR if image_format == "bgr8" else BGR[..., ::-1].copy()
    if image_format in shapes:
        image = np.full(shapes[image_format], 128, np.uint8)
    sink.show_frames(lambda: replace(FRAME, image=image, format=image_format, t_ns=clock.now_ns()))
    sink.publish(replace(HAPPY, t_ns=clock.now_ns(), faces=(FACE,)))
    sink._turn(clock.now_ns())
    clock.advance(PICTURE_NS - 1)
    sink._turn(clock.now_ns())
    (body,) = process.take(PICTURE)
    picture = msgspec.json.decode(body, type=Picture)
    assert (picture.width, picture.height) == (1280, 720)
    assert json.loads(bytes(picture.faces))[0]["box"] == [100.0, 50.0, 80.0]
    shown = cv2.imdecode(np.frombuffer(picture.jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert shown is not None
    assert shown.shape == (360, 640, 3)
    expected = (0, 0, 255) if image_format in {"bgr8", "rgb8"} else (128, 128, 128)
    assert np.allclose(shown[180, 100], expected, atol=12)
    clock.advance(1)
    sink._turn(clock.now_ns())
    assert len(process.take(PICTURE)) == 1


def test_no_old_picture_and_no_old_faces(web: Web, clock: FakeClock) -> None:
    """Neither a frame twice, nor one of a camera that stopped, nor faces of another moment."""
    sink, process = web
    sink.show_frames(lambda: FRAME)
    sink.publish(replace(HAPPY, t_ns=FRAME.t_ns + BOXES_NS + 1, faces=(FACE,)))
    sink._turn(clock.now_ns())
    (body,) = process.take(PICTURE)
    assert bytes(msgspec.json.decode(body, type=Picture).faces) == b"[]"
    clock.advance(PICTURE_NS)
    sink._turn(clock.now_ns())
    sink.show_frames(lambda: replace(FRAME, t_ns=FRAME.t_ns + 1))
    clock.advance(STALE_NS)
    sink._turn(clock.now_ns())
    assert process.take(PICTURE) == []


@pytest.mark.parametrize("web", [False], indirect=True)
def test_no_picture_unless_configured(web: Web, clock: FakeClock) -> None:
    sink, process = web
    assert not config.Web().picture
    sink.show_frames(lambda: FRAME)
    sink._turn(clock.now_ns())
    assert process.take(PICTURE) == []


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80/"),
        ("::1", "http://[::1]:80/"),
        ("0.0.0.0", f"http://{socket.gethostname()}:80/"),
    ],
)
def test_url(address: str, url: str) -> None:
    """One that a browser can open."""
    assert module.make_url(address, 80) == url


def test_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the setting and the extra to install."""
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(ConfigError, match=r"web\.port.*\[web\]"):
        WebSink(config.Web(port=0), 45.0, encode_estimate)


@pytest.mark.usefixtures("no_thread_left")
def test_an_error_of_the_thread_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """By `publish`, and for the monitor: a bug ends the run."""

    def fail(_: object) -> bytes:
        raise ValueError("bug")

    monkeypatch.setattr(module, "ServerProcess", FakeProcess)
    with WebSink(config.Web(port=0), 45.0, fail) as sink:
        sink.publish(HAPPY)
        sink._thread.join()
        assert isinstance(sink.failure, ValueError)
        with pytest.raises(ValueError, match="bug"):
            sink.publish(HAPPY)


def test_health_has_what_the_page_shows() -> None:
    """Every key that the page's script reads."""
    assert isinstance(RUN, Health)
    fields = module.list_health(RUN, "demo", None, 0)
    for name in ("latency_p50_ms", "latency_p99_ms", "latency_max_ms", "fps", "drops", "faults"):
        assert name in fields
