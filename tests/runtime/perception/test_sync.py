"""Which sound belongs to which picture, under a sound card that is not as it should be."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_edge.kernels import LogMel
from emotion_edge.kernels.cpu.mel import StreamingLogMel, compile_push
from emotion_edge.kernels.reference import log_mel
from emotion_edge.kernels.spec import MelSpec
from emotion_edge.runtime.messages import AudioChunk
from emotion_edge.runtime.perception.sync import AudioClock, Synchroniser

RATE = 16_000
SECOND = 1_000_000_000
SPEC = MelSpec()


class CountingMel:
    """Counts columns and computes none: what the simulations need of a log-mel."""

    HISTORY_COLUMNS = 64

    def __init__(self) -> None:
        self.spec = SPEC
        self.first_column = 0
        self.next_sample = 0

    @property
    def num_columns(self) -> int:
        return max(self.first_column, (self.next_sample - SPEC.window) // SPEC.hop + 1)

    def restart(self, first_sample: int) -> None:
        self.first_column = -(-first_sample // SPEC.hop)
        self.next_sample = first_sample

    def push(self, samples: NDArray[np.float32]) -> int:
        before = self.num_columns
        self.next_sample += len(samples)
        return self.num_columns - before

    def window(self, end_column: int | None = None) -> tuple[object, object]:
        raise NotImplementedError

    def levels_db(self, end_column: int | None = None) -> NDArray[np.float32]:
        raise NotImplementedError


def make_synchroniser(mel: LogMel | None = None, max_wait_ms: float = 0.0) -> Synchroniser:
    return Synchroniser(mel or CountingMel(), max_wait_ms)


@dataclass
class Card:
    """A sound card whose true rate, stamps and losses are known.

    A stamp is taken when the callback runs: late by 0 to `jitter_s`, never early.
    """

    ppm: float
    chunk_ms: int
    seed: int
    gap: str = ""
    """"known": the source jumps in its count; "unknown": only the time shows it."""
    jitter_s: float = 0.020
    gap_at_s: float = 47.3
    gap_s: float = 0.2
    start_s: float = 1234.5
    stretches: list[tuple[int, int]] = field(default_factory=lambda: [(0, 0)])
    """Where each stretch without a gap begins: number on the ring, number on the card."""

    @property
    def rate_hz(self) -> float:
        return RATE * (1 + self.ppm * 1e-6)

    def chunks(self, seconds: float) -> Iterator[tuple[float, AudioChunk]]:
        """(time of arrival, chunk), in order."""
        rng = np.random.default_rng(self.seed)
        samples = np.zeros(RATE * self.chunk_ms // 1000, np.float32)
        on_card = on_ring = said = 0
        arrival_s = 0.0
        while on_card < seconds * self.rate_hz:
            if self.gap and len(self.stretches) == 1 and on_card >= self.gap_at_s * self.rate_hz:
                lost = round(self.gap_s * self.rate_hz)
                on_card += lost
                said += lost if self.gap == "known" else 0
                self.stretches.append((on_ring, on_card))
            late_s = rng.uniform(0, self.jitter_s)
            t_s = self.start_s + on_card / self.rate_hz
            arrival_s = max(arrival_s, t_s + len(samples) / self.rate_hz + late_s)
            yield arrival_s, AudioChunk(round((t_s + late_s) * 1e9), said, samples)
            on_card += len(samples)
            on_ring += len(samples)
            said += len(samples)

    def sample_on_ring(self, t_s: float) -> float:
        """Number of the sample that was truly captured at `t_s`; in a gap, the one before it."""
        on_card = (t_s - self.start_s) * self.rate_hz
        ring, card = self.stretches[-1]
        if on_card >= card or len(self.stretches) == 1:
            return on_card - card + ring
        return min(on_card, ring)


def simulate(
    card: Card, seconds: float = 120.0, fps: float = 30.0
) -> tuple[Synchroniser, NDArray[np.float64], float]:
    """-> the synchroniser after the run, the error of every picture in ms, drift after 60 s."""
    sync = make_synchroniser()
    errors_ms = []
    picture = 0
    drift_ppm = 0.0
    for arrival_s, chunk in card.chunks(seconds):
        while (t_s := card.start_s + picture / fps) < arrival_s:
            window = sync.window(round(t_s * 1e9), None, None, wait=False)
            if window.audio_sample is not None:
                errors_ms.append((window.audio_sample - card.sample_on_ring(t_s)) / RATE * 1e3)
            picture += 1
        sync.add_audio(chunk)
        if arrival_s - card.start_s <= 60.0:
            drift_ppm = sync.audio_clock.drift_ppm
    return sync, np.array(errors_ms), drift_ppm


@pytest.mark.parametrize("gap", ["", "known", "unknown"])
@pytest.mark.parametrize("chunk_ms", [10, 32])
@pytest.mark.parametrize("ppm", [-300, 0, 300])
def test_audio_is_within_2_ms_of_the_frame(ppm: int, chunk_ms: int, gap: str) -> None:
    """Two minutes at 30 fps: drift, jitter of 20 ms, 200 ms lost once; each of three seeds."""
    for seed in range(3):
        sync, errors_ms, drift_ppm = simulate(Card(ppm, chunk_ms, seed, gap))
        assert len(errors_ms) > 3590
        p99 = np.percentile(np.abs(errors_ms), 99)
        assert p99 <= 2.0, f"seed {seed}: {p99:.2f} ms"
        assert abs(drift_ppm - ppm) < 50
        assert abs(sync.audio_clock.drift_ppm - ppm) < 50
        assert sync.audio_clock.gaps == (1 if gap else 0)


def test_clean_card_is_exact() -> None:
    """Without jitter and drift nothing has to be learnt: every picture to 10 microseconds."""
    _, errors_ms, _ = simulate(Card(0, 10, 0, jitter_s=0.0), seconds=10)
    assert np.abs(errors_ms).max() < 0.01


@pytest.mark.parametrize("stall_ms", [40, 90])
def test_late_burst_is_no_gap(stall_ms: int) -> None:
    """A callback that stalls and then hands over all that it owes has lost nothing."""
    card = Card(100, 10, 3, jitter_s=0.002)
    clock = AudioClock(RATE)
    stall_at_s = card.start_s + 20.0
    stall_end_ns = round((stall_at_s + stall_ms / 1e3) * 1e9)
    for arrival_s, chunk in card.chunks(25.0):
        t_ns = chunk.t_ns
        if stall_at_s <= arrival_s < stall_end_ns / 1e9:
            t_ns = stall_end_ns
        clock.update(AudioChunk(t_ns, chunk.first_sample, chunk.samples))
        if arrival_s > card.start_s + 5:
            error_ms = (clock.sample_at(arrival_s * 1e9) - card.sample_on_ring(arrival_s)) / 16
            assert abs(error_ms) < 1.0
    assert clock.gaps == 0


def test_chunks_late_now_and_then_are_no_gap() -> None:
    """One stamp in five is late by 60 ms: they do not add up, and the rest decides."""
    clock = AudioClock(RATE)
    samples = np.zeros(160, np.float32)
    for n in range(1000):
        clock.update(AudioChunk(n * 10_000_000 + 60_000_000 * (n % 5 == 3), n * 160, samples))
    assert clock.gaps == 0
    assert clock.time_of(160_000) == pytest.approx(10 * SECOND, abs=100_000)


def test_gap_is_followed_soon() -> None:
    """Lost samples that nobody told of are found within 150 ms, and the rate is not forgotten."""
    card = Card(200, 10, 5, "unknown", gap_at_s=30.0)
    sync, errors_ms, _ = simulate(card, seconds=35.0)
    assert np.abs(errors_ms[round((30.2 + 0.15) * 30) :]).max() < 3.0
    assert sync.audio_clock.gaps == 1
    assert abs(sync.audio_clock.drift_ppm - 200) < 50


def test_backward_timestamp_is_a_gap() -> None:
    """A source that starts over with earlier times is followed at once."""
    clock = AudioClock(RATE)
    samples = np.zeros(160, np.float32)
    for n in range(100):
        clock.update(AudioChunk(n * 10_000_000, n * 160, samples))
    clock.update(AudioChunk(500_000_000, 16_000, samples))
    assert clock.gaps == 1
    assert clock.time_of(16_000) == pytest.approx(500_000_000)


def test_time_and_sample_are_inverse() -> None:
    """After any drift learnt, `sample_at` undoes `time_of`."""
    clock = AudioClock(RATE)
    for _, chunk in Card(250, 10, 1).chunks(8.0):
        clock.update(chunk)
    for sample in (0.0, 12_345.6, 200_000.0):
        assert clock.sample_at(clock.time_of(sample)) == pytest.approx(sample, abs=1e-3)


# The window


def feed(sync: Synchroniser, audio: NDArray[np.float32], chunk: int, begin: int = 0) -> None:
    """Sound without drift or jitter; sample 0 was captured at time 0."""
    for at in range(begin, len(audio), chunk):
        sync.add_audio(AudioChunk(at * SECOND // RATE, at, audio[at : at + chunk]))


@pytest.fixture
def mel() -> StreamingLogMel:
    compile_push()
    return StreamingLogMel(SPEC)


def test_no_audio_yet(mel: StreamingLogMel) -> None:
    """Pictures before any sound have no window, no sample and no skew."""
    window = make_synchroniser(mel).window(SECOND, None, None, wait=True, dropped_frames=2)
    assert (window.audio_sample, window.end_column, window.skew_ns) == (None, None, 0)
    assert window.dropped_frames == 2


def test_first_frame_before_the_first_mel_column(mel: StreamingLogMel) -> None:
    """Less sound than one column, or a picture older than all sound, is no window."""
    sync = make_synchroniser(mel)
    feed(sync, np.zeros(320, np.float32), 160)
    window = sync.window(SECOND // 50, None, None, wait=False)
    assert window.audio_sample == pytest.approx(320, abs=0.01)
    assert window.end_column is None
    feed(sync, np.zeros(1600, np.float32), 160, begin=320)
    assert sync.window(-SECOND, None, None, wait=False).end_column is None
    assert sync.window(SECOND // 10, None, None, wait=False).end_column == 8


@pytest.mark.parametrize("chunk", [1, 37, 160, 512, 4000])
def test_columns_equal_the_reference(mel: StreamingLogMel, chunk: int) -> None:
    """The window of a picture is what the reference gives on the same stretch of sound."""
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
        window = sync.window(t_ms * 1_000_000, None, None, wait=False)
        column = window.end_column
        assert column is not None
        # The newest whole column that ends by the picture's time: under one hop old.
        assert (column - 1) * SPEC.hop + SPEC.window <= t_ms * 16 + 1
        assert 0 <= window.skew_ns + 70_000 < SECOND * SPEC.hop // RATE + 70_000
        got, mask = mel.window(column)
        count = min(column, SPEC.num_frames)
        np.testing.assert_allclose(got[0, :, -count:], whole[:, column - count : column], atol=1e-4)
        assert mask[0].sum() == count


def test_wait_for_late_audio_is_bounded(mel: StreamingLogMel) -> None:
    """The wait is asked of the ring, once, bounded; then the skew says how old the sound is."""
    sync = make_synchroniser(mel, max_wait_ms=7.0)
    feed(sync, np.zeros(RATE, np.float32), 160)
    waits: list[tuple[int, float]] = []

    def wait_for(sample: int, timeout_s: float) -> bool:
        waits.append((sample, timeout_s))
        return False

    sync.ring.wait_for = wait_for  # type: ignore[method-assign]
    t_ns = SECOND + 300_000_000
    late = sync.window(t_ns, None, None, wait=True)
    assert waits == [((130 - 3) * 160 + 400, 0.007)]
    assert late.end_column == 98
    assert late.skew_ns == pytest.approx(t_ns - (97 * 160 + 400) * SECOND / RATE, abs=1000)
    sync.window(t_ns, None, None, wait=False)
    sync.window(SECOND - 1000, None, None, wait=True)  # it is there already
    sync.window(SECOND + 1_500_000_000, None, None, wait=True)  # gone, not late
    assert len(waits) == 1


def test_wait_ends_when_the_audio_arrives(mel: StreamingLogMel) -> None:
    """Sound that comes during the wait is in the window."""
    sync = make_synchroniser(mel, max_wait_ms=40.0)
    audio = np.zeros(2 * RATE, np.float32)
    feed(sync, audio[:RATE], 160)
    real_wait = sync.ring.wait_for

    def wait_for(sample: int, timeout_s: float) -> bool:
        feed(sync, audio[: RATE + 800], 160, begin=RATE)
        return real_wait(sample, timeout_s)

    sync.ring.wait_for = wait_for  # type: ignore[method-assign]
    window = sync.window(SECOND + 50_000_000, None, None, wait=True)
    assert window.end_column == 103
    assert abs(window.skew_ns) <= 10_000_000


def test_audio_older_than_a_second_is_not_used(mel: StreamingLogMel) -> None:
    """Up to a second the old sound goes with the picture, and the skew says so; then none."""
    sync = make_synchroniser(mel)
    feed(sync, np.zeros(RATE, np.float32), 160)
    old = sync.window(SECOND + 980_000_000, None, None, wait=False)
    assert old.end_column == 98
    assert 980_000_000 <= old.skew_ns < SECOND
    gone = sync.window(SECOND + 1_010_000_000, None, None, wait=False)
    assert (gone.end_column, gone.skew_ns) == (None, 0)
    assert gone.audio_sample == pytest.approx(2.01 * RATE, abs=1)


def test_frame_older_than_the_kept_mel_columns(mel: StreamingLogMel) -> None:
    """A picture that was held up while sound went on is shown without sound: no error."""
    sync = make_synchroniser(mel)
    feed(sync, np.zeros(10 * RATE, np.float32), 1600)
    sync.window(10 * SECOND, None, None, wait=False)
    feed(sync, np.zeros(12 * RATE, np.float32), 1600, begin=10 * RATE)
    kept_ns = mel.HISTORY_COLUMNS * SPEC.hop * SECOND // RATE
    just = sync.window(12 * SECOND - kept_ns, None, None, wait=False)
    assert just.end_column is not None
    mel.window(just.end_column)
    old = sync.window(12 * SECOND - kept_ns - SECOND // 50, None, None, wait=False)
    assert old.end_column is None


def test_overrun_is_counted_and_columns_restart(mel: StreamingLogMel) -> None:
    """Nobody looked for longer than the ring: the loss is counted, the rest is right."""
    audio = (0.1 * np.random.default_rng(8).standard_normal(5 * RATE)).astype(np.float32)
    sync = make_synchroniser(mel)
    feed(sync, audio[:1600], 160)
    sync.window(SECOND // 10, None, None, wait=False)
    feed(sync, audio, 160, begin=1600)
    window = sync.window(5 * SECOND, None, None, wait=False)
    assert sync.overrun_samples == 3 * RATE - 1600
    assert mel.first_column == 300
    assert window.end_column == 498
    got, mask = mel.window(window.end_column)
    want = log_mel(audio[3 * RATE :], SPEC)
    assert mask[0].sum() == want.shape[1] == 198
    # The first column's pre-emphasis does not know the sample before it.
    np.testing.assert_allclose(got[0, :, -197:], want[:, 1:], atol=1e-4)


def test_newest_audio() -> None:
    """When the newest sample was captured: what estimates without pictures are dated by."""
    sync = make_synchroniser()
    assert sync.newest_audio_ns() is None
    feed(sync, np.zeros(RATE, np.float32), 160)
    assert sync.newest_audio_ns() == pytest.approx(SECOND, abs=1000)


# A gap in the audio

HOUR = 3_600 * SECOND


@dataclass
class Stretches:
    """Audio with a gap, chunk by chunk: each sample's true time of capture is known."""

    sync: Synchroniser
    chunk: int = 160
    t_ns: int = 0
    number: int = 0

    def hear(self, audio: NDArray[np.float32]) -> None:
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


@pytest.mark.parametrize(
    ("kind", "gap_ns"),
    [
        *itertools.product(("counted", "not counted"), (HOUR, 700_000_000, 60_000_000)),
        *itertools.product(("started over",), (HOUR, -SECOND, 0)),
        ("counted", 10_062_500),  # one sample more than a hop
    ],
)
def test_nothing_from_before_a_gap_is_heard_after_it(
    mel: StreamingLogMel, kind: str, gap_ns: int
) -> None:
    """Whether the source counts what was lost, only the stamps show it, or the count begins anew:
    a window holds new audio alone, is what a fresh log-mel gives, and its skew is true."""
    sync = make_synchroniser(mel)
    stretches = Stretches(sync)
    offset = 4 * RATE + 77
    for piece in np.array_split(make_noise(offset, seed=1), 4):
        stretches.hear(piece)
        sync.window(stretches.t_ns, None, None, wait=False)
    stretches.lose(gap_ns, kind)
    begin_ns = stretches.t_ns
    new = make_noise(RATE, seed=2)
    heard_ns = None
    for at in range(0, len(new), 160):
        stretches.hear(new[at : at + 160])
        t_ns = stretches.t_ns
        window = sync.window(t_ns, None, None, wait=False)
        if window.end_column is None:
            assert t_ns - begin_ns <= 160_000_000
            continue
        if sync.audio_clock.gaps == 0:
            # Nobody can know of the gap yet, so the newest audio is that of before it.
            assert abs(window.skew_ns - (t_ns - begin_ns + gap_ns)) < 20_000_000
            continue
        heard_ns = heard_ns or t_ns
        assert -100_000 <= window.skew_ns <= 10_100_000
        got, mask = mel.window(window.end_column)
        count = int(mask.sum())
        assert count * SPEC.hop <= at + 160
        fresh = StreamingLogMel(SPEC)
        fresh.restart(offset)
        fresh.push(new[: at + 160])
        want, want_mask = fresh.window(window.end_column)
        np.testing.assert_array_equal(mask, want_mask)
        np.testing.assert_array_equal(got, want)
    assert heard_ns is not None
    assert heard_ns - begin_ns <= 170_000_000
    assert sync.audio_clock.gaps == 1
    assert sync.overrun_samples == 0


@pytest.mark.parametrize("lost", [1, 80, 160])
def test_gap_of_up_to_a_hop_is_bridged_with_silence(mel: StreamingLogMel, lost: int) -> None:
    """The window goes on over it, as if the lost samples had been 0: no column is misplaced."""
    sync = make_synchroniser(mel)
    stretches = Stretches(sync)
    before, after = make_noise(RATE, seed=1), make_noise(RATE, seed=2)
    stretches.hear(before)
    sync.window(stretches.t_ns, None, None, wait=False)
    stretches.lose(lost * SECOND // RATE, "counted")
    stretches.hear(after)
    window = sync.window(stretches.t_ns, None, None, wait=False)
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
    """The count says one sample, the stamps say an hour, or a second back: the stamps are right."""
    sync = make_synchroniser(mel)
    stretches = Stretches(sync)
    stretches.hear(make_noise(2 * RATE, seed=1))
    stretches.number += 1
    stretches.t_ns += jump_ns
    stretches.hear(make_noise(RATE // 10, seed=2))
    window = sync.window(stretches.t_ns, None, None, wait=False)
    assert mel.window(window.end_column)[1].sum() == 8
    assert abs(window.skew_ns) <= 10_100_000


def test_late_chunks_are_heard_once_they_are_known_to_be_late(mel: StreamingLogMel) -> None:
    """Audio whose stamps may mean a gap is held back until that is clear; none of it is lost."""
    sync = make_synchroniser(mel)
    audio = make_noise(2 * RATE, seed=3)
    feed(sync, audio[:RATE], 160)
    stall_ns = 61_000_000  # a callback that stood still hands over what it owes
    for n in range(6):
        at = RATE + n * 160
        sync.add_audio(AudioChunk(SECOND + stall_ns, at, audio[at : at + 160]))
        window = sync.window(SECOND + stall_ns, None, None, wait=False)
        doubted = n < 2  # their stamps are later than the clock expects by more than a gap may be
        end_column = 98 if doubted else 98 + n + 1
        assert window.end_column == end_column
        late_ns = (6 if doubted else 5 - n) * 10_000_000
        assert window.skew_ns == pytest.approx(late_ns + 6_000_000, abs=100_000)
    feed(sync, audio, 160, begin=RATE + 960)
    window = sync.window(2 * SECOND, None, None, wait=False)
    whole = StreamingLogMel(SPEC)
    whole.push(audio)
    np.testing.assert_array_equal(mel.window(window.end_column)[0], whole.window()[0])
    assert sync.audio_clock.gaps == 0


@pytest.mark.parametrize("first", ["read", "added"])
def test_gap_while_the_ring_is_read(mel: StreamingLogMel, first: str) -> None:
    """The audio thread may come at any moment: between the clock's answer and the ring's, too."""
    sync = make_synchroniser(mel)
    stretches = Stretches(sync)
    stretches.hear(make_noise(2 * RATE, seed=1))
    sync.window(stretches.t_ns, None, None, wait=False)
    stretches.hear(make_noise(1600, seed=2))
    new = make_noise(1600, seed=3)
    real_read = sync.ring.read
    left = [None]

    def read(number: int, into: NDArray[np.float32]) -> tuple[int, int]:
        answer = real_read(number, into) if first == "read" else (0, 0)
        if left:
            left.pop()
            stretches.lose(HOUR, "counted")
            stretches.hear(new)
        return answer if first == "read" else real_read(number, into)

    sync.ring.read = read  # type: ignore[method-assign]
    window = sync.window(stretches.t_ns + HOUR + SECOND // 10, None, None, wait=False)
    assert window.end_column is not None
    assert mel.window(window.end_column)[1].sum() == 8
    assert abs(window.skew_ns) <= 10_100_000


def test_picture_from_before_a_gap_gets_no_audio_from_after_it(mel: StreamingLogMel) -> None:
    """A picture that was held up over the gap is shown without sound."""
    sync = make_synchroniser(mel)
    stretches = Stretches(sync)
    stretches.hear(make_noise(2 * RATE, seed=1))
    t_ns = stretches.t_ns
    stretches.lose(300_000_000, "counted")
    stretches.hear(make_noise(2 * RATE, seed=2))
    window = sync.window(t_ns, None, None, wait=False)
    assert (window.end_column, window.skew_ns) == (None, 0)
