"""How late results are, and who may read it."""

from .latency import STAGES, LatencyLog, read_stages
from .trace import Trace, TraceWriter, write_trace

__all__ = ["STAGES", "LatencyLog", "Trace", "TraceWriter", "read_stages", "write_trace"]
