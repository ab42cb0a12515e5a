"""The whole walk on a broker equals its recomputation; a worker that is asked to stop stops cleanly, in mid stream too."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from space import SOURCE_PARTITIONS, Space

from cdp_stream.stream.broker import Broker
from cdp_stream.testing.people import People

pytestmark = [pytest.mark.wire, pytest.mark.timeout(900)]

TOPOLOGY = {
    "space": "walk",
    "partitions": 4,
    "sources": [{"name": "web", "topic": "events"}],
    "traits": [
        {"key": "orders", "definition": "event('Order Completed').count()", "destinations": ["crm"]},
        {"key": "spend", "definition": "event('Order Completed').sum(property('revenue'))"},
    ],
    "audiences": [
        {"key": "buyers", "definition": "event('Order Completed').count() >= 1", "destinations": ["crm"]},
        {"key": "big", "definition": "trait('spend') >= 500 AND trait('buyers') = true", "destinations": ["crm"]},
    ],
    "destinations": [{"name": "crm", "topic": "dest.crm"}],
}


CLOCKS_BETWEEN_COMMITS = 10


@pytest.fixture
def space(kafka: Broker, topic_prefix: str, tmp_path: Path) -> Space:
    space = Space(kafka.bootstrap, topic_prefix, tmp_path, TOPOLOGY)
    space.create_sources()
    return space


def test_the_whole_walk_equals_its_recomputation_and_a_stop_is_clean(space: Space) -> None:
    space.produce(list(People(3, 200).lines(5_000)))
    worker = space.start()
    try:
        space.wait_until_done(5_000)
        _assert_lag_tools_see_it(space)
        code, seconds = space.stop(worker)
    finally:
        worker.kill()
    assert (0, True) == (code, seconds < 10), space.log.read_text()[-3000:]
    digest, counts, _ = space.counts()
    assert (digest, counts) == space.recomputed()
    assert counts["audience-changes"] > 20
    assert counts["destinations/crm"] > 20
    _recompute_into_a_folder(space, digest, counts)


def _assert_lag_tools_see_it(space: Space) -> None:
    """The groups' offsets follow what is stored: within the two seconds between commits a clock comes twice a second."""
    until = time.monotonic() + 15
    # The identity log, four partitions of profile changes, the source's.
    inputs = 1 + 4 + SOURCE_PARTITIONS
    while len(behind := asyncio.run(space.groups_behind())) < inputs or max(behind.values()) > CLOCKS_BETWEEN_COMMITS:
        assert time.monotonic() < until, behind
        time.sleep(0.5)


def _recompute_into_a_folder(space: Space, digest: str, counts: dict[str, int]) -> None:
    """`replay --from-kafka --out --explain`, by the program itself; other partitions give the same."""
    out = space.folder.parent / "out"
    command = ["replay", str(space.folder), "--from-kafka", "--out", str(out), "--explain", "--partitions", "3"]
    done = subprocess.run(
        [sys.executable, "-m", "cdp_stream", *command], env=space.environ, capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert f"digest: {digest}" == lines[-1]
    assert sum("events/" in line for line in lines) > 4_500
    for topic, count in counts.items():
        file = out / f"{topic if '/' in topic else topic.replace('-', '_')}.jsonl"
        assert count == len(file.read_bytes().splitlines()), topic
    assert len((out / "profiles.jsonl").read_bytes().splitlines()) > 100


def test_records_that_retention_removes_before_they_are_read_stop_the_worker(space: Space) -> None:
    space.produce(list(People(7, 100).lines(2_000)))
    worker = space.start("--stage", "identity")
    try:
        space.wait_until_cut(2_000)
        worker.send_signal(signal.SIGSTOP)
        # The fetch that was under way may still bring the first of these.
        space.produce(list(People(8, 100).lines(2_000)))
        space.produce(list(People(9, 100).lines(2_000)))
        space.remove_records()
        worker.send_signal(signal.SIGCONT)
        assert worker.wait(timeout=60) == 1
    finally:
        worker.kill()
    assert re.search(r"retention removed records \d+ to 1499 before they were read", space.log.read_text())


def test_a_stop_in_mid_stream_leaves_nothing_half_done(space: Space) -> None:
    space.produce(list(People(5, 300).lines(30_000)))
    worker = space.start()
    time.sleep(4)
    code, seconds = space.stop(worker)
    assert (0, True) == (code, seconds < 10), space.log.read_text()[-3000:]
    worker = space.start()
    try:
        space.wait_until_done(30_000)
    finally:
        space.stop(worker)
    _assert_each_output_once(space)


def _assert_each_output_once(space: Space) -> None:
    digest, counts, sources = space.counts()
    doubled = {place: count for place, count in Counter(sources).items() if count > 1}
    assert {} == doubled
    expected_digest, expected_counts = space.recomputed()
    assert expected_counts == counts
    assert expected_digest == digest
