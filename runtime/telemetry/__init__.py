"""Latency and misses of a run: measured, traced, and exported to Prometheus.

`prometheus` is imported only by the process that serves metrics: its library is optional.
"""

from .latency import STAGES, LatencyLog, read_stages
from .snapshot import Snapshot, take_snapshot
from .trace import Trace, TraceWriter, write_trace

__all__ = [
    "STAGES",
    "LatencyLog",
    "Snapshot",
    "Trace",
    "TraceWriter",
    "read_stages",
    "take_snapshot",
    "write_trace",
]
