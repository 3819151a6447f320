"""Corruptions have the requested strength, in decibels and pixels, and change nothing in place."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_edge.training.augment.corruptions import (
    add_noise,
    blur_image,
    compress_image,
    cut_silence,
    darken_image,
    make_noise,
    make_response,
    measure_rt60,
    measure_speech,
    occlude_image,
    reverberate,
)

RATE_HZ = 16_000
Audio = NDArray[np.float32]


def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def rms(audio: Audio) -> float:
    return float(np.sqrt(np.square(audio, dtype=np.float64).mean()))


@pytest.fixture
def half_silent() -> Audio:
    """A second of a tone of root mean square 0.1, then a second of silence."""
    t = np.arange(RATE_HZ) / RATE_HZ
    tone = 0.1 * np.sqrt(2) * np.sin(2 * np.pi * 440 * t)
    return np.concatenate([tone, np.zeros(RATE_HZ)]).astype(np.float32)


@pytest.fixture
def image() -> NDArray[np.uint8]:
    """A checkerboard of fine squares, 64 x 80."""
    rows, columns = np.indices((64, 80)) // 2
    gray = np.where((rows + columns) % 2, 220, 60).astype(np.uint8)
    return np.repeat(gray[:, :, None], 3, axis=2)


def test_pauses_do_not_count_as_speech(half_silent: Audio) -> None:
    """The level is that of the tone, without the silence."""
    assert measure_speech(half_silent, RATE_HZ) == pytest.approx(0.1, rel=0.01)
    assert measure_speech(np.zeros(RATE_HZ, np.float32), RATE_HZ) == 0.0
    assert measure_speech(np.zeros(0, np.float32), RATE_HZ) == 0.0


@pytest.mark.parametrize("snr_db", [20, 0, -5])
def test_noise_has_the_requested_level(half_silent: Audio, snr_db: float) -> None:
    """Measured in the pause, relative to the level of the speech."""
    before = half_silent.copy()
    noise = make_noise("white", 4 * RATE_HZ, rng())
    noisy = add_noise(half_silent, noise, snr_db, RATE_HZ, rng())
    np.testing.assert_array_equal(half_silent, before)
    assert noisy.dtype == np.float32
    assert len(noisy) == len(half_silent)
    assert 20 * np.log10(0.1 / rms(noisy[RATE_HZ:])) == pytest.approx(snr_db, abs=0.2)


def test_loud_noise_does_not_clip(half_silent: Audio) -> None:
    """The sum is scaled down, and the ratio stays."""
    noisy = add_noise(5 * half_silent, make_noise("white", RATE_HZ, rng()), -5, RATE_HZ, rng())
    assert np.abs(noisy).max() == pytest.approx(1.0)
    tone = 2 * np.abs(np.fft.rfft(noisy[:RATE_HZ])[440]) / RATE_HZ / np.sqrt(2)
    assert 20 * np.log10(tone / rms(noisy[RATE_HZ:])) == pytest.approx(-5, abs=0.3)


def test_short_noise_is_repeated(half_silent: Audio) -> None:
    """It lasts to the end of the recording."""
    noisy = add_noise(half_silent, make_noise("pink", 500, rng()), 10, RATE_HZ, rng())
    assert rms(noisy[-400:]) > 0.01


@pytest.mark.parametrize("noise", [np.zeros(100, np.float32), np.zeros(0, np.float32)])
def test_silent_noise_is_refused(half_silent: Audio, noise: Audio) -> None:
    with pytest.raises(ValueError, match="silent"):
        add_noise(half_silent, noise, 10, RATE_HZ, rng())


def test_pink_noise_falls_with_frequency() -> None:
    """Equal power in each octave: 3 dB less per octave and hertz."""
    power = np.abs(np.fft.rfft(make_noise("pink", 1 << 16, rng()))) ** 2
    low, high = power[1_000:2_000].mean(), power[8_000:16_000].mean()
    assert 10 * np.log10(low / high) == pytest.approx(9, abs=1)


def test_silence_is_cut_out(half_silent: Audio) -> None:
    assert len(cut_silence(half_silent, RATE_HZ)) == RATE_HZ
    assert len(cut_silence(np.zeros(RATE_HZ, np.float32), RATE_HZ)) == 0


@pytest.mark.parametrize("rt60_s", [0.3, 1.0])
def test_response_has_the_requested_decay(rt60_s: float) -> None:
    """The direct sound has as much energy as the reverberation."""
    response = make_response(rt60_s, RATE_HZ, rng())
    assert np.square(response[1:], dtype=np.float64).sum() == pytest.approx(1, rel=1e-3)
    assert response[0] == 1
    assert measure_rt60(response[40:], RATE_HZ) == pytest.approx(rt60_s, rel=0.15)


def test_reverberation_fills_the_pause(half_silent: Audio) -> None:
    """The tail continues after the tone; level and start of the speech stay."""
    wet = reverberate(half_silent, make_response(0.6, RATE_HZ, rng()), RATE_HZ)
    assert wet.shape == half_silent.shape
    assert rms(wet[RATE_HZ : RATE_HZ + 800]) > 0.01
    assert measure_speech(wet, RATE_HZ) == pytest.approx(0.1, rel=0.1)
    late = np.zeros(2_000, np.float32)
    late[1_000] = 1.0
    np.testing.assert_allclose(reverberate(half_silent, late, RATE_HZ), half_silent, atol=1e-5)


def test_low_light_is_darker_and_noisier() -> None:
    """The gain compensates half of the stops, but not the noise of few electrons."""
    gray = np.full((100, 100, 3), 200, np.uint8)
    means, spreads = [], []
    for stops in (0, 2, 4, 6):
        dark = darken_image(gray, stops, rng())
        means.append(dark.mean())
        spreads.append(dark.std() / dark.mean())
    assert means[0] == pytest.approx(200, abs=2)
    assert means == sorted(means, reverse=True)
    assert means[1] == pytest.approx(200 * 0.5 ** (1 / 2.2), rel=0.03)
    assert spreads == sorted(spreads)
    assert spreads[3] > 3 * spreads[0]


def test_blur_and_compression_lose_detail(image: NDArray[np.uint8]) -> None:
    """More at higher strength; shape, mean and the input stay."""
    before = image.copy()
    errors = []
    for quality in (95, 20, 5):
        compressed = compress_image(image, quality)
        assert compressed.shape == image.shape
        errors.append(np.abs(compressed.astype(int) - image).mean())
    assert errors == sorted(errors)
    assert blur_image(image, 4.0).std() < blur_image(image, 1.0).std() < image.std()
    assert blur_image(image, 4.0).mean() == pytest.approx(image.mean(), abs=2)
    np.testing.assert_array_equal(image, before)


def test_compression_keeps_the_colors() -> None:
    """A red image stays red."""
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 200
    assert compress_image(red, 90)[..., 0].mean() > 180
    assert compress_image(red, 90)[..., 2].mean() < 30


@pytest.mark.parametrize("share", [0.1, 0.5])
@pytest.mark.parametrize("seed", range(5))
def test_occlusion_has_the_requested_share(share: float, seed: int) -> None:
    """It covers a share of the face box, inside it."""
    white = np.full((100, 120, 3), 255, np.uint8)
    occluded = occlude_image(white, (30.0, 20.0, 60.0, 0.0), share, np.random.default_rng(seed))
    gray = (occluded != 255).any(axis=2)
    assert gray.sum() == pytest.approx(share * 60 * 60, rel=0.1)
    assert gray[20:80, 30:90].sum() == gray.sum()
    assert (white == 255).all()


@pytest.mark.parametrize("seed", range(5))
def test_occlusion_of_a_turned_box(seed: int) -> None:
    """The same square, turned with the box about its centre: of a box turned by a quarter, the
    upright picture turned by a quarter."""
    white = np.full((120, 120, 3), 255, np.uint8)
    upright, turned = (
        occlude_image(white, (30.0, 30.0, 60.0, roll), 0.3, np.random.default_rng(seed))
        for roll in (0.0, np.pi / 2)
    )
    wanted = np.rot90(upright, -1)  # clockwise
    assert (turned != wanted).any(axis=2).sum() < 5 * 60 * np.sqrt(0.3)  # a frame of a pixel
    assert (turned != 255).any(axis=2).sum() == pytest.approx(0.3 * 60 * 60, rel=0.1)


def test_occlusion_at_the_border() -> None:
    """Of a box that extends past the border, only the inside is occluded."""
    white = np.full((50, 50, 3), 255, np.uint8)
    occluded = occlude_image(white, (-30.0, -30.0, 60.0, 0.0), 0.9, rng())
    assert (occluded[:20, :20] == 128).any()
    assert (occluded[30:, 30:] == 255).all()
