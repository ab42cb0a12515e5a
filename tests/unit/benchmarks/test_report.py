"""The benchmarks' report: targets are met in the right direction; what was not measured or not held is not claimed."""

from __future__ import annotations

import math
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from running import percentile
from summary import plots, summary, table

ABOUT = {"machine": "2 cores", "commit": "abc", "load_average_before": 0.5, "python": "3.11", "broker": "a broker"}


def spread(value: float) -> dict[str, float]:
    return {"min": value - 1, "median": value, "max": value + 1}


def rate(offered: int, p95: float, *, held: bool, end_to_end: float | None = None) -> dict[str, Any]:
    """`end_to_end`: the same as `p95` by default."""
    resolve, whole = ({"p95": spread(value)} if held else {} for value in (p95, end_to_end or p95))
    return {"offered_per_s": offered, "held": held, "resolve_ms": resolve, "end_to_end_ms": whole}


def found(**more: Any) -> dict[str, Any]:
    return {
        "drain": {**ABOUT, "drain_per_s": {"here": spread(120_000)}},
        "client": {**ABOUT, "client_limit_per_s": spread(240_000)},
        **more,
    }


def test_a_rate_is_met_from_its_target_up_and_a_latency_down() -> None:
    rows = summary(found(latency={**ABOUT, "rates": [rate(5_000, 3, held=True), rate(50_000, 6, held=True)]}))
    assert rows["drain_per_s"] == {
        "value": 120_000,
        "unit": "1/s",
        "min": 119_999,
        "max": 120_001,
        "target": 100_000,
        "met": True,
        "load_average_before": 0.5,
        "ratio": {},
    }
    assert rows["drain_share_of_client_limit"]["value"] == 0.5
    assert rows["drain_share_of_client_limit"]["load_average_before"] == 0.5
    assert "met" not in rows["resolve_p95_ms_at_5k"]
    assert rows["resolve_p95_ms_at_50k"]["met"] is False
    assert rows["end_to_end_p95_ms_at_50k"]["met"] is True


def test_a_rate_that_was_not_held_has_no_latency_and_meets_nothing() -> None:
    everything = found(latency={**ABOUT, "rates": [rate(50_000, 1, held=False)]})
    row = summary(everything)["resolve_p95_ms_at_50k"]
    assert row["value"] is None
    assert row["met"] is False
    assert "| `resolve_p95_ms_at_50k` | rate not held | – | ms | 5 | no |" in table(everything)


def test_targets_are_met_from_above_or_from_below() -> None:
    rows = summary(
        found(
            latency={**ABOUT, "rates": [rate(50_000, 4, held=True, end_to_end=30)]},
            pipeline={**ABOUT, "pipeline_per_s": spread(20_000), "entered_ms": {"p95": spread(49.0)}},
            replay={**ABOUT, "replay_identity_per_s": spread(1), "replay_whole_per_s": spread(40_000)},
        )
    )
    assert {name: row["met"] for name, row in rows.items() if "met" in row} == {
        "drain_per_s": True,
        "resolve_p95_ms_at_50k": True,
        "end_to_end_p95_ms_at_50k": False,
        "pipeline_per_s": False,
        "entered_p95_ms_at_5k": True,
        "replay_identity_per_s": False,
        "replay_whole_per_s": True,
    }


def test_what_was_not_measured_is_not_in_the_summary() -> None:
    assert list(summary(found())) == ["drain_per_s", "drain_share_of_client_limit"]


def test_peers_stand_beside_the_drain_with_their_guarantees() -> None:
    peers = {
        "cdp_stream": {"per_s": spread(100), "ours_to_it": 1.0, "guarantees": "once", "events": 10},
        "other": {"per_s": spread(200), "ours_to_it": 0.5, "guarantees": "at <least> once", "events": 10},
    }
    everything = found(peers={**ABOUT, "peers": peers})
    assert summary(everything)["drain_per_s"]["ratio"] == {"other": 0.5}
    assert "at <least> once" in table(everything)
    drawn = ET.fromstring(plots(everything)["peers.svg"])
    assert "at <least> once" in [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")]


def test_other_work_on_the_machine_is_told_of() -> None:
    assert "beside other work" not in table(found())
    replay = {name: spread(2) for name in ("replay_identity_per_s", "replay_whole_per_s")}
    busy = found(replay={**ABOUT, "load_average_before": 12.5, **replay})
    assert "beside other work, load average up to 12.5" in table(busy)


def test_the_warm_restart_is_that_of_the_largest_size() -> None:
    def size(profiles: int, seconds: float) -> dict[str, Any]:
        return {
            "profiles": profiles,
            "warm_restart_s": spread(seconds),
            "speed_share": 0.9,
            "resident_mb": 100,
            "disk_mb": 10,
            "restore_s": 5.0,
        }

    everything = found(
        growth={**ABOUT, "sizes": [size(10_000, 2), size(1_000_000, 3)]},
        growth_10m={**ABOUT, "sizes": [size(10_000, 2), size(10_000_000, 4)]},
    )
    rows = summary(everything)
    assert rows["warm_restart_s"]["value"] == 4
    assert rows["speed_at_10m_profiles_share"]["met"] is True
    assert rows["speed_at_1m_profiles_share"]["value"] == 0.9
    assert "growth_memory.svg" in plots(everything)


def page(*counts: float) -> dict[tuple[str, str], float]:
    edges = ("0.01", "0.02", "0.04", "+Inf")
    return {("h_bucket", f'le="{edge}"'): count for edge, count in zip(edges, counts, strict=True)} | {("h_sum", ""): 9}


def test_a_percentile_is_read_between_two_pages_and_linearly_within_a_bucket() -> None:
    before, after = page(10, 10, 10, 10), page(60, 110, 110, 110)
    assert percentile(before, after, "h", 0.5) == pytest.approx(0.01)
    assert percentile(before, after, "h", 0.75) == pytest.approx(0.015)
    assert percentile(before, before, "h", 0.5) is None
    assert percentile(before, page(10, 10, 10, 20), "h", 0.5) == math.inf
