"""How long does a resolution take at offered rates: within the worker, and from being produced to being stored?

One worker of stage identity; generator, broker and worker share the machine, and the generator gets what the others
leave of it; it sends what it has every 5 ms, as a producer of Kafka's own does unless it is told otherwise. Rounds that are not
counted come first until the broker's compiler is quiet. In each round, after a warm-up, the histograms of the worker's metrics page are read twice: `resolve` is a step's time from being taken from the log to being stored, `end to
end` that from the Kafka timestamps of a step's first and last record to their stored resolution.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import secrets
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from about import about, spread
from broker import compiler_s, find_broker
from offering import LINGER_S, offering_aside
from outcome import stored_graph
from running import Page, decided, page, percentile, worker
from workload import PARTITIONS, drop, produce, typical

TOPOLOGY = {"space": "latency", "sources": [{"name": "web", "topic": "events"}], "partitions": PARTITIONS}
WARM_UP_S = 2.0
_QUIET_SHARE = 0.03
_UNCOUNTED_MAX = 20
_SETTLES_AT = 50_000
SHARES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))


def milliseconds(before: Page, after: Page, histogram: str) -> dict[str, float | None]:
    found = {name: percentile(before, after, histogram, share) for name, share in SHARES}
    plain = {name: seconds for name, seconds in found.items() if seconds is not None and math.isfinite(seconds)}
    return {name: round(plain[name] * 1000, 2) if name in plain else None for name, _ in SHARES}


def measure(bootstrap: str, topic: str, lines: list[list[bytes]], rate: int, seconds: float) -> dict[str, Any]:
    """One offered rate at a worker that has just started; returns when all that was sent is decided."""
    with offering_aside(bootstrap, topic, lines, rate, LINGER_S) as begin:
        ended = begin(WARM_UP_S + seconds)
        time.sleep(WARM_UP_S)
        before, began = page(), time.perf_counter()
        held = ended()
        after, passed = page(), time.perf_counter() - began
    per_s = (decided(after) - decided(before)) / passed
    planned = round(rate * (WARM_UP_S + seconds)) // PARTITIONS * PARTITIONS + PARTITIONS
    while decided(page()) < planned:
        time.sleep(0.1)
    return {
        "sent_per_s": round(held),
        "decided_per_s": round(per_s),
        "held": held >= 0.98 * rate and per_s >= 0.95 * rate,
        "resolve_ms": milliseconds(before, after, "cdp_resolve_seconds"),
        "end_to_end_ms": milliseconds(before, after, "cdp_end_to_end_seconds"),
    }


def run(bootstrap: str, rate: int, seconds: float, lines: list[list[bytes]]) -> dict[str, Any]:
    """One rate, on topics and a state of its own."""
    prefix = f"bench-{secrets.token_hex(3)}."
    with tempfile.TemporaryDirectory() as folder:
        topology, state = Path(folder) / "topology.yaml", Path(folder) / "state"
        topology.write_text(json.dumps(TOPOLOGY))
        asyncio.run(produce(bootstrap, prefix + "events", [[b"{}"]] * PARTITIONS))
        with worker(bootstrap, prefix, topology, state, "identity"):
            found = measure(bootstrap, prefix + "events", lines, rate, seconds)
        found["outcome"], found["profiles"] = stored_graph(state / f"{prefix}latency" / "identity-0")
    asyncio.run(drop(bootstrap, prefix))
    return found


def settle(bootstrap: str, rate: int, seconds: float, lines: list[list[bytes]]) -> list[float]:
    """Rounds at a rate until the broker's compiler wants next to nothing of a processor, which takes minutes; what it had of
    one in each of them. A broker that has run for a day has this behind it; in its first minutes a twentieth of the steps waits
    for that compiler. None where the broker is not on this machine.
    """
    shares: list[float] = []
    before, began = compiler_s(bootstrap), time.perf_counter()
    while before is not None and len(shares) < _UNCOUNTED_MAX:
        run(bootstrap, rate, seconds, lines)
        after, ended = compiler_s(bootstrap), time.perf_counter()
        assert after is not None, "the broker has gone"
        shares.append(round((after - before) / (ended - began), 3))
        before, began = after, ended
        if shares[-1] < _QUIET_SHARE:
            break
    return shares


def summed_up(rate: int, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Lowest, median and highest of some runs at one rate. Latencies are those of runs that held it."""
    outcomes = {one["outcome"] for one in runs}
    assert len(outcomes) == 1, f"outcomes differ at {rate}/s: {outcomes}"
    held = [one for one in runs if one["held"]]
    result: dict[str, Any] = {"offered_per_s": rate, "runs": len(runs), "held_in": len(held), "outcome": outcomes.pop()}
    # With most runs not held the rate is not, and what is left has no median of its own.
    result["held"] = 2 * len(held) > len(runs)
    for name in ("sent_per_s", "decided_per_s"):
        result[name] = spread([one[name] for one in runs])
    for name in ("resolve_ms", "end_to_end_ms"):
        values = {share: [one[name][share] for one in held if one[name][share] is not None] for share, _ in SHARES}
        result[name] = {share: spread(found) for share, found in values.items() if found}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rates", type=int, nargs="+", default=[5_000, 10_000, 20_000, 30_000, 50_000, 75_000, 100_000]
    )
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--people", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    lines = typical(round(max(options.rates) * (WARM_UP_S + options.seconds)), options.people)
    with find_broker() as broker:
        result: dict[str, Any] = about(broker.how)
        result["compiler_shares_before"] = settle(
            broker.bootstrap, min(_SETTLES_AT, max(options.rates)), options.seconds, lines
        )
        print(f"the broker's compiler: {result['compiler_shares_before']}", file=sys.stderr)
        result["rates"] = []
        for rate in options.rates:
            runs = [run(broker.bootstrap, rate, options.seconds, lines) for _ in range(options.runs)]
            result["rates"].append(summed_up(rate, runs))
            print(result["rates"][-1], file=sys.stderr)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
