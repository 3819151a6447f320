"""Parity of every preprocessor's streaming log-mel with the reference implementation, for any
audio, chunks and spec; and which columns a window holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from emotion_edge.kernels import LogMel, Preprocessor, reference
from emotion_edge.kernels.spec import ImageSpec, MelSpec, Pcen, Root

from .tensors import read_tensor

TOLERANCE = 1e-4
Float32 = NDArray[np.float32]
OpenWith = Callable[[ImageSpec, MelSpec], Preprocessor]
SPECS = [
    MelSpec(fft_size=1024, window=640, hop=320, num_mels=40),
    MelSpec(fft_size=256, window=200, hop=80, num_mels=32, num_frames=50),
    MelSpec(num_mels=41),
    MelSpec(num_mels=1),
    MelSpec(num_mels=256, num_frames=20),
    MelSpec(fft_size=2048, window=2048, hop=512, num_mels=127, num_frames=30),
    MelSpec(fft_size=64, window=33, hop=33, num_mels=6, num_frames=40),
    MelSpec(fft_size=32, window=31, hop=1, num_mels=5, num_frames=100),
    MelSpec(sample_rate_hz=48_000, low_hz=0.0, high_hz=24_000.0, preemphasis=0.0, mean=0.0),
    MelSpec(num_frames=1),
]
COMPRESSED = [
    MelSpec(compression=Pcen()),
    MelSpec(
        num_mels=41,
        preemphasis=0.0,
        floor=1e-9,
        compression=Pcen(smoothing=0.5, gain=0.7, bias=0.0, exponent=0.25, mean=-1.0, std=3.0),
    ),
    MelSpec(compression=Root()),
    MelSpec(num_mels=40, compression=Root(exponent=1 / 3, mean=0.0, std=2.0)),
]


def name_spec(spec: MelSpec) -> str:
    kind = f"-{spec.compression}".split("(")[0] if spec.compression else ""
    return f"{spec.fft_size}-{spec.window}-{spec.hop}-{spec.num_mels}{kind}"


def make_noise(num_samples: int, level: float = 0.2, seed: int = 0) -> Float32:
    rng = np.random.default_rng(seed)
    return (level * rng.standard_normal(num_samples)).astype(np.float32)


def make_audio_clips() -> dict[str, Float32]:
    """Return two seconds each of what a microphone sends and of what it should not send."""
    n = np.arange(32_000)
    noise = make_noise(32_000)
    tone = np.sin(2 * np.pi * 997 * n / 16_000).astype(np.float32)
    broken = noise.copy()
    broken[[0, 5_000, 5_001, 20_000, 31_999]] = [np.nan, np.inf, -np.inf, np.nan, np.nan]
    return {
        "noise": noise,
        "silence": np.zeros(32_000, np.float32),
        "tone beside silence": np.where((n // 3_000) % 2 == 0, tone, 0).astype(np.float32),
        "highest tone": np.where(n % 2 == 0, 1, -1).astype(np.float32),
        "clipping": noise * 20,
        "not finite": broken,
        "nothing finite": np.full(32_000, np.nan, np.float32),
        "constant": np.full(32_000, 0.7, np.float32),
        "click": np.where(n == 7_777, 1, 0).astype(np.float32),
        "too quiet to count": noise * np.float32(1e-30),
        "largest numbers": noise * np.float32(1e38),
    }


def push_in_chunks(mel: LogMel, audio: Float32, cuts: Iterable[int] = ()) -> None:
    for piece in np.split(audio, sorted(cuts)):
        mel.push(piece)


def assert_equals_reference(mel: LogMel, audio: Float32) -> None:
    """Compare `mel`, to which `audio` was pushed from a column's start on."""
    spec = mel.spec
    want = reference.log_mel(audio, spec)[:, -spec.num_frames :]
    missing = spec.num_frames - want.shape[1]
    window, mask = (read_tensor(tensor) for tensor in mel.window())
    assert window.shape == (1, spec.num_mels, spec.num_frames)
    assert mask.shape == (1, spec.num_frames)
    np.testing.assert_allclose(window[0, :, missing:], want, rtol=0, atol=TOLERANCE)
    assert (window[0, :, :missing] == 0).all()
    assert (mask == (np.arange(spec.num_frames) >= missing)).all()


@pytest.mark.parametrize("name", make_audio_clips())
def test_any_audio_equals_reference(quick_preprocessor: Preprocessor, name: str) -> None:
    """Loud, quiet, clipped, broken: within 1e-4, and always finite."""
    audio = make_audio_clips()[name]
    mel = quick_preprocessor.mel
    mel.restart(0)
    push_in_chunks(mel, audio, range(533, len(audio), 533))
    assert_equals_reference(mel, audio)
    assert np.isfinite(read_tensor(mel.window()[0])).all()
    assert np.isfinite(mel.levels_db()).all()


@pytest.mark.parametrize("name", make_audio_clips())
def test_any_short_audio_equals_reference(preprocessor: Preprocessor, name: str) -> None:
    """The same in seven columns, around broken samples and where tone and silence meet."""
    audio = make_audio_clips()[name][4_800:6_240]
    mel = preprocessor.mel
    mel.restart(0)
    push_in_chunks(mel, audio, range(533, len(audio), 533))
    assert mel.num_columns == 7
    assert_equals_reference(mel, audio)
    want = [np.nan_to_num(audio[k * 160 + 240 :][:160], posinf=0, neginf=0) for k in range(7)]
    power = [np.mean(hop.clip(-1, 1).astype(np.float64) ** 2) for hop in want]
    np.testing.assert_allclose(mel.levels_db(), 10 * np.log10(np.add(power, 1e-10)), atol=1e-3)


@pytest.mark.parametrize("hz", [60, 1_000, 3_000, 7_000])
def test_quiet_noise_beside_a_loud_tone(preprocessor: Preprocessor, hz: int) -> None:
    """A tone at full scale and noise 80 dB below: a float32 FFT is wrong by up to 1e-3 here."""
    n = np.arange(880)
    audio = 0.99 * np.sin(2 * np.pi * hz * n / 16_000) + 1e-4 * make_noise(880, level=1.0)
    preprocessor.mel.restart(0)
    preprocessor.mel.push(audio.clip(-1, 1).astype(np.float32))
    assert_equals_reference(preprocessor.mel, audio.clip(-1, 1).astype(np.float32))


@settings(max_examples=30)
@given(
    cuts=st.lists(st.integers(0, 70_000), max_size=40),
    every=st.sampled_from([0, 1_600, 160, 533, 37]),
    num_samples=st.integers(0, 70_000),
)
def test_any_chunks_equal_one(
    quick_preprocessor: Preprocessor, cuts: list[int], every: int, num_samples: int
) -> None:
    """Bit for bit, over the end of the ring; pieces may be empty or a single sample."""
    audio = make_noise(num_samples)
    mel = quick_preprocessor.mel
    mel.restart(0)
    mel.push(audio)
    assert mel.num_columns == reference.num_columns(num_samples, mel.spec)
    assert mel.next_sample == num_samples
    assert_equals_reference(mel, audio)
    whole, levels = read_tensor(mel.window()[0]), mel.levels_db().copy()
    mel.restart(0)
    inside = {c for c in cuts if c < num_samples}
    push_in_chunks(mel, audio, inside.union(range(every, num_samples, every) if every else ()))
    assert mel.next_sample == num_samples
    np.testing.assert_array_equal(read_tensor(mel.window()[0]), whole)
    np.testing.assert_array_equal(mel.levels_db(), levels)


def test_push_counts_new_columns(preprocessor: Preprocessor) -> None:
    """A column is complete with its last sample, not before."""
    mel = preprocessor.mel
    mel.restart(0)
    audio = make_noise(1_000)
    assert mel.push(audio[:399]) == 0
    assert mel.push(audio[399:400]) == 1
    assert mel.push(audio[400:719]) == 1
    assert mel.push(audio[719:1_000]) == 2
    assert mel.num_columns == 4


@pytest.mark.parametrize("spec", [*SPECS, *COMPRESSED], ids=name_spec)
def test_other_specs_equal_reference(quick_open_with: OpenWith, spec: MelSpec) -> None:
    """Other FFT sizes, odd windows, odd numbers of bands."""
    mel = quick_open_with(ImageSpec(), spec).mel
    audio = make_noise((spec.num_frames + 100) * spec.hop + spec.window, seed=3)
    push_in_chunks(mel, audio, range(777, len(audio), 777))
    assert_equals_reference(mel, audio)


@pytest.mark.parametrize("spec", [*SPECS, *COMPRESSED], ids=name_spec)
def test_other_specs_equal_reference_in_three_columns(open_with: OpenWith, spec: MelSpec) -> None:
    """The same with little enough audio for the simulator."""
    with open_with(ImageSpec(), spec) as preprocessor:
        audio = make_noise(2 * spec.hop + spec.window, seed=3)
        assert preprocessor.mel.push(audio) == 3
        assert_equals_reference(preprocessor.mel, audio)


@pytest.mark.parametrize("spec", COMPRESSED, ids=name_spec)
def test_any_audio_compressed_equals_reference(quick_open_with: OpenWith, spec: MelSpec) -> None:
    """Silence before a tone, clicks, broken samples: within 1e-4, finite, and bit for bit the same
    in any chunks."""
    mel = quick_open_with(ImageSpec(), spec).mel
    for audio in make_audio_clips().values():
        mel.restart(0)
        push_in_chunks(mel, audio, range(533, len(audio), 533))
        assert_equals_reference(mel, audio)
        in_chunks = read_tensor(mel.window()[0])
        assert np.isfinite(in_chunks).all()
        mel.restart(0)
        mel.push(audio)
        np.testing.assert_array_equal(read_tensor(mel.window()[0]), in_chunks)


@pytest.mark.parametrize("spec", COMPRESSED, ids=name_spec)
def test_compression_starts_anew_after_a_gap(open_with: OpenWith, spec: MelSpec) -> None:
    """Loud audio before a gap does not count after it: a stream is like a recording that starts
    there. Two pushes, so that the second has the first one's past."""
    with open_with(ImageSpec(), spec) as preprocessor:
        mel = preprocessor.mel
        mel.push(make_noise(720, level=0.5, seed=1))
        mel.restart(1_600)
        audio = make_noise(1_040, level=0.01)
        push_in_chunks(mel, audio, [720])
        assert mel.num_columns - mel.first_column == 5
        assert_equals_reference(mel, audio)


def test_windows_that_end_earlier(quick_preprocessor: Preprocessor) -> None:
    """A late frame gets the columns of its own time and none of the later ones."""
    mel = quick_preprocessor.mel
    mel.restart(0)
    audio = make_noise(400 * 160 + 240)
    mel.push(audio)
    columns = reference.log_mel(audio, mel.spec)
    for end in (400, 399, 360, 336):
        window, mask = (read_tensor(tensor) for tensor in mel.window(end))
        np.testing.assert_allclose(window[0], columns[:, end - 300 : end], rtol=0, atol=TOLERANCE)
        assert mask.all()
        assert len(mel.levels_db(end)) == 300


def test_columns_no_longer_or_not_yet_there(quick_preprocessor: Preprocessor) -> None:
    """Each end gives its own columns or an IndexError; half a second back is always stored."""
    mel = quick_preprocessor.mel
    mel.restart(0)
    audio = make_noise(700 * 160 + 240)
    mel.push(audio)
    columns = reference.log_mel(audio, mel.spec)
    refused = []
    for end in range(1, 705):
        try:
            window = read_tensor(mel.window(end)[0])
        except IndexError:
            refused.append(end)
            with pytest.raises(IndexError, match=f"column {end} "):
                mel.levels_db(end)
        else:
            np.testing.assert_allclose(window[0], columns[:, end - 300 : end], atol=TOLERANCE)
    assert {1, 300, 701, 704} <= set(refused)
    assert not set(range(650, 701)).intersection(refused)


@pytest.mark.parametrize("end", [7, 6, 0, -5])
def test_before_the_first_column_is_nothing(quick_preprocessor: Preprocessor, end: int) -> None:
    """A frame from before the start of the audio: an empty mask and no level."""
    mel = quick_preprocessor.mel
    mel.restart(7 * 160)
    mel.push(make_noise(700 * 160))
    window, mask = (read_tensor(tensor) for tensor in mel.window(end))
    assert not window.any()
    assert not mask.any()
    assert len(mel.levels_db(end)) == 0


@settings(max_examples=25)
@given(first=st.integers(0, 10**12), cuts=st.lists(st.integers(0, 9_000), max_size=6))
def test_restart_goes_back_to_the_grid(
    quick_preprocessor: Preprocessor, first: int, cuts: list[int]
) -> None:
    """After a gap the next column starts at the next multiple of the hop, earlier samples are
    dropped, and the audio from before the gap is discarded."""
    mel = quick_preprocessor.mel
    mel.restart(0)
    mel.push(make_noise(5_000, level=1.0, seed=1))
    mel.restart(first)
    assert mel.num_columns == mel.first_column
    audio = make_noise(9_000)
    push_in_chunks(mel, audio, cuts)
    dropped = -first % 160
    assert mel.first_column * 160 == first + dropped
    assert mel.next_sample == first + 9_000
    assert_equals_reference(mel, audio[dropped:])


def test_levels_are_of_the_newest_hop(quick_preprocessor: Preprocessor) -> None:
    """The level in dBFS of each column's last 10 ms: a full-scale sine is -3, silence -100."""
    mel = quick_preprocessor.mel
    mel.restart(0)
    n = np.arange(16_000)
    audio = np.where(n < 8_000, 0.0, np.sin(2 * np.pi * 1_000 * n / 16_000)).astype(np.float32)
    audio[12_000:] *= 100  # clipped before it is measured
    mel.push(audio)
    levels = mel.levels_db()
    newest_hops = [audio[k * 160 + 240 : k * 160 + 400].clip(-1, 1) for k in range(mel.num_columns)]
    want = [10 * np.log10(np.mean(hop.astype(np.float64) ** 2) + 1e-10) for hop in newest_hops]
    np.testing.assert_allclose(levels, want, atol=1e-3)
    assert levels[0] == pytest.approx(-100)
    assert levels[55] == pytest.approx(-3.01, abs=0.01)


def test_unusual_memory_layouts(quick_preprocessor: Preprocessor) -> None:
    """Every second sample, read-only, float64: the same columns."""
    audio = make_noise(20_000)
    frozen = audio.copy()
    frozen.flags.writeable = False
    spaced = np.repeat(audio, 2)[::2]
    for given_as in (frozen, spaced, audio.astype(np.float64)):
        quick_preprocessor.mel.restart(0)
        quick_preprocessor.mel.push(given_as)  # type: ignore[arg-type]
        assert_equals_reference(quick_preprocessor.mel, audio)


def test_buffers_are_reused(preprocessor: Preprocessor) -> None:
    """A window is always in the same two arrays."""
    mel = preprocessor.mel
    mel.restart(0)
    first = mel.window()
    mel.push(make_noise(500))
    second = mel.window()
    assert first[0] is second[0]
    assert first[1] is second[1]


def test_no_audio_is_left_in_memory(open_with: OpenWith) -> None:
    """Closing overwrites host memory: audio, spectra, columns, levels."""
    preprocessor = open_with(ImageSpec(), MelSpec(num_frames=20, compression=Pcen()))
    preprocessor.mel.push(make_noise(3_000))
    preprocessor.mel.window()
    held = list_host_arrays(preprocessor.mel)
    assert all(array.any() for array in held)
    preprocessor.close()
    assert not any(array.any() for array in held)


def list_host_arrays(mel: Any) -> list[NDArray[Any]]:
    """Return the host arrays in which a log-mel stores audio data."""
    if hasattr(mel, "_stagings"):
        used = [staging.host for staging in mel._stagings if np.any(staging.host)]
        return [mel._audio, mel._levels, *used]
    own = (mel._columns, mel._smooth, *mel._scratch)
    return [mel._audio, mel._levels, mel._mel, mel._mask, *own]
