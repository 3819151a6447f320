"""What flows through the runtime.

Every `t_ns` is CLOCK_MONOTONIC nanoseconds at the moment of *capture*, never of arrival.
(`--pace max` replays a file without waiting; there the clock is the file's own time from 0.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ..engines.face_tracker import FaceBox
from .board import BoardStatus

Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class VideoFrame:
    """One picture: `image` is an array of bytes laid out as `format` says (`kernels.pixels`)."""

    t_ns: int
    index: int
    """Counts every picture the source captured: a gap means the source itself lost some."""
    image: NDArray[np.uint8]
    format: str = "bgr8"
    """One of `kernels.pixels.PIXEL_FORMATS`: layout, and encoding and range of Y'CbCr."""
    device_ptr: int = 0
    """Where the GPU sees the first byte of `image`; 0 when it does not."""


@dataclass(frozen=True, slots=True)
class AudioChunk:
    """Mono sound: `samples` float32 (n,), full scale -1..1, at the rate its source states."""

    t_ns: int
    """Capture time of the first sample."""
    first_sample: int
    """Index of the first sample since the source opened: a gap means lost samples."""
    samples: Float32


@dataclass(frozen=True, slots=True)
class Window:
    """One picture and the sound that ends with it; sound alone while there is no camera."""

    t_ns: int
    frame: VideoFrame | None
    face: FaceBox | None
    audio_sample: float | None
    """Number of the sample captured at `t_ns`, on the ring's count; None without sound."""
    end_column: int | None
    """The log-mel column after the last that ends by `t_ns`; None when the sound is too old."""
    skew_ns: int
    """`t_ns` minus the end of the newest sound in the window; 0 without sound."""
    dropped_frames: int
    """Pictures overwritten unseen since the previous window."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The apparent emotion in one window."""

    t_ns: int
    index: int
    """Number of the picture; the last one's when made of sound alone."""
    label: str | None
    """None when there is nothing to say (`abstained`)."""
    confidence: float
    """Calibrated probability of the likeliest label; 0 when there was nothing to look at."""
    probabilities: dict[str, float]
    """Of every label; smoothed over time. Empty when there was nothing to look at."""
    modalities: dict[str, float]
    """Weight of "face" and "voice" in the result; 0 for what was missing."""
    face: dict[str, float] | None
    """The face's own probabilities, or None without a face."""
    voice: dict[str, float] | None
    abstained: bool
    skew_ns: int
    latency_us: float
    """From the frame's capture until this estimate is ready for the sinks. Publishing it comes
    after, and is no part of it. Of audio alone: from the capture of its newest sample."""
    stages_us: dict[str, float]
    """What each stage took, by its name in `latency.STAGES`. All but "publish" add up to
    `latency_us`. "publish" is how long the sinks took the estimate *before* this one, 0 for the
    first: how long they take this one is known only once it is out."""
    level: str


@dataclass(frozen=True, slots=True)
class Health:
    """How the runtime is doing, twice a second."""

    t_ns: int
    frames: int
    fps: float
    latency_p50_ms: float
    latency_p95_ms: float
    latency_p99_ms: float
    latency_max_ms: float
    """The percentiles are of the last seconds, the largest is of the whole run."""
    misses: int
    """Results later than the budget."""
    misses_by_cause: Mapping[str, int] = field(default_factory=dict)
    """By the stage that took longest beyond what it usually takes."""
    drops: Mapping[str, int] = field(default_factory=dict)
    """Lost frames, samples and model outputs, by cause."""
    skipped: int = 0
    """Pictures that the level did not want."""
    skew_ms: float = 0.0
    drift_ppm: float = 0.0
    """The sound card's clock against ours."""
    faults: tuple[str, ...] = ()
    """What is missing or fails now, and is tried again: a camera, a screen."""
    temperature_c: float | None = None
    level: str = ""
    level_switches: int = 0
    board: BoardStatus | None = None


@dataclass(frozen=True, slots=True)
class CapturePath:
    """How pictures get from the device to where kernels read them."""

    copies_per_frame: int
    """Times the CPU writes a whole picture after the driver has: decoding counts as one."""
    clock_domain: str
    """Whose stamp `t_ns` comes from, such as "v4l2 monotonic", "gstreamer running time"."""
    zero_copy: Literal["none", "pinned", "nvmm"]
    """What the GPU reads: a copy; the memory that the CPU wrote or the driver filled, page-locked;
    the camera's own buffer."""


class VideoSource(Protocol):
    """A camera or something that behaves like one."""

    @property
    def path(self) -> CapturePath:
        """What is true of the newest picture; before the first one, what is expected."""

    def read(self) -> VideoFrame | None:
        """Wait for the next picture. None when the source has ended or is closed.

        Raises SourceError when the device fails; the caller closes and opens it again.
        """

    def close(self) -> None: ...


class AudioSource(Protocol):
    """A microphone or something that behaves like one."""

    sample_rate_hz: int

    def read(self) -> AudioChunk | None:
        """Wait for the next samples. None when the source has ended or is closed."""

    def close(self) -> None: ...


class Sink(Protocol):
    """Takes each estimate as it is made; must not block the pipeline."""

    def publish(self, estimate: Estimate) -> None: ...

    def close(self) -> None: ...


class Faultable(Protocol):
    """A component that may fail for a while and recovers by itself. It logs both transitions, and a
    change of the cause."""

    @property
    def fault(self) -> str:
        """The present fault in a few words; "" for none."""


class Pollable(Faultable, Protocol):
    """A component that reads its own state when polled: by one thread, twice a second."""

    def poll(self) -> None: ...


class BackgroundWorker(Faultable, Protocol):
    """A sink with a thread of its own."""

    @property
    def failure(self) -> Exception | None:
        """The programming error that ended the thread; None while it runs. It ends the run."""


class CameraIndicator(Protocol):
    """A display that shows whether camera and microphone may be read."""

    @property
    def showing(self) -> bool:
        """Whether the state last given to `show_camera` is visible now."""

    def show_camera(self, on: bool) -> None: ...


class FaultDisplay(Protocol):
    """A display of what is wrong with the run."""

    def show_faults(self, faults: tuple[str, ...]) -> None: ...


class Screen(CameraIndicator, FaultDisplay, Protocol):
    """A display in front of people, which can show a preview of the camera too."""

    def show_preview(self, newest: Callable[[], VideoFrame | None]) -> None: ...


class SinkClosed(Exception):
    """Nobody reads a sink any more (a closed pipe): the run is over, and that is no error."""


class SourceError(OSError):
    """A device or file that failed; the message says which and why, in one line."""
