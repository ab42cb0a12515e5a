"""The hash that benchmarks print: the same however the partitions were read, another when the outcome is another."""

from __future__ import annotations

from collections.abc import Sequence

from outcome import graph_hash
from workload import SENT_AT, typical

from cdp_stream.config.topology import Topology
from cdp_stream.model.event import RawRecord
from cdp_stream.model.ids import SourceRef
from cdp_stream.pipeline import compile_topology
from cdp_stream.stages.entries import Slice, SourceSlice, records_crc
from cdp_stream.stages.identity import BARRIER_KEY, IdentityStage, IdentityStep
from cdp_stream.stages.orders import first_topology
from cdp_stream.store.memory import MemoryStore

TOPOLOGY = compile_topology(
    Topology.model_validate({"space": "towns", "sources": [{"name": "web", "topic": "events"}], "partitions": 2})
)


def outcome_of(lines: list[list[bytes]], partitions: Sequence[int], topic_id: str) -> tuple[str, int]:
    store = MemoryStore()
    stage = IdentityStage(store, 2)

    def store_step(step: IdentityStep) -> None:
        store.commit({**step.writes, BARRIER_KEY: stage.encode_barrier(step)})
        stage.graph.committed()

    store_step(stage.decide(0, SENT_AT, first_topology(TOPOLOGY, SENT_AT), []))
    for step, partition in enumerate(partitions, start=1):
        records = [
            RawRecord(SourceRef("events", topic_id, partition, offset), SENT_AT, None, line, True)
            for offset, line in enumerate(lines[partition])
        ]
        part = SourceSlice("events", topic_id, partition, 0, len(records), len(records), records_crc(records), True)
        store_step(stage.decide(step, SENT_AT, Slice(SENT_AT, (part,)), records))
    return graph_hash(stage.graph)


def test_the_order_of_partitions_and_the_topics_id_do_not_count():
    lines = typical(900, 30, partitions=3)
    outcome = outcome_of(lines, [0, 1, 2], "one")
    assert outcome[1] > 20
    assert outcome_of(lines, [2, 0, 1], "another") == outcome


def test_a_lost_event_counts():
    lines = typical(900, 30, partitions=3)
    outcome = outcome_of(lines, [0, 1, 2], "one")
    first_of_a_person = next(number for number, line in enumerate(lines[1]) if b'"identify"' in line)
    del lines[1][first_of_a_person]
    assert outcome_of(lines, [0, 1, 2], "one") != outcome
