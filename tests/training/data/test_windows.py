"""Windows of a recording: their ends, and their log-mel."""

from __future__ import annotations

import numpy as np
import pytest

from emotion_edge.kernels import reference
from emotion_edge.kernels.spec import MelSpec, Pcen, Root
from emotion_edge.training.data.windows import mel_columns, mel_windows, open_mel, window_ends

SPEC = MelSpec()
SPECS = [SPEC, MelSpec(compression=Pcen()), MelSpec(compression=Root())]


@pytest.mark.parametrize(
    ("num_samples", "ends"),
    [
        (16_000, [16_000]),
        (48_240, [48_240]),
        (48_241, [48_241]),
        (52_240, [48_240, 52_240]),
        (60_000, [52_000, 56_000, 60_000]),
    ],
)
def test_window_ends(num_samples: int, ends: list[int]) -> None:
    """Every quarter of a second back from the end, while the window is full."""
    assert window_ends(num_samples, SPEC) == ends


@pytest.mark.parametrize("spec", SPECS, ids=["log", "pcen", "root"])
def test_mel_windows_are_those_of_the_reference(spec: MelSpec) -> None:
    """Each window has its end and is a part of the whole recording, PCEN's past included; a short
    recording is right-aligned and masked before it."""
    audio = (0.1 * np.random.default_rng(0).standard_normal(64_000)).astype(np.float32)
    ends = window_ends(len(audio), spec)
    windows, masks = mel_windows(audio, ends, open_mel(spec))
    assert windows.shape == (len(ends), 64, 300)
    for end, window, mask in zip(ends, windows, masks, strict=True):
        want = reference.log_mel(audio, spec)[:, : reference.num_columns(end, spec)][:, -300:]
        np.testing.assert_allclose(window, want, rtol=0, atol=1e-4)
        assert mask.all()
    _, short = mel_windows(audio[:16_000], [16_000], open_mel(spec))
    assert short.sum() == reference.num_columns(16_000, spec) == 98
    assert short[0, -98:].all()


@pytest.mark.parametrize("spec", SPECS, ids=["log", "pcen", "root"])
def test_all_columns_are_those_of_one_pass(spec: MelSpec) -> None:
    """A recording of several windows' length, after another one."""
    mel = open_mel(spec)
    audio = np.random.default_rng(1).uniform(-0.5, 0.5, 120_000).astype(np.float32)
    mel_columns(audio[:5_000], mel)
    columns = mel_columns(audio, mel)
    assert columns.shape == (64, reference.num_columns(len(audio), spec))
    np.testing.assert_allclose(columns, reference.log_mel(audio, spec), atol=1e-3)
