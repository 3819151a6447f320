"""`emotion-edge devices`: cameras with formats and rates, microphones, and how loud it is.

In: the machine. Out: lines of text. A camera is asked what it offers, not opened for frames. The
microphone is listened to for two seconds; nothing of it is kept.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from ..capture import InputDevice, list_cameras, list_inputs
from ..clock import MonotonicClock
from ..config import Config, load_config
from ..messages import AudioSource, SourceError
from ..service import find_service_config

if TYPE_CHECKING:
    from ..capture.v4l2_device import Mode

METER_S = 2.0
METER_DB = 60
"""Range of the level meter: from silence, -60 dB of full scale, to 0."""
METER_WIDTH = 30
MAX_SIZES = 5
"""Sizes of one format that are listed."""


def run_devices() -> int:
    """Print what is there. A device that cannot be asked is named with the reason."""
    for line in list_lines(find_config()):
        sys.stdout.write(line)
        sys.stdout.flush()
    return 0


def find_config() -> Config:
    """Return the service's configuration, where there is one: its indicator decides whether the
    microphone may be listened to. Raises ConfigError."""
    return load_config(find_service_config())


def list_lines(
    config: Config,
    cameras: Callable[[], list[str]] = list_cameras,
    inputs: Callable[[], list[InputDevice]] = list_inputs,
    open_microphone: Callable[[], AudioSource] | None = None,
) -> Iterator[str]:
    """Yield the text piece by piece. The functions replace the machine in tests."""
    devices = cameras()
    yield "cameras\n" if devices else "cameras: none (no /dev/video* that captures)\n"
    for device in devices:
        yield from describe_camera(device)
    try:
        microphones = inputs()
    except SourceError as error:
        yield f"microphones: {error}\n"
        return
    yield "microphones\n" if microphones else "microphones: none\n"
    for microphone in microphones:
        yield (
            f"  {microphone.index}  {microphone.name}: {microphone.rate_hz} Hz,"
            f" {microphone.channels} channels\n"
        )
    if not microphones:
        return
    if config.indicator.kind != "none":
        yield "level: not listened to, because the configuration has a capture indicator\n"
        return
    try:
        yield from measure_level((open_microphone or _open_microphone)())
    except SourceError as error:
        yield f"level: {error}\n"


def describe_camera(device: str) -> Iterator[str]:
    from ..capture import v4l2_device

    try:
        handle = v4l2_device.Handle(device)
    except SourceError as error:
        yield f"  {error}\n"
        return
    try:
        yield f"  {device}  {v4l2_device.read_card(handle)}\n"
        for name, modes in groupby(v4l2_device.list_modes(handle), lambda mode: mode.name):
            yield f"    {name}: {show_modes(list(modes))}\n"
    finally:
        handle.close()


def show_modes(modes: list[Mode]) -> str:
    """Return sizes and rates, the largest first."""
    shown = [
        f"{mode.width}x{mode.height}"
        + (f" {mode.fastest_fps:.3g} fps" if math.isfinite(mode.fastest_fps) else "")
        for mode in modes[:MAX_SIZES]
    ]
    more = len(modes) - MAX_SIZES
    return ", ".join(shown) + (f" and {more} smaller" if more > 0 else "")


def measure_level(source: AudioSource) -> Iterator[str]:
    """Yield the level meter while two seconds of audio come, and close the source."""
    loudest_db, wanted = -math.inf, METER_S * source.sample_rate_hz
    first: int | None = None
    live = sys.stdout.isatty()
    try:
        while (chunk := source.read()) is not None:
            first = chunk.first_sample if first is None else first
            power = float(np.mean(np.square(chunk.samples, dtype=np.float64)))
            level_db = 10 * math.log10(power) if power > 0 else -math.inf
            loudest_db = max(loudest_db, level_db)
            if live:
                yield f"\rlevel: {show_level(level_db)}"
            if chunk.first_sample + len(chunk.samples) - first >= wanted:
                break
    finally:
        source.close()
    yield "\r" if live else ""
    yield f"level: {show_level(loudest_db)} at most in {METER_S:g} s\n"


def show_level(level_db: float) -> str:
    """Return a bar and the level in dB of full scale."""
    if not math.isfinite(level_db):
        return f"{'·' * METER_WIDTH} silence"
    share = min(max(1 + level_db / METER_DB, 0.0), 1.0)
    return f"{('█' * round(share * METER_WIDTH)).ljust(METER_WIDTH, '·')} {level_db:4.0f} dB"


def _open_microphone() -> AudioSource:
    from ..capture.microphone import Microphone

    return Microphone(MonotonicClock())
