"""Operators' orders in the identity log: how they are made, and what comes of them.

An order has an id, and a repeat is passed over. One that does not fit what it finds is refused, and changes nothing; a
row of the ledger says what became of it either way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from cdp_stream.config.succession import computed_keys, succession_problems
from cdp_stream.config.topology import Topology, canonical
from cdp_stream.errors import LogContradiction, TopologyError
from cdp_stream.model.change import Resync, TopologyApplied
from cdp_stream.model.graph import Decision, DecisionKind
from cdp_stream.model.ids import base62, derive
from cdp_stream.model.time import Instant
from cdp_stream.pipeline import CompiledTopology, compile_topology
from cdp_stream.stages.entries import AcceptLoss, Control, ResyncEntry, SourceReset
from cdp_stream.stages.records import ledger_row, seq_text
from cdp_stream.stages.versions import topology_write

if TYPE_CHECKING:
    from cdp_stream.stages.identity import Work

_DECLARED_DIGITS: Final = 12
CONTROL_IDS_MAX: Final = 1_000
"""How many ids of orders are remembered, so that a repeat is known."""

Order = Control | AcceptLoss | SourceReset | ResyncEntry


def decide_order(work: Work, order: Order) -> None:
    """Do what an operator asks for, or refuse it."""
    if _is_repeat(work, order.id):
        return
    match order:
        case Control():
            _apply(work, order)
        case ResyncEntry():
            _resync(work, order)
        case _:
            _move_position(work, order)


def _is_repeat(work: Work, order: str) -> bool:
    """Was an order of this id done before? From now on it was."""
    barrier = work.barrier
    if order in barrier.controls:
        return True
    barrier.controls = [*barrier.controls, order][-CONTROL_IDS_MAX:]
    return False


def _apply(work: Work, entry: Control) -> None:
    """Another topology version; on another version than it names it is refused."""
    if entry.control != "apply":
        raise LogContradiction(f"entry {work.offset}: control {entry.control!r} is not known to this version")
    proposed, violation = _proposed(work, entry)
    if proposed is not None:
        _put_in_force(work, proposed)
    decision = Decision("topology_applied", violation=violation)
    row = ledger_row(decision, seq_text(work.offset, 0), entry.id, None)
    work.ledger(0, decision, row)


def _move_position(work: Work, entry: AcceptLoss | SourceReset) -> None:
    """Go on elsewhere in a source."""
    barrier = work.barrier
    violation = None
    if isinstance(entry, SourceReset):
        decided: DecisionKind = "source_reset"
        barrier.sources.pop(entry.topic, None)
    else:
        decided = "loss_accepted"
        stands = work.stage.source_position(entry.topic, entry.partition)
        if stands is None:
            violation = f"refused: {entry.topic}/{entry.partition} was never read"
        elif entry.to < stands.offset:
            violation = f"refused: {entry.topic}/{entry.partition} is read up to {stands.offset}"
        else:
            barrier.sources[entry.topic][entry.partition] = msgspec.structs.replace(stands, offset=entry.to)
    row = ledger_row(Decision(decided, violation=violation), seq_text(work.offset, 0), entry.id, None)
    work.ledger(0, Decision(decided), row)


def _resync(work: Work, entry: ResyncEntry) -> None:
    """Tell a destination again of all present members."""
    barrier, topology = work.barrier, work.stage.topology
    named = next((one for one in topology.topology.audiences if one.key == entry.audience), None) if topology else None
    violation = None
    if named is None:
        violation = f"refused: there is no audience {entry.audience}"
    elif entry.destination not in named.destinations:
        violation = f"refused: the audience {entry.audience} does not go to {entry.destination}"
    else:
        work.everywhere(
            lambda index: Resync(
                index=index,
                record=0,
                now=barrier.now,
                audience_key=entry.audience,
                destination=entry.destination,
                message_id=entry.id,
            )
        )
    decision = Decision("resync_requested", violation=violation)
    row = ledger_row(decision, seq_text(work.offset, 0), entry.id, None)
    row["audience_key"], row["destination"] = entry.audience, entry.destination
    work.ledger(0, decision, row)


def _proposed(work: Work, entry: Control) -> tuple[CompiledTopology | None, str | None]:
    """The topology that comes into force; or None, and why it does not."""
    in_force = work.barrier.topology_version
    if entry.based_on != in_force:
        return None, f"refused: based on {entry.based_on}, in force is {in_force}"
    try:
        proposed = compile_topology(Topology.from_canonical(entry.topology))
    except TopologyError as error:
        return None, f"refused: {error.problems[0]}"
    present = work.stage.topology
    if present is None:
        return proposed, None
    problems = succession_problems(present.topology, proposed.topology, work.barrier.retired)
    return (None, f"refused: {problems[0]}") if problems else (proposed, None)


def _put_in_force(work: Work, topology: CompiledTopology) -> None:
    barrier = work.barrier
    if work.stage.topology is not None:
        gone = computed_keys(work.stage.topology.topology).keys() - computed_keys(topology.topology).keys()
        barrier.retired = [*barrier.retired, *sorted(gone)]
    since = _since(work, topology.topology)
    if since:
        topology = compile_topology(topology.topology, since=since)
    work.stage.put_in_force(topology)
    barrier.topology_version = topology.version
    barrier.topology_entry = work.offset
    ours = {found.name: found.topic for found in topology.topology.destinations}
    barrier.destinations = {**barrier.destinations, **ours}
    key, value = topology_write(topology)
    work.extra[key] = value
    plain = canonical(topology.topology)
    work.everywhere(
        lambda index: TopologyApplied(
            index=index, record=0, now=barrier.now, version=topology.version, topology=plain, since=since
        )
    )


def _since(work: Work, topology: Topology) -> dict[str, Instant]:
    """From which event time on the events of each audience count that does not want all of history.

    It is reckoned from when the audience was first declared to say what it says: coming back to an earlier version
    also comes back to its beginning, so that a version always means the same.
    """
    since: dict[str, Instant] = {}
    for audience in topology.audiences:
        if audience.historical is True:
            continue
        about = derive("declared", str(audience.definition), str(audience.historical))
        name = f"{audience.key}:{base62(about, _DECLARED_DIGITS)}"
        work.barrier.declared = {name: work.barrier.now, **work.barrier.declared}
        since[audience.key] = max(0, work.barrier.declared[name] - int(audience.historical))
    return since


def first_topology(topology: CompiledTopology, clock: Instant) -> Control:
    """The control that puts a space's first topology in force."""
    return Control(clock=clock, control="apply", id=f"first-{topology.version}", topology=canonical(topology.topology))


def resync_entry(audience: str, destination: str, end: int, clock: Instant) -> ResyncEntry:
    """The order to tell a destination of an audience again. `end`: of the identity log; it makes the id."""
    return ResyncEntry(clock, f"resync-{audience}-{destination}-{end}", audience, destination)


def apply_control(topology: CompiledTopology, based_on: str, end: int, clock: Instant) -> Control:
    """The control that asks for another topology version, based on the one in force. `end`: of the identity log.

    Its id is derived, so that the same wish, sent twice at the same place of the log, is done once.
    """
    identity = f"apply-{topology.version}-on-{based_on}-{end}"
    return Control(clock, "apply", identity, based_on, canonical(topology.topology))
