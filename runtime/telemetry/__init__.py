"""Latency and misses of a run: measured, traced, and exported to Prometheus.

`prometheus` is imported only where metrics are served: its library is optional and slow to load.
"""

from .latency import STAGES, LatencyLog, read_stages
from .trace import Trace, TraceWriter, write_trace

__all__ = ["STAGES", "LatencyLog", "Trace", "TraceWriter", "read_stages", "write_trace"]
