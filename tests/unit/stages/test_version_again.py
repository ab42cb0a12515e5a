"""A version that is in force is put in force again: what was due before it has fired at its own instant."""

from __future__ import annotations

import msgspec
import orjson
from test_parked_count import SPACE, A, Partition, event

from cdp_stream.config.topology import canonical, parse_topology
from cdp_stream.model.change import NewExternalId, TopologyApplied
from cdp_stream.pipeline import compile_topology
from cdp_stream.stages.records import AUDIENCE_CHANGES

WINDOW = {"audiences": [{"key": "lately", "definition": "event('x').within(10 minutes).count() >= 1"}]}
MINUTE = 60_000


def test_what_was_due_before_has_fired_at_its_own_instant() -> None:
    topology = compile_topology(parse_topology(SPACE | WINDOW))
    partition = Partition(0, topology)
    known = (NewExternalId("user_id", "u-1", 5),)
    partition.take(msgspec.structs.replace(event(A), name="x", external_ids=known))
    plain = canonical(topology.topology)
    again = TopologyApplied(index=0, record=0, now=30 * MINUTE, version=topology.version, topology=plain)
    rows = [orjson.loads(one.value) for one in partition.take(again).outputs if one.topic == AUDIENCE_CHANGES]
    assert [("exited", "time", "1970-01-01T00:10:00.005Z")] == [(r["change"], r["cause"], r["time"]) for r in rows]
