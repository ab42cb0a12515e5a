"""The short forms of `make torture`: kills, or rebalances, at random moments; two nodes, one slow at times; the checker judges."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from torture.run import torture

from cdp_stream.errors import BrokerUnavailable
from cdp_stream.stream.local_kafka import kafka_jars

pytestmark = [pytest.mark.wire, pytest.mark.timeout(600)]
KILLS = int(os.environ.get("KILLS", "6"))
EVENTS = int(os.environ.get("EVENTS", "12000"))
REBALANCES = int(os.environ.get("REBALANCES", "6"))
SEED = int(os.environ.get("SEED", "5"))


@pytest.fixture(autouse=True)
def needs_jars() -> None:
    try:
        kafka_jars()
    except BrokerUnavailable as error:
        pytest.skip(f"no Kafka from its jars: {error}")


def test_kill_9_at_random_moments_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    outcome = torture(tmp_path, KILLS, EVENTS, SEED)
    assert outcome.is_good, json.dumps(outcome.row(), indent=1)
    assert KILLS == outcome.kills.total()
    for what in ("transitions", "profiles merged", "duplicates", "records dead-letters", "records destinations/crm"):
        assert outcome.verdict.counts[what] > 20, what
    for what in ("exits by time", "entries by backfill", "told again", "list members"):
        assert outcome.verdict.counts[what] > 20, what


def test_workers_that_join_leave_die_and_stand_still_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    outcome = torture(tmp_path, 0, EVENTS // 2, SEED, rebalances=REBALANCES)
    assert outcome.is_good, json.dumps(outcome.row(), indent=1)
    assert REBALANCES == outcome.kills.total()
    assert outcome.verdict.counts["transitions"] > 20
