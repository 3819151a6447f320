"""Times from timestamps that may be wrong."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest

from emotion_edge.runtime.capture.media_timeline import AudioTimes, FrameTimes, Nearby, Repairs

MS = 1_000_000
STEP_MS = 40


def place_frames(
    stamps_ms: Sequence[float | None],
    *,
    other_ms: Sequence[float] = (),
    durations_ms: Sequence[float] = (),
    ahead: int = 10,
) -> tuple[list[float], Repairs]:
    """Return the times of frames with these timestamps. `other_ms`: the other track's timestamp
    beside each frame."""
    times = FrameTimes(STEP_MS * MS)
    placed = []
    for n, stamp_ms in enumerate(stamps_ms):
        following = [
            round(each * MS) for each in stamps_ms[n + 1 : n + 1 + ahead] if each is not None
        ]
        near = Nearby(
            following,
            [0] * len(following),
            other=[round(each * MS) for each in other_ms[n : n + 8]],
        )
        stated_ns = None if stamp_ms is None else round(stamp_ms * MS)
        duration_ns = round(durations_ms[n] * MS) if durations_ms else 0
        placed.append(times.place(stated_ns, near, duration_ns) / MS)
    assert all(a < b for a, b in pairwise(placed))
    return placed, times.repairs


def place_audio(
    stamps_ms: Sequence[float | None],
    *,
    length_ms: float = 20,
    other_ms: Sequence[float] = (),
    ahead: int = 10,
) -> tuple[list[float], Repairs]:
    times = AudioTimes()
    placed = []
    for n, stamp_ms in enumerate(stamps_ms):
        following = [
            round(each * MS) for each in stamps_ms[n + 1 : n + 1 + ahead] if each is not None
        ]
        near = Nearby(
            following,
            [round(length_ms * MS)] * len(following),
            other=[round(each * MS) for each in other_ms[n : n + 8]],
        )
        stated_ns = None if stamp_ms is None else round(stamp_ms * MS)
        placed.append(times.place(stated_ns, near, round(length_ms * MS)) / MS)
    return placed, times.repairs


def regular(num: int, step_ms: float = STEP_MS, from_ms: float = 0) -> list[float]:
    return [from_ms + n * step_ms for n in range(num)]


@pytest.mark.parametrize("stray_ms", [-5_000, 0, 120, 1_040, 1_200_000, 95_443_000])
@pytest.mark.parametrize("at", [0, 1, 20, 38, 39])
def test_stray_timestamp_moves_its_frame_alone(stray_ms: float, at: int) -> None:
    """Wherever it is and however far."""
    stamps = regular(40, from_ms=400)
    right = list(stamps)
    stamps[at] = stray_ms
    placed, repairs = place_frames(stamps)
    assert placed[:at] == right[:at]
    assert placed[at + 1 :] == right[at + 1 :]
    if 0 < at < 39:
        assert placed[at] == pytest.approx(right[at], abs=STEP_MS)
    assert repairs.shift_ns == 0


def test_several_stray_timestamps_in_a_row() -> None:
    stamps = regular(40)
    stamps[10:13] = [900_000, 5, 800_000]
    placed, _ = place_frames(stamps)
    assert placed[:10] + placed[13:] == regular(40)[:10] + regular(40)[13:]


@pytest.mark.parametrize("together", [2, 3, 5])
def test_frames_that_share_a_timestamp_are_spread(together: int) -> None:
    """Evenly, and the clip is no longer than it is."""
    stamps = [n // together * together * STEP_MS for n in range(60)]
    placed, repairs = place_frames(stamps)
    assert placed == pytest.approx(regular(60), abs=0.01)
    assert repairs.shift_ns == 0
    assert repairs.moved == 60 - 60 // together


def test_missing_timestamps_are_filled_in() -> None:
    """One, several, and all."""
    stamps: list[float | None] = list(regular(20))
    stamps[5] = stamps[6] = stamps[12] = None
    assert place_frames(stamps)[0] == pytest.approx(regular(20))
    placed, repairs = place_frames([None] * 20)
    assert placed == pytest.approx(regular(20))
    assert repairs.describe() == ""


def test_variable_rate_is_no_fault() -> None:
    """Each frame keeps its time, also slides that are shown for long."""
    stamps = [0, 100, 137, 290, 400, 533, 900, 9_000, 15_000, 15_010, 21_000]
    placed, repairs = place_frames(stamps)
    assert placed == stamps
    assert repairs.describe() == ""
    slides = regular(6, 15_000)
    assert place_frames(slides, durations_ms=[15_000] * 6)[0] == slides


@pytest.mark.parametrize("stuck_ms", [0, 400, 20_000])
def test_timestamps_that_stand_still_are_counted_on(stuck_ms: float) -> None:
    """The rest of the clip goes on at its own rate."""
    stamps = regular(20) + [stuck_ms] * 40
    placed, _ = place_frames(stamps)
    assert placed[-1] == pytest.approx(59 * STEP_MS, abs=3 * STEP_MS)


def test_timestamps_that_start_anew_go_on() -> None:
    """Two recordings in one file."""
    placed, repairs = place_frames(regular(30) + regular(30))
    assert placed == pytest.approx(regular(60))
    assert repairs.shift_ns == 30 * STEP_MS * MS


def test_jump_of_one_track_is_taken_out() -> None:
    """What follows stays beside the other track."""
    true = regular(60)
    stamps = true[:20] + [t + 20_000 for t in true[20:]]
    placed, repairs = place_frames(stamps, other_ms=true)
    assert placed == pytest.approx(true, abs=STEP_MS)
    assert repairs.shift_ns == pytest.approx(-20_000 * MS, abs=STEP_MS * MS)
    assert repairs.describe()


@pytest.mark.parametrize("there_and_back", [True, False])
def test_jump_of_one_track_of_five_seconds(there_and_back: bool) -> None:
    """Less than what counts as a gap without the other track."""
    true = regular(120)
    stamps = true[:20] + [t + 5_000 for t in true[20:60]] + true[60:]
    if not there_and_back:
        stamps[60:] = [t + 5_000 for t in true[60:]]
    placed, _ = place_frames(stamps, other_ms=true)
    assert placed == pytest.approx(true, abs=2 * STEP_MS)


def test_gap_of_both_tracks_is_kept() -> None:
    true = regular(20) + regular(40, from_ms=6_000)
    placed, repairs = place_frames(true, other_ms=[t + 300 for t in true])
    assert placed == true
    assert repairs.describe() == ""


def test_a_gap_of_minutes_without_evidence_is_none() -> None:
    """Else playing in real time would hang."""
    placed, _ = place_frames(regular(20) + regular(40, from_ms=1_200_000))
    assert placed == pytest.approx(regular(60))
    assert place_frames(regular(20) + regular(40, from_ms=5_000))[0][-1] == 5_000 + 39 * STEP_MS


@pytest.mark.parametrize("stray_ms", [-5_000, 0, 900, 20_000, 95_443_000])
@pytest.mark.parametrize("at", [0, 1, 20, 36])
def test_stray_timestamp_of_audio_moves_nothing(stray_ms: float, at: int) -> None:
    """Samples are contiguous, whatever one timestamp says."""
    stamps = regular(40, 20, from_ms=400)
    right = list(stamps)
    stamps[at] = stray_ms
    placed, repairs = place_audio(stamps)
    if at == 0 and abs(stray_ms - 400) <= 1_000:
        return  # a gap after the first frame is possible
    assert placed == pytest.approx(right)
    assert repairs.shift_ns == 0


@pytest.mark.parametrize("length_ms", [5, 20, 21.333, 100])
def test_audio_that_jumps_and_then_stands_still(length_ms: float) -> None:
    right = regular(150, length_ms)
    stamps = right[:10] + [20_199.0] * 140
    placed, repairs = place_audio(stamps, length_ms=length_ms)
    assert placed == pytest.approx(right)
    assert repairs.moved == 140


@pytest.mark.parametrize("length_ms", [5, 20, 21.333, 46])
@pytest.mark.parametrize("together", [2, 3, 4])
def test_audio_frames_that_share_a_timestamp(length_ms: float, together: int) -> None:
    right = regular(120, length_ms)
    stamps = [right[n // together * together] for n in range(120)]
    assert place_audio(stamps, length_ms=length_ms)[0] == pytest.approx(right)


@pytest.mark.parametrize("gap_ms", [30, 600, 2_000, 9_000])
def test_lost_audio_is_a_gap(gap_ms: float) -> None:
    right = regular(30, 20) + regular(30, 20, from_ms=600 + gap_ms)
    placed, repairs = place_audio(right)
    assert placed == pytest.approx(right)
    assert repairs.describe() == ""


@pytest.mark.parametrize("jump_ms", [5_000, 20_000, 3_600_000])
def test_jump_of_audio_alone_is_taken_out(jump_ms: float) -> None:
    """It stays beside the video."""
    true = regular(60, 20)
    stamps = true[:20] + [t + jump_ms for t in true[20:]]
    placed, _ = place_audio(stamps, other_ms=true)
    assert placed == pytest.approx(true, abs=20)
    if jump_ms > 10_000:
        assert place_audio(stamps)[0] == pytest.approx(true)


def test_audio_that_starts_anew_goes_on() -> None:
    assert place_audio(regular(30, 20) + regular(30, 20))[0] == pytest.approx(regular(60, 20))


@pytest.mark.parametrize("rate", [0.999, 1.001])
def test_drift_between_samples_and_timestamps_is_bounded(rate: float) -> None:
    """By gaps or overlaps: the stated time counts."""
    stamps = regular(20_000, 20 * rate)
    placed, _ = place_audio(stamps)
    assert max(abs(a - b) for a, b in zip(placed, stamps, strict=True)) <= 25


def test_jitter_and_rounding_make_no_gaps() -> None:
    """Timestamps to 1 ms, or to the frames of the video."""
    right = regular(500, 21.333)
    assert place_audio([float(int(t)) for t in right], length_ms=21.333)[0] == pytest.approx(right)
    on_grid = [t // 40 * 40 for t in right]
    placed, _ = place_audio(on_grid, length_ms=21.333)
    assert placed == pytest.approx(right, abs=1)
