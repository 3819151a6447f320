"""Files as media: real containers, written by the tests, and corrupt ones."""

from __future__ import annotations

import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from emotion_edge.runtime.capture.media_file import MediaFile
from emotion_edge.runtime.capture.playback import merge_events
from emotion_edge.runtime.capture.resampling import split_chunks
from emotion_edge.runtime.capture.source_name import show_source
from emotion_edge.runtime.messages import SourceError, VideoFrame

MakeClip = Callable[..., Path]


def flash_ns(media: MediaFile) -> int:
    """Return the time of the brightest frame."""
    return max(media.frames(), key=lambda frame: float(frame.image.mean())).t_ns


def audio_of(media: MediaFile) -> np.ndarray:
    return np.concatenate([chunk.samples for chunk in media.chunks()])


def click_ns(media: MediaFile) -> int:
    """Return the time of the first loud sample by the chunks' own times."""
    for chunk in media.chunks():
        loud = np.flatnonzero(np.abs(chunk.samples) > 0.1)
        if loud.size:
            return chunk.t_ns + int(loud[0]) * 62_500
    raise AssertionError("no click")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("aac.mp4", {}),
        ("pcm.mkv", {"audio": "pcm_s16le"}),
        ("mono8k.mkv", {"audio": "pcm_s16le", "rate_hz": 8000, "layout": "mono"}),
        ("cd.mkv", {"audio": "pcm_s16le", "rate_hz": 44100}),
        ("surround.mkv", {"audio": "pcm_f32le", "layout": "5.1"}),
        ("bytes.avi", {"audio": "pcm_u8", "rate_hz": 11025, "layout": "mono"}),
        ("flac.mkv", {"audio": "flac", "rate_hz": 48000}),
        ("vfr.mkv", {"audio": "pcm_s16le", "times_s": [0, 0.1, 0.137, 0.29, 0.4, 0.533, 0.9]}),
        ("odd.mkv", {"audio": "flac", "video": "ffv1", "size": (321, 181)}),
        ("late.mkv", {"audio": "pcm_s16le", "audio_from_s": 0.25}),
        ("early.mkv", {"audio": "pcm_s16le", "times_s": [0.3, 0.4, 0.5, 0.6]}),
    ],
)
def test_offset_of_flash_and_click_is_preserved(
    make_clip: MakeClip, name: str, options: dict[str, object]
) -> None:
    """A flash and a click of the same instant stay together within 5 ms, whatever the format."""
    media = MediaFile(make_clip(name, **options))
    assert abs(flash_ns(media) - click_ns(media)) <= 5_000_000
    assert abs(click_ns(media) - 400_000_000) <= 5_000_000


def test_zero_is_the_earliest_of_video_and_audio(make_clip: MakeClip) -> None:
    """A clip whose times begin late begins at zero; the other stream keeps its offset."""
    media = MediaFile(make_clip("late.mkv", audio="pcm_s16le", times_s=[0.3, 0.5], seconds=0.6))
    assert next(media.chunks()).t_ns == 0
    assert next(media.frames()).t_ns == 300_000_000
    late = next(MediaFile(make_clip("l.mkv", audio="pcm_s16le", audio_from_s=0.25)).chunks())
    assert (late.t_ns, late.first_sample) == (250_000_000, 0)
    silent = MediaFile(make_clip("silent.mkv", audio=None, times_s=[0.3, 0.5]))
    assert [frame.t_ns for frame in silent.frames()] == [0, 200_000_000]


def test_variable_frame_rate_keeps_each_time(make_clip: MakeClip) -> None:
    """To the container's millisecond."""
    times_s = [0, 0.1, 0.137, 0.29, 0.5, 0.533, 0.9]
    media = MediaFile(make_clip("vfr.mkv", audio=None, times_s=times_s))
    frames = list(media.frames())
    assert [frame.t_ns for frame in frames] == [round(t * 1e9) for t in times_s]
    assert [frame.index for frame in frames] == list(range(len(times_s)))


def test_odd_size_is_not_padded(make_clip: MakeClip) -> None:
    media = MediaFile(make_clip("odd.mkv", video="ffv1", size=(321, 181), audio=None))
    frame = next(media.frames())
    assert frame.image.shape == (181, 321, 3)
    assert frame.image.dtype == np.uint8
    assert frame.image.flags.c_contiguous


@pytest.mark.parametrize("layout", ["mono", "stereo"])
def test_downmix_keeps_the_loudness(make_clip: MakeClip, layout: str) -> None:
    """Two equal channels are as loud as one, not 1.4 times as loud."""
    media = MediaFile(make_clip("a.mkv", audio="pcm_f32le", rate_hz=16000, layout=layout))
    assert np.abs(audio_of(media)).max() == pytest.approx(0.8, abs=0.02)


def test_all_samples_arrive_once_in_chunks_of_10_ms(make_clip: MakeClip) -> None:
    """A second of 48 kHz stereo becomes 100 chunks of 160 samples without a gap."""
    chunks = list(MediaFile(make_clip("a.mkv", audio="pcm_s16le")).chunks())
    assert [chunk.samples.size for chunk in chunks] == [160] * 100
    assert [chunk.first_sample for chunk in chunks] == list(range(0, 16000, 160))
    assert [chunk.t_ns for chunk in chunks] == [i * 10_000_000 for i in range(100)]
    assert all(chunk.samples.dtype == np.float32 for chunk in chunks)


def test_loop_is_seamless(make_clip: MakeClip) -> None:
    """Index, sample index and times continue; each round takes the same time."""
    media = MediaFile(make_clip("a.mkv", audio="pcm_s16le", seconds=0.6, flash_s=0.2, click_s=0.2))
    frames, chunks = media.frames(loop=True), media.chunks(loop=True)
    video = [next(frames) for _ in range(40)]
    assert [frame.index for frame in video] == list(range(40))
    assert set(np.diff([frame.t_ns for frame in video])) == {40_000_000}
    audio = [next(chunks) for _ in range(150)]
    assert [chunk.first_sample for chunk in audio] == list(range(0, 150 * 160, 160))
    samples = np.concatenate([chunk.samples for chunk in audio])
    clicks = np.flatnonzero(np.abs(samples) > 0.1)
    begins = clicks[np.flatnonzero(np.diff(clicks, prepend=-9999) > 1000)]
    assert np.abs(begins / 16000 - [0.2, 0.8, 1.4]).max() < 0.001


def test_loop_pads_short_audio_with_silence(make_clip: MakeClip) -> None:
    """Audio that begins late and ends early does not drift against the frames."""
    path = make_clip("a.mkv", audio="pcm_s16le", times_s=[0, 0.5, 1.0, 1.5], seconds=0.6)
    media = MediaFile(path)
    chunks = media.chunks(loop=True)
    frames = media.frames(loop=True)
    period_ns = next(frame.t_ns for frame in frames if frame.index == 4)
    clicks: list[int] = []
    num_samples = 0
    while len(clicks) < 3:
        chunk = next(chunks)
        assert chunk.first_sample == num_samples
        num_samples += chunk.samples.size
        loud = np.flatnonzero(np.abs(chunk.samples) > 0.1)
        if loud.size and (not clicks or chunk.t_ns - clicks[-1] > 100_000_000):
            clicks.append(chunk.t_ns + int(loud[0]) * 62_500)
    assert np.abs(np.diff(clicks) - period_ns).max() <= 62_500


def test_loop_truncates_audio_longer_than_the_video(
    make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container may state less than it contains: each round still begins at the start."""
    media = MediaFile(make_clip("a.flac", video=None, audio="flac", seconds=0.6, click_s=0.05))
    monkeypatch.setattr(media, "_period", 8000)
    chunks = media.chunks(loop=True)
    samples = np.concatenate([next(chunks).samples for _ in range(150)])
    clicks = np.flatnonzero(np.abs(samples) > 0.1)
    begins = clicks[np.flatnonzero(np.diff(clicks, prepend=-9999) > 1000)]
    assert np.abs(begins / 16000 - [0.05, 0.55, 1.05]).max() < 0.001


def test_file_without_audio_or_video(make_clip: MakeClip) -> None:
    """A clip with only one of them plays that."""
    silent = MediaFile(make_clip("silent.mp4", audio=None))
    assert (silent.has_video, silent.has_audio) == (True, False)
    assert len(list(merge_events(silent))) == 25
    voice = MediaFile(make_clip("voice.flac", video=None, audio="flac"))
    assert (voice.has_video, voice.has_audio) == (False, True)
    assert len(list(merge_events(voice))) == 100


def test_truncated_file_plays_up_to_its_end(make_clip: MakeClip) -> None:
    path = make_clip("cut.mkv", audio="pcm_s16le", video="mjpeg", pixels="yuvj420p")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    events = list(merge_events(MediaFile(path)))
    assert 5 < sum(isinstance(event, VideoFrame) for event in events) < 25


def test_corrupt_packets_are_counted_and_skipped(make_clip: MakeClip) -> None:
    """Corruption in the middle costs the frames that it hit, not the rest."""
    path = make_clip("bad.avi", audio="pcm_s16le", video="mjpeg", pixels="yuvj420p", seconds=2)
    data = path.read_bytes()
    head, *images = data.split(b"\xff\xd8\xff")  # where each JPEG begins
    for index in (20, 21):  # the last bytes are the container's next header
        image = images[index]
        images[index] = bytes(len(image) - 700) + image[-700:]
    path.write_bytes(b"\xff\xd8\xff".join([head, *images]))
    media = MediaFile(path)
    frames = list(media.frames())
    assert frames[-1].t_ns == 49 * 40_000_000
    assert len(frames) == 48
    assert media.corrupt_packets == 2


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("missing.mp4", None),
        ("a\0b", None),
        ("empty.mp4", b""),
        ("notes.txt", b"Dear diary,\nno video here.\n" * 50),
        ("noise.mp4", np.random.default_rng(0).bytes(5000)),
    ],
)
def test_unusable_files_are_named(tmp_path: Path, name: str, content: bytes | None) -> None:
    """In one line."""
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SourceError) as error:
        MediaFile(path)
    assert show_source(str(path)) in str(error.value)
    assert "\n" not in str(error.value)


def test_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=tmp_path.name):
        MediaFile(tmp_path)


def test_zero_length_clip_is_refused(tmp_path: Path) -> None:
    """A WAV with a header and no sample."""
    path = tmp_path / "zero.wav"
    with wave.open(str(path), "wb") as out:
        out.setparams((1, 2, 16000, 0, "NONE", ""))
    with pytest.raises(SourceError, match=r"zero\.wav"):
        MediaFile(path)


def test_split_chunks_keeps_gaps_and_drops_overlaps() -> None:
    """Nothing is joined across a gap, and no sample comes twice."""
    ramp = np.arange(100, dtype=np.float32)
    pieces = [(0, ramp[:25]), (25, ramp[25:30]), (20, ramp[20:38]), (60, ramp[60:75])]
    cut = list(split_chunks(pieces, 10))
    assert [(at, piece.size) for at, piece in cut] == [
        (0, 10), (10, 10), (20, 10), (30, 8), (60, 10), (70, 5),
    ]  # fmt: skip
    for at, piece in cut:
        assert np.array_equal(piece, ramp[at : at + piece.size])


@pytest.mark.parametrize(
    ("name", "frames", "seconds"),
    [
        ("01-01-01-01-01-01-01.mp4", 98, 3.30),
        ("01-01-08-01-01-02-01.mp4", 97, 3.27),
    ],
)
def test_real_clips(shared_data: Path, name: str, frames: int, seconds: float) -> None:
    """RAVDESS clips: all frames of the edit list, and audio as long as the video."""
    media = MediaFile(shared_data / "clips" / name)
    video = list(media.frames())
    assert len(video) == frames
    assert video[0].t_ns == 0
    assert video[0].image.shape == (720, 1280, 3)
    assert {round(step / 1e5) for step in np.diff([frame.t_ns for frame in video])} == {334}
    chunks = list(media.chunks())
    assert chunks[0].t_ns == 0
    assert chunks[-1].t_ns / 1e9 == pytest.approx(seconds, abs=0.03)
