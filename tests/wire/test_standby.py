"""A standby has the state at hand: after a kill -9 of the owner it restores next to nothing, and nothing is lost."""

from __future__ import annotations

import asyncio
import re
import time
import urllib.request
from pathlib import Path

import pytest
from aiokafka.structs import TopicPartition
from space import Space

from cdp_stream.stream.broker import Broker
from cdp_stream.stream.consumers import plain_consumer
from cdp_stream.stream.local_kafka import free_port
from cdp_stream.stream.settings import Settings
from cdp_stream.stream.topics import TopicNames
from cdp_stream.testing.people import People

pytestmark = [pytest.mark.wire, pytest.mark.timeout(300)]

TOPOLOGY = {
    "space": "standby",
    "partitions": 4,
    "sources": [{"name": "web", "topic": "events"}],
    "traits": [{"key": "orders", "definition": "event('Order Completed').count()"}],
    "audiences": [{"key": "buyers", "definition": "trait('orders') >= 1"}],
}
EVENTS = 6_000


def beside(space: Space, folder: Path, port: int) -> Space:
    """The same space as another machine sees it: its own state and log."""
    other = Space.__new__(Space)
    other.__dict__.update(space.__dict__)
    other.environ = {**space.environ, "CDP_STREAM_DATA_DIR": str(folder), "CDP_STREAM_METRICS_PORT": str(port)}
    other.settings = Settings.from_environ(other.environ)
    other.log = folder.with_suffix(".log")
    return other


def standby_lags(port: int) -> dict[str, float]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=2) as answer:
            text = answer.read().decode()
    except OSError:
        return {}
    rows = re.findall(r'cdp_standby_lag_records\{partition="(\d+)",stage="profiles"\} (\S+)', text)
    return {partition: float(behind) for partition, behind in rows}


def changelog_ends(space: Space) -> list[int]:
    async def ends() -> list[int]:
        names = TopicNames.of(space.compiled.topology, space.settings)
        partitions = [TopicPartition(names.changelog("profiles"), number) for number in range(names.partitions)]
        consumer = plain_consumer(space.settings.aiokafka_options())
        await consumer.start()
        try:
            return list((await consumer.end_offsets(partitions)).values())
        finally:
            await consumer.stop()

    return asyncio.run(ends())


def restored(log: str) -> dict[str, int]:
    """How many offsets each partition's owner had to restore."""
    rows = re.findall(r"profiles\.changelog/(\d+): restored (\d+) offsets", log)
    return {partition: int(offsets) for partition, offsets in rows}


def test_a_standby_takes_over_without_a_restore(kafka: Broker, topic_prefix: str, tmp_path: Path) -> None:
    space = Space(kafka.bootstrap, topic_prefix, tmp_path, TOPOLOGY)
    space.environ["CDP_STREAM_STANDBY"] = "yes"
    space.create_sources()
    space.produce(list(People(11, 400).lines(EVENTS)))
    port = free_port(2)
    follower = beside(space, tmp_path / "second", port)
    workers = [space.start("--stage", "identity"), space.start("--stage", "profiles")]
    try:
        space.wait_until_done(EVENTS)
        workers.append(follower.start("--stage", "profiles"))
        until = time.monotonic() + 60
        while (
            len(lags := standby_lags(port + 1)) != 2
            or any(lags.values())
            or follower.log.read_text().count("ready:") < 2
        ):
            assert time.monotonic() < until, follower.log.read_text()[-3000:]
            time.sleep(0.3)
        workers[1].kill()
        space.produce(list(People(12, 400, town="later-").lines(1_000)))
        space.wait_until_done(EVENTS + 1_000)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    by_partition = restored(follower.log.read_text())
    assert set(by_partition) == {"0", "1", "2", "3"}, follower.log.read_text()[-3000:]
    assert min(changelog_ends(space)) > 500
    # What it had followed it takes over as it is.
    assert max(by_partition[partition] for partition in lags) < 100
