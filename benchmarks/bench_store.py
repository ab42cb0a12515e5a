"""What does the store cost: a key written, a key found, a key that is not there, a scan, and opening it again?

The keys are those that stage identity keeps of a profile with three identifiers: the profile, three owners and a dedupe
mark. Hot keys are drawn from a thousand profiles, the others from all. Batches hold 1,000 profiles.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any

from about import about, spread

from cdp_stream.store.rocks import RocksStore

BATCH = 1_000
READS = 20_000
HOT = 1_000
TYPES = (b"user_id", b"email", b"anonymous_id")


def rows(number: int) -> dict[bytes, bytes | None]:
    """What is kept of one profile."""
    mark = blake2b(b"%d" % number, digest_size=16).digest()
    profile_id = b"use_" + mark.hex().encode()
    owners = {b"ou%s\0%s-%d" % (type_, type_, number): profile_id for type_ in TYPES}
    return {b"m" + mark: number.to_bytes(8, "big"), b"p" + profile_id: mark * 12, **owners}


def run(folder: Path, profiles: int) -> dict[str, Any]:
    """One store, filled, read and opened again."""
    draw = random.Random(1)
    store = RocksStore(folder)
    writing_s, keys = 0.0, 0
    for start in range(0, profiles, BATCH):
        changes: dict[bytes, bytes | None] = {}
        for number in range(start, min(profiles, start + BATCH)):
            changes |= rows(number)
        began = time.perf_counter()
        store.commit(changes)
        writing_s += time.perf_counter() - began
        keys += len(changes)

    def reading_us(key: Callable[[], bytes], found: bool) -> float:
        wanted = [key() for _ in range(READS)]
        began = time.perf_counter()
        values = [store.get(one) for one in wanted]
        spent = time.perf_counter() - began
        assert all((value is not None) is found for value in values)
        return round(spent / READS * 1e6, 2)

    figures = {
        "written_us": round(writing_s / keys * 1e6, 2),
        "known_us": reading_us(lambda: b"ouuser_id\0user_id-%d" % draw.randrange(profiles), found=True),
        "hot_us": reading_us(lambda: b"ouuser_id\0user_id-%d" % draw.randrange(HOT), found=True),
        "missing_us": reading_us(lambda: b"ouuser_id\0nobody-%d" % draw.randrange(profiles), found=False),
    }
    digest, count = blake2b(digest_size=8), 0
    began = time.perf_counter()
    for key, value in store.scan(b""):
        count += 1
        digest.update(key)
        digest.update(value)
    figures["scanned_per_s"] = round(count / (time.perf_counter() - began))
    assert count == keys
    store.close()
    figures["disk_mb"] = round(sum(file.stat().st_size for file in folder.iterdir()) / 1e6, 1)
    began = time.perf_counter()
    RocksStore(folder).close()
    figures["opened_ms"] = round((time.perf_counter() - began) * 1000, 1)
    return {**figures, "outcome": digest.hexdigest()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profiles", type=int, default=400_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    result: dict[str, Any] = {**about(), "profiles": options.profiles}
    runs = []
    for _ in range(options.runs):
        with tempfile.TemporaryDirectory() as folder:
            runs.append(run(Path(folder) / "store", options.profiles))
    outcomes = {one.pop("outcome") for one in runs}
    assert len(outcomes) == 1, outcomes
    result["store"] = {name: spread([one[name] for one in runs]) for name in runs[0]}
    print(json.dumps({**result, "outcome": outcomes.pop()}, indent=1))


if __name__ == "__main__":
    main()
