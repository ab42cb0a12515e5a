"""Controls, decided: a topology comes into force once, on the version it was made for, or a ledger row says why not."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from cdp_stream.config.topology import canonical, parse_topology
from cdp_stream.pipeline import compile_topology
from cdp_stream.stages.entries import Control
from cdp_stream.stages.identity import IdentityStage, apply_control, first_topology
from cdp_stream.store.memory import MemoryStore

BASE: dict[str, Any] = {
    "space": "shop",
    "partitions": 2,
    "sources": [{"name": "web", "topic": "events"}],
    "destinations": [{"name": "crm", "topic": "crm.out"}],
}
FIRST = compile_topology(parse_topology(BASE))
SECOND = compile_topology(parse_topology({**BASE, "destinations": [{"name": "ads", "topic": "ads.out"}]}))


@pytest.fixture
def stage() -> IdentityStage:
    stage = IdentityStage(MemoryStore(), 2)
    decide(stage, first_topology(FIRST, 0))
    return stage


def decide(stage: IdentityStage, control: Control) -> list[dict[str, Any]]:
    """The ledger rows of the control."""
    return [orjson.loads(record.value) for record in stage.decide(stage.barrier.next_offset, 0, control, []).outputs]


def test_a_version_comes_into_force_and_the_row_names_it(stage: IdentityStage) -> None:
    control = apply_control(SECOND, FIRST.version, 1, 5)
    (row,) = decide(stage, control)
    assert ("topology_applied", control.id, SECOND.version) == (
        row["decision"], row["message_id"], row["topology_version"])  # fmt: skip
    assert "violation" not in row
    assert SECOND.version == stage.barrier.topology_version


def test_the_barrier_says_where_to_read_it_and_keeps_every_destination(stage: IdentityStage) -> None:
    decide(stage, apply_control(SECOND, FIRST.version, 1, 5))
    assert 1 == stage.barrier.topology_entry
    assert {"crm": "crm.out", "ads": "ads.out"} == stage.barrier.destinations


def test_a_repeat_is_ignored(stage: IdentityStage) -> None:
    control = apply_control(SECOND, FIRST.version, 1, 5)
    decide(stage, control)
    assert [] == decide(stage, control)


REFUSED = [
    (apply_control(SECOND, "0123456789abcdef", 1, 5), f"based on 0123456789abcdef, in force is {FIRST.version}"),
    (
        apply_control(compile_topology(parse_topology({**BASE, "partitions": 3})), FIRST.version, 1, 5),
        "partitions is 2 for the life of the space and cannot become 3",
    ),
    (
        apply_control(compile_topology(parse_topology({**BASE, "space": "other"})), FIRST.version, 1, 5),
        "space is shop for the life of the space and cannot become other",
    ),
    (Control(5, "apply", "made-by-hand", FIRST.version, {"spice": 1}), "sources: 'sources' is missing"),
    (Control(5, "apply", "made-by-hand", FIRST.version, ["no", "topology"]), "should be a mapping"),
    (
        Control(5, "apply", "made-by-hand", FIRST.version,
                {**canonical(FIRST.topology), "audiences": [{"key": "a", "definition": "trait("}]}),
        "audiences[0].definition",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("control", "why"), REFUSED, ids=[why.split()[0] for _, why in REFUSED])
def test_what_cannot_be_is_refused_with_a_row_and_stops_nothing(
    stage: IdentityStage, control: Control, why: str
) -> None:
    (row,) = decide(stage, control)
    assert row["violation"].startswith("refused: ")
    assert why in row["violation"], row["violation"]
    assert FIRST.version == row["topology_version"] == stage.barrier.topology_version
    assert 2 == stage.barrier.next_offset
