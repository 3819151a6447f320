"""The metrics, through the process that serves them."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from emotion_edge.runtime import config
from emotion_edge.runtime.config import ConfigError
from emotion_edge.runtime.messages import Health
from emotion_edge.runtime.telemetry import LatencyLog
from emotion_edge.runtime.web.metrics import Metrics

from .conftest import get, is_closed

HEALTH = Health(
    t_ns=1,
    frames=4,
    fps=29.5,
    latency_p50_ms=9.0,
    latency_p95_ms=10.0,
    latency_p99_ms=11.0,
    latency_max_ms=60.0,
    misses=1,
    drift_ppm=np.float64("inf"),
)


def test_served_with_the_limits_of_a_page() -> None:
    """At /metrics alone, for this machine's names alone, until the end of the run."""
    with Metrics(config.Metrics(), LatencyLog(33.0)) as metrics:
        metrics.show_health(HEALTH)
        status, headers, text = get(metrics.port, "/metrics")
        assert status == 200
        assert headers["content-type"].startswith("text/plain; version=")
        assert "emotion_edge_fps 29.5\n" in text
        assert "emotion_edge_audio_drift_ppm +Inf\n" in text
        assert get(metrics.port, "/metrics", host="attacker.example")[0] == 421
        assert get(metrics.port, "/etc/passwd")[0] == 404
        assert metrics.fault == ""
    assert is_closed(metrics.port)


@pytest.mark.parametrize("module", ["prometheus_client", "aiohttp"])
def test_missing_library(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the setting, its value and the extra to install."""
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=r"metrics\.port is 9123.*\[metrics\]"):
        Metrics(config.Metrics(port=9123), LatencyLog(33.0))
