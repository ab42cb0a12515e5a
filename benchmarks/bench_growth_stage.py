"""What does growth cost the identity stage and its store alone, in one process without a broker, up to ten million profiles?

The question of `bench_growth.py` where there is no time to bring ten million profiles through Kafka: the same events, the
same stage, the same RocksDB, one state that grows from size to size, steps of the worker's size; messages and ledger rows are encoded and thrown away. Speed is
counted in processor time of the deciding thread, and beside each run of a larger state stands one of a state of the first
size, so that other work on the machine does not decide the share. What the clients of the broker hold in memory is not in these figures (some 60 MB), and restarts are those of the store alone.

python benchmarks/bench_growth_stage.py --profiles 10000 100000 1000000 3000000 10000000
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import tempfile
import time
from collections.abc import Iterable
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any

from about import about, spread
from bench_growth import START, TOPOLOGY, Visits, disk_mb, sign_up
from workload import PARTITIONS, SENT_AT

from cdp_stream.config.topology import parse_topology
from cdp_stream.model.change import ProfileChanges
from cdp_stream.model.event import RawRecord
from cdp_stream.model.ids import SourceRef
from cdp_stream.pipeline import compile_topology
from cdp_stream.stages.entries import Entry, Slice, SourceSlice, records_crc
from cdp_stream.stages.identity import BARRIER_KEY, IdentityStage
from cdp_stream.stages.orders import first_topology
from cdp_stream.stages.profile_shapes import encode_changes
from cdp_stream.store.rocks import RocksStore

STEP = 2_000


class Space:
    """One identity stage over a store on disk that grows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._position = self._offset = 0
        self.visited = 0
        """How many visits there were: their numbers name messages, none of which comes twice."""
        self.told = blake2b(digest_size=8)
        """Of the messages to the profile stage."""
        self.open()
        self.take(first_topology(compile_topology(parse_topology(TOPOLOGY)), START), [])

    def open(self) -> None:
        """Open the store, with nothing cached."""
        self._store = RocksStore(self.folder)
        self._stage = IdentityStage(self._store, PARTITIONS)

    def take(self, entry: Entry, records: list[RawRecord]) -> None:
        """One step, stored."""
        step = self._stage.decide(self._offset, SENT_AT, entry, records)
        self._offset += 1
        for partition, changes in sorted(step.changes.items()):
            version = step.topology_version
            message = ProfileChanges(step=step.offset, previous=-1, topology_version=version, changes=changes)
            self.told.update(b"%d" % partition)
            self.told.update(encode_changes(message))
        self._store.commit({**step.writes, BARRIER_KEY: self._stage.encode_barrier(step)})
        self._stage.graph.committed()

    def events(self, lines: Iterable[bytes]) -> float:
        """Decide these events; returns the seconds of processor time of this thread, the making of records left out."""
        spent, left = 0.0, iter(lines)
        while taken := list(islice(left, STEP)):
            first = self._position
            self._position += len(taken)
            records = [
                RawRecord(SourceRef("events", "events", 0, first + number), SENT_AT, None, line, True)
                for number, line in enumerate(taken)
            ]
            part = SourceSlice("events", "events", 0, first, self._position, len(taken), records_crc(records), True)
            began = time.thread_time()
            self.take(Slice(SENT_AT, (part,)), records)
            spent += time.thread_time() - began
        return spent

    def close(self) -> None:
        """Close the store."""
        self._store.close()


def flat(lines: list[list[bytes]]) -> list[bytes]:
    """All partitions' lines, one partition after the other."""
    return [line for of_partition in lines for line in of_partition]


class Small:
    """The state of the first size, and its visits."""

    def __init__(self, profiles: int, folder: Path) -> None:
        self.space = Space(folder)
        self.space.events(sign_up(number) for number in range(profiles))
        self._visits = Visits(profiles)

    def __call__(self, events: int) -> tuple[Space, list[list[bytes]]]:
        """It, and its next visits."""
        return self.space, self._visits.lines(events)


def measure(space: Space, small: Small, before: int, profiles: int, events: int, runs: int) -> dict[str, Any]:
    """The next size, from the one before on."""
    spent, began = 0.0, time.perf_counter()
    for start in range(before, profiles, 100_000):
        spent += space.events(sign_up(number) for number in range(start, min(profiles, start + 100_000)))
        print(f"{start:,}: {spent:.0f} s, {resident_mb()} MB", file=sys.stderr)
    made_s = time.perf_counter() - began
    visits, rates, shares = Visits(profiles, first=space.visited), [], []
    for _ in range(runs):
        rate, beside = (events / of.events(flat(lines)) for of, lines in ((space, visits.lines(events)), small(events)))
        rates.append(round(rate))
        shares.append(rate / beside)
        space.visited += events
    result = {
        "profiles": profiles,
        "created_per_s": round((profiles - before) / spent),
        "created_wall_s": round(made_s),
        "per_s": spread(rates),
        "speed_share": round(sorted(shares)[runs // 2], 3),
        "resident_mb": resident_mb(),
        "disk_mb": disk_mb(space.folder),
        "outcome": space.told.hexdigest(),
    }
    opened = []
    for _ in range(runs):
        space.close()
        began = time.perf_counter()
        space.open()
        opened.append(round(time.perf_counter() - began, 3))
    return {**result, "store_opened_s": spread(opened)}


def resident_mb() -> int:
    """What this process holds now."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) // 1_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--profiles", type=int, nargs="+", default=[10_000, 100_000, 1_000_000, 3_000_000, 10_000_000])
    parser.add_argument("--events", type=int, default=100_000, help="in each of the runs that give the speed")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument(
        "--folder", type=Path, help="where states lie meanwhile; default: the system's temporary folder"
    )
    options = parser.parse_args()
    result: dict[str, Any] = {**about(), "sizes": []}
    gc.disable()  # as the worker does
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        state, before = Path(folder) / "state", 0
        space, small = Space(state), Small(options.profiles[0], Path(folder) / "small")
        for profiles in options.profiles:
            size = measure(space, small, before, profiles, options.events, options.runs)
            result["sizes"].append(size)
            # At once: the larger sizes take long.
            print(json.dumps(size), file=sys.stderr)
            before = profiles
        space.close()
        small.space.close()
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
