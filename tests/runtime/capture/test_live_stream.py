"""Network streams on the loopback interface: files, live streams, credentials, reconnection."""

from __future__ import annotations

import base64
import itertools
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from emotion_edge.runtime.capture import (
    Sources,
    merge_events,
    open_media,
    open_sources,
    reconnect,
    stream_input,
)
from emotion_edge.runtime.capture.reconnect import WaitPolicy
from emotion_edge.runtime.clock import Clock, FakeClock, MonotonicClock
from emotion_edge.runtime.config import Config, Source
from emotion_edge.runtime.live import LiveRun
from emotion_edge.runtime.messages import SourceError, VideoFrame

from .reading import read_many, read_next
from .servers import HOST, Page, Server, serve_http, serve_rtsp

MakeClip = Callable[..., Path]
LOGIN = base64.b64encode(b"me:secret").decode()

pytestmark = pytest.mark.usefixtures("no_thread_left")


@pytest.fixture
def stream(make_clip: MakeClip) -> bytes:
    """A second of MPEG-TS with picture and sound."""
    return make_clip("clip.ts").read_bytes()


@pytest.fixture
def http(stream: bytes, make_clip: MakeClip) -> Iterator[Server]:
    """Files and live streams; the live ones end with their data."""
    picture = make_clip("clip.mjpeg", video="mjpeg", pixels="yuvj420p", audio=None).read_bytes()
    pages = {
        "/film.mp4": Page(make_clip("clip.mp4").read_bytes()),
        "/film.ts": Page(stream),
        "/live": Page(stream, is_live=True),
        "/locked": Page(stream, is_live=True, user=LOGIN),
        "/text": Page(b"nothing to see"),
        "/pictures": Page(
            b"".join(
                b"--x\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n"
                % (len(part), part)
                for part in [b"\xff\xd8" + each for each in picture.split(b"\xff\xd8")[1:]]
            ),
            is_live=True,
            content_type="multipart/x-mixed-replace;boundary=x",
        ),
    }
    with serve_http(pages) as server:
        yield server


def open_stream(url: str, clock: Clock | None = None, **options: object) -> Sources:
    return open_sources(Source(url, **options), clock=clock or FakeClock())  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["film.mp4", "film.ts"])
def test_file_of_a_server_is_played_like_a_file(http: Server, name: str) -> None:
    """At both paces, through one connection, and then it ends."""
    url = f"http://{http.address}/{name}"
    events = list(merge_events(open_media(Source(url))))
    frames = [event for event in events if isinstance(event, VideoFrame)]
    assert len(frames) == 25
    assert len(events) > 100
    assert http.requests == [f"/{name}"]
    clock = FakeClock()
    with open_stream(url, clock) as sources:
        assert not sources.is_reopening
        video = sources.video
        assert video is not None
        times = [frame.t_ns for frame in iter(video.read, None)]
    steps = {after - before for before, after in itertools.pairwise(times)}
    assert steps == {40_000_000}


def test_live_stream_reconnects(
    http: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever the server ends it. The numbers of frames and samples go on, and so do the times."""
    monkeypatch.setattr(reconnect, "FIRST_DELAY_NS", 1)
    with (
        caplog.at_level(logging.WARNING),
        open_sources(
            Source(f"http://{http.address}/live?key=secret"), clock=MonotonicClock()
        ) as live,
    ):
        frames = read_many(live.video, 30)
        while len(http.requests) < 3:
            frames.append(read_next(live.video))
            read_next(live.audio)
        assert live.devices == (live.stream,)
    assert set(http.requests) == {"/live?key=secret"}
    for number in (lambda frame: frame.index, lambda frame: frame.t_ns):
        numbers = [number(frame) for frame in frames]
        assert all(before < after for before, after in itertools.pairwise(numbers))
    assert caplog.records
    assert "secret" not in live.name + caplog.text


def test_credentials_are_used_and_never_shown(
    http: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the right ones nor wrong ones."""
    with open_stream(f"http://me:secret@{http.address}/locked") as sources:
        assert read_next(sources.video).image.shape == (180, 320, 3)
        assert sources.stream is not None
        shown = sources.name + sources.stream.fault
    with pytest.raises(SourceError) as failure:
        open_stream(f"http://me:wrong-secret@{http.address}/locked?token=secret")
    assert failure.value.__cause__ is None
    assert "secret" not in shown + str(failure.value) + caplog.text


@pytest.mark.parametrize("name", ["none", "text"])
def test_stream_that_cannot_be_opened(http: Server, name: str) -> None:
    """One line that names it, at both paces."""
    source = Source(f"http://{http.address}/{name}")
    for open_source in (open_media, lambda each: open_sources(each, clock=FakeClock())):
        with pytest.raises(SourceError, match=name) as failure:
            open_source(source)
        assert "\n" not in str(failure.value)


def test_live_stream_cannot_be_replayed(http: Server) -> None:
    with pytest.raises(SourceError, match="live"):
        open_media(Source(f"http://{http.address}/live"))


def test_pictures_without_times(http: Server) -> None:
    """A camera that sends JPEG after JPEG states no times: they are those of the arrival."""
    clock = FakeClock(1_000)
    with open_stream(f"http://{http.address}/pictures", clock) as sources:
        first = read_next(sources.video)
        assert first.image.shape == (180, 320, 3)
        assert first.t_ns - 1_000 < 1_000
        assert sources.video is not None
        assert sources.video.path.clock_domain == "time of arrival"


def test_rtsp(stream: bytes) -> None:
    """With credentials, over the one TCP connection, turned as configured."""
    with serve_rtsp(2 * stream, LOGIN) as server:
        url = f"rtsp://me:secret@{server.address}/live"
        with open_stream(url, rotate=90) as sources:
            assert read_next(sources.video).image.shape == (320, 180, 3)
            assert sources.name == f"rtsp://***@{server.address}/live"
        assert any(request.startswith("PLAY") for request in server.requests)


def test_udp(stream: bytes) -> None:
    """A transport stream that somebody sends to a port."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    stop = threading.Event()

    def send() -> None:
        with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sender:
            while not stop.is_set():
                for at in range(0, len(stream), 1316):
                    sender.sendto(stream[at : at + 1316], (HOST, port))
                    stop.wait(0.002)

    sending = threading.Thread(target=send)
    sending.start()
    try:
        with open_stream(f"udp://{HOST}:{port}") as sources:
            assert read_next(sources.video).image.shape == (180, 320, 3)
    finally:
        stop.set()
        sending.join()


def test_silent_server_does_not_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that accepts and says nothing."""
    monkeypatch.setattr(stream_input, "OPEN_TIMEOUT_S", 0.2)
    with closing(socket.create_server((HOST, 0))) as silent:
        port = silent.getsockname()[1]
        for scheme in ("http", "rtsp"):
            with pytest.raises(SourceError, match=scheme):
                open_stream(f"{scheme}://{HOST}:{port}/live")


def test_missing_server_is_awaited_if_configured(
    stream: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a fault and a known reason for no result, until it is there."""
    monkeypatch.setattr(reconnect, "FIRST_DELAY_NS", 1)
    with closing(socket.create_server((HOST, 0))) as taken:
        port = taken.getsockname()[1]
    url = f"http://me:secret@{HOST}:{port}/live"
    with pytest.raises(SourceError):
        open_stream(url)
    policy = WaitPolicy(wait_for_first=True)
    clock = MonotonicClock()
    with open_sources(Source(url), clock=clock, wait_policy=policy) as sources:
        assert sources.is_reopening
        with serve_http({"/live": Page(stream, is_live=True)}, port):
            assert read_next(sources.video).index == 0


def test_nothing_is_opened_without_permission(http: Server) -> None:
    """While the capture indicator is off."""
    policy = WaitPolicy(wait_for_first=True, capture_allowed=lambda: False)
    url = f"http://{http.address}/live"
    open_sources(Source(url), clock=FakeClock(), wait_policy=policy).close()
    assert http.requests == []


def test_playlist_of_a_server_opens_no_file(http: Server, make_clip: MakeClip) -> None:
    """A file of this machine is none of its business."""
    clip = make_clip("part.ts", audio=None)
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\nfile://{clip}\n#EXT-X-ENDLIST\n"
    http.pages["/list.m3u8"] = Page(playlist.encode(), content_type="application/x-mpegurl")
    with pytest.raises(SourceError):
        list(merge_events(open_media(Source(f"http://{http.address}/list.m3u8"))))


def test_playlist_of_a_server_is_played(http: Server) -> None:
    """HLS: a list of files that ends is a file."""
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\nfilm.ts\n#EXT-X-ENDLIST\n"
    http.pages["/list.m3u8"] = Page(playlist.encode(), content_type="application/x-mpegurl")
    events = list(merge_events(open_media(Source(f"http://{http.address}/list.m3u8"))))
    assert sum(isinstance(event, VideoFrame) for event in events) == 25


def test_live_run_of_a_stream(configure: Callable[..., Config], http: Server) -> None:
    """The whole program reads it, and a stop ends it while the server holds the connection."""
    hold = threading.Semaphore(1)
    http.pages["/held"] = Page(2 * http.pages["/live"].data, is_live=True, allow=hold)
    estimates = []

    class Sink:
        def publish(self, estimate: object) -> None:
            estimates.append(estimate)
            run.stop()

        def close(self) -> None: ...

    before = set(threading.enumerate())
    run = LiveRun(configure(f"http://{http.address}/held"), [Sink()])
    run.run()
    assert estimates
    hold.release(1000)  # the thread that waits for the server is left to itself
    for thread in set(threading.enumerate()) - before:
        thread.join()


def test_sound_and_picture_stay_together(http: Server) -> None:
    """A flash and a click of the same instant, by the times of both tracks."""
    with open_stream(f"http://{http.address}/live", FakeClock()) as sources:
        frames = read_many(sources.video, 25)
        chunks = read_many(sources.audio, 40)
    assert all(before.t_ns < after.t_ns for before, after in itertools.pairwise(frames))
    assert any(np.abs(chunk.samples).max() > 0.1 for chunk in chunks)
