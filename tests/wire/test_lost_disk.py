"""A lost disk costs time only: whatever was under way when it went, the state comes back from the changelog, equal."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from space import Space

from cdp_stream.model.time import DAY_MS
from cdp_stream.store.rocks import RocksStore
from cdp_stream.stream.broker import Broker
from cdp_stream.stream.catch_up import CURRENT_KEY, encode_current
from cdp_stream.testing.people import People

pytestmark = [pytest.mark.wire, pytest.mark.timeout(300)]
TOPOLOGY = {
    "space": "lost",
    "partitions": 2,
    "sources": [{"name": "web", "topic": "events"}],
    "traits": [{"key": "orders", "definition": "event('Order Completed').count()", "destinations": ["crm"]}],
    "audiences": [{"key": "buyers", "definition": "trait('orders') >= 1", "destinations": ["crm"]}],
    "destinations": [{"name": "crm", "kind": "event", "topic": "crm"}],
}
EVENTS, MORE = 2_000, 100

# The process ends for good when the outputs of a step stand in the log, and its changelog does not.
KILLED_BETWEEN = """
import os
from cdp_stream.stream.step import StepWriter
changelog = StepWriter.changelog
async def killed(self, changes):
    if len(changes) > 50:
        os.kill(os.getpid(), 9)
    return await changelog(self, changes)
StepWriter.changelog = killed
"""
SLOW_RESTORE = """
import time
from cdp_stream.store.rocks import RocksStore
from cdp_stream.stream import catch_up
catch_up._RESTORE_CHUNK, catch_up._SAY_EVERY_S = 200, 0.1
commit = RocksStore.commit
def slow(self, changes):
    time.sleep(0.1)
    commit(self, changes)
RocksStore.commit = slow
"""


@pytest.fixture
def space(kafka: Broker, topic_prefix: str, tmp_path: Path) -> Space:
    space = Space(kafka.bootstrap, topic_prefix, tmp_path, TOPOLOGY)
    space.create_sources()
    space.produce(list(People(31, 300).lines(EVENTS)))
    return space


def start_patched(space: Space, patch: str, stage: str) -> subprocess.Popen[bytes]:
    script = f"{patch}\nfrom cdp_stream.cli.main import main\nmain()\n"
    with space.log.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-c", script, "worker", str(space.folder), "--stage", stage],
            env=space.environ,
            stdout=log,
            stderr=log,
        )


def lose_disk(space: Space, folder: Path) -> None:
    """From here on the worker has another machine's data folder, and another log."""
    space.environ["CDP_STREAM_DATA_DIR"] = str(folder)
    space.log = folder.with_suffix(".log")


def work_on(space: Space, records: int) -> str:
    """What a worker says that decides all of that, and more; no output stands twice, the digest is the recomputation's."""
    with space.at_work():
        space.produce(list(People(records, 50, town=f"t{records}-").lines(MORE)))
        space.wait_until_done(records + MORE)
    return space.log.read_text()


def wait_for(space: Space, condition: Callable[[str], object], within_s: float = 60) -> None:
    until = time.monotonic() + within_s
    while not (space.log.exists() and condition(space.log.read_text())):
        assert time.monotonic() < until, space.log.read_text()[-3000:]
        time.sleep(0.02)


@pytest.mark.parametrize("stage", ["identity", "profiles"])
def test_the_disk_goes_between_a_steps_outputs_and_its_changelog(stage: str, space: Space, tmp_path: Path) -> None:
    doomed = start_patched(space, KILLED_BETWEEN, stage)
    other = start_patched(space, "", "profiles" if stage == "identity" else "identity")
    try:
        assert doomed.wait(60) == -signal.SIGKILL, space.log.read_text()[-3000:]
        if stage == "profiles":
            space.wait_until_cut(EVENTS)
    finally:
        for worker in (doomed, other):
            worker.terminate()
            worker.wait()
    lose_disk(space, tmp_path / "other")
    said = work_on(space, EVENTS)
    assert re.search(rf"{stage}/\d/: \d+ outputs were sent and not stored; they will not be sent again", said)


def test_a_restore_that_is_killed_goes_on_where_it_was(space: Space, tmp_path: Path) -> None:
    work_on(space, EVENTS)
    lose_disk(space, tmp_path / "other")
    slow = start_patched(space, SLOW_RESTORE, "identity")
    wait_for(space, lambda said: said.count("restoring,") >= 3)
    slow.kill()
    slow.wait()
    assert re.search(r"identity\.changelog/0: restoring, \d+ %, ready in about \d+ s", space.log.read_text())
    assert "ready:" not in space.log.read_text()
    space.log = tmp_path / "second.log"
    said = work_on(space, EVENTS + MORE)
    found = re.search(r"identity\.changelog/0: restored (\d+) offsets, from (\d+)", said)
    assert found is not None
    assert int(found[2]) >= 3 * 200
    assert int(found[1]) > 0
    assert said.index("identity.changelog/0: restored") < said.index("ready: entries")


def test_state_older_than_the_changelogs_tombstones_is_restored_whole(space: Space, tmp_path: Path) -> None:
    """A key whose deletion the changelog has forgotten would be there for ever."""
    work_on(space, EVENTS)
    folders = [found for pattern in ("identity-*", "profiles-*") for found in (tmp_path / "state").glob(f"*/{pattern}")]
    assert len(folders) == 3
    days_ago = time.time_ns() // 1_000_000 - 4 * DAY_MS
    for folder in folders:
        store = RocksStore(folder)
        store.commit({b"\xffforgotten": b"1", CURRENT_KEY: encode_current(days_ago)})
        store.close()
    space.log = tmp_path / "second.log"
    said = work_on(space, EVENTS + MORE)
    assert said.count("last written 4 days ago; restoring anew") == 3
    starts = re.findall(r"changelog/\d: restored \d+ offsets, from (\d+)", said)
    assert starts == ["0", "0", "0"]
    for folder in folders:
        store = RocksStore(folder, read_only=True)
        assert store.get(b"\xffforgotten") is None
        store.close()
