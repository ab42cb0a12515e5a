"""The dashboard and the documentation name the metrics that exist, and each of them."""

from __future__ import annotations

import re
from pathlib import Path

import orjson

from cdp_stream.metrics import TABLE, metrics_markdown

ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "cdp-stream.json"


def queries() -> list[str]:
    panels = orjson.loads(DASHBOARD.read_bytes())["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def test_every_query_asks_for_a_declared_metric() -> None:
    declared = {row.name for row in TABLE}
    asked = {name.removesuffix("_bucket") for query in queries() for name in re.findall(r"cdp_\w+", query)}
    assert set() == asked - declared


def test_every_declared_metric_is_on_the_dashboard() -> None:
    asked = {name.removesuffix("_bucket") for query in queries() for name in re.findall(r"cdp_\w+", query)}
    assert set() == {row.name for row in TABLE} - asked


def test_the_metrics_page_is_fresh() -> None:
    assert (ROOT / "docs" / "metrics.md").read_text() == metrics_markdown()
