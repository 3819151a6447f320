"""Messages between the stages of the runtime, and the protocols of its components.

Every `t_ns` is CLOCK_MONOTONIC nanoseconds at the moment of *capture*, never of arrival.
(`--pace max` replays a file without waiting; there the clock is the file's own time from 0.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from .. import Error
from ..engines.bundles import LABELS
from ..engines.face_tracker import FaceBox
from .board import BoardStatus

Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class VideoFrame:
    """One camera frame: `image` holds its bytes in the layout of `format`."""

    t_ns: int
    index: int
    """Number of the frame since the source opened. A gap means that the source lost frames."""
    image: NDArray[np.uint8]
    format: str = "bgr8"
    """One of `kernels.pixels.PIXEL_FORMATS`: layout, and encoding and range of Y'CbCr."""
    device_ptr: int = 0
    """Address of the first byte of `image` for the GPU; 0 if it cannot read it."""
    shown_ns: int = 0
    """How long the source shows it; 0 if that is unknown, as with a camera."""


@dataclass(frozen=True, slots=True)
class AudioChunk:
    """Mono audio: `samples` float32 (n,), full scale -1..1, at the sample rate of its source."""

    t_ns: int
    """Capture time of the first sample."""
    first_sample: int
    """Number of the first sample since the source opened. A gap means lost samples."""
    samples: Float32


@dataclass(frozen=True, slots=True)
class Window:
    """One frame and the audio that ends at its capture. While frames are missing, audio alone, or
    with a frame that is still shown."""

    t_ns: int
    """Capture of the frame; a moment later if it came after an estimate of a later time."""
    frame: VideoFrame | None
    faces: tuple[FaceBox, ...]
    """The main face first."""
    audio_sample: float | None
    """Number of the sample captured at `t_ns`, counted by the audio ring; None without audio."""
    end_column: int | None
    """One past the last log-mel column that ends by `t_ns`; None if the audio is too old."""
    skew_ns: int
    """`t_ns` minus the end of the newest audio in the window; 0 without audio."""
    dropped_frames: int
    """Frames overwritten unused since the previous window."""
    voice_due: bool
    """Run the voice network on this window."""


@dataclass(frozen=True, slots=True)
class FaceEstimate:
    """The apparent emotion of one face in one window."""

    id: str
    """Random, the same for one face while it is followed."""
    box: tuple[float, float, float]
    """Square around the face: left and upper edge and side, in pixels of the frame."""
    score: float
    """The detector's confidence; its scale depends on the detector."""
    label: str | None
    """The likeliest label; None if abstained."""
    confidence: float
    """Calibrated probability of the likeliest label; 0 without any."""
    probabilities: dict[str, float]
    """Probability of each label, smoothed over time; of the main face fused with the voice. Empty
    without any."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The apparent emotion in one window."""

    t_ns: int
    """As in the window. It increases strictly from one estimate to the next."""
    index: int
    """`index` of the frame; of the newest frame if the estimate is made without a new one."""
    label: str | None
    """The likeliest label; None if `abstained`."""
    confidence: float
    """Calibrated probability of the likeliest label; 0 without face and voice."""
    probabilities: dict[str, float]
    """Probability of each label, smoothed over time. Empty without face and voice."""
    modalities: dict[str, float]
    """Weight of "face" and "voice" in the result; 0 for a missing modality."""
    face: dict[str, float] | None
    """Probabilities of the main face alone; None without a face."""
    voice: dict[str, float] | None
    """Probabilities of the voice alone; None without speech."""
    abstained: bool
    skew_ns: int
    latency_us: float
    """Time from the capture of the frame until the estimate is ready, publishing excluded. Without
    a new frame: from the capture of the newest sample."""
    stages_us: dict[str, float]
    """Duration of each stage of `telemetry.STAGES`. All but "publish" add up to `latency_us`.
    "publish" is the duration of publishing the *previous* estimate, 0 for the first, because that
    of this one is not known yet."""
    level: str
    """Name of the quality level."""
    faces: tuple[FaceEstimate, ...] = ()
    """Each face, the main one first, whose result is that of the whole estimate."""
    voice_activity: float = 0.0
    """Probability of speech in the last moments, 0..1; 0 without audio."""
    labels: tuple[str, ...] = LABELS
    """All labels of the bundle, in its order."""


@dataclass(frozen=True, slots=True)
class Health:
    """State of the run, measured twice a second."""

    t_ns: int
    frames: int
    fps: float
    latency_p50_ms: float
    latency_p95_ms: float
    latency_p99_ms: float
    latency_max_ms: float
    """Percentiles are of the last seconds, the maximum is of the whole run."""
    misses: int
    """Estimates later than the budget."""
    misses_by_cause: Mapping[str, int] = field(default_factory=dict)
    """Misses by the stage that exceeded its usual duration most."""
    drops: Mapping[str, int] = field(default_factory=dict)
    """Lost frames, samples and model outputs, by cause."""
    skipped: int = 0
    """Frames skipped because the level has a lower frame rate than the camera."""
    skew_ms: float = 0.0
    """Of the newest window; 0 without audio and while no windows come."""
    drift_ppm: float = 0.0
    """Deviation of the sound card's clock from CLOCK_MONOTONIC."""
    faults: tuple[str, ...] = ()
    """The present faults, one line each, of components that are tried again."""
    temperature_c: float | None = None
    level: str = ""
    level_switches: int = 0
    board: BoardStatus | None = None


@dataclass(frozen=True, slots=True)
class CapturePath:
    """The way of a frame from the device to the memory that kernels read."""

    copies_per_frame: int
    """How often the CPU writes the whole frame after the driver has; decoding counts as one."""
    clock_domain: str
    """Origin of `t_ns`, such as "v4l2 monotonic", "gstreamer running time"."""
    zero_copy: Literal["none", "pinned", "nvmm"]
    """What the GPU reads. "none": a copy; "pinned": page-locked memory that the CPU wrote or the
    driver filled; "nvmm": the camera's own buffer."""


class VideoSource(Protocol):
    """A source of frames: a camera, a file, the demo."""

    @property
    def path(self) -> CapturePath:
        """The path of the newest frame; before the first frame, the expected one."""

    def read(self) -> VideoFrame | None:
        """Wait for the next frame. None when the source has ended or is closed.

        Raises SourceError when the device fails; the caller closes and reopens it.
        """

    def close(self) -> None: ...


class AudioSource(Protocol):
    """A source of audio: a microphone, a file, the demo."""

    sample_rate_hz: int

    def read(self) -> AudioChunk | None:
        """Wait for the next samples. None when the source has ended or is closed."""

    def close(self) -> None: ...


class Sink(Protocol):
    """An output for estimates. `publish` must not block."""

    def publish(self, estimate: Estimate) -> None: ...

    def close(self) -> None: ...


class Faultable(Protocol):
    """A component that can fail for a while and recovers by itself. It logs the beginning and end
    of a fault and each change of its cause."""

    @property
    def fault(self) -> str:
        """The present fault in one line; "" for none."""


class Pollable(Faultable, Protocol):
    """A component that checks its state when polled. The monitor polls twice a second."""

    def poll(self) -> None: ...


class BackgroundWorker(Faultable, Protocol):
    """A sink with a thread of its own."""

    @property
    def failure(self) -> Exception | None:
        """The error that ended the thread, which ends the run; None while the thread works."""


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What is known once everything is open."""

    source: str
    """The source in use, as it may be shown: "demo", a camera's device, a file."""
    labels: tuple[str, ...]
    """Of the bundle, in its order."""
    has_audio: bool = True
    """There is a microphone or an audio track."""
    levels_without_voice: tuple[str, ...] = ()
    """Names of the quality levels at which the voice is not read."""

    @property
    def is_demo(self) -> bool:
        return self.source == "demo"


class RunObserver(Protocol):
    """A sink that begins when everything else is open."""

    def begin(self, info: RunInfo) -> None:
        """Called once, before the first frame is read. Raises ConfigError and OutputError."""


class Recorder(Faultable, RunObserver, Protocol):
    """A sink whose estimates are kept, so that a lost one is an error."""

    @property
    def loss(self) -> str:
        """After `close`: what was lost and why, in one line; "" for nothing."""


class CameraIndicator(Protocol):
    """A display that shows people whether camera and microphone are read."""

    @property
    def showing(self) -> bool:
        """Return whether the state last passed to `show_camera` is visible now."""

    def show_camera(self, on: bool) -> None: ...


class FaultDisplay(Protocol):
    """A display of the present faults."""

    def show_faults(self, faults: tuple[str, ...]) -> None: ...


class HealthDisplay(Protocol):
    """A display of the run's health."""

    def show_health(self, health: Health) -> None: ...


class Sender(HealthDisplay, Protocol):
    """A sink that tells other machines how the run is doing, and counts what it could not send."""

    @property
    def drops(self) -> Mapping[str, int]:
        """What was lost so far, by cause; part of the run's health."""


class RunDisplay(HealthDisplay, Protocol):
    """A display of the run that may show the frames too."""

    def show_frames(self, newest: Callable[[], VideoFrame | None]) -> None: ...


class Screen(CameraIndicator, FaultDisplay, Protocol):
    """A display that can also show a preview of the camera."""

    def show_preview(self, newest: Callable[[], VideoFrame | None]) -> None: ...


class SinkClosed(Exception):
    """The reader of a sink closed it (a closed pipe). It ends the run without an error."""


class ListenError(Error, OSError):
    """A port cannot be listened on. The message names the setting and the reason in one line."""


class SourceError(Error, OSError):
    """A device or file failed. The message names it and the reason in one line."""


class OutputError(Error, OSError):
    """An output cannot be written, or has lost estimates. The message names it in one line."""
