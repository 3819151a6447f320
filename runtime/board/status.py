"""One reading of a machine's sensors, and the interface of a board.

Sensors are found by their names under /sys, never by their numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

MB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class BoardStatus:
    """One reading of the sensors. A value that is unknown now is None or absent."""

    cpu_percent: float
    """Load of all cores together since the last reading, 0..100."""
    memory_available_mb: float
    rss_mb: float
    """Resident memory of this process."""
    temperature_c: float | None
    """The hottest of the processor's sensors: CPU, GPU and the rest of the chip."""
    cpu_governor: str | None
    temperatures_c: Mapping[str, float] = field(default_factory=dict)
    """Every readable zone, by name."""
    cpu_freq_mhz: float | None = None
    """Mean over the online cores of the rate that was requested of the hardware."""
    cpu_pressure: float | None = None
    """Share 0..1 of the time since the last reading in which a task waited for a CPU; of the last
    10 s in the first reading."""
    memory_pressure: float | None = None
    """The same for memory."""
    gpu_load_percent: float | None = None
    gpu_freq_mhz: float | None = None
    power_mw: float | None = None
    """The whole module."""
    power_rails_mw: Mapping[str, float] = field(default_factory=dict)
    """Every rail by name; some are parts of others."""
    throttle_events: Mapping[str, int] = field(default_factory=dict)
    """Counter values by cause. They start at 0 with the system and with each load of their driver,
    and one can be absent for a while. A difference must allow for a decrease."""
    power_mode: str | None = None
    """The name in nvpmodel, such as "MAXN_SUPER"; "mode 7" without a known name."""
    nvmap_used_mb: float | None = None
    """Memory allocated by the GPU's driver; on a Jetson it is the system's memory."""


class Board(Protocol):
    """A machine with sensors."""

    def read(self) -> BoardStatus:
        """Read the sensors. Cheap enough to call twice a second; never raises for a sensor.

        A value that is missing or physically impossible is None or absent. Its sensor is searched
        again after a while: drivers appear late, and under other numbers.
        """
