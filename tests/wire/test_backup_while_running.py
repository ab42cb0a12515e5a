"""A backup is taken while the worker runs; put back on another disk, only what came after it is read from the changelog."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from pathlib import Path

import pytest
from space import Space

from cdp_stream.stream.broker import Broker
from cdp_stream.testing.people import People

pytestmark = [pytest.mark.wire, pytest.mark.timeout(300)]
TOPOLOGY = {
    "space": "backup",
    "partitions": 2,
    "sources": [{"name": "web", "topic": "events"}],
    "traits": [{"key": "orders", "definition": "event('Order Completed').count()"}],
    "audiences": [{"key": "buyers", "definition": "trait('orders') >= 1"}],
}
EVENTS = 2_000


def command(space: Space, *arguments: str) -> dict[str, object]:
    done = space.run_for_json(*arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_backup_of_a_running_worker_is_gone_on_from(kafka: Broker, topic_prefix: str, tmp_path: Path) -> None:
    space = Space(kafka.bootstrap, topic_prefix, tmp_path, TOPOLOGY)
    space.create_sources()
    space.produce(list(People(21, 300).lines(EVENTS)))
    worker = space.start()
    try:
        space.wait_until_done(EVENTS)
        during = list(People(22, 300, town="during-").lines(EVENTS))
        load = threading.Thread(target=lambda: asyncio.run(space.produce_async(during, 20, 0.2)))
        load.start()
        space.wait_until_cut(EVENTS + EVENTS // 4)
        manifest = command(space, "backup", str(space.folder), "--to", str(tmp_path / "backup"))
        assert load.is_alive()
        load.join()
        space.wait_until_done(2 * EVENTS)
        assert worker.poll() is None
    finally:
        worker.kill()
        worker.wait()
    positions = {f"{copy['stage']}.{copy['partition']}": copy["changelog_offset"] for copy in manifest["copies"]}
    assert set(positions) == {"identity.0", "profiles.0", "profiles.1"}
    assert min(positions.values()) > 100
    # The disk is lost: another data folder, and nothing else.
    space.environ["CDP_STREAM_DATA_DIR"] = str(tmp_path / "other")
    command(space, "restore", str(space.folder), "--from", str(tmp_path / "backup"))
    space.log = tmp_path / "second.log"
    worker = space.start()
    try:
        space.produce(list(People(23, 300, town="later-").lines(500)))
        space.wait_until_done(2 * EVENTS + 500)
        said = space.log.read_text()
        assert space.stop(worker)[0] == 0
    finally:
        worker.kill()
        worker.wait()
    rows = re.findall(r"(identity|profiles)\.changelog/(\d+): restored (\d+) offsets, from (\d+)", said)
    assert positions == {f"{stage}.{partition}": int(start) for stage, partition, _, start in rows}
    assert all(0 < int(count) for _, _, count, _ in rows)
