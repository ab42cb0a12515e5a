"""The identity stage: one entry of the identity log becomes one step. Decides in memory, sends and writes nothing."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, Final

import msgspec
from msgspec import Struct, field

from cdp_stream.config.topology import Topology, canonical
from cdp_stream.errors import LogContradiction, TopologyError
from cdp_stream.intake.dead_letter import dead_letter_record
from cdp_stream.intake.decode import decode
from cdp_stream.model.change import Clock, ProfileChange, Resync, TopologyApplied
from cdp_stream.model.event import DeadLetter, Event, RawRecord
from cdp_stream.model.graph import Decision, DecisionKind
from cdp_stream.model.ids import SourceRef, base62, derive
from cdp_stream.model.ports import Store
from cdp_stream.model.time import Instant, format_instant
from cdp_stream.pipeline import CompiledTopology, changes_of, compile_topology, context_of, resolve_event
from cdp_stream.stages.entries import (
    AcceptLoss,
    ClockEntry,
    Control,
    Entry,
    ResyncEntry,
    Slice,
    SourceReset,
    encode_entry,
    entry_time,
    records_crc,
)
from cdp_stream.stages.graph import GraphDraft
from cdp_stream.stages.known import COMPILED, TAKEN, MakeShortCut, ShortCut
from cdp_stream.stages.records import (
    DEAD_LETTERS,
    LEDGER,
    OutputRecord,
    encode_row,
    partition_of,
    seq_text,
)
from cdp_stream.stages.state_format import decode_barrier, stamp

BARRIER_KEY: Final = b"barrier"
_TOPOLOGY: Final = b"t"
_DECLARED_DIGITS: Final = 12
NO_IDENTIFIERS: Final = "No matching identifiers on event"
CONTROL_IDS_MAX: Final = 1_000
"""How many ids of controls are remembered, so that a repeat is known."""


class StoredVersion(Struct, frozen=True):
    """A topology version in the state: its canonical form, and from when on which audiences count events."""

    topology: dict[str, Any]
    since: dict[str, Instant]


def stored_version(raw: bytes) -> StoredVersion:
    """A topology version as the state has it. Formats 0 and 1 held the canonical form alone."""
    plain = msgspec.json.decode(raw)
    if "topology" not in plain:
        plain = {"topology": plain, "since": {}}
    return msgspec.convert(plain, StoredVersion)


class SourcePosition(Struct, frozen=True, array_like=True):
    """How far a source partition has been read, and which topic (the broker's id) that was."""

    topic_id: str
    offset: int


class IdentityBarrier(Struct, kw_only=True):
    """Where the stage stands; written with every step, in the same batch as the step's changes."""

    next_offset: int = 0
    entry_offset: int = -1
    """Offset of the last entry done, and a hash of it: a log that contradicts it was truncated or made anew."""
    entry_hash: str = ""
    sources: dict[str, dict[int, SourcePosition]] = field(default_factory=dict)
    profiles_count: int = 0
    registered: list[str] = field(default_factory=list)
    now: Instant = 0
    topology_version: str | None = None
    topology_entry: int = -1
    """Offset of the control that put it in force: where its text can be read by anyone, without the state."""
    destinations: dict[str, str] = field(default_factory=dict)
    """Topics of all destinations that were ever in force, by name: parked records are played with their own version."""
    declared: dict[str, Instant] = field(default_factory=dict)
    """Stream time when each audience without all of history was declared: by its key and a hash of what it says."""
    retired: list[str] = field(default_factory=list)
    """Keys of traits and audiences that are declared no more; they are never used again."""
    controls: list[str] = field(default_factory=list)
    previous: list[int] = field(default_factory=list)
    """Offset of the last message to each partition of profile changes."""
    outputs: dict[str, dict[int, int]] = field(default_factory=dict)
    """Next offset of every output partition, as far as our own outputs are stored."""
    changelog: int = 0
    producer_id: int = -1
    state_format: int = 0
    decided_by: int = 0
    """See `state_format`; 0 where nothing is said."""


class IdentityStep(Struct):
    """What one entry decided: records to send, one message per profile partition, state to write, figures."""

    offset: int
    outputs: list[OutputRecord]
    changes: dict[int, list[ProfileChange]]
    topology_version: str
    writes: dict[bytes, bytes | None]
    tally: Counter[tuple[str, ...]]
    barrier: IdentityBarrier
    """Where the stage stands after the step; `encode_barrier` enters what only sending it has told."""
    void: bool = False
    moves_positions: bool = False
    """Whoever reads the sources is elsewhere now than the state says."""


class IdentityStage:
    """The single writer of a space's identity graph, over a store."""

    def __init__(
        self, store: Store, partitions: int, short_cut: MakeShortCut | None = COMPILED, topic_prefix: str = ""
    ) -> None:
        """Open the state as the last commit left it. `short_cut`: None walks every event in Python.

        `topic_prefix`: what the topics of the records begin with before the name that the topology has for them.
        """
        self._topic_prefix = topic_prefix
        self.store = store
        self._make_short_cut = short_cut
        self.short_cut: ShortCut | None = None
        self.partitions = partitions
        self.barrier = decode_barrier(store.get(BARRIER_KEY), IdentityBarrier)
        if not self.barrier.previous:
            self.barrier.previous = [-1] * partitions
        self.graph = GraphDraft(store, self.barrier.registered, self.barrier.profiles_count)
        self.topology: CompiledTopology | None = None
        if self.barrier.topology_version is not None:
            self.put_in_force(load_topology_version(store, self.barrier.topology_version))
        self.observe: Callable[[str, RawRecord, Any], None] | None = None
        """Called with each decision, for `--explain` and the demo; never changes anything."""

    def decide(
        self, offset: int, append_time: Instant, entry: Entry, records: Sequence[RawRecord] | None
    ) -> IdentityStep:
        """The step of one entry. `records`: exactly what the slice names, in its order; None: they are given up.

        Raises LogContradiction, before anything is changed, when entry or records contradict the state.
        """
        barrier = self.barrier
        if offset < barrier.next_offset:
            raise LogContradiction(f"entry {offset} was done already; the next one is {barrier.next_offset}")
        work = _Work(self, offset)
        match entry:
            case Slice():
                work.slice(entry, entry_time(append_time, entry), records)
            case ClockEntry():
                if entry.drained:
                    barrier.now = max(barrier.now, entry_time(append_time, entry))
                work.everywhere(lambda index: Clock(index=index, record=0, now=barrier.now))
            case Control():
                work.control(entry)
            case AcceptLoss() | SourceReset():
                work.move_position(entry)
            case ResyncEntry():
                work.resync(entry)
        return work.finish(entry)

    def put_in_force(self, topology: CompiledTopology) -> None:
        """Decide by this topology from now on."""
        self.topology = topology
        self._source_names = {self._topic_prefix + source.topic: source.name for source in topology.topology.sources}
        self.short_cut = None
        # The short cut passes over the context, which some definitions read, or the history keeps.
        if self._make_short_cut is not None and not topology.context_keys:
            self.short_cut = self._make_short_cut(
                topology.identity, self.graph, topology.dedupe_horizon, self.partitions
            )

    def source_name(self, topic: str) -> str:
        """What the topology calls a record's source. A file's records, which no source names, are the first one's."""
        assert self.topology is not None, "records come after the first topology"
        return self._source_names.get(topic, self.topology.topology.sources[0].name)

    def is_done(self, src: str) -> bool:
        """Does an output of ours with this `src` come from an entry that is done?"""
        return int(src.split("/")[2]) < self.barrier.next_offset

    def source_position(self, topic: str, partition: int) -> SourcePosition | None:
        """How far a source partition has been decided, or None if it never was."""
        return self.barrier.sources.get(topic, {}).get(partition)

    def encode_barrier(self, step: IdentityStep) -> bytes:
        """The step's barrier as it is stored, once the positions of its outputs have been entered in the stage's own.

        To be called before anything of the next step is sent, which may be decided already.
        """
        live, barrier = self.barrier, step.barrier
        barrier.previous, barrier.outputs = live.previous, live.outputs
        barrier.changelog, barrier.producer_id = live.changelog, live.producer_id
        stamp(barrier)
        return msgspec.msgpack.encode(barrier)


def load_topology_version(store: Store, version: str) -> CompiledTopology:
    """A topology version that was once in force, from the state."""
    raw = store.get(_TOPOLOGY + version.encode())
    if raw is None:
        raise LogContradiction(f"topology version {version} is not in the state")
    stored = stored_version(raw)
    return compile_topology(Topology.from_canonical(stored.topology), since=stored.since)


def topology_write(topology: CompiledTopology) -> tuple[bytes, bytes]:
    """The state's pair for a topology version."""
    stored = StoredVersion(canonical(topology.topology), topology.since)
    return _TOPOLOGY + topology.version.encode(), msgspec.json.encode(stored)


class _Work:
    """One step while it is being decided."""

    def __init__(self, stage: IdentityStage, offset: int) -> None:
        self.stage = stage
        self.barrier = stage.barrier
        self.offset = offset
        self.outputs: list[OutputRecord] = []
        self.changes: defaultdict[int, list[ProfileChange]] = defaultdict(list)
        self.index = 0
        self.tally: Counter[tuple[str, ...]] = Counter()
        self.extra: dict[bytes, bytes | None] = {}
        self.void = False
        self._rows_of: tuple[int, int] = (-1, 0)
        self._now_written: tuple[Instant, str] = (-1, "")

    def slice(self, entry: Slice, append_time: Instant, records: Sequence[RawRecord] | None) -> None:
        """Every record of the slice, unless the slice is void: its positions do not follow ours, or it is given up."""
        if records is None or not self._follows(entry):
            self.void = True
            return
        _require_records(entry, records)
        for part in entry.sources:
            positions = self.barrier.sources.setdefault(part.topic, {})
            positions[part.partition] = SourcePosition(part.topic_id, part.end)
        topology = self.stage.topology
        assert topology is not None, "a slice cannot come before the first topology"
        # Whoever observes wants to see every event decided.
        short_cut = self.stage.short_cut if self.stage.observe is None else None
        barrier = self.barrier
        if short_cut is not None:
            short_cut.begin(self.offset, topology.version, self.changes, self.outputs)
        for number, record in enumerate(records):
            timestamp = record.timestamp
            if timestamp > barrier.now:
                barrier.now = max(barrier.now, min(timestamp, append_time))
            if short_cut is not None:
                outcome = short_cut.take(record, barrier.now, self.index, number)
                if outcome:
                    self.index += outcome == TAKEN
                    continue
            self._record(number, record, topology)
        if short_cut is not None:
            self.tally.update(short_cut.take_tally())

    def _follows(self, entry: Slice) -> bool:
        for part in entry.sources:
            stands = self.stage.source_position(part.topic, part.partition)
            if stands is None:
                continue
            if stands.topic_id != part.topic_id:
                raise LogContradiction(
                    f"{part.topic}: the topic was deleted and made anew (its id was {stands.topic_id}, "
                    f"now {part.topic_id})"
                )
            if stands.offset != part.start:
                return False
        return True

    def _record(self, number: int, record: RawRecord, topology: CompiledTopology) -> None:
        event = decode(record)
        if isinstance(event, DeadLetter):
            self._dead_letter(number, record, event)
            return
        now = self.barrier.now
        if not self.stage.graph.first_seen(event.message_id, now, topology.dedupe_horizon):
            self.tally["duplicate", event.type] += 1
            self._observe("duplicate", record, event)
            return
        if event.time > now:
            event = msgspec.structs.replace(event, time=now)
        outcome = resolve_event(event, self.stage.graph, topology)
        if outcome.profiles or outcome.registered:
            self.stage.graph.apply(outcome)
        for decision in outcome.decisions:
            self._decision(number, decision, event)
        if outcome.user is None and outcome.account is None:
            # So that it is no duplicate when it is put in again after a change of the topology.
            self.stage.graph.forget_last()
            self._dead_letter(number, record, DeadLetter("no_identifiers", None, NO_IDENTIFIERS))
            return
        self.tally["event", event.type] += 1
        context = context_of(event, self.stage.source_name(record.source.topic), topology)
        for change in changes_of(event, outcome, self.index, number, now, context):
            self._put(partition_of(change.profile_id, self.stage.partitions), change)
        self._observe("resolved", record, (event, outcome))

    def _put(self, partition: int, change: ProfileChange) -> None:
        self.changes[partition].append(change)
        self.index += 1

    def everywhere(self, make: Callable[[int], ProfileChange]) -> None:
        """The same change to every partition; `make` is given its index."""
        for partition in range(self.stage.partitions):
            self._put(partition, make(self.index))

    def _src(self, number: int) -> str:
        """`identity/0/<entry>/<record>/<n>`, n counted within one record."""
        last, count = self._rows_of
        count = count + 1 if last == number else 0
        self._rows_of = (number, count)
        return f"identity/0/{self.offset}/{number}/{count}"

    def _decision(self, number: int, decision: Decision, event: Event) -> None:
        self.tally["decision", decision.decision, decision.violation or ""] += 1
        row = ledger_row(decision, seq_text(self.offset, number), event.message_id, event.source)
        row["time"] = format_instant(event.time)
        self._ledger(number, decision, row)

    def _ledger(self, number: int, decision: Decision, row: dict[str, Any]) -> None:
        row["now"] = self._now_text()
        row["topology_version"] = self.barrier.topology_version
        key = decision.profile_id or self._space()
        partition = partition_of(key, self.stage.partitions)
        self.outputs.append(OutputRecord(LEDGER, partition, key.encode(), encode_row(row), self._src(number)))

    def _now_text(self) -> str:
        """`now` written out; most rows of a step share it."""
        if self._now_written[0] != self.barrier.now:
            self._now_written = (self.barrier.now, format_instant(self.barrier.now))
        return self._now_written[1]

    def _space(self) -> str:
        return "" if self.stage.topology is None else self.stage.topology.space

    def _dead_letter(self, number: int, record: RawRecord, letter: DeadLetter) -> None:
        self.tally["dead_letter", letter.reason] += 1
        row = dead_letter_record(letter, record, self.barrier.now)
        key = record.key or b""
        self.outputs.append(OutputRecord(DEAD_LETTERS, 0, key, encode_row(row), self._src(number)))
        self._observe("dead_letter", record, letter)

    def _observe(self, what: str, record: RawRecord, subject: Any) -> None:
        if self.stage.observe is not None:
            self.stage.observe(what, record, subject)

    def _is_repeat(self, order: str) -> bool:
        """Was an order of this id done before? From now on it was."""
        barrier = self.barrier
        if order in barrier.controls:
            return True
        barrier.controls = [*barrier.controls, order][-CONTROL_IDS_MAX:]
        return False

    def control(self, entry: Control) -> None:
        """An operator's order. A repeat is ignored; `apply` on another version than it names is refused."""
        if self._is_repeat(entry.id):
            return
        if entry.control != "apply":
            raise LogContradiction(f"entry {self.offset}: control {entry.control!r} is not known to this version")
        violation = self._refusal(entry)
        if violation is None:
            self._put_in_force(compile_topology(Topology.from_canonical(entry.topology)))
        decision = Decision("topology_applied", violation=violation)
        row = ledger_row(decision, seq_text(self.offset, 0), entry.id, None)
        self._ledger(0, decision, row)

    def move_position(self, entry: AcceptLoss | SourceReset) -> None:
        """An operator's order to go on elsewhere in a source; a repeat is ignored."""
        if self._is_repeat(entry.id):
            return
        barrier = self.barrier
        violation = None
        if isinstance(entry, SourceReset):
            decided: DecisionKind = "source_reset"
            barrier.sources.pop(entry.topic, None)
        else:
            decided = "loss_accepted"
            stands = self.stage.source_position(entry.topic, entry.partition)
            if stands is None:
                violation = f"refused: {entry.topic}/{entry.partition} was never read"
            elif entry.to < stands.offset:
                violation = f"refused: {entry.topic}/{entry.partition} is read up to {stands.offset}"
            else:
                barrier.sources[entry.topic][entry.partition] = SourcePosition(stands.topic_id, entry.to)
        row = ledger_row(Decision(decided, violation=violation), seq_text(self.offset, 0), entry.id, None)
        self._ledger(0, Decision(decided), row)

    def resync(self, entry: ResyncEntry) -> None:
        """An operator's order to tell a destination again. A repeat is ignored; a row says what became of it."""
        if self._is_repeat(entry.id):
            return
        barrier, topology = self.barrier, self.stage.topology
        named = (
            next((one for one in topology.topology.audiences if one.key == entry.audience), None) if topology else None
        )
        violation = None
        if named is None:
            violation = f"refused: there is no audience {entry.audience}"
        elif entry.destination not in named.destinations:
            violation = f"refused: the audience {entry.audience} does not go to {entry.destination}"
        else:
            self.everywhere(
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
        row = ledger_row(decision, seq_text(self.offset, 0), entry.id, None)
        row["audience_key"], row["destination"] = entry.audience, entry.destination
        self._ledger(0, decision, row)

    def _refusal(self, entry: Control) -> str | None:
        """Why a proposed topology does not come into force, or None if it does."""
        in_force = self.barrier.topology_version
        if entry.based_on != in_force:
            return f"refused: based on {entry.based_on}, in force is {in_force}"
        try:
            proposed = compile_topology(Topology.from_canonical(entry.topology))
        except TopologyError as error:
            return f"refused: {error.problems[0]}"
        if self.stage.topology is not None:
            now = self.stage.topology.topology
            for name in ("space", "partitions"):
                was, wanted = getattr(now, name), getattr(proposed.topology, name)
                if was != wanted:
                    return f"refused: {name} is {was} for the life of the space and cannot become {wanted}"
            kinds = {destination.name: destination.kind for destination in now.destinations}
            for destination in proposed.topology.destinations:
                was = kinds.get(destination.name, destination.kind)
                if was != destination.kind:
                    return f"refused: the destination {destination.name} is of the kind {was}; give the new one another name"
            return _key_used_again(now, proposed.topology, self.barrier.retired)
        return None

    def _put_in_force(self, topology: CompiledTopology) -> None:
        barrier = self.barrier
        if self.stage.topology is not None:
            gone = _keys(self.stage.topology.topology).keys() - _keys(topology.topology).keys()
            barrier.retired = [*barrier.retired, *sorted(gone)]
        since = self._since(topology.topology)
        if since:
            topology = compile_topology(topology.topology, since=since)
        self.stage.put_in_force(topology)
        barrier.topology_version = topology.version
        barrier.topology_entry = self.offset
        ours = {found.name: found.topic for found in topology.topology.destinations}
        barrier.destinations = {**barrier.destinations, **ours}
        key, value = topology_write(topology)
        self.extra[key] = value
        plain = canonical(topology.topology)
        self.everywhere(
            lambda index: TopologyApplied(
                index=index, record=0, now=barrier.now, version=topology.version, topology=plain, since=since
            )
        )

    def _since(self, topology: Topology) -> dict[str, Instant]:
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
            self.barrier.declared = {name: self.barrier.now, **self.barrier.declared}
            since[audience.key] = max(0, self.barrier.declared[name] - int(audience.historical))
        return since

    def finish(self, entry: Entry) -> IdentityStep:
        """Close the step: the barrier moves behind the entry."""
        barrier = self.barrier
        barrier.next_offset = self.offset + 1
        barrier.entry_offset = self.offset
        barrier.entry_hash = entry_hash(encode_entry(entry))
        topology = self.stage.topology
        horizon = topology.dedupe_horizon if topology is not None else 0
        writes = self.stage.graph.take_writes(self.offset, barrier.now, horizon)
        writes.update(self.extra)
        barrier.profiles_count = self.stage.graph.profiles_count
        barrier.registered = list(self.stage.graph.registered_types)
        sources = {topic: dict(positions) for topic, positions in barrier.sources.items()}
        return IdentityStep(
            offset=self.offset,
            outputs=self.outputs,
            changes=self.changes,
            topology_version=barrier.topology_version or "",
            writes=writes,
            tally=self.tally,
            barrier=msgspec.structs.replace(barrier, sources=sources),
            void=self.void,
            moves_positions=isinstance(entry, AcceptLoss | SourceReset),
        )


def _keys(topology: Topology) -> dict[str, str]:
    """Keys of what is computed, and whether each is a trait's or an audience's."""
    return {
        **{trait.key: "a trait" for trait in topology.traits},
        **{audience.key: "an audience" for audience in topology.audiences},
    }


def _key_used_again(now: Topology, proposed: Topology, retired: Sequence[str]) -> str | None:
    """Why a proposal's keys are refused: a key means one thing for the life of a space ("using-engage-data")."""
    was, wanted = _keys(now), _keys(proposed)
    for key, what in wanted.items():
        if key in retired:
            return f"refused: the key '{key}' was removed earlier and is never used again; choose another key"
        if was.get(key, what) != what:
            return f"refused: the key '{key}' is that of {was[key]} and is never used for anything else"
    return None


def _require_records(entry: Slice, records: Sequence[RawRecord]) -> None:
    start = 0
    for part in entry.sources:
        taken = records[start : start + part.count]
        start += part.count
        if len(taken) != part.count or records_crc(taken) != part.crc:
            raise LogContradiction(
                f"{part.topic}/{part.partition}: offsets {part.start} to {part.end} do not hold the "
                f"{part.count} records that the identity log names; was the topic made anew, compacted or trimmed?"
            )


def ledger_row(decision: Decision, seq: str, message_id: str, source: SourceRef | None) -> dict[str, Any]:
    """A decision as a ledger record; absent fields are left out."""
    row: dict[str, Any] = {"seq": seq, "decision": decision.decision}
    if decision.profile_id is not None:
        row["profile_id"] = decision.profile_id
        row["collection"] = decision.collection
    if decision.identifiers:
        row["identifiers"] = [{"type": type_, "id": value} for type_, value in decision.identifiers]
    if decision.absorbed:
        row["absorbed"] = list(decision.absorbed)
    if decision.demoted:
        row["demoted"] = [{"type": type_, "id": value} for type_, value in decision.demoted]
    if decision.violation is not None:
        row["violation"] = decision.violation
    row["message_id"] = message_id
    if source is not None:
        row["source"] = {"topic": source.topic, "partition": source.partition, "offset": source.offset}
    return row


def entry_hash(raw: bytes) -> str:
    """A short hash of an entry, to recognise it again."""
    return blake2b(raw, digest_size=16).hexdigest()


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
