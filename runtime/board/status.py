"""The machine's own sensors: what a board is, which one this is, and what a benchmark records.

Sensors are found by their name under /sys, never by their number. `sys_root` stands in for / in
tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

MB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class BoardStatus:
    """One reading of the sensors; None or absent for what this machine does not tell just now."""

    cpu_percent: float
    """Load of all cores together since the last reading, 0..100."""
    memory_available_mb: float
    rss_mb: float
    """Resident memory of this process."""
    temperature_c: float | None
    """The hottest of the processor's sensors: CPU, GPU and the rest of the chip."""
    cpu_governor: str | None
    temperatures_c: Mapping[str, float] = field(default_factory=dict)
    """Every zone that can be read, by name."""
    cpu_freq_mhz: float | None = None
    """Mean over the cores that are online. It is the rate that was asked of the hardware."""
    cpu_pressure: float | None = None
    """Share 0..1 of the time since the last reading in which some task waited for a CPU; of the
    last 10 s in the first reading."""
    memory_pressure: float | None = None
    """The same for memory."""
    gpu_load_percent: float | None = None
    gpu_freq_mhz: float | None = None
    power_mw: float | None = None
    """The whole module."""
    power_rails_mw: Mapping[str, float] = field(default_factory=dict)
    """Every rail by name; some are parts of others."""
    throttle_events: Mapping[str, int] = field(default_factory=dict)
    """Counters as they stand, by cause. They begin at 0 with the system, start again when their
    driver is loaded again, and one can be absent for a while: who takes differences must live
    with a counter that has gone back."""
    power_mode: str | None = None
    """As nvpmodel calls it, such as "MAXN_SUPER"; "mode 7" when its name is not known."""
    nvmap_used_mb: float | None = None
    """Memory that the GPU's driver has given out; on a Jetson it is the system's."""


class Board(Protocol):
    """A machine that can say how it is doing."""

    def read(self) -> BoardStatus:
        """The sensors now. Cheap enough to call twice a second, never raises for a sensor.

        What a sensor cannot say, or says outside of what is physically possible, is None or
        absent. It is looked for again after a while: drivers come late, and under other numbers.
        """
