"""What does one noisy profile cost the others? Their latency without it, and with it, in one run.

Both stages work. The others, `--people` of them, send `identify` with a new trait value at a steady rate all along. A round
has three phases: they alone; beside one more profile that brings `--noisy` new identifiers a second, into all source partitions, out
of a process of its own (the time it takes to make them is no part of what the others wait for); and beside a crowd, as many again,
that brings as many. Measured is the time
from handing a record of the others to the producer to reading the trait change that it made. Each phase begins with a
warm-up, and a whole round that is not counted comes first: a broker that has just started compiles itself meanwhile. With a
`p99_ratio` (of the medians of the rounds, beside the noisy profile and alone) of about 1 the noisy profile is nobody's business but
its own; `crowd_p99_ratio` says what as many events cost that come from many.

python benchmarks/bench_noisy.py --rate 1000 --noisy 10000 --seconds 10 --rounds 3
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import orjson
from about import about
from aiokafka import AIOKafkaConsumer
from broker import find_broker
from offering import offer, offering_aside
from running import PORT, page, total, worker
from workload import PARTITIONS, make_topic

SPACE = "noisy"
TOPOLOGY = {
    "space": SPACE,
    "sources": [{"name": "web", "topic": "events"}],
    "partitions": PARTITIONS,
    "audiences": [{"key": "frequent", "definition": "event('View').count() >= 3"}],
}
WARM_UP_S = 3.0
SETTLED_S = 0.5
NOT_THEIRS = b'"n-'
ALONE, NOISY, CROWD = "nobody", "one noisy profile", "a crowd"

Begin = Callable[[float], Callable[[], float]]
"""Has somebody send for so many seconds; gives what waits for the end."""


def identifies(people: int, first: int) -> Iterator[bytes]:
    """The others: in turn, each time with another value."""
    for number in count(first, PARTITIONS):
        yield (
            b'{"type":"identify","userId":"u-%d","messageId":"m-%d","traits":{"visits":%d}}'
            % (number % people, number, number)
        )


def noise(first: int) -> Iterator[bytes]:
    """The one profile, each time with another identifier."""
    for number in count(first, PARTITIONS):
        yield b'{"type":"identify","userId":"noisy","messageId":"n-%d","anonymousId":"a-%d"}' % (number, number)


def crowd(people: int, first: int) -> Iterator[bytes]:
    """As much from many: in turn, each time with another identifier."""
    for number in count(first, PARTITIONS):
        yield (
            b'{"type":"identify","userId":"c-%d","messageId":"n-c%d","anonymousId":"b-%d"}'
            % (number % people, number, number)
        )


class Watch:
    """When the others' records were sent, and what they have come to."""

    def __init__(self) -> None:
        self.sent: dict[bytes, float] = {}
        self.latencies: list[float] = []
        self.all_told = asyncio.Event()

    def note(self, line: bytes) -> None:
        """A record of theirs is being sent."""
        at = line.index(b'"m-') + 1
        self.sent[line[at : line.index(b'"', at)]] = time.perf_counter()

    async def read(self, consumer: AIOKafkaConsumer) -> None:
        """Trait changes as they come."""
        while True:
            for records in (await consumer.getmany(timeout_ms=50)).values():
                now = time.perf_counter()
                for record in records:
                    if NOT_THEIRS not in record.value:
                        sent = self.sent.pop(orjson.loads(record.value)["message_id"].encode(), None)
                        if sent is not None:
                            self.latencies.append((now - sent) * 1000)
            if not self.sent:
                self.all_told.set()


def summed_up(latencies: list[float]) -> dict[str, float]:
    ordered = sorted(latencies)
    return {name: round(ordered[int(len(ordered) * share)], 1) for name, share in SHARES}


SHARES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))


async def measure(
    bootstrap: str, prefix: str, beside: Mapping[str, Begin | None], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """The phases of all rounds. `beside`: what each phase of a round is called, and who else sends in it."""
    watch = Watch()
    consumer = AIOKafkaConsumer(f"{prefix}{SPACE}.trait-changes", bootstrap_servers=bootstrap)
    await consumer.start()
    reading = asyncio.create_task(watch.read(consumer))
    theirs = [identifies(options.people, partition) for partition in range(PARTITIONS)]
    try:
        phases = []
        for name, begin in list(beside.items()) * (1 + options.rounds):
            seconds = WARM_UP_S + options.seconds
            offering = [offer(bootstrap, prefix + "events", theirs, options.rate, seconds, sent=watch.note)]
            if begin is not None:
                offering.append(asyncio.to_thread(begin(seconds)))
            phases.append({"beside": name, **await _phase(watch, offering)})
        return phases[len(beside) :]
    finally:
        reading.cancel()
        await consumer.stop()


async def _phase(watch: Watch, offering: list[Awaitable[float]]) -> dict[str, Any]:
    under_way = asyncio.gather(*offering)
    await asyncio.sleep(WARM_UP_S)
    watch.latencies.clear()
    before = await asyncio.to_thread(page, PORT)
    began = time.perf_counter()
    held = await under_way
    passed, after = time.perf_counter() - began, await asyncio.to_thread(page, PORT)
    await asyncio.sleep(SETTLED_S)
    behind = len(watch.sent)
    latencies = list(watch.latencies)
    # Nothing of this phase may weigh on the next one.
    watch.all_told.clear()
    if watch.sent:
        await watch.all_told.wait()
    decided = (total(after, "cdp_events_total") - total(before, "cdp_events_total")) / passed
    return {
        "sent_per_s": [round(one) for one in held],
        "decided_per_s": round(decided),
        "measured": len(latencies),
        "not_told_yet": behind,
        **summed_up(latencies),
    }


def run(bootstrap: str, options: argparse.Namespace) -> dict[str, Any]:
    prefix = f"bench-{secrets.token_hex(3)}."
    asyncio.run(make_topic(bootstrap, prefix + "events", PARTITIONS))
    noises = [noise(partition) for partition in range(PARTITIONS)]
    crowds = [crowd(options.people, partition) for partition in range(PARTITIONS)]
    with tempfile.TemporaryDirectory() as folder:
        topology = Path(folder) / "topology.yaml"
        topology.write_text(json.dumps(TOPOLOGY))
        state = Path(folder) / "state"
        with (
            worker(bootstrap, prefix, topology, state, "profiles"),
            worker(bootstrap, prefix, topology, state, "identity"),
            offering_aside(bootstrap, prefix + "events", noises, options.noisy) as make_noise,
            offering_aside(bootstrap, prefix + "events", crowds, options.noisy) as make_crowd,
        ):
            beside = {ALONE: None, NOISY: make_noise, CROWD: make_crowd}
            phases = asyncio.run(measure(bootstrap, prefix, beside, options))
    p99 = {name: statistics.median(one["p99"] for one in phases if one["beside"] == name) for name in beside}
    return {
        "noisy_per_s": options.noisy,
        "phases": phases,
        "p99_ratio": round(p99[NOISY] / p99[ALONE], 2),
        "crowd_p99_ratio": round(p99[CROWD] / p99[ALONE], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=1_000, help="of the others together, a second")
    parser.add_argument("--noisy", type=int, default=10_000, help="new identifiers of the noisy profile, a second")
    parser.add_argument("--people", type=int, default=2_000)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with find_broker() as broker:
        result: dict[str, Any] = about(broker.how)
        result |= run(broker.bootstrap, options)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
