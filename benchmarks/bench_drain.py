"""Resolutions a second over a backlog: one worker, 8 source partitions, ledger and dedupe on, a real Kafka."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from about import about
from broker import find_broker
from outcome import graph_hash
from running import decided, page
from workload import PARTITIONS, drop, produce, storm, typical

from cdp_stream.stages.graph import GraphDraft
from cdp_stream.store.rocks import RocksStore

HERE = Path(__file__).resolve().parent.parent
PORT = 17_066
TOPOLOGY = {"space": "drain", "sources": [{"name": "web", "topic": "events"}], "partitions": PARTITIONS}
WORKLOADS = {"typical": typical, "storm": storm}
LOOK_S = (0.03, 1.0)
"""How often the worker is asked how far it is: seldom, as each answer costs it some milliseconds, and often at the end."""


Hashed = Callable[[GraphDraft], tuple[str, int]]
"""A hash of what a run came to, and how many profiles there are."""


def decided_so_far() -> float:
    """How many records the worker is done with; none while it does not answer yet."""
    try:
        return decided(page(PORT))
    except OSError:
        return 0.0


def watch(process: psutil.Process, events: int) -> dict[str, float]:
    """Rate and processor time from the first look that finds some done to the one that finds all done."""
    while not (first := decided_so_far()):
        time.sleep(LOOK_S[0])
    began, spent = time.perf_counter(), sum(process.cpu_times()[:2])
    count = first
    while count < events:
        rate = (count - first) / (time.perf_counter() - began)
        time.sleep(min(LOOK_S[1], max(LOOK_S[0], 0.5 * (events - count) / rate if rate else 0.0)))
        count = decided_so_far()
    seconds = time.perf_counter() - began
    spent = sum(process.cpu_times()[:2]) - spent
    return {
        "per_s": round((events - first) / seconds),
        "seconds": round(seconds, 2),
        "worker_cpu_us_per_event": round(spent / (events - first) * 1e6, 1),
    }


def run(
    bootstrap: str,
    lines: list[list[bytes]],
    tree: Path,
    described: dict[str, Any] = TOPOLOGY,
    hashed: Hashed = graph_hash,
) -> dict[str, Any]:
    """One drain, on topics and a state of its own, by the worker of the source tree `tree`; `hashed` of the profiles."""
    prefix = f"bench-{secrets.token_hex(3)}."
    with tempfile.TemporaryDirectory() as folder:
        topology = Path(folder) / "topology.yaml"
        topology.write_text(json.dumps(described))
        asyncio.run(produce(bootstrap, prefix + "events", lines))
        state = Path(folder) / "state"
        environ = {
            **os.environ,
            "CDP_STREAM_KAFKA": bootstrap,
            "CDP_STREAM_TOPIC_PREFIX": prefix,
            "CDP_STREAM_DATA_DIR": str(state),
            "CDP_STREAM_METRICS_PORT": str(PORT),
        }
        command = ["worker", str(topology), "--stage", "identity", "--log-level", "ERROR"]
        worker = subprocess.Popen([sys.executable, "-m", "cdp_stream", *command], env=environ, cwd=tree)
        try:
            figures = watch(psutil.Process(worker.pid), sum(len(of_partition) for of_partition in lines))
        finally:
            worker.send_signal(signal.SIGTERM)
            worker.wait()
        store = RocksStore(state / f"{prefix}drain" / "identity-0", read_only=True)
        outcome, profiles = hashed(GraphDraft(store))
        store.close()
    asyncio.run(drop(bootstrap, prefix))
    return {**figures, "profiles": profiles, "outcome": outcome}


def summed_up(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Lowest, median and highest rate of some runs, and the runs. All must have come to the same outcome."""
    outcomes = sorted({one["outcome"] for one in runs})
    assert len(outcomes) == 1, f"outcomes differ between runs: {outcomes}"
    rates = [one["per_s"] for one in runs]
    return {
        "min": min(rates),
        "median": statistics.median(rates),
        "max": max(rates),
        "worker_cpu_us_per_event": statistics.median(one["worker_cpu_us_per_event"] for one in runs),
        "outcome": outcomes[0],
        "runs": runs,
    }


def drain(bootstrap: str, lines: list[list[bytes]], runs: int) -> dict[str, Any]:
    """Some drains of this source tree."""
    return summed_up([run(bootstrap, lines, HERE) for _ in range(runs)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--people", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument(
        "--against", type=Path, help="another source tree whose worker takes turns with this one: before and after"
    )
    parser.add_argument("--workload", choices=list(WORKLOADS), default="typical", help="workload.py says what is in it")
    options = parser.parse_args()
    lines = WORKLOADS[options.workload](options.events, options.people)
    trees = {"here": HERE} if options.against is None else {"against": options.against.resolve(), "here": HERE}
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in trees}
    with find_broker() as broker:
        result: dict[str, Any] = about(broker.how)
        # One run more, which is not counted: a broker that has just started compiles itself meanwhile.
        run(broker.bootstrap, lines, HERE)
        for _ in range(options.runs):
            for name, tree in trees.items():
                runs[name].append(run(broker.bootstrap, lines, tree))
                print(name, runs[name][-1], file=sys.stderr)
    result["workload"] = options.workload
    result["drain_per_s"] = {name: summed_up(of_tree) for name, of_tree in runs.items()}
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
