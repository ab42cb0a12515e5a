"""The report says what was measured, and of an offered rate that was not held that it was not."""

from __future__ import annotations

import math
from typing import Any

import pytest
from run_all import summary, table
from running import percentile


def found(*, held: bool) -> dict[str, Any]:
    def rate(offered: int) -> dict[str, Any]:
        return {"offered_per_s": offered, "held": held, "resolve_ms": {"p95": 4.0}, "end_to_end_ms": {"p95": 30.0}}

    return {
        "drain": {"drain_per_s": {"here": {"median": 120_000}}},
        "client": {"client_limit_per_s": {"median": 240_000}},
        "latency": {"rates": [rate(5_000), rate(50_000)]},
        "pipeline": {"pipeline_per_s": {"median": 20_000}, "entered_ms": {"p95": 49.0}},
        "replay": {"replay_identity_per_s": {"median": 1}, "replay_whole_per_s": {"median": 40_000}},
    }


def test_targets_are_met_from_above_or_from_below() -> None:
    rows = summary(found(held=True))
    assert {name: row["met"] for name, row in rows.items() if "met" in row} == {
        "drain_per_s": True,
        "resolve_p95_ms_at_50k": True,
        "end_to_end_p95_ms_at_50k": False,
        "pipeline_per_s": False,
        "entered_p95_ms_at_5k": True,
        "replay_identity_per_s": False,
        "replay_whole_per_s": True,
    }
    assert rows["drain_share_of_client_limit"] == {"value": 0.5, "unit": "share"}


def test_a_rate_that_was_not_held_has_no_latency_and_meets_nothing() -> None:
    rows = summary(found(held=False))
    assert rows["resolve_p95_ms_at_50k"] == {"value": None, "unit": "ms", "target": 5, "met": False, "ratio": {}}
    of = {"machine": "m", "python": "3", "commit": "c", "load_average_before": 0}
    assert "| `resolve_p95_ms_at_50k` | rate not held | ms | 5 | no |" in table(rows, of)


def page(*counts: float) -> dict[tuple[str, str], float]:
    edges = ("0.01", "0.02", "0.04", "+Inf")
    return {("h_bucket", f'le="{edge}"'): count for edge, count in zip(edges, counts, strict=True)} | {("h_sum", ""): 9}


def test_a_percentile_is_read_between_two_pages_and_linearly_within_a_bucket() -> None:
    before, after = page(10, 10, 10, 10), page(60, 110, 110, 110)
    assert percentile(before, after, "h", 0.5) == pytest.approx(0.01)
    assert percentile(before, after, "h", 0.75) == pytest.approx(0.015)
    assert percentile(before, before, "h", 0.5) is None
    assert percentile(before, page(10, 10, 10, 20), "h", 0.5) == math.inf
