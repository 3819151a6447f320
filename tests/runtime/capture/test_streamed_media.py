"""Pipes as media: what can be read once, and only forward."""

from __future__ import annotations

import itertools
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from emotion_edge.runtime.capture import merge_events, open_media, open_sources
from emotion_edge.runtime.capture.pipe import WAIT_NS, PipeReader
from emotion_edge.runtime.capture.stream_input import open_pipe
from emotion_edge.runtime.clock import FakeClock
from emotion_edge.runtime.config import Source
from emotion_edge.runtime.messages import AudioChunk, SourceError, VideoFrame

from .reading import read_next

MakeClip = Callable[..., Path]


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


@contextmanager
def written(fifo: Path, data: bytes) -> Iterator[None]:
    """A thread writes `data` into the FIFO, until nobody reads it."""

    def write() -> None:
        with suppress(BrokenPipeError):
            fifo.write_bytes(data)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        os.close(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK))  # a writer that still waits goes on
        thread.join()


FORMATS = [
    ("clip.ts", {}),
    ("clip.mkv", {}),
    ("clip.avi", {"audio": "pcm_s16le"}),
    ("late.mkv", {"audio": "pcm_s16le", "audio_from_s": 0.25}),
    ("vfr.mkv", {"times_s": [0, 0.1, 0.137, 0.29, 0.4, 0.533, 0.9]}),
]


@pytest.mark.parametrize(("name", "options"), FORMATS)
def test_pipe_is_played_once(
    fifo: Path, make_clip: MakeClip, name: str, options: dict[str, object]
) -> None:
    """A flash and a click of the same instant stay together; times go forward."""
    clip = make_clip(name, **options)
    with written(fifo, clip.read_bytes()):
        events = list(merge_events(open_media(Source(str(fifo)))))
    frames = [event for event in events if isinstance(event, VideoFrame)]
    chunks = [event for event in events if isinstance(event, AudioChunk)]
    flash_ns = max(frames, key=lambda frame: float(frame.image.mean())).t_ns
    click = next(chunk for chunk in chunks if np.abs(chunk.samples).max() > 0.1)
    click_ns = click.t_ns + int(np.argmax(np.abs(click.samples) > 0.1)) * 62_500
    assert abs(flash_ns - click_ns) <= 5_000_000
    assert abs(flash_ns - 400_000_000) <= 30_000_000  # AAC begins before the picture
    assert [frame.index for frame in frames] == list(range(len(frames)))
    times = [frame.t_ns for frame in frames]
    assert all(before < after for before, after in itertools.pairwise(times))
    assert {chunk.samples.size for chunk in chunks[:-1]} <= {160}


@pytest.mark.parametrize(
    "options", [{"audio": None}, {"video": None, "audio": "flac"}], ids=["video", "audio"]
)
def test_pipe_with_one_track(fifo: Path, make_clip: MakeClip, options: dict[str, object]) -> None:
    """The other one is empty."""
    data = make_clip("clip.mkv", **options).read_bytes()
    with written(fifo, data), open_sources(Source(str(fifo)), clock=FakeClock(77)) as sources:
        present, absent = sources.video, sources.audio
        if "video" in options:
            present, absent = sources.audio, sources.video
        assert read_next(present).t_ns == 77
        assert absent is not None
        assert absent.read() is None
        while present is not None and present.read() is not None:
            pass


def test_pipe_is_played_in_its_own_time(fifo: Path, make_clip: MakeClip) -> None:
    """Like a file: each frame at its time, and then the end."""
    clock = FakeClock()
    data = make_clip("clip.mkv", audio=None).read_bytes()
    with written(fifo, data), open_sources(Source(str(fifo)), clock=clock) as sources:
        video = sources.video
        assert video is not None
        times = [frame.t_ns for frame in iter(video.read, None)]
    assert times == [n * 40_000_000 for n in range(25)]


@pytest.mark.parametrize("data", [b"", b"no film" * 1000, b"RIFF"], ids=["empty", "text", "cut"])
def test_pipe_that_cannot_be_played(fifo: Path, data: bytes) -> None:
    """One line that names it."""
    with written(fifo, data), pytest.raises(SourceError, match="fifo") as failure:
        list(merge_events(open_media(Source(str(fifo)))))
    assert "\n" not in str(failure.value)


def test_mp4_with_its_index_at_the_end(fifo: Path, make_clip: MakeClip) -> None:
    """It cannot be read forward; the line says how to write it."""
    clip = make_clip("clip.mp4", seconds=8, size=(640, 480), video="mjpeg", pixels="yuvj420p")
    with (
        written(fifo, clip.read_bytes()),
        pytest.raises(SourceError, match="faststart"),
    ):
        list(merge_events(open_media(Source(str(fifo)))))


def test_playlist_in_a_pipe_opens_nothing(fifo: Path, make_clip: MakeClip) -> None:
    """Whatever it names."""
    clip = make_clip("part.ts", audio=None)
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\nfile://{clip}\n#EXT-X-ENDLIST\n"
    with written(fifo, playlist.encode()), pytest.raises(SourceError):
        list(merge_events(open_media(Source(str(fifo)))))


def test_cut_stream_ends_with_a_warning_or_its_end(fifo: Path, make_clip: MakeClip) -> None:
    """What came is played."""
    data = make_clip("clip.mkv", audio=None).read_bytes()
    with written(fifo, data[: len(data) * 3 // 4]):
        frames = list(merge_events(open_media(Source(str(fifo)))))
    assert 5 < len(frames) < 25


def test_pipe_cannot_loop(fifo: Path) -> None:
    with pytest.raises(SourceError, match=r"source\.loop"):
        open_sources(Source(str(fifo), loop=True), clock=FakeClock())


# Waiting


class HastyClock(FakeClock):
    """A second passes with each look at it."""

    def now_ns(self) -> int:
        self.advance(1_000_000_000)
        return super().now_ns()


class FakePoll:
    """A pipe that has no data for a number of polls."""

    def __init__(self, count: int, then: Callable[[], object] = list) -> None:
        self._count = count
        self._then = then

    def poll(self, _: int) -> list[int]:
        self._count -= 1
        if self._count < 0:
            self._then()
            return [1]
        return []


def test_wait_is_said_once(fifo: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And its end."""
    reader = PipeReader(fifo, "fifo", HastyClock())
    faults: list[str] = []

    def write() -> None:
        assert reader.is_waiting
        faults.append(reader.fault)

    reader._poll = FakePoll(2 * WAIT_NS // 1_000_000_000, write)  # type: ignore[assignment]
    with caplog.at_level(logging.WARNING):
        assert reader.read(100) == b""
    assert "fifo" in faults[0]
    assert (reader.is_waiting, reader.fault) == (False, "")
    reader.close()
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "fifo" in caplog.messages[0]


def test_read_is_interrupted(fifo: Path) -> None:
    """A FIFO without a writer hangs nothing."""
    reader = PipeReader(fifo, "fifo", FakeClock())
    waiting = threading.Thread(target=reader.read, args=(100,))
    waiting.start()
    reader.interrupt()
    waiting.join()
    with pytest.raises(SourceError):
        open_pipe(reader, "fifo")
    reader.close()


def test_ctrl_c_ends_the_wait(fifo: Path) -> None:
    """Although PyAV drops it."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    reader = PipeReader(fifo, "fifo", FakeClock())
    reader._poll = FakePoll(3, interrupt)  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        open_pipe(reader, "fifo")
    reader.close()


@pytest.mark.usefixtures("no_thread_left")
def test_sources_without_a_writer_are_closed(fifo: Path) -> None:
    sources = open_sources(Source(str(fifo)), clock=FakeClock())
    assert sources.video is not None
    reading = threading.Thread(target=sources.video.read)
    reading.start()
    sources.close()
    reading.join()
