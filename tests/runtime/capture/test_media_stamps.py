"""Files whose timestamps or packets are wrong."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from emotion_edge.runtime.capture.media_file import MediaFile
from emotion_edge.runtime.capture.media_joins import JoinFinder

from .media_samples import audio_end_ms, frame_times_ms, write_stamped

MakeClip = Callable[..., Path]
MS = 1_000_000


def test_stray_timestamp_in_a_file(tmp_path: Path) -> None:
    """It moves one frame. The clip keeps its length."""
    stamps = [40 * n for n in range(60)]
    stamps[20] = 1_200_000
    media = MediaFile(write_stamped(tmp_path / "a.mkv", stamps, [20 * n for n in range(120)]))
    times = frame_times_ms(media)
    assert times[:20] + times[21:] == [40 * n for n in range(60) if n != 20]
    assert 760 < times[20] < 840


def test_pairs_in_a_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Frames that share timestamps are spread, and one line says how many were."""
    media = MediaFile(write_stamped(tmp_path / "a.mkv", [n // 2 * 80 for n in range(60)]))
    assert frame_times_ms(media) == pytest.approx([40 * n for n in range(60)], abs=1)
    (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "30 of 60" in record.getMessage()


def test_audio_that_jumps_and_repeats(tmp_path: Path) -> None:
    """It stays with the frames."""
    audio = [20 * n if n < 10 else 20_200 for n in range(120)]
    media = MediaFile(write_stamped(tmp_path / "a.mkv", [40 * n for n in range(60)], audio))
    assert [chunk.first_sample for chunk in media.chunks()] == [160 * n for n in range(240)]


@pytest.mark.parametrize("jump_ms", [5_000, 20_000])
@pytest.mark.parametrize("kind", ["audio", "video"])
def test_jump_of_one_track(tmp_path: Path, kind: str, jump_ms: int) -> None:
    """Both tracks still end together."""
    video, audio = [40 * n for n in range(60)], [20 * n for n in range(120)]
    if kind == "audio":
        audio[30:] = [t + jump_ms for t in audio[30:]]
    else:
        video[15:] = [t + jump_ms for t in video[15:]]
    media = MediaFile(write_stamped(tmp_path / "a.mkv", video, audio))
    assert audio_end_ms(media) == pytest.approx(2_400, abs=45)
    times = frame_times_ms(media)
    assert times[-1] == pytest.approx(2_360, abs=45)
    assert all(a < b for a, b in pairwise(times))


def test_gap_of_both_tracks(tmp_path: Path) -> None:
    """A recording that paused for six seconds did."""
    video = [40 * n + 6_000 * (n >= 20) for n in range(60)]
    audio = [20 * n + 6_000 * (n >= 40) for n in range(120)]
    media = MediaFile(write_stamped(tmp_path / "a.mkv", video, audio))
    assert frame_times_ms(media) == video
    assert audio_end_ms(media) == 8_400


def write_transport_stream(path: Path, *, from_s: float = 0, audio_s: float = 2) -> Path:
    """Write two seconds of video, and audio, from this time of the stream's clock."""
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("mpeg2video", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio: Any = container.add_stream("mp2", rate=16_000, layout="mono")
        size = 1_152
        packets = []
        for n in range(50):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 4 * n, np.uint8), "bgr24")
            frame.pts, frame.time_base = n, Fraction(1, 25)
            packets += video.encode(frame)
        packets += video.encode(None)
        for at in range(0, round(audio_s * 16_000), size):
            block = av.AudioFrame.from_ndarray(np.zeros((1, size), np.int16), "s16", "mono")
            block.sample_rate, block.pts, block.time_base = 16_000, at, Fraction(1, 16_000)
            packets += audio.encode(block)
        packets += audio.encode(None)
        for packet in sorted(packets, key=lambda each: each.dts * each.time_base):
            shift = round(from_s / packet.time_base)
            packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
            container.mux(packet)
    return path


@pytest.mark.parametrize("from_s", [0.0, 3.0, 93_600.0, 95_440.0, 95_443.0])
def test_transport_stream_from_any_time(tmp_path: Path, from_s: float) -> None:
    """Also where its clock of 33 bits starts anew, after 26.5 hours."""
    media = MediaFile(write_transport_stream(tmp_path / "a.ts", from_s=from_s))
    times = frame_times_ms(media)
    assert np.diff(times) == pytest.approx([40] * 49, abs=0.1)
    assert times[-1] == pytest.approx(1_960, abs=60)
    assert audio_end_ms(media) == pytest.approx(2_000, abs=60)


def test_joined_recordings_keep_their_tracks_together(tmp_path: Path) -> None:
    """Though the audio of the first one ended half a second early."""
    alone = MediaFile(write_transport_stream(tmp_path / "b.ts"))
    first = write_transport_stream(tmp_path / "a.ts", audio_s=1.5)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(first.read_bytes() + alone.path.read_bytes())
    media = MediaFile(joined)
    times = frame_times_ms(media)
    assert len(times) == 100
    assert times[-1] == pytest.approx(3_960, abs=120)
    assert times[-1] - audio_end_ms(media) == pytest.approx(
        frame_times_ms(alone)[-1] - audio_end_ms(alone), abs=1
    )


def test_damage_in_the_middle_of_a_stream(tmp_path: Path) -> None:
    """Times stay near the stated ones, and only go forward."""
    path = tmp_path / "a.ts"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        rng = np.random.default_rng(0)
        noise = rng.integers(0, 255, (240, 320, 3), np.uint8)
        for n in range(100):
            frame = av.VideoFrame.from_ndarray(np.roll(noise, n, 1), format="bgr24")
            frame.pts, frame.time_base = n, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 20_000] = rng.bytes(20_000)
    path.write_bytes(data)
    times = frame_times_ms(MediaFile(path))
    assert all(a < b for a, b in pairwise(times))
    assert times[-1] == pytest.approx(99 * 40, abs=200)


def test_broken_packets_are_counted_at_the_end(
    make_clip: MakeClip, caplog: pytest.LogCaptureFixture
) -> None:
    """One line at the first, one with the total."""
    path = make_clip("bad.avi", audio=None, video="mjpeg", pixels="yuvj420p", seconds=2)
    head, *images = path.read_bytes().split(b"\xff\xd8\xff")
    for index in range(20, 30):
        images[index] = bytes(len(images[index]) - 700) + images[index][-700:]
    path.write_bytes(b"\xff\xd8\xff".join([head, *images]))
    media = MediaFile(path)
    assert not caplog.records
    assert len(list(media.frames())) == 40
    _, last = caplog.records
    assert "10 of 50" in last.getMessage()
    assert media.corrupt_packets == 10


def test_pause_of_an_hour_is_none(tmp_path: Path) -> None:
    """Both tracks go on together, though the audio ended early before it."""
    hour_ms = 3_600_000
    video = [40 * n + hour_ms * (n >= 50) for n in range(100)]
    audio = [20 * n + 4 + hour_ms * (n >= 100) for n in [*range(75), *range(100, 200)]]
    path = tmp_path / "a.mkv"
    true_audio_ms = [20 * n + 4 for n in [*range(75), *range(100, 200)]]
    media = MediaFile(write_stamped(path, video, audio, true_audio_ms=true_audio_ms))
    times = frame_times_ms(media)
    assert times[:50] == [40 * n for n in range(50)]
    moved = times[50] - 2_000
    assert abs(moved) <= 40
    assert times[50:] == [2_000 + 40 * n + moved for n in range(50)]
    assert audio_end_ms(media) == pytest.approx(4_004 + moved, abs=1)


def test_stray_timestamps_are_no_join() -> None:
    """Neither is a jump of one track."""
    finder = JoinFinder(2)
    for n in range(300):
        stray = 10**15 if n in (50, 51, 120) else 0
        assert not finder.push(0, 40 * MS * n + stray, 40 * MS)
        assert not finder.push(1, 40 * MS * n + (n > 200) * 10**12, 40 * MS)
    assert finder.shift_ns == 0
    assert not finder.suspects
