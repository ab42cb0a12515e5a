"""Resolutions a second over a backlog: one worker, 8 source partitions, ledger and dedupe on, a real Kafka."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from cdp_stream.stages.graph import GraphDraft
from cdp_stream.store.rocks import RocksStore
from cdp_stream.stream.broker import find_broker
from cdp_stream.testing.people import People

PARTITIONS = 8
PORT = 17_066
TOPOLOGY = {"space": "drain", "sources": [{"name": "web", "topic": "events"}], "partitions": PARTITIONS}


async def produce(bootstrap: str, topic: str, lines: list[bytes]) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(topic, PARTITIONS, 1)])
    await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, max_batch_size=512 * 1024, linger_ms=5)
    await producer.start()
    for partition in range(PARTITIONS):
        batch = producer.create_batch()
        for line in lines[partition::PARTITIONS]:
            if batch.append(key=None, value=line, timestamp=None) is None:
                await producer.send_batch(batch, topic, partition=partition)
                batch = producer.create_batch()
                batch.append(key=None, value=line, timestamp=None)
        await producer.send_batch(batch, topic, partition=partition)
    await producer.flush()
    await producer.stop()


def decided() -> float:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/metrics", timeout=2) as answer:
            text = answer.read().decode()
    except OSError:
        return 0.0
    names = ("cdp_events_total{", "cdp_dead_letters_total{")
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(names))


def run(bootstrap: str, lines: list[bytes]) -> dict[str, Any]:
    prefix = f"bench-{secrets.token_hex(3)}."
    with tempfile.TemporaryDirectory() as folder:
        topology = Path(folder) / "topology.yaml"
        topology.write_text(json.dumps(TOPOLOGY))
        asyncio.run(produce(bootstrap, prefix + "events", lines))
        state = Path(folder) / "state"
        environ = {
            **os.environ,
            "CDP_STREAM_KAFKA": bootstrap,
            "CDP_STREAM_TOPIC_PREFIX": prefix,
            "CDP_STREAM_DATA_DIR": str(state),
            "CDP_STREAM_METRICS_PORT": str(PORT),
        }
        command = [
            sys.executable,
            "-m",
            "cdp_stream",
            "worker",
            str(topology),
            "--stage",
            "identity",
            "--log-level",
            "ERROR",
        ]
        worker = subprocess.Popen(command, env=environ)
        process = psutil.Process(worker.pid)
        began, first, spent = 0.0, 0.0, 0.0
        while (count := decided()) < len(lines):
            if count and not began:
                began, first, spent = time.perf_counter(), count, sum(process.cpu_times()[:2])
            time.sleep(0.2)
        seconds = time.perf_counter() - began
        spent = sum(process.cpu_times()[:2]) - spent
        worker.send_signal(signal.SIGTERM)
        worker.wait()
        store = RocksStore(state / f"{prefix}drain" / "identity-0", read_only=True)
        profiles = sum(1 for _ in GraphDraft(store, (), 0).all_profiles())
        store.close()
    events = len(lines) - first
    return {
        "per_s": round(events / seconds),
        "seconds": round(seconds, 2),
        "worker_cpu_us_per_event": round(spent / events * 1e6, 1),
        "profiles": profiles,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--people", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    lines = list(People(1, options.people).lines(options.events))
    load = os.getloadavg()[0]
    with find_broker() as broker:
        runs = [run(broker.bootstrap, lines) for _ in range(options.runs)]
    rates = [one["per_s"] for one in runs]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    result = {
        "drain_per_s": {"min": min(rates), "median": statistics.median(rates), "max": max(rates)},
        "worker_cpu_us_per_event": statistics.median(one["worker_cpu_us_per_event"] for one in runs),
        "load_average_before": load,
        "runs": runs,
        "outcome_profiles": sorted({one["profiles"] for one in runs}),
        "broker": broker.how,
        "python": platform.python_version(),
        "machine": f"{os.cpu_count()} cores {platform.machine()}",
        "commit": commit.stdout.strip(),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
