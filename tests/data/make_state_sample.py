"""Writes the sample of the present state format: `python tests/data/make_state_sample.py`, once for each new format."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import orjson

from cdp_stream.cli.topology import load_compiled
from cdp_stream.stages import state_format
from cdp_stream.stages.entries import Slice, SourceSlice, records_crc
from cdp_stream.stages.orders import first_topology
from cdp_stream.testing.local import LocalSpace
from cdp_stream.testing.replay import records_of

HERE = Path(__file__).parent
TOPOLOGY = HERE.parents[1] / "topologies" / "ecommerce"
PARTITIONS, STEP, RECORDS = 2, 20, 180


def main() -> None:
    compiled = load_compiled(TOPOLOGY)
    space = LocalSpace(PARTITIONS, lambda _: None)
    space.take(0, 0, first_topology(compiled, 0))
    lines = (TOPOLOGY / "events.jsonl").read_bytes().splitlines()[:RECORDS]
    records = list(records_of(lines))
    for start in range(0, RECORDS, STEP):
        taken = records[start : start + STEP]
        first, now = taken[0].source, max(record.timestamp for record in taken)
        part = SourceSlice("file", "file", 0, first.offset, first.offset + STEP, STEP, records_crc(taken))
        space.take(space.next_offset, now, Slice(now, (part,)), taken)
    stores = {"identity-0": space.identity.store}
    stores |= {f"profiles-{number}": stage.store for number, stage in enumerate(space.profiles)}
    rows = [
        {"store": name, "key": b64encode(key).decode(), "value": b64encode(value).decode()}
        for name, store in stores.items()
        for key, value in store.scan(b"")
    ]
    rows += [{"profile": profile} for profile in space.all_profiles()]
    out = HERE / f"state-format-{state_format.STATE_FORMAT}.jsonl"
    out.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))


if __name__ == "__main__":
    main()
