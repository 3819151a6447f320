"""The messages: JSON, whose keys are only ever added.

    TOPIC/DEVICE/status    "online" or "offline"; retained, the last will of the connection
    TOPIC/DEVICE/state     the newest estimate; retained, not kept while there is no connection
    TOPIC/DEVICE/health    the state of the run; retained, likewise
    TOPIC/DEVICE/records   summaries of an interval, or estimates; kept until the broker has them

`time` is the wall clock's, UTC; `t_ns` and the like are as in the JSON line of an estimate.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

import msgspec

from ... import config
from ...clock import find_next_tick_ns
from ...messages import Estimate, Health
from ..tally import Summary, Tally

ONLINE, OFFLINE = b"online", b"offline"
encoder = msgspec.json.Encoder()


class Sampler:
    """Chooses what is sent of the estimates. Times are those of the estimates, so that a replay
    gives the same messages."""

    def __init__(self, settings: config.Mqtt) -> None:
        self.state: bytes | None = None
        """The newest message for `state`, until it is taken."""
        self.labels: tuple[str, ...] = ()
        """Of the estimates; empty before the first with a face or a voice."""
        self._state_ns = round(settings.state_interval_s * 1e9)
        self._record_ns = round(settings.record_interval_s * 1e9)
        self._records = settings.records
        self._state_due_ns = 0
        self._record_due_ns: int | None = None
        self._tally = Tally()
        self._last_time_ns = 0

    def add(self, time_ns: int, estimate: Estimate) -> dict[str, Any] | None:
        """Take an estimate that was made at `time_ns` of the wall clock. Return the record that is
        due, without its id."""
        t_ns = estimate.t_ns
        if estimate.probabilities and estimate.probabilities.keys() != set(self.labels):
            self.labels = tuple(estimate.probabilities)
        if self._state_ns and t_ns >= self._state_due_ns:
            self._state_due_ns = find_next_tick_ns(self._state_due_ns, self._state_ns, t_ns + 1)
            self.state = encoder.encode(describe_estimate(time_ns, estimate))
        if self._records == "none":
            return None
        if self._record_due_ns is None:
            self._record_due_ns = t_ns + (self._record_ns if self._records == "summaries" else 0)
        record = None
        if t_ns >= self._record_due_ns:
            self._record_due_ns = find_next_tick_ns(self._record_due_ns, self._record_ns, t_ns + 1)
            record = (
                self.finish()
                if self._records == "summaries"
                else {"kind": "estimate", **describe_estimate(time_ns, estimate)}
            )
        if self._records == "summaries":
            self._tally.add(estimate)
            self._last_time_ns = time_ns
        return record

    def finish(self) -> dict[str, Any] | None:
        """Return the summary of the interval up to now; None if it has no estimate."""
        if self._tally.begin_ns is None:
            return None
        summary = self._tally.take()
        return {"kind": "summary", **describe_summary(self._last_time_ns, summary, self.labels)}


def describe_estimate(time_ns: int, estimate: Estimate) -> dict[str, Any]:
    return {
        "time": format_time(time_ns),
        "t_ns": estimate.t_ns,
        "index": estimate.index,
        "label": estimate.label,
        "confidence": round_to(estimate.confidence, 4),
        "probabilities": {k: round_to(p, 4) for k, p in estimate.probabilities.items()},
        "modalities": {k: round_to(w, 4) for k, w in estimate.modalities.items()},
        "abstained": estimate.abstained,
        "faces": len(estimate.faces),
        "voice_activity": round_to(estimate.voice_activity, 3),
        "latency_ms": round_to(estimate.latency_us / 1e3, 1),
        "level": estimate.level,
    }


def describe_summary(time_ns: int, summary: Summary, labels: tuple[str, ...]) -> dict[str, Any]:
    """Shares are of the summary's time, 0 to 1. `time` is that of its last estimate."""
    shares = summary.shares
    names = labels or tuple(shares.label_ns)
    return {
        "time": format_time(time_ns),
        "begin_ns": summary.begin_ns,
        "end_ns": summary.end_ns,
        "estimates": summary.estimates,
        "labels": {label: round_to(shares.share(shares.label_ns[label]), 4) for label in names},
        "abstained": round_to(shares.share(shares.abstained_ns), 4),
        "changes": shares.changes,
        "with_face": round_to(shares.share(summary.with_face_ns), 4),
        "with_voice": round_to(shares.share(summary.with_voice_ns), 4),
        "faces": len(summary.faces) + summary.more_faces,
    }


def encode_health(time_ns: int, health: Health, stored: int, version: str) -> bytes:
    """`stored`: records that wait for the broker. Those that were lost are in `drops`."""
    return encoder.encode(
        {
            "time": format_time(time_ns),
            "version": version,
            "frames": health.frames,
            "fps": round_to(health.fps, 1),
            "latency_p50_ms": round_to(health.latency_p50_ms, 1),
            "latency_p99_ms": round_to(health.latency_p99_ms, 1),
            "misses": health.misses,
            "drops": dict(health.drops),
            "faults": list(health.faults),
            "level": health.level,
            "level_switches": health.level_switches,
            "temperature_c": None
            if health.temperature_c is None
            else round_to(health.temperature_c, 1),
            "records_stored": stored,
        }
    )


def encode_record(id: str, record: Mapping[str, Any]) -> bytes:  # noqa: A002  the key's name
    return encoder.encode({"id": id, **record})


def format_time(time_ns: int) -> str:
    """Return a time of the wall clock as ISO 8601 with milliseconds."""
    seconds, rest_ns = divmod(time_ns, 1_000_000_000)
    text = datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{rest_ns // 1_000_000:03d}Z"


def round_to(value: float, digits: int) -> float:
    # float(), because the encoder refuses NumPy's scalars. It writes null for NaN.
    return round(float(value), digits)
