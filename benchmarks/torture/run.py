"""One run: a cluster of two nodes, four workers, a load; kills, a node that is slow at times; then the checker."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from cdp_stream.cli.from_kafka import recompute
from cdp_stream.stream.recompute import running_digest
from torture.checker import check
from torture.cluster import Cluster, Node
from torture.load import RESYNC, SECOND_VERSION, SOURCES, SYNC_S, TOPOLOGY, WINDOW_S, lines
from torture.rest import wait_until_quiet
from torture.snapshot import take_snapshot
from torture.verdict import Verdict
from torture.workers import SESSION_S, STAGES, Workers, write_topology

_EXPIRED_S = WINDOW_S + 2 * SYNC_S + 2.0
"""So long after the last event every window has expired, and the lists have been told."""
_ORDERED_WITHIN_S = 120.0
_BURST = 50
_AT_WORK = 0.7
"""How many of the kills come no sooner than that both stages are at work; the others may meet a start or a claim."""
_READY_WITHIN_S = 30.0
_KILL_EVERY_S = 3.0
"""Within this time the events of one kill are produced, so that most kills fall into work."""


@dataclass
class Outcome:
    """What a run came to."""

    seed: int
    kills: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    """Workers that ended of themselves, by reason; they were started again."""
    frozen: int = 0
    """How often the second node stood still."""
    seconds: float = 0.0
    digest: str = ""
    recomputed: str = ""
    verdict: Verdict = field(default_factory=Verdict)
    exit_codes: dict[str, int] = field(default_factory=dict)

    @property
    def is_good(self) -> bool:
        """Nothing lost, nothing doubled, nothing different."""
        return not self.verdict.findings and self.digest == self.recomputed and set(self.exit_codes.values()) == {0}

    def row(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "good": self.is_good,
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            "done to workers": dict(sorted(self.kills.items())),
            "node frozen": self.frozen,
            "ended of themselves": dict(sorted(self.ended.items())),
            "counts": self.verdict.counts,
            "findings": self.verdict.findings,
            "digest": self.digest,
            "digest of the recomputation": self.recomputed,
            "exit codes": self.exit_codes,
        }


class Load(threading.Thread):
    """Produces the load at an even pace, never more than is allowed so far."""

    def __init__(self, bootstrap: str, seed: int, events: int, per_s: float) -> None:
        super().__init__(daemon=True)
        self._servers = bootstrap
        self._lines = lines(seed, events, lambda: int(time.time() * 1000))
        self.events = events
        self._pause_s = _BURST / per_s
        self.allowed = 0
        self.sent = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        """Produce until everything is sent."""
        try:
            asyncio.run(self._run())
        except BaseException as error:
            self.error = error
            raise

    async def _run(self) -> None:
        producer = AIOKafkaProducer(
            # Not idempotent: that gives a batch up when its partition's leader changes at the wrong moment. A batch that
            # is sent twice makes duplicates, which there are anyway.
            bootstrap_servers=self._servers,
            acks="all",
            linger_ms=5,
            max_batch_size=128 * 1024,
        )
        await producer.start()
        places = [(topic, number) for topic, count in SOURCES.items() for number in range(count)]
        try:
            for number, line in enumerate(self._lines):
                while number >= self.allowed:  # noqa: ASYNC110 - allowed from another thread
                    await asyncio.sleep(0.02)
                topic, partition = places[number % len(places)]
                await producer.send(topic, line, partition=partition)
                self.sent = number + 1
                if number % _BURST == 0:
                    await asyncio.sleep(self._pause_s)
            await producer.flush()
        finally:
            await producer.stop()


async def create_sources(bootstrap: str, replicas: int = 1) -> None:
    """The source topics."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    keep = {"retention.ms": "-1"}
    await admin.create_topics([NewTopic(name, count, replicas, topic_configs=keep) for name, count in SOURCES.items()])
    await admin.close()


class Orders(threading.Thread):
    """An operator's orders while the load runs: another topology version at its half, a resync at three quarters."""

    def __init__(self, folder: Path, load: Load, workers: Workers) -> None:
        super().__init__(daemon=True)
        self._second = write_topology(folder / "second", SECOND_VERSION)
        self._load = load
        self._environ = workers.environ
        self.exit_codes: dict[str, int] = {}

    def run(self) -> None:
        """Until both are in the log."""
        self._order(1 / 2, "apply", str(self._second))
        self._order(3 / 4, "resync", *RESYNC, str(self._second))

    def _order(self, when: float, *command: str) -> None:
        while self._load.sent < when * self._load.events and self._load.error is None:
            time.sleep(0.1)
        until = time.monotonic() + _ORDERED_WITHIN_S
        while True:
            # The node that stands still at times, or a worker that is away, may refuse it: then it is said again.
            ended = subprocess.run(
                [sys.executable, "-m", "cdp_stream", *command], env=self._environ, capture_output=True, check=False
            )
            self.exit_codes[command[0]] = ended.returncode
            if ended.returncode == 0 or time.monotonic() > until:
                return


class Slowness(threading.Thread):
    """Freezes a node for a moment, again and again."""

    def __init__(self, node: Node, seed: int) -> None:
        super().__init__(daemon=True)
        self._node = node
        self._draw = random.Random(seed)
        self._over = threading.Event()
        self.count = 0

    def run(self) -> None:
        """Until `end`."""
        while not self._over.wait(self._draw.uniform(0.5, 6)):
            self.count += 1
            self._node.freeze()
            self._over.wait(self._draw.choice((0.05, 0.2, 0.5, 1.0, 2.0)))
            self._node.thaw()

    def end(self) -> None:
        """The node is left running."""
        self._over.set()
        self.join()


def torture(folder: Path, kills: int, events: int, seed: int, rebalances: int = 0) -> Outcome:
    """A whole run: `kills` of two workers a stage, or else `rebalances` of up to three."""
    outcome, began, rounds = Outcome(seed), time.monotonic(), kills or rebalances
    with Cluster(folder / "kafka") as cluster:
        workers = Workers(folder / "workers", TOPOLOGY, cluster.bootstrap, each=2 if kills else 3)
        try:
            asyncio.run(create_sources(cluster.bootstrap))
            load = Load(cluster.bootstrap, seed, events, events / (rounds + 1) / _KILL_EVERY_S)
            slow = Slowness(cluster.second, seed)
            orders = Orders(folder, load, workers)
            load.start()
            workers.start()
            slow.start()
            orders.start()
            if kills:
                _kill(workers, load, outcome, kills, random.Random(seed))
            else:
                _rebalance(workers, load, outcome, rebalances, random.Random(seed))
            load.join()
            orders.join()
            slow.end()
            wait_until_quiet(workers)
            workers.supervise(_EXPIRED_S)
            wait_until_quiet(workers)
            outcome.exit_codes |= orders.exit_codes
            outcome.frozen, outcome.ended = slow.count, workers.ended
            outcome.exit_codes |= workers.stop()
            _judge(workers, outcome)
        finally:
            workers.end()
    outcome.seconds = time.monotonic() - began
    return outcome


def _kill(workers: Workers, load: Load, outcome: Outcome, kills: int, draw: random.Random) -> None:
    """Kill -9 at random moments: one worker, now and then several at once; each is back after a moment."""
    done = 0
    while done < kills:
        load.allowed = max(load.allowed, load.events * (done + 1) // (kills + 1))
        workers.supervise(draw.choice((0.5, 4.0, 8.0, 12.0)) * draw.random())
        if draw.random() < _AT_WORK:
            workers.wait_until_ready(_READY_WITHIN_S)
        victims = workers.all if draw.random() < 0.05 else [workers.victim(draw)]
        for worker in victims:
            if worker.is_alive and done < kills:
                worker.kill()
                outcome.kills[worker.stage] += 1
                done += 1
                _bar(done, kills, load)
        workers.supervise(draw.choice((0.0, 0.5, 2.5)) * draw.random())
        for worker in victims:
            if not worker.is_alive:
                worker.start()
        if load.error is not None:
            raise load.error
    load.allowed = load.events


def _rebalance(workers: Workers, load: Load, outcome: Outcome, rounds: int, draw: random.Random) -> None:
    """Workers join, leave when asked, are killed, or stand still until their partitions have moved, in any order."""
    for done in range(1, rounds + 1):
        load.allowed = max(load.allowed, load.events * done // (rounds + 1))
        workers.supervise(draw.uniform(0.2, 4))
        away = [worker for worker in workers.all if not worker.is_alive]
        worker = draw.choice(away) if away and draw.random() < 0.5 else workers.victim(draw)
        if not worker.is_alive:
            outcome.kills["joined"] += 1
            worker.start()
        elif draw.random() < 0.35:
            outcome.kills["left"] += 1
            outcome.exit_codes[f"{worker.name}, round {done}"] = worker.stop()
        elif draw.random() < 0.5:
            outcome.kills["killed"] += 1
            worker.kill()
        else:
            outcome.kills["stood still"] += 1
            worker.send(signal.SIGSTOP)
            workers.supervise(draw.uniform(0.5, 3 * SESSION_S))
            worker.send(signal.SIGCONT)
        for stage in STAGES:
            if not any(worker.is_alive for worker in workers.of(stage)):
                draw.choice(workers.of(stage)).start()
        _bar(done, rounds, load, "rebalances")
        if load.error is not None:
            raise load.error
    load.allowed = load.events


def _bar(done: int, rounds: int, load: Load, what: str = "kills") -> None:
    if sys.stderr.isatty() or done == rounds or done % 10 == 0:
        filled = "█" * (20 * done // rounds)
        end = "\n" if done == rounds or not sys.stderr.isatty() else ""
        sys.stderr.write(f"\r[{filled:20}] {done} of {rounds} {what}, {load.sent} of {load.events} events{end}")
        sys.stderr.flush()


def _judge(workers: Workers, outcome: Outcome) -> None:
    prefix = workers.settings.topic_prefix
    sources = {prefix + topic: count for topic, count in SOURCES.items()}
    outcome.verdict = check(asyncio.run(take_snapshot(workers.settings, workers.topology, sources)))
    outcome.digest, _ = asyncio.run(running_digest(workers.settings, workers.topology))
    outcome.recomputed, _ = asyncio.run(recompute(workers.settings, workers.topology))
