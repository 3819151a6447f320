"""The Grafana dashboard: what it draws exists."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

pytest.importorskip("prometheus_client", reason="prometheus-client is in the metrics extra")

from prometheus_client.parser import text_string_to_metric_families

from emotion_edge.runtime.telemetry.prometheus import PREFIX, render_metrics
from emotion_edge.runtime.telemetry.snapshot import take_snapshot

from ..runtime.telemetry.test_prometheus import HEALTH, make_log
from .unit_root import SHIPPED

DASHBOARD = json.loads((SHIPPED / "grafana.json").read_text())


def list_metrics() -> set[str]:
    """Return the names of all metrics of a run, as Prometheus stores them."""
    text = render_metrics(take_snapshot(make_log(), HEALTH)).decode()
    families = text_string_to_metric_families(text)
    return {sample.name for family in families for sample in family.samples}


def list_queries(node: Any) -> list[str]:
    """Return all queries below a node."""
    if isinstance(node, list):
        return [query for child in node for query in list_queries(child)]
    if not isinstance(node, dict):
        return []
    own = [value for key, value in node.items() if key in ("expr", "query")]
    return [q for q in own if isinstance(q, str)] + list_queries(list(node.values()))


def test_every_metric_exists() -> None:
    """Each query names metrics that a run has; `up` is Prometheus' own."""
    queries = [query for query in list_queries(DASHBOARD) if query != "prometheus"]
    assert len(queries) >= len(DASHBOARD["panels"])
    named = {name for query in queries for name in re.findall(rf"{PREFIX}\w+", query)}
    assert named
    assert named <= list_metrics()
    assert all(PREFIX in query or "up{" in query for query in queries)


def test_panels_fit() -> None:
    """Each has a title, a query and a place of its own on the grid of 24 columns."""
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert panel["title"]
        assert panel["targets"]
        assert max(x for x, _ in cells) < 24
        assert not cells & taken
        taken |= cells
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
