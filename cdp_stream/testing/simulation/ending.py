"""The end of a run: what stands in the topics and the stores is compared with what the log alone says."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import lru_cache
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec
import orjson
from aiokafka.structs import TopicPartition

from cdp_stream.model.change import Absorbed, Absorbs, ProfileChange, ProfileChanges, ProfileEvent, TopologyApplied
from cdp_stream.model.event import RawRecord
from cdp_stream.model.ids import ProfileId, SourceRef
from cdp_stream.model.ports import Store
from cdp_stream.model.profile import Cause, PastEvent, ProfileState
from cdp_stream.model.time import Instant
from cdp_stream.pipeline import CompiledTopology, absorb_profiles, fire_due, reconsider, update_profile
from cdp_stream.stages.digest import OutputsDigest
from cdp_stream.stages.entries import ClockEntry, Entry, Slice, SourceSlice, decode_entry, entry_time, records_crc
from cdp_stream.stages.graph import GraphDraft
from cdp_stream.stages.history import message_ids
from cdp_stream.stages.profile_states import ProfileDraft
from cdp_stream.stages.records import LEDGER, PROFILE_CHANGES, OutputRecord, partition_of
from cdp_stream.stages.versions import load_topology_version
from cdp_stream.stages.views import profile_view
from cdp_stream.testing.local import LocalSpace
from cdp_stream.testing.simulation.list_checks import check_members
from cdp_stream.testing.simulation.state_checks import (
    check_both,
    graph_of,
    identity_barrier,
    require_rest,
    states_of,
    versions_of,
)

if TYPE_CHECKING:
    from cdp_stream.testing.simulation.run import Simulation

_CLOCKS_SHARE = 0.2
Entries = list[tuple[int, Instant, Entry, list[RawRecord]]]
Rows = dict[tuple[str, bytes], list[bytes]]


def compare_with_recomputation(run: Simulation) -> str:
    """Invariants 3, 27 to 34 and 39. Returns the run's digest."""
    identity: Store = run.auditor.folds["identity", 0]
    partitions: list[Store] = [run.auditor.folds["profiles", number] for number in range(run.plan.partitions)]
    require_rest(identity, partitions, run.violations)
    check_both(identity, partitions, run.violations)
    entries = _entries(run)
    _check_slices(run, entries)
    profiles = _views(identity, partitions)
    rows, digest = _rows(run)
    expected_rows, expected_profiles, _ = _recompute(entries, run.plan.partitions)
    for place in sorted(expected_rows.keys() | rows.keys()):
        _compare_rows(run, place, rows.get(place, []), expected_rows.get(place, []))
    for profile, expected in zip(profiles, expected_profiles, strict=False):
        if profile != expected:
            run.violations.add(32, str(profile["id"]), f"is {profile}, the log says {expected}")
    total = digest.total(profiles)
    draw = run.plan.draw("recut")
    others = draw.choice([count for count in (1, 2, 3, 5, 8) if count != run.plan.partitions])
    # What has become due since the last clock fires in both: clocks between the pieces fire some of it.
    once = _recompute(_with_clock(entries), run.plan.partitions)[2]
    again = _recompute(_with_clock(_recut(entries, draw)), others)[2]
    if again != once and not run.violations.found:
        run.violations.add(33, f"partitions {others}, cut elsewhere", f"digest {again}, this run's is {once}")
    _check_ledger(run, identity)
    _check_from_scratch(run, identity, partitions)
    _check_memberships(run, identity, partitions)
    states = [state for store in partitions for state in states_of(store).values()]
    versions, gone = versions_of(identity).values(), identity_barrier(identity).retired
    check_members(run.auditor.receiver.members, states, partitions, versions, gone, run.violations)
    positions: dict[tuple[str, int], int] = {}
    void = [entry for _, _, entry, _ in entries if isinstance(entry, Slice) and not _follows(entry, positions)]
    run.figures.update(
        {"void slices": len(void)},
        entries=len(entries),
        steps=run.auditor.steps,
        profiles=len(profiles),
        merged=sum(len(profile["absorbed"]) for profile in profiles),
        outputs=sum(len(values) for values in rows.values()),
    )
    return total


def _entries(run: Simulation) -> Entries:
    barrier = run.auditor.identity_barrier
    assert barrier is not None
    entries: Entries = []
    for stored in run.broker.partitions[TopicPartition(run.names.identity_log, 0)].stored:
        if stored.marker or stored.offset >= barrier.next_offset:
            continue
        entry = decode_entry(stored.value or b"")
        records: list[RawRecord] = []
        for part in entry.sources if isinstance(entry, Slice) else ():
            for found in run.broker.partitions[TopicPartition(part.topic, part.partition)].since(part.start):
                if found.offset < part.end and not found.marker and not found.aborted:
                    place = SourceRef(part.topic, part.topic_id, part.partition, found.offset)
                    key, value = found.key, found.value
                    records.append(RawRecord(place, found.timestamp, key, value, part.identity))
        entries.append((stored.offset, stored.timestamp, entry, records))
    return entries


def _follows(entry: Slice, positions: dict[tuple[str, int], int]) -> bool:
    """Does the slice count? It moves the positions if it does."""
    if any(positions.get((part.topic, part.partition), part.start) != part.start for part in entry.sources):
        return False
    positions.update({(part.topic, part.partition): part.end for part in entry.sources})
    return True


def _check_slices(run: Simulation, entries: Entries) -> None:
    positions: dict[tuple[str, int], int] = {}
    seen: dict[tuple[str, int], list[int]] = {}
    for _, _, entry, records in entries:
        if isinstance(entry, Slice) and _follows(entry, positions):
            for record in records:
                seen.setdefault((record.source.topic, record.source.partition), []).append(record.source.offset)
    for topic in run.names.sources:
        for number in range(run.plan.source_partitions):
            stored = run.broker.partitions[TopicPartition(topic, number)].stored
            sent = [one.offset for one in stored if not one.marker and not one.aborted]
            if sent != seen.get((topic, number), []):
                run.violations.add(3, f"{topic}/{number}", f"sent were {sent}, decided {seen.get((topic, number))}")


def _with_clock(entries: Entries) -> Entries:
    """The same entries, and in the end a clock that does not move `now`."""
    return [*entries, (entries[-1][0] + 1, 0, ClockEntry(0, drained=True), [])]


def _recut(entries: Entries, draw: Random) -> Entries:
    """The same order cut elsewhere: slices in pieces, each with the append time of the whole; void ones left out.

    Between them come clocks that do not move `now`; none after the last true one, which fires all that they may.
    """
    clocks = [
        place for place, (_, _, entry, _) in enumerate(entries) if isinstance(entry, ClockEntry) and entry.drained
    ]
    cut: Entries = []
    positions: dict[tuple[str, int], int] = {}
    for place, (_, at, entry, records) in enumerate(entries):
        if positions and place < max(clocks, default=0) and draw.random() < _CLOCKS_SHARE:
            # A clock that moves nothing: what is due fires now and not before the next change, and is told the same.
            cut.append((len(cut), 0, ClockEntry(0, drained=True), []))
        if not isinstance(entry, Slice):
            cut.append((len(cut), at, entry, []))
            continue
        if not _follows(entry, positions):
            continue
        left, held = list(entry.sources), list(records)
        joined = cut[-1] if cut and draw.random() < 0.5 else None
        if joined is not None and _may_join(joined, entry, records, at):
            offset, before_at, before, before_records = joined
            assert isinstance(before, Slice)
            cut[-1] = (offset, before_at, Slice(before.clock, before.sources + entry.sources), before_records + records)
            continue
        while left:
            part = left.pop(0)
            taken = held[: part.count]
            del held[: part.count]
            for piece, piece_records in _pieces(part, taken, draw):
                cut.append((len(cut), at, Slice(entry.clock, (piece,)), piece_records))
    return cut


def _may_join(
    before: tuple[int, Instant, Entry, list[RawRecord]], entry: Slice, records: list[RawRecord], at: Instant
) -> bool:
    """Joining must not change at which time a record counts, nor name a partition twice."""
    _, before_at, slice_, _ = before
    if not isinstance(slice_, Slice):
        return False
    limits = entry_time(before_at, slice_), entry_time(at, entry)
    places = [(part.topic, part.partition) for part in (*slice_.sources, *entry.sources)]
    in_time = all(record.timestamp <= min(limits) for record in records)
    return in_time and len(set(places)) == len(places)


def _pieces(part: SourceSlice, records: list[RawRecord], draw: Random) -> Iterator[tuple[SourceSlice, list[RawRecord]]]:
    start = part.start
    while records:
        count = draw.randint(1, len(records))
        taken, records = records[:count], records[count:]
        end = taken[-1].source.offset + 1 if records else part.end
        piece = msgspec.structs.replace(part, start=start, end=end, count=count, crc=records_crc(taken))
        yield piece, taken
        start = end


def _recompute(entries: Entries, partitions: int) -> tuple[Rows, list[dict[str, Any]], str]:
    rows: Rows = {}
    digest = OutputsDigest()

    def sink(record: OutputRecord) -> None:
        rows.setdefault((record.topic, record.key), []).append(record.value)
        digest.add(record.topic, record.key, record.value)

    space = LocalSpace(partitions, sink)
    for offset, at, entry, records in entries:
        space.take(offset, at, entry, records)
    profiles = list(space.all_profiles())
    return rows, profiles, digest.total(profiles)


def _rows(run: Simulation) -> tuple[Rows, OutputsDigest]:
    rows: Rows = {}
    digest = OutputsDigest()
    for where, partition in run.broker.partitions.items():
        role = run.auditor.roles.get(where.topic)
        for stored in partition.stored if role is not None else ():
            if not stored.marker:
                rows.setdefault((role or "", stored.key or b""), []).append(stored.value or b"")
                digest.add(role or "", stored.key or b"", stored.value or b"")
    return rows, digest


def _compare_rows(run: Simulation, place: tuple[str, bytes], rows: list[bytes], expected: list[bytes]) -> None:
    if rows == expected:
        return
    for number, (row, wanted) in enumerate(zip(rows, expected, strict=False)):
        if row != wanted:
            run.violations.add(32, f"{place} row {number}", f"is {row!r}, the log says {wanted!r}")
            return
    run.violations.add(32, str(place), f"{len(rows)} rows, the log says {len(expected)}")


def _views(identity: Store, partitions: list[Store]) -> list[dict[str, Any]]:
    drafts = [ProfileDraft(store) for store in partitions]
    views = []
    space = GraphDraft(identity)
    for graph in space.all_profiles():
        draft = drafts[partition_of(graph.id, len(partitions))]
        views.append(
            profile_view(graph, draft.get(graph.id), message_ids(draft.histories.of(graph.id)), space.links(graph.id))
        )
    return views


def _check_ledger(run: Simulation, identity: Store) -> None:
    """Replays the ledger's rows, in the order of their `seq` and their number within it."""
    ids: dict[str, set[tuple[str, str]]] = {}
    absorbed: dict[str, str] = {}
    for row in _ledger(run):
        match row["decision"]:
            case "profile_created":
                ids[row["profile_id"]] = set()
            case "identifier_mapped":
                ids[row["profile_id"]].update((known["type"], known["id"]) for known in row["identifiers"])
            case "profiles_merged":
                for gone in row["absorbed"]:
                    ids[row["profile_id"]] |= ids.pop(gone)
                    absorbed[gone] = row["profile_id"]
    graph = graph_of(identity)
    for profile_id in sorted(graph.keys() | ids.keys()):
        held = {(m.type, m.value) for m in graph[profile_id].mappings} if profile_id in graph else None
        if held != ids.get(profile_id):
            run.violations.add(30, profile_id, f"holds {held}, the ledger says {ids.get(profile_id)}")
    for gone, into in absorbed.items():
        if gone not in graph[_end_of(absorbed, gone)].absorbed:
            run.violations.add(30, gone, f"the ledger says that {into} absorbed it")


def _ledger(run: Simulation) -> list[dict[str, Any]]:
    found: list[tuple[str, int, dict[str, Any]]] = []
    for where, partition in run.broker.partitions.items():
        for stored in partition.stored if run.auditor.roles.get(where.topic) == LEDGER else ():
            if not stored.marker:
                row = orjson.loads(stored.value or b"")
                number = int(dict(stored.headers)["src"].decode().rpartition("/")[2])
                found.append((row["seq"], number, row))
    return [row for _, _, row in sorted(found, key=lambda entry: entry[:2])]


def _end_of(into: dict[str, str], profile_id: str) -> str:
    """Follow mergers to the profile that lives."""
    while profile_id in into:
        profile_id = into[profile_id]
    return profile_id


def _changes(run: Simulation) -> list[tuple[int, str, ProfileChange]]:
    decoder = msgspec.json.Decoder(ProfileChanges)
    found: list[tuple[int, str, ProfileChange]] = []
    for number in range(run.plan.partitions):
        partition = run.broker.partitions[TopicPartition(run.names.of_role(PROFILE_CHANGES), number)]
        for stored in partition.stored:
            if not stored.marker:
                message = decoder.decode(stored.value or b"")
                found.extend((message.step, message.topology_version, change) for change in message.changes)
    return sorted(found, key=lambda entry: (entry[0], entry[2].index))


def _check_from_scratch(run: Simulation, identity: Store, partitions: list[Store]) -> None:
    """Folds every event into its survivor from the start, lets time pass, and evaluates where the run did.

    Both are looked at as they stand at the end of the run, when all that is due by then has fired.
    """
    changes = _changes(run)
    into: dict[str, str] = {change.profile_id: change.into for _, _, change in changes if isinstance(change, Absorbed)}

    version_of = lru_cache(maxsize=16)(lambda version: load_topology_version(identity, version))
    states: dict[str, ProfileState] = {}
    past: dict[str, list[PastEvent]] = {}
    version_in_force: str | None = None
    for step, version, change in changes:
        topology = version_of(version)
        if isinstance(change, ProfileEvent):
            target = ProfileId(_end_of(into, change.profile_id))
            cause = Cause("event", change.time, change.now, change.message_id, str(step))
            event = msgspec.structs.replace(change, profile_id=target)
            before = states.get(target)
            aged = None if before is None else _aged(before, change.now, topology)
            states[target] = update_profile(aged, event, topology, cause).profile
            past.setdefault(target, []).append(_past(event))
        elif isinstance(change, Absorbs):
            target = ProfileId(_end_of(into, change.profile_id))
            cause = Cause("merge", change.time, change.now, change.message_id, str(step))
            states[target] = absorb_profiles(_aged(states[target], change.now, topology), [], topology, cause).profile
        elif isinstance(change, TopologyApplied):
            cause = Cause("topology", change.now, change.now, change.version, str(step))
            old = topology if version_in_force is None else version_of(version_in_force)
            version_in_force = change.version
            topology = version_of(change.version)
            states = {
                target: reconsider(_aged(state, change.now, old), old, topology, cause, past.get(target, ())).profile
                for target, state in states.items()
            }
    assert version_in_force is not None
    topology, now = version_of(version_in_force), max(change.now for _, _, change in changes)
    gone = identity_barrier(identity).retired
    drafts = [ProfileDraft(store) for store in partitions]
    for profile_id, state in sorted(states.items()):
        found = drafts[partition_of(profile_id, len(partitions))].get(state.id)
        shown = None if found is None else _essence(_aged(found, now, topology), gone)
        expected = _essence(_aged(state, now, topology), gone)
        if shown != expected:
            run.violations.add(31, profile_id, f"is {shown}, from scratch {expected}")


def _aged(profile: ProfileState, now: Instant, topology: CompiledTopology) -> ProfileState:
    """The profile once everything that is due by now has fired."""
    while (due := profile.due) is not None and due <= now:
        profile = fire_due(profile, due, topology, Cause("time", due, now, "", "")).profile
    return profile


def _past(event: ProfileEvent) -> PastEvent:
    return PastEvent(event.message_id, event.now, event.time, event.name, event.properties, event.context)


def _essence(state: ProfileState, gone: Collection[str]) -> dict[str, Any]:
    """What the promise of a merge speaks of: not what is declared no more, which stays as it last was on each profile."""
    return {
        "custom": {key: trait for key, trait in sorted(state.custom.items()) if key not in gone},
        "computed": {key: value for key, value in sorted(state.computed.items()) if value is not None},
        "audiences": sorted(key for key, member in state.memberships.items() if member),
        "external_ids": sorted((known.type, known.id) for known in state.external_ids),
    }


def _check_memberships(run: Simulation, identity: Store, partitions: list[Store]) -> None:
    # Of an audience that is declared no more nobody exits.
    gone = identity_barrier(identity).retired
    told = {key for key, member in run.auditor.members.items() if member and key[1] not in gone}
    held: set[tuple[str, str]] = set()
    for store in partitions:
        for state in ProfileDraft(store).all_profiles():
            held.update((str(state.id), key) for key, member in state.memberships.items() if member)
    for profile_id, key in sorted(told ^ held):
        where = "told" if (profile_id, key) in told else "held"
        run.violations.add(34, profile_id, f"{key} is only {where}")
