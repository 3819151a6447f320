"""The configuration: one YAML file and `--set a.b=value`, checked before anything starts.

Out: a frozen `Config`, or a ConfigError that names the key, the value and the allowed values.
What belongs to the model (labels, sizes, thresholds, levels) is in the bundle instead.
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
    list_texts,
    read_config_file,
)

__all__ = ["Config", "ConfigError", "load_config"]


class Source(Section, frozen=True):
    name: str = "auto"
    """"auto" (a camera if there is one, else the demo), "camera", "/dev/videoN", "csi://N" (on a
    Jetson), "none" (a microphone alone), "demo", the name of a file or FIFO, "-" (standard input),
    or the URL of a stream: rtsp, rtsps, http, https, udp. No other source opens a connection."""
    microphone: str = "auto"
    """Microphone beside a camera, or alone: "auto", "none", "default", an index or part of a
    device's name."""
    microphone_chunk_ms: Annotated[float, Meta(ge=5, le=200)] = 10.0
    """Length of the audio blocks of the driver. Longer blocks lose less audio on a slow machine and
    add delay."""
    width_px: Annotated[int, Meta(ge=64, le=4096)] = 1280
    height_px: Annotated[int, Meta(ge=64, le=4096)] = 720
    camera_fps: Annotated[float, Meta(ge=1, le=240)] = 30.0
    """Requested frame rate; the camera may use another."""
    capture: Literal["auto", "v4l2", "opencv", "jetson"] = "auto"
    """Camera backend. "v4l2": raw frames without a library; "opencv": MJPEG, decoded; "jetson":
    jetson-utils, which csi://N always uses. "auto": v4l2 if the camera has raw frames at the
    requested rate, else opencv."""
    rotate: Literal[0, 90, 180, 270] = 0
    """Degrees to turn the picture clockwise, for a camera that is mounted sideways or upside down.
    Any turn costs a copy of each frame."""
    mirror: bool = False
    """Exchange left and right of the picture, after `rotate`."""
    video_track: Annotated[int, Meta(ge=-1, le=99)] = -1
    """Video track of a file, counted from 0; -1: the default one, else the best that decodes."""
    audio_track: Annotated[int, Meta(ge=-1, le=99)] = -1
    """Audio track of a file, likewise."""
    loop: bool = False
    """Repeat a file from its start when it ends."""


class Engines(Section, frozen=True):
    name: str = "auto"
    """"auto" (TensorRT where there is an NVIDIA GPU, else ONNX Runtime), "tensorrt", "onnx" or
    "null" (no model: for tests)."""
    precision: Literal["auto", "fp32", "fp16", "int8"] = "auto"
    """Precision of the face and voice networks. "auto": FP16 on TensorRT, FP32 elsewhere. "int8"
    needs a bundle with INT8 networks."""
    dla_core: Annotated[int, Meta(ge=-1, le=7)] = -1
    """TensorRT: the deep-learning accelerator (DLA) to use, if the board has one; -1: the GPU."""
    num_threads: Annotated[int, Meta(ge=0, le=64)] = 0
    """CPU threads of each network; 0: half of the cores that this process may use."""


class Face(Section, frozen=True):
    yunet_file: str = ""
    """YuNet ONNX file of the face detector; empty: the bundle's."""
    lost_after_s: Annotated[float, Meta(ge=0, le=60)] = 0.7
    """A face that is not detected for this long is dropped."""


class Faces(Section, frozen=True):
    max: Annotated[int, Meta(ge=1, le=16)] = 4
    """Most faces that are followed at a time. A quality level may allow fewer."""


class Voice(Section, frozen=True):
    min_level_db: Annotated[float, Meta(ge=-100, le=0)] = -100.0
    """Speech whose loud parts stay under this level (dB of full scale) is not used, to leave out
    people far away; -100: all speech is used."""


class Sync(Section, frozen=True):
    max_wait_ms: Annotated[float, Meta(ge=0, le=40)] = 5.0
    """A frame waits at most this long for the audio up to its capture."""


class Output(Section, frozen=True):
    smoothing_s: Annotated[float, Meta(ge=0, le=30)] = 0.5
    """Time constant of the smoothing of probabilities; 0: no smoothing."""
    sinks: tuple[str, ...] = ("console",)
    """Outputs, any of "console", "jsonl:FILE", "jsonl:-" (standard output; so for csv and summary),
    "csv:FILE", "summary:FILE", "screen" (or "screen:/dev/dri/cardN"), "serial:DEVICE", "web" (or
    "web:PORT"), "mqtt://HOST[:PORT][/TOPIC]" (or "mqtts://…"), "null", or the name of an installed
    plug-in."""
    clock: Literal["monotonic", "utc"] = "monotonic"
    """"utc": jsonl, csv and summary have the time of day of the capture too. A replay does not know
    it and leaves it empty."""
    summary_s: Annotated[float, Meta(ge=0, le=86_400)] = 0.0
    """Length of an interval of "summary:FILE"; 0: one summary of the whole run."""


class Screen(Section, frozen=True):
    notice: Annotated[str, Meta(min_length=1)] = (
        "Reads apparent emotion, not what a person feels. No picture or sound is kept or sent."
    )
    """Text that the screen always shows."""
    picture: bool = False
    """Show a preview of the camera too."""


class Serial(Section, frozen=True):
    baud: Annotated[int, Meta(ge=1200, le=4_000_000)] = 115_200
    """Bits per second, equal at both ends."""
    format: Literal["json", "binary"] = "json"
    """"json": a line of JSON; "binary": a frame of bytes, see `runtime/sinks/serial_format.py`."""
    max_hz: Annotated[float, Meta(gt=0, le=240)] = 10.0
    """Most estimates per second; the newest is sent."""


class Web(Section, frozen=True):
    address: str = "127.0.0.1"
    """Address that the page of the output "web" is served on. The default admits this machine only;
    there is no password."""
    port: Annotated[int, Meta(ge=0, le=65535)] = 8080
    """TCP port of the page; 0: any free one."""
    picture: bool = False
    """Send the camera's image to the page too."""
    max_clients: Annotated[int, Meta(ge=1, le=100)] = 20
    """Most pages that are open at the same time."""


class Mqtt(Section, frozen=True):
    device: str = ""
    """Name of this device at the broker, and the last level of its topic, which no other device may
    have: letters, digits, "_", "-"; empty: made from the machine-id."""
    state_interval_s: Annotated[float, Meta(ge=0, le=3600)] = 1.0
    """Least time between two messages with the newest estimate; 0: none are sent."""
    records: Literal["summaries", "estimates", "none"] = "summaries"
    """What is kept until the broker has it: a summary of each interval, one estimate of each, or
    nothing."""
    record_interval_s: Annotated[float, Meta(ge=0.05, le=86_400)] = 60.0
    """Length of such an interval."""
    health_interval_s: Annotated[float, Meta(ge=1, le=86_400)] = 30.0
    """Time between two messages with the health of the run."""
    credentials_file: str = ""
    """File with the user in its first line and the password in its second. Here and below, a name
    without a slash may be that of a systemd credential."""
    ca_file: str = ""
    """PEM file of the authority that signed the broker's certificate; empty: the system's."""
    cert_file: str = ""
    """PEM file of this device's certificate."""
    key_file: str = ""
    """PEM file of its key, not encrypted; empty: in `cert_file`."""
    spool_records: Annotated[int, Meta(ge=0, le=10_000_000)] = 20_000
    """Most records that wait in the state folder while there is no broker; then the oldest are
    dropped. 0: none are stored."""
    spool_days: Annotated[float, Meta(gt=0, le=3650)] = 7.0
    """Older ones are dropped."""
    discovery: str = ""
    """Topic of Home Assistant's discovery, usually "homeassistant"; empty: no discovery."""


class Indicator(Section, frozen=True):
    kind: Literal["none", "screen", "file"] = "none"
    """Shows people that camera and microphone are read. It is on before either is opened; while it
    is off, both are closed. "screen": "Camera on" on the screen sink; "file": writes to `file`,
    such as the brightness of an LED."""
    file: str = ""
    """File of the indicator. At the start the LED's `max_brightness` is written to it, or 1 if it
    has none; at the end 0."""


class Realtime(Section, frozen=True):
    priority: bool = True
    """Real-time scheduling of the threads that results wait for, where the system permits it."""
    freeze: bool = True
    """Exclude the objects made at the start from Python's garbage collection."""


class Metrics(Section, frozen=True):
    port: Annotated[int, Meta(ge=0, le=65535)] = 0
    """TCP port of the metrics for Prometheus; 0: none."""
    address: str = "127.0.0.1"
    """Address to listen on. The default admits this machine only."""


class Trace(Section, frozen=True):
    folder: str = ""
    """Folder for traces of the newest frames' times; empty: no traces. One is written when a frame
    is late, at most once a minute, and at SIGUSR1. The newest 10 files stay."""


class Config(Section, frozen=True):
    """The configuration of a run."""

    source: Source = Source()
    engines: Engines = Engines()
    face: Face = Face()
    faces: Faces = Faces()
    voice: Voice = Voice()
    sync: Sync = Sync()
    output: Output = Output()
    realtime: Realtime = Realtime()
    metrics: Metrics = Metrics()
    trace: Trace = Trace()
    screen: Screen = Screen()
    serial: Serial = Serial()
    web: Web = Web()
    mqtt: Mqtt = Mqtt()
    indicator: Indicator = Indicator()
    profile: Literal["general", "workplace", "school"] = "general"
    """Purpose of the use; "workplace" and "school" are refused."""
    wait_for_devices: bool = False
    """Wait for a camera, microphone or indicator that is missing at the start. Without it such a
    device ends the run, except the microphone "auto", which is awaited without a fault until it
    first appears. Devices lost later are always awaited."""
    bundle: str = ""
    """Folder of the bundle; empty: the installed bundle in use, else the default one."""
    public_key: str = ""
    """PEM file of an Ed25519 key. If set, only bundles signed with it and the default one are
    installed and run."""
    level: str = ""
    """Name of a quality level to stay at; empty: the best that holds the budget."""
    budget_ms: Annotated[float, Meta(gt=0, le=10_000)] = 45.0
    """Latency budget, from capture to estimate."""


def load_config(file: Path | None, settings: Sequence[str] = ()) -> Config:
    """Read `file` (YAML) and override it with `settings` ("a.b=value", the value a text or YAML).
    Raises ConfigError."""
    tree = read_config_file(file) if file is not None else {}
    origin = str(file) if file is not None else "configuration"
    texts = frozenset(list_texts(Config()))
    for setting in settings:
        apply_override(tree, setting, texts)
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
    if config.source.name == config.source.microphone == "none":
        raise ConfigError(
            f"{origin}: source.name and source.microphone are both 'none': nothing to read"
        )
    return config
