"""How many events a second does one process decide without a broker: the identity stage alone, and the whole walk?"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from about import about, spread

from cdp_stream.config.load import load_topology
from cdp_stream.config.topology import Topology
from cdp_stream.model.change import ProfileChanges
from cdp_stream.model.event import RawRecord
from cdp_stream.pipeline import CompiledTopology, compile_topology
from cdp_stream.stages.digest import OutputsDigest
from cdp_stream.stages.entries import Slice, SourceSlice, records_crc
from cdp_stream.stages.identity import IdentityStage, IdentityStep
from cdp_stream.stages.orders import first_topology
from cdp_stream.stages.profile_shapes import encode_changes
from cdp_stream.store.memory import MemoryStore
from cdp_stream.testing.people import People
from cdp_stream.testing.replay import Replay, records_of

TOPOLOGIES = Path(__file__).resolve().parent.parent / "topologies"
STEP = 1_000
PARTITIONS = 8


class Rates(NamedTuple):
    """What a run gave: the second figure changes less where others work on the machine."""

    per_s: float
    cpu_us_per_event: float

    @classmethod
    def since(cls, began: float, spent: float, events: int) -> Rates:
        """From the clock and the process's processor time at its beginning."""
        return cls(events / (time.perf_counter() - began), (time.process_time() - spent) / events * 1e6)


def identity(
    topology: CompiledTopology, records: list[RawRecord], sizes: Counter[str] | None = None
) -> tuple[Rates, str]:
    """Rates of the identity stage with its messages written, and a digest of what it put out, which is taken afterwards.

    `sizes`: is given the bytes of messages, outputs and state.
    """
    digest, store = OutputsDigest(), MemoryStore()
    stage = IdentityStage(store, PARTITIONS)
    told: list[tuple[int, bytes]] = []

    def take(step: IdentityStep) -> None:
        for partition, changes in sorted(step.changes.items()):
            message = ProfileChanges(
                step=step.offset, previous=-1, topology_version=step.topology_version, changes=changes
            )
            told.append((partition, encode_changes(message)))
        writes = {**step.writes, b"barrier": stage.encode_barrier(step)}
        if sizes is not None:
            sizes["ledger_and_dead_letters"] += sum(len(output.value) for output in step.outputs)
            sizes["state"] += sum(len(key) + len(value or b"") for key, value in writes.items())
            sizes["state_keys"] += len(writes)
        store.commit(writes)
        stage.graph.committed()

    take(stage.decide(0, 0, first_topology(topology, 0), []))
    began, spent = time.perf_counter(), time.process_time()
    for number, start in enumerate(range(0, len(records), STEP), start=1):
        taken = records[start : start + STEP]
        first = taken[0].source
        part = SourceSlice(
            first.topic, first.topic_id, 0, start, start + len(taken), len(taken), records_crc(taken), True
        )
        clock = max(record.timestamp for record in taken)
        take(stage.decide(number, clock, Slice(clock, (part,)), taken))
    rates = Rates.since(began, spent, len(records))
    for partition, raw in told:
        digest.add("profile-changes", b"%d" % partition, raw)
    if sizes is not None:
        sizes["profile_changes"] += sum(len(raw) for _, raw in told)
    return rates, digest.total(())


def whole(topology: CompiledTopology, records: list[RawRecord]) -> tuple[Rates, str]:
    """Rates of the whole walk, and the digest of profiles and outputs."""
    replay = Replay(topology, partitions=PARTITIONS, step_size=STEP)
    began, spent = time.perf_counter(), time.process_time()
    for _ in replay.run(records):
        pass
    return Rates.since(began, spent, len(records)), replay.total_digest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--people", type=int, default=5_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    result: dict[str, Any] = about()
    records = list(records_of(People(1, options.people).lines(options.events)))
    plain = Topology.model_validate({"space": "replay", "sources": [{"name": "web", "topic": "events"}]})
    shop = load_topology(TOPOLOGIES / "ecommerce", {})
    gc.disable()  # as the worker does
    for name, walk, topology in (("replay_identity_per_s", identity, plain), ("replay_whole_per_s", whole, shop)):
        found = []
        for _ in range(options.runs):
            found.append(walk(compile_topology(topology), records))
            gc.collect()
        outcomes = {outcome for _, outcome in found}
        assert len(outcomes) == 1, outcomes
        result[name] = {
            **spread([round(rates.per_s) for rates, _ in found]),
            "cpu_us_per_event": spread([round(rates.cpu_us_per_event, 1) for rates, _ in found]),
            "outcome": outcomes.pop(),
        }
    sizes: Counter[str] = Counter()
    identity(compile_topology(plain), records, sizes)
    result["bytes_per_event"] = {name: round(size / len(records), 1) for name, size in sizes.items()}
    result["events"] = len(records)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
