"""How late is an exit that nothing but time causes, while a million other due times are pending?

Both workers on a real Kafka. A million people view something within the last hour, so each is a member of "viewed
within the hour" with a due time of its own, all of them some minutes away. Then, round by round, some more people view
something almost an hour ago, so that they fall due one after the other over some seconds; each exit's lateness is the
time at which it was read from the audience's topic, less its due instant. The source is quiet meanwhile, and `now`
moves by clocks alone, two a second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

import orjson
import psutil
from about import about, spread
from aiokafka import AIOKafkaConsumer
from broker import find_broker
from running import PORT, Page, page, total, worker
from workload import PARTITIONS, drop, make_topic, put

from cdp_stream.model.time import HOUR_MS, MINUTE_MS, format_instant

TOPOLOGY = {
    "space": "due",
    "sources": [{"name": "web", "topic": "events"}],
    "partitions": PARTITIONS,
    "audiences": [
        {"key": "active", "definition": "event('View').within(1 hours).count() >= 1", "include_anonymous": True}
    ],
}
CHUNK = 100_000
LEAD_MS = 6_000
"""How far ahead the first due instant of a round lies when its events are sent: they must be members by then."""
GIVE_UP_S = 60.0


def view(number: int, at: int) -> bytes:
    """A person's only event."""
    return (
        f'{{"type":"track","event":"View","messageId":"m-{number}","anonymousId":"a-{number}",'
        f'"timestamp":"{format_instant(at)}"}}'
    ).encode()


@contextmanager
def space(bootstrap: str) -> Iterator[tuple[str, psutil.Process]]:
    """Both workers; gives the topics' prefix and the worker of stage profiles."""
    prefix = f"bench-{secrets.token_hex(3)}."
    asyncio.run(make_topic(bootstrap, prefix + "events", PARTITIONS))
    with tempfile.TemporaryDirectory() as folder:
        topology, state = Path(folder) / "topology.yaml", Path(folder) / "state"
        topology.write_text(json.dumps(TOPOLOGY))
        with (
            worker(bootstrap, prefix, topology, state, "profiles") as profiles,
            worker(bootstrap, prefix, topology, state, "identity"),
        ):
            yield prefix, psutil.Process(profiles.pid)
    asyncio.run(drop(bootstrap, prefix))


def fill(bootstrap: str, prefix: str, pending: int) -> float:
    """A million members whose due times lie ahead; returns the seconds that it took."""
    began = time.perf_counter()
    for start in range(0, pending, CHUNK):
        count = min(CHUNK, pending - start)
        now = time.time_ns() // 1_000_000
        # Due from half an hour to 59 minutes from now.
        lines = [view(n, now - (n % (29 * MINUTE_MS)) - MINUTE_MS) for n in range(start, start + count)]
        asyncio.run(put(bootstrap, prefix + "events", [lines[p::PARTITIONS] for p in range(PARTITIONS)], at=now))
        _wait_until_told(start + count - CHUNK // 2)
    _wait_until_told(pending)
    return time.perf_counter() - began


def _wait_until_told(members: int) -> None:
    while _transitions(page(PORT + 1)) < members:
        time.sleep(0.2)


def _transitions(figures: Page) -> float:
    return total(figures, "cdp_audience_transitions_total")


async def a_round(bootstrap: str, prefix: str, first: int, exits: int, every_ms: int) -> dict[str, Any]:
    """The lateness of so many exits, one every few milliseconds."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=None, fetch_max_wait_ms=20)
    await consumer.start()
    try:
        consumer.assign([_partition(prefix, number) for number in range(PARTITIONS)])
        await consumer.seek_to_end()
        for where in consumer.assignment():
            await consumer.position(where)
        now = time.time_ns() // 1_000_000
        # A window ends an hour after its event, that instant included: what is due then is told with it.
        due = [now + LEAD_MS + number * every_ms for number in range(exits)]
        lines = [view(first + number, at - HOUR_MS) for number, at in enumerate(due)]
        await put(bootstrap, prefix + "events", [lines[p::PARTITIONS] for p in range(PARTITIONS)], at=now)
        late: list[float] = []
        told: list[int] = []
        until = time.monotonic() + (LEAD_MS + exits * every_ms) / 1000 + GIVE_UP_S
        while len(late) < exits and time.monotonic() < until:
            for records in (await consumer.getmany(timeout_ms=100)).values():
                read = time.time_ns() / 1e6
                for record in records:
                    row = orjson.loads(record.value)
                    if row["change"] == "exited":
                        assert row["cause"] == "time", row
                        instant = _milliseconds(row["time"])
                        told.append(instant - due[0])
                        late.append(read - instant)
    finally:
        await consumer.stop()
    assert len(late) == exits, f"{len(late)} of {exits} exits were told"
    late.sort()
    return {
        "exits": exits,
        **{
            name: round(late[int(len(late) * share)], 1) for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
        },
        "max": round(late[-1], 1),
        "outcome": blake2b(orjson.dumps(sorted(told)), digest_size=8).hexdigest(),
    }


def _partition(prefix: str, number: int) -> Any:
    from aiokafka.structs import TopicPartition

    return TopicPartition(f"{prefix}due.audience-changes", number)


def _milliseconds(instant: str) -> int:
    from datetime import datetime

    return round(datetime.fromisoformat(instant).timestamp() * 1000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pending", type=int, default=1_000_000)
    parser.add_argument("--exits", type=int, default=2_000)
    parser.add_argument("--every-ms", type=int, default=5)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with find_broker() as broker:
        result: dict[str, Any] = about(broker.how)
        with space(broker.bootstrap) as (prefix, profiles):
            result["pending"] = options.pending
            result["filled_per_s"] = round(options.pending / fill(broker.bootstrap, prefix, options.pending))
            result["resident_mb_of_profiles"] = round(profiles.memory_info().rss / 1e6)
            print(result, file=sys.stderr)
            rounds = []
            for number in range(options.runs):
                first = options.pending + number * options.exits
                rounds.append(asyncio.run(a_round(broker.bootstrap, prefix, first, options.exits, options.every_ms)))
                print(rounds[-1], file=sys.stderr)
    outcomes = {one.pop("outcome") for one in rounds}
    assert len(outcomes) == 1, f"exits at other instants from round to round: {outcomes}"
    result["outcome"] = outcomes.pop()
    result["time_exit_ms"] = {name: spread([one[name] for one in rounds]) for name in ("p50", "p95", "p99", "max")}
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
