"""How long does a resolution take at offered rates: within the worker, and from being produced to being stored?

One worker of stage identity; generator, broker and worker share the machine. After a warm-up the histograms of the
worker's metrics page are read twice: `resolve` is a step's time from being taken from the log to being stored, `end to
end` that from the Kafka timestamps of a step's first and last record to their stored resolution.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import secrets
import tempfile
from pathlib import Path
from typing import Any

from about import about
from offering import offer
from running import Page, page, percentile, total, worker
from workload import PARTITIONS, produce, typical

from cdp_stream.stream.broker import find_broker

TOPOLOGY = {"space": "latency", "sources": [{"name": "web", "topic": "events"}], "partitions": PARTITIONS}
WARM_UP_S = 4.0
SHARES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))


def milliseconds(before: Page, after: Page, histogram: str) -> dict[str, float | None]:
    found = {name: percentile(before, after, histogram, share) for name, share in SHARES}
    plain = {name: seconds for name, seconds in found.items() if seconds is not None and math.isfinite(seconds)}
    return {name: round(plain[name] * 1000, 2) if name in plain else None for name, _ in SHARES}


def done(figures: Page) -> float:
    return total(figures, "cdp_events_total", "cdp_dead_letters_total")


async def measure(bootstrap: str, topic: str, lines: list[list[bytes]], rate: int, seconds: float) -> dict[str, Any]:
    generator = asyncio.create_task(
        offer(bootstrap, topic, list(lines), rate, WARM_UP_S + seconds, sent=lambda _line: None)
    )
    await asyncio.sleep(WARM_UP_S)
    before = await asyncio.to_thread(page)
    held = await generator
    after = await asyncio.to_thread(page)
    decided = (done(after) - done(before)) / seconds
    return {
        "offered_per_s": rate,
        "sent_per_s": round(held),
        "decided_per_s": round(decided),
        "held": held >= 0.98 * rate and decided >= 0.95 * rate,
        "resolve_ms": milliseconds(before, after, "cdp_resolve_seconds"),
        "end_to_end_ms": milliseconds(before, after, "cdp_end_to_end_seconds"),
    }


def run(bootstrap: str, rate: int, seconds: float, people: int) -> dict[str, Any]:
    lines = typical(int(rate * (WARM_UP_S + seconds + 1)), people)
    prefix = f"bench-{secrets.token_hex(3)}."
    with tempfile.TemporaryDirectory() as folder:
        topology = Path(folder) / "topology.yaml"
        topology.write_text(json.dumps(TOPOLOGY))
        asyncio.run(produce(bootstrap, prefix + "events", [[b"{}"]] * PARTITIONS))
        with worker(bootstrap, prefix, topology, Path(folder) / "state", "identity"):
            return asyncio.run(measure(bootstrap, prefix + "events", lines, rate, seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rates", type=int, nargs="+", default=[5_000, 10_000, 20_000, 30_000, 50_000])
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--people", type=int, default=20_000)
    options = parser.parse_args()
    with find_broker() as broker:
        result: dict[str, Any] = about(broker.how)
        result["rates"] = [run(broker.bootstrap, rate, options.seconds, options.people) for rate in options.rates]
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
