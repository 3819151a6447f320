"""The configuration: one YAML file and `--set a.b=value`, checked before anything starts.

Out: a frozen `Config`, or a ConfigError that names the key, the value and what is allowed.
What belongs to the model (labels, sizes, thresholds, levels) is in the bundle, never here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ..engines.config_file import (
    ConfigError,
    Section,
    apply_override,
    explain_problem,
    read_config_file,
)

__all__ = ["Config", "ConfigError", "load_config"]


class Source(Section, frozen=True):
    name: str = "auto"
    """"auto" (a camera if there is one, else the demo), "camera", /dev/videoN, csi://N (on a
    Jetson), "demo" or a file."""
    microphone: str = "auto"
    """With a camera: "auto", "none", "default", an index or part of a device's name."""
    microphone_chunk_ms: Annotated[float, Meta(ge=5, le=200)] = 10.0
    """How much sound the driver hands over at once: a slow machine loses less with more, and
    results wait longer."""
    width_px: Annotated[int, Meta(ge=64, le=4096)] = 1280
    height_px: Annotated[int, Meta(ge=64, le=4096)] = 720
    camera_fps: Annotated[float, Meta(ge=1, le=240)] = 30.0
    """What the camera is asked for; it may give another."""
    capture: Literal["auto", "v4l2", "opencv", "jetson"] = "auto"
    """How a camera is read. "v4l2": raw pictures without a library; "opencv": MJPEG, decoded;
    "jetson": through jetson-utils, as csi://N always is. "auto": v4l2 where raw pictures come at
    the wanted rate, else opencv."""
    loop: bool = False
    """Start a file over at its end."""


class Engines(Section, frozen=True):
    name: str = "auto"
    """"auto" (TensorRT where there is an NVIDIA GPU, else ONNX Runtime), "tensorrt", "onnx" or
    "null" (no model: for tests)."""
    precision: Literal["auto", "fp32", "fp16", "int8"] = "auto"
    """Of the face and the voice network. "auto": 16 bits on TensorRT, 32 elsewhere. "int8" needs a
    bundle that has it."""
    dla_core: Annotated[int, Meta(ge=-1, le=7)] = -1
    """TensorRT: the deep-learning accelerator to use, where the board has one; -1: the GPU."""
    num_threads: Annotated[int, Meta(ge=0, le=64)] = 0
    """For each network; 0 takes half of the cores."""


class Face(Section, frozen=True):
    yunet_file: str = ""
    """A YuNet ONNX file to find faces with; empty: OpenCV's Haar cascade."""
    lost_after_s: Annotated[float, Meta(ge=0, le=60)] = 0.7
    """A face not found again for this long is gone."""


class Voice(Section, frozen=True):
    min_level_db: Annotated[float, Meta(ge=-100, le=0)] = -55.0
    """Sound whose loud parts stay under this (dB of full scale) is taken for silence."""


class Sync(Section, frozen=True):
    max_wait_ms: Annotated[float, Meta(ge=0, le=40)] = 5.0
    """A picture waits at most this long for the sound that belongs to it."""


class Output(Section, frozen=True):
    smoothing_s: Annotated[float, Meta(ge=0, le=30)] = 0.5
    """Time constant of the calm of the output; 0 shows every picture's own."""
    sinks: tuple[str, ...] = ("console",)
    """Any of "console", "jsonl:FILE", "jsonl:-", "screen" (or "screen:/dev/dri/cardN"),
    "serial:DEVICE", "null"."""


class Screen(Section, frozen=True):
    notice: Annotated[str, Meta(min_length=1)] = (
        "Reads apparent emotion, not what a person feels. No picture or sound is kept or sent."
    )
    """Always shown."""
    picture: bool = False
    """Show the camera's picture too."""


class Serial(Section, frozen=True):
    baud: Annotated[int, Meta(ge=1200, le=4_000_000)] = 115_200
    """Bits a second, as at the other end."""
    format: Literal["json", "binary"] = "json"
    """A line of JSON, or a frame of bytes, see `runtime/sinks/serial_format.py`."""
    max_hz: Annotated[float, Meta(gt=0, le=240)] = 10.0
    """Estimates a second at most; of more, the newest are sent."""


class Indicator(Section, frozen=True):
    kind: Literal["none", "screen", "file"] = "none"
    """What shows people that camera and microphone are read. It is on before the first picture or
    sound is; while it is out, both are closed. "screen": the screen sink's "Camera on"; "file":
    `file`, such as an LED's brightness."""
    file: str = ""
    """At the start an LED's `max_brightness` is written to it, or 1 where there is none; at the end
    0."""


class Realtime(Section, frozen=True):
    priority: bool = True
    """The threads that results wait for go before all ordinary ones, where that is permitted."""
    freeze: bool = True
    """Python does not search what was made at the start for garbage."""


class Metrics(Section, frozen=True):
    port: Annotated[int, Meta(ge=0, le=65535)] = 0
    """Figures for Prometheus are served here; 0: nowhere."""
    address: str = "127.0.0.1"
    """Who may ask: this machine only, unless another of its addresses is given."""


class Trace(Section, frozen=True):
    folder: str = ""
    """Where the times of the newest pictures are written when one is late (once a minute at most,
    10 files are kept) or the program gets SIGUSR1; empty: nowhere."""


class Config(Section, frozen=True):
    """Everything a run can be told."""

    source: Source = Source()
    engines: Engines = Engines()
    face: Face = Face()
    voice: Voice = Voice()
    sync: Sync = Sync()
    output: Output = Output()
    realtime: Realtime = Realtime()
    metrics: Metrics = Metrics()
    trace: Trace = Trace()
    screen: Screen = Screen()
    serial: Serial = Serial()
    indicator: Indicator = Indicator()
    profile: Literal["general", "workplace", "school"] = "general"
    """What it is used for; the last two are refused."""
    wait_for_devices: bool = False
    """A camera, microphone or indicator that is missing at the start is waited for, as one that is
    lost later always is; else it ends the run, but for a microphone that is "auto". That one is
    waited for quietly as long as it was never there."""
    bundle: str = ""
    """Folder of the bundle; empty: the newest that was installed, else the one that ships."""
    public_key: str = ""
    """PEM file of an Ed25519 key: only bundles signed with it are installed and run, and the one
    that ships."""
    level: str = ""
    """Name of the bundle's quality level to stay at; empty: the best that holds the budget."""
    budget_ms: Annotated[float, Meta(gt=0, le=10_000)] = 45.0
    """Capture to result."""


def load_config(file: Path | None, settings: Sequence[str] = ()) -> Config:
    """Read `file` (YAML), put the `settings` ("a.b=value", the value in YAML) over it."""
    tree = read_config_file(file) if file is not None else {}
    origin = str(file) if file is not None else "configuration"
    for setting in settings:
        apply_override(tree, setting)
    try:
        config = msgspec.convert(tree, Config, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(explain_problem(origin, tree, Config(), str(error))) from error
    if config.profile != "general":
        raise ConfigError(
            f"{origin}: profile is {config.profile!r}: refused. Reading emotions of people at work"
            " or in education is prohibited in the EU (AI Act, Regulation (EU) 2024/1689, Article"
            " 5(1)(f)), and this program is not made for it anywhere. Allowed: general"
        )
    return config
