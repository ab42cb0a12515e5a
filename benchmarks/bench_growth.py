"""What does growth cost: speed, memory, disk, warm restart and restore at ten thousand to ten million profiles?

One worker of stage identity on a real Kafka. Each profile is made by one event with three identifiers, so ten million
of them have thirty million. Then, on the same running worker, backlogs of a click stream of these people (Zipf, one event
in twenty from a new cookie, one in a hundred delivered twice) give the speed; the worker is frozen while such a backlog
is produced. Before each backlog of a larger size the first size takes one, so that what else goes on in the machine does not decide
the share. Before them the store is given time to sort what millions of new profiles have left it, which elsewhere come
within months, and not within minutes. Last the worker is started again over its state (warm), and with none (restore).

python benchmarks/bench_growth.py --profiles 10000 100000 1000000
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from about import about, spread
from broker import find_broker
from outcome import stored_graph
from running import decided, page, worker
from workload import PARTITIONS, drop, make_topic, put

from cdp_stream.model.time import format_instant
from cdp_stream.store.rocks import RocksStore
from cdp_stream.stream.kafka_log import wall_clock_ms

PORT = 17_096
BESIDE_PORT = PORT + 10
"""Of the first size's worker while a larger size is measured."""
TOPOLOGY = {"space": "growth", "sources": [{"name": "web", "topic": "events"}], "partitions": PARTITIONS}
CHUNK = 200_000
"""Records that are produced at once, and how far the producer keeps ahead of the worker."""
START = 1_767_225_600_000
_REST_WITHIN_S = 600
_AT_REST_PERCENT = 20
HASHED_MAX = 100_000
"""Up to this size every profile is hashed; larger ones are counted."""


def sign_up(number: int) -> bytes:
    """The event that makes a profile with three identifiers."""
    at = format_instant(START + number)
    return (
        b'{"type":"identify","messageId":"s-%d","userId":"u-%d","anonymousId":"a-%d",'
        b'"traits":{"email":"p%d@example.org"},"originalTimestamp":"%s"}'
        % (number, number, number, number, at.encode())
    )


class Visits:
    """The click stream of these people, partition by partition: a person's events all come in one partition."""

    def __init__(self, profiles: int, first: int = 0) -> None:
        """`first`: number of the first event, so that several streams over one population repeat no message."""
        self._profiles = profiles
        self._random = random.Random(1)
        self._count = first

    def lines(self, events: int) -> list[list[bytes]]:
        """The next events, a list a partition."""
        found: list[list[bytes]] = [[] for _ in range(PARTITIONS)]
        for _ in range(events):
            self._count += 1
            # The n-th most active of a population with weights n^-0.6, as in the drain's workload.
            number = int(self._profiles * self._random.random() ** 2.5)
            chance = self._random.random()
            cookie = f"b-{self._count}" if chance < 0.05 else f"a-{number}"
            message = self._count - (0.05 <= chance < 0.06)
            at = format_instant(START + 30 * 86_400_000 + self._count * 10)
            line = (
                f'{{"type":"track","event":"Product Viewed","messageId":"v-{message}","userId":"u-{number}",'
                f'"anonymousId":"{cookie}","properties":{{"product":"mug","price":12.5}},"originalTimestamp":"{at}"}}'
            )
            found[number % PARTITIONS].append(line.encode())
        return found


@dataclass(frozen=True, slots=True)
class Watched:
    """A worker that works, as seen from outside."""

    process: subprocess.Popen[bytes]
    port: int

    def done(self) -> float:
        """Records that it has decided since it started."""
        return decided(page(self.port))

    def resident_mb(self) -> int:
        """What it holds in memory."""
        return round(psutil.Process(self.process.pid).memory_info().rss / 1e6)

    def read_bytes(self) -> int:
        """What it has had brought from the disk so far: its state competes for the page cache with the broker's files."""
        return int(psutil.Process(self.process.pid).io_counters().read_bytes)

    def at_rest_s(self) -> float:
        """Wait until it has nothing more to do, its store's background threads included; returns the seconds."""
        began, process = time.perf_counter(), psutil.Process(self.process.pid)
        while time.perf_counter() - began < _REST_WITHIN_S and process.cpu_percent(interval=2.0) > _AT_REST_PERCENT:
            pass
        return round(time.perf_counter() - began, 1)

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """Frozen meanwhile."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


@dataclass(frozen=True, slots=True)
class Space:
    """Where one size is measured."""

    bootstrap: str
    prefix: str
    topology: Path
    state: Path
    visits: Visits
    ready_within_s: float

    @property
    def source(self) -> str:
        """The source topic."""
        return self.prefix + "events"

    @contextmanager
    def worker(self, port: int = PORT) -> Iterator[Watched]:
        """Its worker, from being ready on."""
        with worker(
            self.bootstrap,
            self.prefix,
            self.topology,
            self.state,
            "identity",
            port=port,
            ready_within_s=self.ready_within_s,
        ) as process:
            yield Watched(process, port)

    def backlog(self, watched: Watched, events: int) -> int:
        """Events a second over a backlog that is put there while the worker stands still."""
        lines, before = self.visits.lines(events), watched.done()
        with watched.standing_still():
            asyncio.run(put(self.bootstrap, self.source, lines, at=wall_clock_ms()))
        began = time.perf_counter()
        _wait_until(lambda: watched.done() >= before + events, every_s=0.05)
        return round(events / (time.perf_counter() - began))

    def drop(self) -> None:
        """Remove its topics and its state."""
        shutil.rmtree(self.state, ignore_errors=True)
        asyncio.run(drop(self.bootstrap, self.prefix))


def make_space(bootstrap: str, profiles: int, folder: Path) -> Space:
    """The place for so many profiles, with no record in it."""
    prefix = f"bench-{secrets.token_hex(3)}."
    topology, state = folder / "topology.yaml", folder / f"state-{profiles}"
    topology.write_text(json.dumps(TOPOLOGY))
    space = Space(bootstrap, prefix, topology, state, Visits(profiles), 60 + profiles / 5_000)
    asyncio.run(make_topic(bootstrap, space.source, PARTITIONS))
    return space


def measure(space: Space, profiles: int, events: int, runs: int, first: Space | None) -> dict[str, Any]:
    """One size; `first`: the space of the first size, at any other one."""
    return {"profiles": profiles, **_grown(space, profiles, events, runs, first), **_started_again(space, runs)}


def _grown(space: Space, profiles: int, events: int, runs: int, first: Space | None) -> dict[str, Any]:
    """Make the profiles, then the backlogs."""
    result: dict[str, Any] = {}
    with space.worker() as watched:
        began = time.perf_counter()
        for chunk in _chunks(profiles):
            _wait_until(lambda chunk=chunk: watched.done() > chunk.start - CHUNK)
            lines = [[sign_up(number) for number in chunk[start::PARTITIONS]] for start in range(PARTITIONS)]
            # Of now: at an older time their dedupe marks would expire as soon as a backlog is done.
            asyncio.run(put(space.bootstrap, space.source, lines, at=wall_clock_ms()))
        _wait_until(lambda: watched.done() >= profiles)
        result["created_per_s"] = round(profiles / (time.perf_counter() - began))
        result["resident_mb_loaded"] = watched.resident_mb()
        result["sorted_s"] = watched.at_rest_s()
        read = watched.read_bytes()
        rates, beside = _backlogs(space, watched, events, runs, first)
        result["per_s"] = spread(rates)
        if beside:
            result["first_size_per_s"] = spread(beside)
        result["speed_share"] = round(
            median(rate / other for rate, other in zip(rates, beside or rates, strict=True)), 3
        )
        result["read_mb"] = round((watched.read_bytes() - read) / 1e6)
        result["resident_mb"] = watched.resident_mb()
    result["disk_mb"] = disk_mb(space.state)
    result["outcome"], result["profiles_found"] = _outcome(space.state / f"{space.prefix}growth" / "identity-0")
    return result


def _backlogs(
    space: Space, watched: Watched, events: int, runs: int, first: Space | None
) -> tuple[list[int], list[int]]:
    """The rates of this size, and those that the first size had just before each."""
    if first is None:
        return [space.backlog(watched, events) for _ in range(runs)], []
    rates, beside = [], []
    with first.worker(BESIDE_PORT) as other:
        for _ in range(runs):
            beside.append(first.backlog(other, events))
            rates.append(space.backlog(watched, events))
    return rates, beside


def _started_again(space: Space, runs: int) -> dict[str, Any]:
    """Seconds from the start of the process to its being ready: over the state as it is, and with none."""
    warm = [_start_s(space) for _ in range(runs)]
    shutil.rmtree(space.state)
    return {"warm_restart_s": spread(warm), "restore_s": _start_s(space)}


def _start_s(space: Space) -> float:
    began = time.perf_counter()
    with space.worker():
        return round(time.perf_counter() - began, 2)


def _chunks(profiles: int) -> Iterator[range]:
    for start in range(0, profiles, CHUNK):
        yield range(start, min(profiles, start + CHUNK))


def _wait_until(reached: Any, every_s: float = 0.2) -> None:
    while not reached():
        time.sleep(every_s)


def disk_mb(folder: Path) -> int:
    """What the state takes on disk."""
    return round(sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6)


def _outcome(path: Path) -> tuple[str | None, int]:
    """The hash of the graph where it is small enough to be held, and the number of profiles."""
    store = RocksStore(path, read_only=True)
    count = sum(1 for _ in store.scan(b"p"))
    store.close()
    return (stored_graph(path)[0] if count <= HASHED_MAX else None), count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--profiles", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--events", type=int, default=100_000, help="in each of the backlogs that give the speed")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument(
        "--folder", type=Path, help="where states lie meanwhile; default: the system's temporary folder"
    )
    options = parser.parse_args()
    with (
        find_broker() as broker,
        tempfile.TemporaryDirectory(dir=options.folder) as folder,
        ExitStack() as at_the_end,
    ):
        result: dict[str, Any] = about(broker.how)
        result["sizes"] = []
        first: Space | None = None
        for profiles in options.profiles:
            space = make_space(broker.bootstrap, profiles, Path(folder))
            at_the_end.callback(space.drop)
            result["sizes"].append(measure(space, profiles, options.events, options.runs, first))
            print(result["sizes"][-1], file=sys.stderr)
            first = first or space
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
