"""Damaged configurations: one that is valid, or a ConfigError in one line."""

from __future__ import annotations

import random
from pathlib import Path

from emotion_edge.engines.config_file import ConfigError, apply_override
from emotion_edge.runtime.config import load_config

from .conftest import Fuzz, assert_one_line
from .mutations import TOKENS, damage_bytes

TEXT = b"""\
source: {name: demo, microphone: none, width: 1280}
engines: {name: onnx, precision: fp32, num_threads: 2}
output:
  sinks: [console, "jsonl:out.jsonl"]
  smoothing_s: 0.5
serial: {baud: 115200, format: json, max_hz: 5}
indicator: {kind: file, file: /sys/class/leds/camera/brightness}
screen:
  notice: "Camera in use"
profile: general
budget_ms: 45
level: ''
public_key: /etc/emotion-edge/public.pem
"""
SETTINGS = ("bundle={}", "source.name={}", "budget_ms={}", "{}=1", "serial={}", "output.sinks={}")


def test_files(fuzz: Fuzz, tmp_path: Path) -> None:
    """Any bytes at any place."""
    file = tmp_path / "config.yaml"

    def case(rng: random.Random) -> None:
        file.write_bytes(damage_bytes(TEXT, rng, most=4))
        try:
            config = load_config(file)
        except ConfigError as error:
            assert_one_line(error)
        else:
            assert config.profile == "general"

    fuzz(400, case)


def test_settings(fuzz: Fuzz) -> None:
    """Any text as an option, which may have bytes of any code."""

    def case(rng: random.Random) -> None:
        tokens = b"".join(rng.choices(TOKENS, k=rng.randint(1, 3)))
        text = damage_bytes(tokens, rng).decode("utf-8", "surrogateescape").replace("\0", "\\0")
        setting = rng.choice(SETTINGS).format(text)
        try:
            load_config(None, [setting])
            apply_override({}, setting)
        except ConfigError as error:
            assert_one_line(error)

    fuzz(400, case)
