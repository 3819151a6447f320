"""Files that are decoded more slowly than they play, on a clock that decoding moves."""

from __future__ import annotations

from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from emotion_edge.runtime.capture.catching_up import CatchUp
from emotion_edge.runtime.capture.demo import Demo
from emotion_edge.runtime.capture.media_file import MediaFile
from emotion_edge.runtime.capture.turning import Turn, TurnedMedia

MS = 1_000_000
FPS = 30


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Eight seconds, by what lies between two key frames."""
    folder = tmp_path_factory.mktemp("films")
    return {
        "nothing": write_film(folder / "intra.mkv", "mjpeg", "yuvj420p", 1),
        "15 frames": write_film(folder / "short.mkv", "mpeg4", "yuv420p", 15, b_frames=2),
        "everything": write_film(folder / "long.mkv", "mpeg4", "yuv420p", 600),
    }


def write_film(path: Path, codec: str, pixels: str, gop: int, b_frames: int = 0) -> Path:
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
        stream.gop_size, stream.codec_context.max_b_frames = gop, b_frames
        stream.codec_context.options = {"sc_threshold": "1000000000"}
        for number in range(8 * FPS):
            shade = np.full((48, 64, 3), number % 200, np.uint8)
            frame = av.VideoFrame.from_ndarray(shade, format="bgr24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


class SlowClock:
    """Media time that goes on by `step_ns` each time that it is read: once for each packet, and
    once for each frame that was decoded."""

    def __init__(self, step_ns: int, start_ns: int = 0) -> None:
        self.now_ns, self.step_ns = start_ns, step_ns

    def __call__(self) -> int:
        self.now_ns += self.step_ns
        return self.now_ns


@pytest.mark.parametrize(
    ("between_keys", "fewest"), [("nothing", 30), ("15 frames", 30), ("everything", 5)]
)
def test_slow_decoder_does_not_fall_behind(
    films: dict[str, Path], between_keys: str, fewest: int
) -> None:
    """Frames that come take 50 ms of their 33. They are on time, and numbered as in the file."""
    media, clock = MediaFile(films[between_keys]), SlowClock(25 * MS, -200 * MS)
    frames = []
    for frame in media.frames(due_ns=clock):
        assert clock.now_ns - frame.t_ns <= 10 * MS
        assert frame.index == round(frame.t_ns * FPS / 1e9)
        frames.append(frame)
    assert fewest <= len(frames) < 0.7 * 8 * FPS


def test_jumps_over_what_was_missed(films: dict[str, Path]) -> None:
    """After a pause of five seconds it goes on at the next key frame, without decoding all."""
    clock = SlowClock(100_000)
    frames = MediaFile(films["15 frames"]).frames(due_ns=clock)
    next(islice(frames, 29, None))
    clock.now_ns += 5_000 * MS
    frame = next(frames)
    assert 0 < frame.t_ns - clock.now_ns <= (200 + 500) * MS
    assert frame.index == round(frame.t_ns * FPS / 1e9)


@pytest.mark.parametrize("between_keys", ["nothing", "15 frames"])
def test_frames_that_take_a_second_each_are_started_early(
    films: dict[str, Path], between_keys: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A PC that cannot decode a frame in the lead of 200 ms jumps farther ahead, and still shows
    one every few seconds, even if it never got to the second key frame."""
    clock, judge, frames = SlowClock(100_000, -200 * MS), CatchUp.is_late, []

    def decode_and_judge(catch_up: CatchUp, t_ns: int, shown_ns: int) -> bool:
        clock.now_ns += 1_000 * MS
        assert clock.now_ns < 90_000 * MS
        return judge(catch_up, t_ns, shown_ns)

    monkeypatch.setattr(CatchUp, "is_late", decode_and_judge)
    for frame in MediaFile(films[between_keys]).frames(loop=True, due_ns=clock):
        assert clock.now_ns - frame.t_ns <= 10 * MS
        frames.append(frame)
        if clock.now_ns > 60_000 * MS:
            break
    assert len(frames) >= 8


@pytest.mark.parametrize("between_keys", ["nothing", "15 frames", "everything"])
def test_fast_decoder_loses_nothing(films: dict[str, Path], between_keys: str) -> None:
    media = MediaFile(films[between_keys])
    frames = list(media.frames(due_ns=SlowClock(1 * MS, -600 * MS)))
    assert [frame.index for frame in frames] == list(range(8 * FPS))
    for one, other in zip(frames, media.frames(), strict=True):
        assert one.t_ns == other.t_ns
        assert (one.image == other.image).all()


def test_loop_goes_on_when_a_whole_round_was_late(films: dict[str, Path]) -> None:
    clock = SlowClock(100_000)
    frames = MediaFile(films["nothing"]).frames(loop=True, due_ns=clock)
    next(frames)
    clock.now_ns += 20_000 * MS
    frame = next(frames)
    assert frame.t_ns >= clock.now_ns - 10 * MS
    assert frame.index == round(frame.t_ns * FPS / 1e9)


def test_demo_draws_no_late_frame() -> None:
    clock = SlowClock(100 * MS)
    media = TurnedMedia(Demo(), Turn(90, False))
    times = [frame.t_ns // MS for frame in islice(media.frames(due_ns=clock), 4)]
    assert times == [100, 200, 300, 400]
