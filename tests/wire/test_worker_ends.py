"""A worker on a real broker ends: at once when a part of it fails, in time when it is asked to in mid-rebalance."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from space import Space

from cdp_stream.stream.broker import Broker
from cdp_stream.testing.people import People

pytestmark = [pytest.mark.wire, pytest.mark.timeout(180)]
TOPOLOGY = {"space": "ending", "partitions": 2, "sources": [{"name": "web", "topic": "events"}]}

# Each makes one part of a worker fail once it is at work.
FAULTS = {
    "a service of the group's client": """
from faust.transport.consumer import Fetcher
async def fails(self):
    await asyncio.sleep(2)
    raise ValueError("on purpose")
Fetcher._fetcher.fun = fails
""",
    "the thread of the group's client": """
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
async def fails(self):
    raise ValueError("on purpose")
AIOKafkaConsumerThread.on_thread_started = fails
""",
    "a task of that thread": """
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
async def fails(self, *_, **__):
    raise ValueError("on purpose")
AIOKafkaConsumerThread._fetch_records = fails
""",
    "the agent": """
from cdp_stream.stream.identity import IdentityOwner
def fails(self, *_):
    raise ValueError("on purpose")
IdentityOwner.hear = fails
""",
    "an owner while it closes": """
from cdp_stream.errors import Fenced
from cdp_stream.stream.identity import IdentityOwner
async def fenced(self):
    raise Fenced("on purpose, too")
async def fails(self):
    raise ValueError("on purpose")
IdentityOwner._publish_positions = fenced
IdentityOwner.close = fails
""",
    "a task beside": """
from cdp_stream.stream.pages import Pulse
async def fails(self):
    await asyncio.sleep(2)
    raise ValueError("on purpose")
Pulse.run = fails
""",
}


@pytest.fixture
def space(kafka: Broker, topic_prefix: str, tmp_path: Path) -> Space:
    space = Space(kafka.bootstrap, topic_prefix, tmp_path, TOPOLOGY)
    space.create_sources()
    return space


def wait_for(space: Space, words: str, count: int = 1, within_s: float = 60) -> None:
    until = time.monotonic() + within_s
    while space.log.read_text().count(words) < count:
        assert time.monotonic() < until, space.log.read_text()[-3000:]
        time.sleep(0.05)


def start_apart(space: Space, name: str) -> subprocess.Popen[bytes]:
    """A worker of the profile stage with a data folder of its own."""
    space.environ["CDP_STREAM_DATA_DIR"] = str(space.folder.parent / name)
    return space.start("--stage", "profiles")


@pytest.mark.parametrize("part", FAULTS)
def test_a_worker_of_which_a_part_fails_ends_at_once(part: str, space: Space) -> None:
    space.produce(list(People(3, 20).lines(100)))
    script = f"import asyncio\n{FAULTS[part]}\nfrom cdp_stream.cli.main import main\nmain()\n"
    with space.log.open("ab") as log:
        worker = subprocess.Popen(
            [sys.executable, "-c", script, "worker", str(space.folder), "--stage", "identity"],
            env=space.environ,
            stdout=log,
            stderr=log,
        )
    try:
        code = worker.wait(30)
    finally:
        worker.kill()
        worker.wait()
    said = space.log.read_text()
    assert code == 1, said[-3000:]
    assert re.search(r"CRITICAL .*stopping: ValueError: on purpose", said), said[-3000:]


def test_a_worker_is_asked_to_stop_in_the_midst_of_a_rebalance(space: Space) -> None:
    frozen = start_apart(space, "frozen")
    first = start_apart(space, "first")
    third = None
    try:
        # Both are members: a worker frozen before it has joined would never say that it has started.
        wait_for(space, "started", 2)
        wait_for(space, "ready: partition", 2)
        frozen.send_signal(signal.SIGSTOP)
        third = start_apart(space, "third")
        # The group waits for the frozen one to join again, until its session is over.
        wait_for(space, "started", 3)
        time.sleep(1.5)
        code, seconds = space.stop(first)
        assert code == 0, space.log.read_text()[-3000:]
        assert seconds < 10
        code, seconds = space.stop(third)
        assert code == 0, space.log.read_text()[-3000:]
        assert seconds < 10
    finally:
        for worker in (frozen, first, third):
            if worker is not None:
                worker.kill()
                worker.wait()


@pytest.mark.parametrize("at_work", [False, True])
def test_the_stages_end_with_a_supervisor_that_is_killed(at_work: bool, space: Space) -> None:
    worker = space.start()
    supervisor = psutil.Process(worker.pid)
    until = time.monotonic() + 30
    while len(stages := supervisor.children()) < 2:
        assert time.monotonic() < until
        time.sleep(0.05)
    try:
        if at_work:
            wait_for(space, "ready:", 3)
        worker.kill()
        worker.wait()
        _, left = psutil.wait_procs(stages, timeout=15)
        assert not left, space.log.read_text()[-3000:]
        if at_work:
            assert space.log.read_text().count("the supervisor has ended") == 2
            assert "the clients did not close in time" not in space.log.read_text()
    finally:
        for process in (supervisor, *stages):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


@pytest.mark.parametrize("after_s", [0.3, 1.0, 1.6, 2.2, 3.0])
def test_a_worker_is_asked_to_stop_while_it_starts(after_s: float, space: Space) -> None:
    worker = space.start()
    try:
        time.sleep(after_s)
        code, seconds = space.stop(worker)
        assert code in (0, -signal.SIGTERM), space.log.read_text()[-3000:]
        assert seconds < 10
    finally:
        worker.kill()
        worker.wait()
