"""The whole pipeline of the ecommerce topology through Kafka, one worker a stage: events a second over a backlog, and
how long it takes from a raw event to `Audience Entered` at an offered rate.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
from about import about, spread
from aiokafka import AIOKafkaConsumer
from broker import find_broker
from offering import offer
from outcome import stored_profiles
from running import PORT, decided, page, total, worker
from workload import PARTITIONS, drop, produce, typical

ECOMMERCE = Path(__file__).resolve().parent.parent / "topologies" / "ecommerce" / "topology.yaml"
SOURCES = ("ecommerce.events", "ecommerce.crm")
SETTLED_S = 3.0
"""So long without a further change, and the profile stage is done."""
WARM_UP_S = 3.0
LOOK_S = 0.2


@contextmanager
def pipeline(bootstrap: str, lines: list[list[bytes]], hashes: list[str]) -> Iterator[str]:
    """Both workers over new topics with these lines; gives the topics' prefix. At the end `hashes` gets the outcome."""
    prefix = f"bench-{secrets.token_hex(3)}."
    asyncio.run(produce(bootstrap, prefix + SOURCES[0], lines))
    asyncio.run(produce(bootstrap, prefix + SOURCES[1], [[b"{}"]]))
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder)
        with (
            worker(bootstrap, prefix, ECOMMERCE, state, "profiles"),
            worker(bootstrap, prefix, ECOMMERCE, state, "identity"),
        ):
            yield prefix
        hashes.append(stored_profiles(sorted((state / f"{prefix}ecommerce-dev").glob("profiles-*")))[0])
    asyncio.run(drop(bootstrap, prefix))


def drain(bootstrap: str, lines: list[list[bytes]], hashes: list[str]) -> float:
    """Events a second from both workers' being ready to the last change of a profile that was told.

    Told last are exits by time: once the backlog is done, the clock moves on to the present.
    """
    events = sum(map(len, lines)) + 1
    with pipeline(bootstrap, lines, hashes):
        first, began = decided(page()), time.perf_counter()
        return (events - first) / (_settle(events) - began)


def _settle(events: int) -> float:
    """Wait until so many are decided and no profile changes any more; returns when the last change was seen."""
    changed, told = time.perf_counter(), 0.0
    while decided(page()) < events or time.perf_counter() - changed < SETTLED_S:
        now_told = total(page(PORT + 1), "cdp_trait_changes_total", "cdp_audience_transitions_total")
        if now_told != told:
            told, changed = now_told, time.perf_counter()
        time.sleep(LOOK_S)
    return changed


def entered(bootstrap: str, lines: list[list[bytes]], rate: int, seconds: float, hashes: list[str]) -> dict[str, Any]:
    """Milliseconds from handing a record to the producer to reading the `entered` that its event caused."""
    with pipeline(bootstrap, [[b"{}"]] * PARTITIONS, hashes) as prefix:
        return asyncio.run(_entered(bootstrap, prefix, lines, rate, seconds))


async def _entered(bootstrap: str, prefix: str, lines: list[list[bytes]], rate: int, seconds: float) -> dict[str, Any]:
    sent: dict[str, float] = {}
    latencies: list[float] = []

    def note(line: bytes) -> None:
        at = line.find(b'"messageId":"') + 13
        sent.setdefault(line[at : line.find(b'"', at)].decode(errors="replace"), time.perf_counter())

    consumer = AIOKafkaConsumer(
        f"{prefix}ecommerce-dev.audience-changes", bootstrap_servers=bootstrap, auto_offset_reset="earliest"
    )
    await consumer.start()

    async def read() -> None:
        async for record in consumer:
            now, row = time.perf_counter(), orjson.loads(record.value)
            produced = sent.get(row["message_id"] or "")
            if row["change"] == "entered" and row["cause"] == "event" and produced and now - began > WARM_UP_S:
                latencies.append((now - produced) * 1000)

    began = time.perf_counter()
    reading = asyncio.create_task(read())
    try:
        held = await offer(bootstrap, prefix + SOURCES[0], lines, rate, WARM_UP_S + seconds, sent=note)
        await asyncio.to_thread(
            _settle, round(rate * (WARM_UP_S + seconds)) // PARTITIONS * PARTITIONS + PARTITIONS + 1
        )
    finally:
        reading.cancel()
        await consumer.stop()
    assert len(latencies) >= 100, f"only {len(latencies)} entries were read"
    latencies.sort()
    return {
        "sent_per_s": round(held),
        "entries": len(latencies),
        **{
            name: round(latencies[int(len(latencies) * share)], 1)
            for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=120_000)
    parser.add_argument("--people", type=int, default=5_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--rate", type=int, default=5_000)
    parser.add_argument("--seconds", type=float, default=8.0)
    options = parser.parse_args()
    backlog, stream = (
        typical(events, options.people)
        for events in (options.events, round(options.rate * (WARM_UP_S + options.seconds)))
    )
    hashes: dict[str, list[str]] = {"backlog": [], "stream": []}
    with find_broker() as broker:
        result: dict[str, Any] = about(broker.how)
        runs = [
            entered(broker.bootstrap, stream, options.rate, options.seconds, hashes["stream"])
            for _ in range(options.runs)
        ]
        rates = [round(drain(broker.bootstrap, backlog, hashes["backlog"])) for _ in range(options.runs)]
    assert all(len(set(found)) == 1 for found in hashes.values()), f"outcomes differ between runs: {hashes}"
    result["entered_ms"] = {name: spread([one[name] for one in runs]) for name in runs[0]}
    result["entered_ms"]["offered_per_s"] = options.rate
    result["pipeline_per_s"] = spread(rates)
    result["outcome"] = {name: found[0] for name, found in hashes.items()}
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
