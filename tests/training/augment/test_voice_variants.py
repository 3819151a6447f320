"""Variants of a recording: within `VariantSettings`, seeded, the recording first."""

from __future__ import annotations

import numpy as np
import pytest

from emotion_edge.kernels.reference import log_mel
from emotion_edge.kernels.spec import MelSpec
from emotion_edge.training.augment.voice_variants import (
    VariantSettings,
    draw_noise,
    make_noise_only,
    make_variant,
    make_variants,
)

SPEC = MelSpec()
RATE_HZ = 16_000
TONE = (0.3 * np.sin(2 * np.pi * 200 * np.arange(16_000) / RATE_HZ)).astype(np.float32)


def test_first_variant_is_the_recording() -> None:
    """The others differ from it and from each other, and are the same for a seed."""
    rows = make_variants([TONE, TONE], [], 3, SPEC, seed=1)
    np.testing.assert_allclose(rows[0][0], log_mel(TONE, SPEC), rtol=0, atol=5e-3)
    again = make_variants([TONE, TONE], [], 3, SPEC, seed=1)
    other = make_variants([TONE, TONE], [], 3, SPEC, seed=2)
    assert all(np.array_equal(a, b) for a, b in zip(rows[1], again[1], strict=True))
    assert not np.array_equal(rows[0][1], other[0][1])
    assert not np.array_equal(rows[0][1], rows[1][1])


@pytest.mark.parametrize("seed", range(8))
def test_pace_and_gain_stay_within_bounds(seed: int) -> None:
    """Length and level of a variant without noise and reverberation."""
    quiet = VariantSettings(noisy=0.0, reverberant=0.0)
    audio = make_variant(TONE, [], quiet, RATE_HZ, np.random.default_rng(seed))
    assert len(TONE) / 1.16 <= len(audio) <= len(TONE) / 0.84
    gain_db = 20 * np.log10(np.sqrt(np.square(audio).mean() / np.square(TONE).mean()))
    assert -10.5 <= gain_db <= 10.5


def test_noise_has_the_drawn_level() -> None:
    """At a ratio of 10 dB, the difference from the recording is 10 dB below it."""
    settings = VariantSettings(
        pace=0.0, noisy=1.0, snr_db=(10.0, 10.0), reverberant=0.0, gain_db=0.0
    )
    noise = np.random.default_rng(0).standard_normal(8_000).astype(np.float32)
    audio = make_variant(TONE, [noise], settings, RATE_HZ, np.random.default_rng(3))
    added = np.square(audio - TONE).mean()
    assert 10 * np.log10(np.square(TONE).mean() / added) == pytest.approx(10, abs=0.5)


def test_noise_only() -> None:
    """Whole windows of various levels, of given or synthetic noise."""
    rows = make_noise_only([], 12, SPEC, seed=0)
    assert {row.shape for row in rows} == {(64, 300)}
    levels = [float(row.astype(np.float32).mean()) for row in rows]
    assert max(levels) - min(levels) > 0.5
    given = np.full(100, 0.5, np.float32)
    drawn = [draw_noise([given], RATE_HZ, np.random.default_rng(seed)) for seed in range(20)]
    assert 8 <= sum(noise is given for noise in drawn) < 20
