"""The identity stage: one entry of the identity log becomes one step. Decides in memory, sends and writes nothing."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, Final

import msgspec
from msgspec import Struct, field

from cdp_stream.errors import LogContradiction
from cdp_stream.intake.dead_letter import dead_letter_record
from cdp_stream.intake.decode import decode
from cdp_stream.model.change import SOURCE_KEY, Clock, ProfileChange
from cdp_stream.model.event import DeadLetter, Event, RawRecord
from cdp_stream.model.graph import Decision
from cdp_stream.model.ports import Store
from cdp_stream.model.time import Instant, format_instant
from cdp_stream.pipeline import CompiledTopology, refuse, resolve_event
from cdp_stream.stages.entries import (
    AcceptLoss,
    ClockEntry,
    Entry,
    Slice,
    SourceReset,
    encode_entry,
    entry_time,
    records_crc,
)
from cdp_stream.stages.graph import GraphDraft
from cdp_stream.stages.known import COMPILED, Core, SliceWalk
from cdp_stream.stages.orders import decide_order
from cdp_stream.stages.profile_changes import changes_of, context_of
from cdp_stream.stages.records import (
    DEAD_LETTERS,
    LEDGER,
    OutputRecord,
    encode_row,
    ledger_row,
    partition_of,
    seq_text,
)
from cdp_stream.stages.state_format import decode_barrier, stamp
from cdp_stream.stages.versions import load_topology_version

BARRIER_KEY: Final = b"barrier"
NO_IDENTIFIERS: Final = "No matching identifiers on event"


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
    links_count: int = 0
    """How many links between users and accounts were ever made."""
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

    def __init__(self, store: Store, partitions: int, core: Core | None = COMPILED, topic_prefix: str = "") -> None:
        """Open the state as the last commit left it. `core`: None walks every event in Python.

        `topic_prefix`: what the topics of the records begin with before the name that the topology has for them.
        """
        self._topic_prefix = topic_prefix
        self.store = store
        self._core = core
        self.walk: SliceWalk | None = None
        self.partitions = partitions
        self.barrier = decode_barrier(store.get(BARRIER_KEY), IdentityBarrier)
        if not self.barrier.previous:
            self.barrier.previous = [-1] * partitions
        counts = self.barrier.profiles_count, self.barrier.links_count
        held = None if core is None else core.graph(store, *counts)
        self.graph = GraphDraft(store, self.barrier.registered, *counts, held)
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
        work = Work(self, offset)
        match entry:
            case Slice():
                work.slice(entry, entry_time(append_time, entry), records)
            case ClockEntry():
                if entry.drained:
                    barrier.now = max(barrier.now, entry_time(append_time, entry))
                work.everywhere(lambda index: Clock(index=index, record=0, now=barrier.now))
            case _:
                decide_order(work, entry)
        return work.finish(entry)

    def put_in_force(self, topology: CompiledTopology) -> None:
        """Decide by this topology from now on."""
        self.topology = topology
        self._source_names = {self._topic_prefix + source.topic: source.name for source in topology.topology.sources}
        self.walk = None
        # The compiled walk does not know what the topology calls its sources.
        if self._core is not None and SOURCE_KEY not in topology.context_keys:
            self.walk = self._core.walk(
                self.graph.held, topology.identity, topology.context_keys, topology.dedupe_horizon, self.partitions
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


class Work:
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
        if self.stage.walk is not None and self.stage.observe is None:
            self._compiled(self.stage.walk, append_time, records, topology)
            return
        barrier = self.barrier
        for number, record in enumerate(records):
            timestamp = record.timestamp
            if timestamp > barrier.now:
                barrier.now = max(barrier.now, min(timestamp, append_time))
            self._record(number, record, topology)

    def _compiled(
        self, walk: SliceWalk, append_time: Instant, records: Sequence[RawRecord], topology: CompiledTopology
    ) -> None:
        """The same, but for what the compiled walk leaves."""
        barrier = self.barrier
        walk.begin(self.offset, topology.version, records, (barrier.now, append_time), (self.changes, self.outputs))
        while (number := walk.advance(self.index)) < len(records):
            self.index, barrier.now = walk.index, walk.now
            self._record(number, records[number], topology)
        self.index, barrier.now = walk.index, walk.now
        self.tally.update(dict(walk.take_tally()))

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
        if not isinstance(event, DeadLetter):
            event = refuse(event, topology) or event
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
        if outcome.profiles or outcome.linked or outcome.registered:
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
        self.ledger(number, decision, row)

    def ledger(self, number: int, decision: Decision, row: dict[str, Any]) -> None:
        """A row of the ledger; what every row has is entered here."""
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
        barrier.links_count = self.stage.graph.links_count
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


def entry_hash(raw: bytes) -> str:
    """A short hash of an entry, to recognise it again."""
    return blake2b(raw, digest_size=16).hexdigest()
