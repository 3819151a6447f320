"""The window of a frame: which log-mel columns, how old, and none across a gap."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_edge.kernels import LogMel
from emotion_edge.kernels.cpu.mel import StreamingLogMel, compile_push
from emotion_edge.kernels.reference import log_mel
from emotion_edge.kernels.spec import MelSpec, Pcen
from emotion_edge.runtime.messages import AudioChunk
from emotion_edge.runtime.perception.sync import Synchroniser

RATE = 16_000
SECOND = 1_000_000_000
SPEC = MelSpec()


def make_synchroniser(mel: LogMel, max_wait_ms: float = 0.0) -> Synchroniser:
    return Synchroniser(mel, max_wait_ms)


# The window


def feed(sync: Synchroniser, audio: NDArray[np.float32], chunk: int, begin: int = 0) -> None:
    """Add audio without drift or jitter; sample 0 was captured at time 0."""
    for at in range(begin, len(audio), chunk):
        sync.add_audio(AudioChunk(at * SECOND // RATE, at, audio[at : at + chunk]))


@pytest.fixture
def mel() -> StreamingLogMel:
    compile_push()
    return StreamingLogMel(SPEC)


def test_no_audio_yet(mel: StreamingLogMel) -> None:
    """Frames before any audio have no window, no sample and no skew."""
    window = make_synchroniser(mel).window(SECOND, None, (), voice_due=True, dropped_frames=2)
    assert (window.audio_sample, window.end_column, window.skew_ns) == (None, None, 0)
    assert window.dropped_frames == 2


def test_first_frame_before_the_first_mel_column(mel: StreamingLogMel) -> None:
    """Less audio than one column, or a frame older than all audio, is no window."""
    sync = make_synchroniser(mel)
    feed(sync, np.zeros(320, np.float32), 160)
    window = sync.window(SECOND // 50, None, None, voice_due=False)
    assert window.audio_sample == pytest.approx(320, abs=0.01)
    assert window.end_column is None
    feed(sync, np.zeros(1600, np.float32), 160, begin=320)
    assert sync.window(-SECOND, None, None, voice_due=False).end_column is None
    assert sync.window(SECOND // 10, None, None, voice_due=False).end_column == 8


@pytest.mark.parametrize("chunk", [1, 37, 160, 512, 4000])
def test_columns_equal_the_reference(mel: StreamingLogMel, chunk: int) -> None:
    """The window of a frame is what the reference gives on the same audio."""
    audio = (0.3 * np.random.default_rng(7).standard_normal(4 * RATE)).astype(np.float32)
    if chunk == 1:
        audio = audio[: RATE // 2]
    whole = log_mel(audio, SPEC)
    sync = make_synchroniser(mel)
    begin = 0
    for t_ms in range(40, len(audio) * 1000 // RATE, 333):
        end = min(len(audio), (t_ms * 16 // chunk + 2) * chunk)
        feed(sync, audio[:end], chunk, begin=begin)
        begin = max(begin, -(-end // chunk) * chunk)
        window = sync.window(t_ms * 1_000_000, None, None, voice_due=False)
        column = window.end_column
        assert column is not None
        # The newest whole column that ends by the frame's time: under one hop old.
        assert (column - 1) * SPEC.hop + SPEC.window <= t_ms * 16 + 1
        assert 0 <= window.skew_ns + 70_000 < SECOND * SPEC.hop // RATE + 70_000
        got, mask = mel.window(column)
        count = min(column, SPEC.num_frames)
        np.testing.assert_allclose(got[0, :, -count:], whole[:, column - count : column], atol=1e-4)
        assert mask[0].sum() == count


def test_wait_for_late_audio_is_bounded(mel: StreamingLogMel) -> None:
    """The ring is waited for once, within the limit; then the skew is the age of the audio."""
    sync = make_synchroniser(mel, max_wait_ms=7.0)
    feed(sync, np.zeros(RATE, np.float32), 160)
    waits: list[tuple[int, float]] = []

    def wait_for(sample: int, timeout_s: float) -> bool:
        waits.append((sample, timeout_s))
        return False

    sync.ring.wait_for = wait_for  # type: ignore[method-assign]
    t_ns = SECOND + 300_000_000
    late = sync.window(t_ns, None, None, voice_due=True)
    assert waits == [((130 - 3) * 160 + 400, 0.007)]
    assert late.end_column == 98
    assert late.skew_ns == pytest.approx(t_ns - (97 * 160 + 400) * SECOND / RATE, abs=1000)
    sync.window(t_ns, None, None, voice_due=False)
    sync.window(SECOND - 1000, None, None, voice_due=True)  # it is there already
    sync.window(SECOND + 1_500_000_000, None, None, voice_due=True)  # gone, not late
    assert len(waits) == 1


def test_wait_ends_when_the_audio_arrives(mel: StreamingLogMel) -> None:
    """Audio that arrives during the wait is in the window."""
    sync = make_synchroniser(mel, max_wait_ms=40.0)
    audio = np.zeros(2 * RATE, np.float32)
    feed(sync, audio[:RATE], 160)
    real_wait = sync.ring.wait_for

    def wait_for(sample: int, timeout_s: float) -> bool:
        feed(sync, audio[: RATE + 800], 160, begin=RATE)
        return real_wait(sample, timeout_s)

    sync.ring.wait_for = wait_for  # type: ignore[method-assign]
    window = sync.window(SECOND + 50_000_000, None, None, voice_due=True)
    assert window.end_column == 103
    assert abs(window.skew_ns) <= 10_000_000


def test_audio_older_than_a_second_is_not_used(mel: StreamingLogMel) -> None:
    """Up to a second old audio is in the frame's window, and the skew is its age; then none."""
    sync = make_synchroniser(mel)
    feed(sync, np.zeros(RATE, np.float32), 160)
    old = sync.window(SECOND + 980_000_000, None, None, voice_due=False)
    assert old.end_column == 98
    assert 980_000_000 <= old.skew_ns < SECOND
    gone = sync.window(SECOND + 1_010_000_000, None, None, voice_due=False)
    assert (gone.end_column, gone.skew_ns) == (None, 0)
    assert gone.audio_sample == pytest.approx(2.01 * RATE, abs=1)


def test_frame_older_than_the_kept_mel_columns(mel: StreamingLogMel) -> None:
    """A frame that was delayed while audio went on has no audio: no error."""
    sync = make_synchroniser(mel)
    feed(sync, np.zeros(10 * RATE, np.float32), 1600)
    sync.window(10 * SECOND, None, None, voice_due=False)
    feed(sync, np.zeros(12 * RATE, np.float32), 1600, begin=10 * RATE)
    kept_ns = mel.HISTORY_COLUMNS * SPEC.hop * SECOND // RATE
    just = sync.window(12 * SECOND - kept_ns, None, None, voice_due=False)
    assert just.end_column is not None
    mel.window(just.end_column)
    old = sync.window(12 * SECOND - kept_ns - SECOND // 50, None, None, voice_due=False)
    assert old.end_column is None


def test_overrun_is_counted_and_columns_restart(mel: StreamingLogMel) -> None:
    """The ring was not read for longer than it holds: the loss is counted, the rest is right."""
    audio = (0.1 * np.random.default_rng(8).standard_normal(5 * RATE)).astype(np.float32)
    sync = make_synchroniser(mel)
    feed(sync, audio[:1600], 160)
    sync.window(SECOND // 10, None, None, voice_due=False)
    feed(sync, audio, 160, begin=1600)
    window = sync.window(5 * SECOND, None, None, voice_due=False)
    assert sync.overrun_samples == 3 * RATE - 1600
    assert mel.first_column == 300
    assert window.end_column == 498
    got, mask = mel.window(window.end_column)
    want = log_mel(audio[3 * RATE :], SPEC)
    assert mask[0].sum() == want.shape[1] == 198
    # The first column's pre-emphasis does not know the sample before it.
    np.testing.assert_allclose(got[0, :, -197:], want[:, 1:], atol=1e-4)


def test_newest_audio(mel: StreamingLogMel) -> None:
    """Capture time of the newest sample: the time of estimates from audio alone."""
    sync = make_synchroniser(mel)
    assert sync.newest_audio_ns() is None
    feed(sync, np.zeros(RATE, np.float32), 160)
    assert sync.newest_audio_ns() == pytest.approx(SECOND, abs=1000)


# A gap in the audio

HOUR = 3_600 * SECOND


@dataclass
class Stretches:
    """Audio with a gap, chunk by chunk, with each sample's true capture time."""

    sync: Synchroniser
    chunk: int = 160
    t_ns: int = 0
    number: int = 0

    def record(self, audio: NDArray[np.float32]) -> None:
        for at in range(0, len(audio), self.chunk):
            piece = audio[at : at + self.chunk]
            self.sync.add_audio(AudioChunk(self.t_ns, self.number, piece))
            self.number += len(piece)
            self.t_ns += len(piece) * SECOND // RATE

    def lose(self, gap_ns: int, kind: str) -> None:
        self.t_ns += gap_ns
        if kind == "counted":
            self.number += gap_ns * RATE // SECOND
        elif kind == "started over":
            self.number = 0


def make_noise(num_samples: int, seed: int) -> NDArray[np.float32]:
    return (0.2 * np.random.default_rng(seed).standard_normal(num_samples)).astype(np.float32)


@pytest.mark.parametrize("spec", [SPEC, MelSpec(compression=Pcen())], ids=["log", "pcen"])
@pytest.mark.parametrize(
    ("kind", "gap_ns"),
    [
        *itertools.product(("counted", "not counted"), (HOUR, 700_000_000, 60_000_000)),
        *itertools.product(("started over",), (HOUR, -SECOND, 0)),
        ("counted", 10_062_500),  # one sample more than a hop
    ],
)
def test_no_audio_from_before_a_gap_after_it(kind: str, gap_ns: int, spec: MelSpec) -> None:
    """Whether the source counts the loss, only timestamps show it, or the count restarts: a window
    holds new audio alone, equals that of a fresh log-mel, and its skew is true."""
    compile_push()
    mel = StreamingLogMel(spec)
    sync = make_synchroniser(mel)
    stretches = Stretches(sync)
    offset = 4 * RATE + 77
    for piece in np.array_split(make_noise(offset, seed=1), 4):
        stretches.record(piece)
        sync.window(stretches.t_ns, None, None, voice_due=False)
    stretches.lose(gap_ns, kind)
    begin_ns = stretches.t_ns
    new = make_noise(RATE, seed=2)
    first_ns = None
    for at in range(0, len(new), 160):
        stretches.record(new[at : at + 160])
        t_ns = stretches.t_ns
        window = sync.window(t_ns, None, None, voice_due=False)
        if window.end_column is None:
            assert t_ns - begin_ns <= 160_000_000
            continue
        if sync.audio_clock.gaps == 0:
            # The gap is not detectable yet: the newest audio is from before it.
            assert abs(window.skew_ns - (t_ns - begin_ns + gap_ns)) < 20_000_000
            continue
        first_ns = first_ns or t_ns
        assert -100_000 <= window.skew_ns <= 10_100_000
        got, mask = mel.window(window.end_column)
        count = int(mask.sum())
        assert count * SPEC.hop <= at + 160
        fresh = StreamingLogMel(spec)
        fresh.restart(offset)
        fresh.push(new[: at + 160])
        want, want_mask = fresh.window(window.end_column)
        np.testing.assert_array_equal(mask, want_mask)
        np.testing.assert_array_equal(got, want)
    assert first_ns is not None
    assert first_ns - begin_ns <= 170_000_000
    assert sync.audio_clock.gaps == 1
    assert sync.overrun_samples == 0


@pytest.mark.parametrize("lost", [1, 80, 160])
def test_gap_of_up_to_a_hop_is_bridged_with_silence(mel: StreamingLogMel, lost: int) -> None:
    """The window continues as if the lost samples had been 0: no column is misplaced."""
    sync = make_synchroniser(mel)
    stretches = Stretches(sync)
    before, after = make_noise(RATE, seed=1), make_noise(RATE, seed=2)
    stretches.record(before)
    sync.window(stretches.t_ns, None, None, voice_due=False)
    stretches.lose(lost * SECOND // RATE, "counted")
    stretches.record(after)
    window = sync.window(stretches.t_ns, None, None, voice_due=False)
    assert window.end_column is not None
    got, mask = mel.window(window.end_column)
    whole = StreamingLogMel(SPEC)
    whole.push(np.concatenate((before, np.zeros(lost, np.float32), after)))
    want, want_mask = whole.window(window.end_column)
    np.testing.assert_array_equal(mask, want_mask)
    np.testing.assert_array_equal(got, want)
    assert mask.sum() == (2 * RATE + lost - SPEC.window) // SPEC.hop + 1
    assert abs(window.skew_ns) <= 10_100_000
    assert sync.audio_clock.gaps == 1
    assert sync.audio_clock.time_of(sync.ring.end_sample) == pytest.approx(stretches.t_ns, abs=1e5)


@pytest.mark.parametrize("jump_ns", [-SECOND, HOUR])
def test_short_gap_with_another_time_is_not_bridged(mel: StreamingLogMel, jump_ns: int) -> None:
    """The count jumps by a sample, the timestamps by an hour or back: the timestamps decide."""
    sync = make_synchroniser(mel)
    stretches = Stretches(sync)
    stretches.record(make_noise(2 * RATE, seed=1))
    stretches.number += 1
    stretches.t_ns += jump_ns
    stretches.record(make_noise(RATE // 10, seed=2))
    window = sync.window(stretches.t_ns, None, None, voice_due=False)
    assert mel.window(window.end_column)[1].sum() == 8
    assert abs(window.skew_ns) <= 10_100_000


def test_late_chunks_are_used_once_known_to_be_late(mel: StreamingLogMel) -> None:
    """Audio whose timestamps may mean a gap waits until that is clear; none of it is lost."""
    sync = make_synchroniser(mel)
    audio = make_noise(2 * RATE, seed=3)
    feed(sync, audio[:RATE], 160)
    stall_ns = 61_000_000  # a callback that stalled delivers everything
    for n in range(6):
        at = RATE + n * 160
        sync.add_audio(AudioChunk(SECOND + stall_ns, at, audio[at : at + 160]))
        window = sync.window(SECOND + stall_ns, None, None, voice_due=False)
        doubted = n < 2  # their error exceeds `GAP_NS`
        end_column = 98 if doubted else 98 + n + 1
        assert window.end_column == end_column
        late_ns = (6 if doubted else 5 - n) * 10_000_000
        assert window.skew_ns == pytest.approx(late_ns + 6_000_000, abs=100_000)
    feed(sync, audio, 160, begin=RATE + 960)
    window = sync.window(2 * SECOND, None, None, voice_due=False)
    whole = StreamingLogMel(SPEC)
    whole.push(audio)
    np.testing.assert_array_equal(mel.window(window.end_column)[0], whole.window()[0])
    assert sync.audio_clock.gaps == 0


@pytest.mark.parametrize("first", ["read", "added"])
def test_gap_while_the_ring_is_read(mel: StreamingLogMel, first: str) -> None:
    """The audio thread may run at any moment, also between reading the clock and the ring."""
    sync = make_synchroniser(mel)
    stretches = Stretches(sync)
    stretches.record(make_noise(2 * RATE, seed=1))
    sync.window(stretches.t_ns, None, None, voice_due=False)
    stretches.record(make_noise(1600, seed=2))
    new = make_noise(1600, seed=3)
    real_read = sync.ring.read
    left = [None]

    def read(number: int, into: NDArray[np.float32]) -> tuple[int, int]:
        answer = real_read(number, into) if first == "read" else (0, 0)
        if left:
            left.pop()
            stretches.lose(HOUR, "counted")
            stretches.record(new)
        return answer if first == "read" else real_read(number, into)

    sync.ring.read = read  # type: ignore[method-assign]
    window = sync.window(stretches.t_ns + HOUR + SECOND // 10, None, None, voice_due=False)
    assert window.end_column is not None
    assert mel.window(window.end_column)[1].sum() == 8
    assert abs(window.skew_ns) <= 10_100_000


def test_frame_from_before_a_gap_gets_no_audio_from_after_it(mel: StreamingLogMel) -> None:
    """A frame that was delayed over the gap has no audio."""
    sync = make_synchroniser(mel)
    stretches = Stretches(sync)
    stretches.record(make_noise(2 * RATE, seed=1))
    t_ns = stretches.t_ns
    stretches.lose(300_000_000, "counted")
    stretches.record(make_noise(2 * RATE, seed=2))
    window = sync.window(t_ns, None, None, voice_due=False)
    assert (window.end_column, window.skew_ns) == (None, 0)
