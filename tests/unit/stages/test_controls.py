"""Controls, decided: a topology comes into force once, on the version it was made for, or a ledger row says why not."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from cdp_stream.config.topology import canonical, parse_topology
from cdp_stream.errors import LogContradiction
from cdp_stream.model.event import RawRecord
from cdp_stream.model.ids import SourceRef
from cdp_stream.pipeline import compile_topology
from cdp_stream.stages.entries import AcceptLoss, Control, Slice, SourceReset, SourceSlice, gives_up, records_crc
from cdp_stream.stages.identity import IdentityStage, IdentityStep, SourcePosition
from cdp_stream.stages.orders import apply_control, first_topology
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


def decide(stage: IdentityStage, control: Control | AcceptLoss | SourceReset) -> list[dict[str, Any]]:
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
        "partitions: is 2 for the life of the space and cannot become 3",
    ),
    (
        apply_control(compile_topology(parse_topology({**BASE, "space": "other"})), FIRST.version, 1, 5),
        "space: is shop for the life of the space and cannot become other",
    ),
    (
        apply_control(
            compile_topology(
                parse_topology({**BASE, "destinations": [{"name": "crm", "kind": "list", "topic": "crm.out"}]})
            ),
            FIRST.version,
            1,
            5,
        ),
        "destinations[0].kind: the destination crm is of the kind event; give the new one another name",
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


def take(stage: IdentityStage, start: int, count: int, topic_id: str = "id") -> IdentityStep:
    """A slice of so many records of events/1."""
    values = [b'{"type":"track","event":"E","userId":"u%d"}' % number for number in range(start, start + count)]
    records = [
        RawRecord(SourceRef("events", topic_id, 1, start + number), 0, None, value, True)
        for number, value in enumerate(values)
    ]
    part = SourceSlice("events", topic_id, 1, start, start + count, count, records_crc(records))
    return stage.decide(stage.barrier.next_offset, 0, Slice(0, (part,)), records)


def test_a_loss_that_is_accepted_moves_the_position_and_is_on_record(stage: IdentityStage) -> None:
    take(stage, 0, 3)
    order = AcceptLoss(5, "loss-1", "events", 1, 9)
    (row,) = decide(stage, order)
    assert ("loss_accepted", "loss-1") == (row["decision"], row["message_id"])
    assert "violation" not in row
    assert SourcePosition("id", 9) == stage.source_position("events", 1)
    assert take(stage, 3, 2).void
    assert not take(stage, 9, 2).void
    assert [] == decide(stage, order)
    assert SourcePosition("id", 11) == stage.source_position("events", 1)


@pytest.mark.parametrize(("partition", "to", "words"), [(1, 2, "is read up to 3"), (0, 9, "was never read")])
def test_a_loss_of_what_was_read_or_never_begun_is_refused(
    stage: IdentityStage, partition: int, to: int, words: str
) -> None:
    take(stage, 0, 3)
    (row,) = decide(stage, AcceptLoss(5, "loss-1", "events", partition, to))
    assert words in row["violation"]
    assert {"events": {1: SourcePosition("id", 3)}} == stage.barrier.sources


def test_a_source_that_was_made_anew_is_read_from_its_beginning_once_it_is_reset(stage: IdentityStage) -> None:
    take(stage, 0, 3)
    with pytest.raises(LogContradiction, match="made anew"):
        take(stage, 0, 1, "another id")
    (row,) = decide(stage, SourceReset(5, "reset-1", "events"))
    assert "source_reset" == row["decision"]
    assert not take(stage, 0, 1, "another id").void
    assert SourcePosition("another id", 1) == stage.source_position("events", 1)


def test_records_that_are_given_up_make_their_slice_void_and_change_nothing(stage: IdentityStage) -> None:
    take(stage, 0, 3)
    part = SourceSlice("events", "id", 1, 3, 5, 2, 12345)
    named = Slice(0, (part,))
    before = stage.barrier.sources["events"][1]
    with pytest.raises(LogContradiction, match="do not hold the 2 records"):
        stage.decide(stage.barrier.next_offset, 0, named, [])
    assert stage.barrier.sources["events"][1] == before
    step = stage.decide(stage.barrier.next_offset, 0, named, None)
    assert (True, [], {}) == (step.void, step.outputs, dict(step.changes))
    assert stage.barrier.sources["events"][1] == before


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (AcceptLoss(0, "a", "events", 1, 4), True),
        (AcceptLoss(0, "a", "events", 1, 3), False),
        (AcceptLoss(0, "a", "events", 0, 4), False),
        (AcceptLoss(0, "a", "others", 1, 4), False),
        (SourceReset(0, "a", "events"), True),
        (SourceReset(0, "a", "others"), False),
        (first_topology(FIRST, 0), False),
    ],
)
def test_which_orders_give_up_records_of_a_slice(order: Control | AcceptLoss | SourceReset, expected: bool) -> None:
    assert expected == gives_up(order, Slice(0, (SourceSlice("events", "id", 1, 3, 5, 2, 12345),)))
