"""Files of several tracks."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from emotion_edge.runtime.capture.media_file import MediaFile
from emotion_edge.runtime.messages import SourceError

from .media_samples import write_tracks


def level_of(media: MediaFile) -> float:
    samples = np.concatenate([chunk.samples for chunk in media.chunks()])
    return float(np.abs(samples[1_600:]).mean())


def test_default_track_is_played(tmp_path: Path) -> None:
    """And any other by its number."""
    path = write_tracks(tmp_path / "a.mkv", [0.0, 0.5, 0.25], default_audio=1)
    assert level_of(MediaFile(path)) == pytest.approx(0.5, abs=0.01)
    assert level_of(MediaFile(path, audio_track=2)) == pytest.approx(0.25, abs=0.01)
    assert level_of(MediaFile(path, audio_track=0)) == pytest.approx(0.0, abs=0.01)


def test_default_video_track_else_the_largest(tmp_path: Path) -> None:
    sizes = [(64, 48), (128, 96), (96, 64)]
    path = write_tracks(tmp_path / "a.mkv", [], sizes, default_video=2)
    assert next(MediaFile(path).frames()).image.shape == (64, 96, 3)
    assert next(MediaFile(path, video_track=0).frames()).image.shape == (48, 64, 3)
    path = write_tracks(tmp_path / "b.mkv", [], sizes, default_video=9)
    assert next(MediaFile(path).frames()).image.shape == (96, 128, 3)


def test_cover_is_no_video(tmp_path: Path) -> None:
    """Unless it is asked for."""
    sizes = [(320, 240), (64, 48)]
    path = write_tracks(tmp_path / "a.mp4", [], sizes, covers=[0], default_video=1)
    assert next(MediaFile(path).frames()).image.shape == (48, 64, 3)
    (frame,) = MediaFile(path, video_track=1).frames()  # the container stores it at the end
    assert frame.image.shape == (240, 320, 3)


@pytest.mark.parametrize("kind", ["video", "audio"])
def test_missing_track_is_named(tmp_path: Path, kind: str) -> None:
    """With those that there are."""
    path = write_tracks(tmp_path / "a.mkv", [0.1, 0.2], [(64, 48)])
    with pytest.raises(SourceError, match=rf"source\.{kind}_track is 5.*a\.mkv") as error:
        MediaFile(path, **{f"{kind}_track": 5})
    assert "\n" not in str(error.value)
    assert ("mpeg4 64x48" if kind == "video" else "pcm_s16le") in str(error.value)


def test_track_that_cannot_be_decoded_is_passed_over(tmp_path: Path) -> None:
    """The next one plays, though the first is the default."""
    path = write_tracks(tmp_path / "a.mkv", [], [(64, 48), (128, 96)])
    data = path.read_bytes()
    starts = [at for at in range(len(data)) if data[at : at + 4] == b"\0\0\1\xb6"]
    with av.open(str(path)) as container:
        broken = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    assert starts
    for packet in broken:
        data = data.replace(packet, b"\x55" * len(packet))
    path.write_bytes(data)
    assert next(MediaFile(path).frames()).image.shape == (96, 128, 3)
