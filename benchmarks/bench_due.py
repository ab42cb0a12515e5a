"""A million due times at one clock: how they are cut into steps, how long that takes, and what it holds in memory.

python benchmarks/bench_due.py --profiles 1000000
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from cdp_stream.config.topology import parse_topology
from cdp_stream.model.event import RawRecord
from cdp_stream.model.ids import SourceRef
from cdp_stream.pipeline import compile_topology
from cdp_stream.stages.entries import ClockEntry, Slice, SourceSlice, records_crc
from cdp_stream.stages.orders import first_topology
from cdp_stream.testing.local import LocalSpace

NOW = 1_767_225_600_000
HOUR_MS = 3_600_000
TOPOLOGY = {
    "space": "due",
    "sources": [{"name": "web", "topic": "events"}],
    "audiences": [
        {"key": "active", "definition": "event('View').within(1 hours).count() >= 1", "include_anonymous": True}
    ],
}
STEP = 1_000


def resident_mb() -> float:
    """What the process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def measure(profiles: int, folder: Path) -> dict[str, Any]:
    """Create them, let their windows end at one clock, and count."""
    told = 0
    sizes: list[int] = []

    def take(_: object) -> None:
        nonlocal told
        told += 1

    space = LocalSpace(1, take, folder)
    space.take(0, NOW, first_topology(compile_topology(parse_topology(TOPOLOGY)), NOW))
    began = time.perf_counter()
    for start in range(0, profiles, STEP):
        ids = range(start, min(profiles, start + STEP))
        events = [{"type": "track", "event": "View", "anonymousId": f"a-{n}", "messageId": f"m-{n}"} for n in ids]
        places = [SourceRef("s", "s", 0, number) for number in ids]
        records = [
            RawRecord(place, NOW, None, orjson.dumps(event), True) for place, event in zip(places, events, strict=True)
        ]
        part = SourceSlice("s", "s", 0, ids[0], ids[-1] + 1, len(records), records_crc(records))
        space.take(space.next_offset, NOW, Slice(NOW, (part,)), records)
    created_s, before_mb, told = time.perf_counter() - began, resident_mb(), 0
    most_mb = before_mb
    stage = space.profiles[0]
    store, counted = stage.store, 0

    class Counting:
        """Commits, and sees what the step has told."""

        def commit(self, changes: Mapping[bytes, bytes | None]) -> None:
            nonlocal most_mb, counted
            store.commit(changes)
            sizes.append(told - counted)
            counted = told
            most_mb = max(most_mb, resident_mb())

    stage.store = Counting()
    began = time.perf_counter()
    space.take(space.next_offset, NOW + 2 * HOUR_MS, ClockEntry(NOW + 2 * HOUR_MS, drained=True))
    fired_s = time.perf_counter() - began
    stage.store = store
    space.close()
    return {
        "profiles": profiles,
        "created_s": round(created_s, 1),
        "fired": told,
        "fired_s": round(fired_s, 1),
        "steps": len(sizes),
        "largest_step": max(sizes),
        "resident_before_mb": round(before_mb),
        "resident_most_mb": round(most_mb),
    }


def main() -> None:
    """Read the arguments, measure, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--profiles", type=int, default=1_000_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(given.profiles, Path(folder) / "state")))


if __name__ == "__main__":
    main()
