"""Synthetic speech by espeak-ng, which a stub replaces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from emotion_edge.training.data import HELD_OUT_LANGUAGES, LANGUAGES, synthesise_speech
from emotion_edge.training.data.espeak import invent_text
from emotion_edge.training.errors import DatasetError

from ..speech_files import make_recording, write_recording


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that notes its arguments and prints a WAV file of 3 s."""
    wav = write_recording(tmp_path / "speech.wav", make_recording())
    program = tmp_path / "espeak-ng"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n/bin/cat {wav}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path / "calls"


def test_every_language_in_turn(stub: Path) -> None:
    clips = list(synthesise_speech(["de", "pt-br"], 3, 0, 16_000))
    assert [len(clip) for clip in clips] == [48_000] * 3
    assert clips[0].dtype == np.float32
    assert np.abs(clips[0]).max() == pytest.approx(0.39, rel=0.02)
    calls = stub.read_text().splitlines()
    assert [call.split()[1].split("+")[0] for call in calls] == ["de", "pt-br", "de"]


def test_same_seed_same_speech(stub: Path) -> None:
    for seed in (3, 3, 4):
        list(synthesise_speech(["de"], 1, seed, 16_000))
    first, second, other = stub.read_text().splitlines()
    assert first == second != other


def test_other_rate(stub: Path) -> None:
    (clip,) = synthesise_speech(["de"], 1, 0, 8_000)
    assert len(clip) == 24_000


def test_missing_program_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DatasetError, match="espeak-ng"):
        next(synthesise_speech(["de"], 1, 0, 16_000))


def test_failing_program_names_the_language(stub: Path) -> None:
    (stub.parent / "espeak-ng").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(DatasetError, match=r"xx\+"):
        next(synthesise_speech(["xx"], 1, 0, 16_000))


def test_text_is_words_and_numbers() -> None:
    texts = [invent_text(np.random.default_rng(seed)) for seed in range(50)]
    assert all(text.isascii() and text[-1] in ".?!" for text in texts)
    assert any(letter.isdigit() for letter in "".join(texts))


def test_evaluation_has_other_languages() -> None:
    assert not set(LANGUAGES) & set(HELD_OUT_LANGUAGES)
