"""Looks at every batch that the broker takes and at every commit: the invariants that hold at each moment."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import msgspec
import orjson
from aiokafka.structs import TopicPartition

from cdp_stream.model.ports import Changes, Store
from cdp_stream.stages.identity import BARRIER_KEY, IdentityBarrier
from cdp_stream.stages.profile_shapes import ProfileBarrier
from cdp_stream.stages.records import (
    AUDIENCE_CHANGES,
    DEAD_LETTERS,
    DESTINATION_PREFIX,
    LEDGER,
    PROFILE_CHANGES,
    SHIPMENTS,
    TRAIT_CHANGES,
)
from cdp_stream.store.memory import MemoryStore
from cdp_stream.stream.topics import TopicNames
from cdp_stream.testing.simulation.broker import SimulatedBroker, Stored
from cdp_stream.testing.simulation.invariants import Violations
from cdp_stream.testing.simulation.list_checks import Receiver
from cdp_stream.testing.simulation.state_checks import check_graph, check_partition

Barrier = IdentityBarrier | ProfileBarrier
_READ_ROLES = (LEDGER, TRAIT_CHANGES, AUDIENCE_CHANGES, DEAD_LETTERS)


class Auditor:
    """Knows what has been told so far, and says when a record contradicts it."""

    def __init__(self, names: TopicNames, violations: Violations, broker: SimulatedBroker) -> None:
        self._names = names
        self._violations = violations
        self._broker = broker
        destinations = [DESTINATION_PREFIX + name for name, _ in names.destinations]
        self.roles = {names.of_role(role): role for role in (*_READ_ROLES, *destinations)}
        self._with_src = {*self.roles, names.of_role(PROFILE_CHANGES), names.of_role(SHIPMENTS)}
        self._changelogs = {
            TopicPartition(names.changelog(stage), number): (stage, number)
            for stage, count in (("identity", 1), ("profiles", names.partitions))
            for number in range(count)
        }
        self.folds = {place: MemoryStore() for place in self._changelogs.values()}
        self.identity_barrier: IdentityBarrier | None = None
        self.profile_barriers: dict[int, ProfileBarrier] = {}
        self._sources: set[tuple[str, str]] = set()
        self._told: set[str] = set()
        self._owed: dict[str, str] = {}
        """Outputs that stood in no topic when a shipment of their change did, and its place."""
        self._shipments = names.of_role(SHIPMENTS)
        self._last_seq: dict[tuple[str, bytes], str] = {}
        self.members: dict[tuple[str, str], bool] = {}
        self.receiver = Receiver(violations)
        self._open: dict[tuple[str, ...], bool] = {}
        self._values: dict[tuple[str, str, str], Any] = {}
        self._resyncs: set[str] = set()
        """The changes of orders to tell again, by the beginning of the `src` of what is told then."""
        self._claimed: dict[int, int] = {}
        self.steps = 0

    def claimed(self, producer_id: int, epoch: int) -> None:
        """An owner has its epoch."""
        self._claimed[producer_id] = max(epoch, self._claimed.get(producer_id, 0))

    def taken(self, where: TopicPartition, records: Sequence[Stored], producer_id: int, epoch: int) -> None:
        """A batch stands in the log."""
        if epoch < self._claimed.get(producer_id, 0):
            self._violations.add(4, f"{where.topic}/{where.partition}", f"epoch {epoch} of producer {producer_id}")
        if where in self._changelogs:
            self._changelog(*self._changelogs[where], records)
        elif where.topic in self._with_src:
            for record in records:
                self._output(where, record)

    def _output(self, where: TopicPartition, record: Stored) -> None:
        src = dict(record.headers)["src"].decode()
        place = f"{where.topic}/{where.partition}@{record.offset}"
        if (where.topic, src) in self._sources:
            self._violations.add(5, place, f"src {src} stands there already")
        self._sources.add((where.topic, src))
        self._told.add(src)
        self._internal(where, record, place, src)
        role = self.roles.get(where.topic)
        if role is None:
            return
        row = orjson.loads(record.value or b"null")
        if "seq" in row:
            last = self._last_seq.get((role, record.key or b""), "")
            if row["seq"] < last:
                self._violations.add(6, place, f"{row['seq']} after {last}")
            self._last_seq[role, record.key or b""] = row["seq"]
        if role == AUDIENCE_CHANGES:
            self._audience(place, row)
        elif role == TRAIT_CHANGES:
            self._trait(place, row)
        elif role.startswith(DESTINATION_PREFIX) and row["type"] == "audience":
            self.receiver.take(place, role, row)
        elif role.startswith(DESTINATION_PREFIX):
            self._destination(place, role, row, again=src.rsplit("/", 3)[0] in self._resyncs)

    def _internal(self, where: TopicPartition, record: Stored, place: str, src: str) -> None:
        """What an output says of others: shipments of what stands before them, changes of what may be told again."""
        if where.topic == self._shipments:
            self._shipment(place, src, record)
        elif src in self._owed:
            self._violations.add(36, self._owed[src], f"stands before {src}, an output of the same change")
        if b'"change":"resync"' in (record.value or b"") and where.topic == self._names.of_role(PROFILE_CHANGES):
            self._resyncs.add(f"profiles/{where.partition}/{record.offset}")

    def _shipment(self, place: str, src: str, record: Stored) -> None:
        """The pieces of a state are numbered behind the other outputs of the change. So are those of the news of lists,
        which share the topic and may come in any order.
        """
        if msgspec.msgpack.decode(record.value or b"")["type"] != "state":
            return
        change, _, number = src.rpartition("/")
        for before in range(int(number)):
            if f"{change}/{before}" not in self._told:
                self._owed.setdefault(f"{change}/{before}", place)

    def _audience(self, place: str, row: dict[str, Any]) -> None:
        key = (row["profile_id"], row["audience_key"])
        entered = row["change"] == "entered"
        if entered == self.members.get(key, False):
            self._violations.add(7, place, f"{key[0]} {row['change']} {key[1]} twice")
        self.members[key] = entered

    def _trait(self, place: str, row: dict[str, Any]) -> None:
        key = (row["profile_id"], row["class"], row["trait_key"])
        if row["previous"] != self._values.get(key):
            self._violations.add(9, place, f"{key}: previous {row['previous']!r}, told was {self._values.get(key)!r}")
        self._values[key] = row["value"]

    def _destination(self, place: str, role: str, row: dict[str, Any], *, again: bool) -> None:
        personas = row["context"]["personas"]
        if personas["computation_class"] != "audience":
            return
        told = row["traits"] if row["type"] == "identify" else row["properties"]
        traits = row["traits"] if row["type"] == "identify" else row["context"].get("traits", {})
        device = row["context"].get("device", {}).get("advertisingId", "")
        ids = (row.get("userId", ""), row.get("anonymousId", ""), traits.get("email", ""), device)
        key = (role, row["type"], personas["computation_key"], *ids)
        entered = told[personas["computation_key"]]
        if entered == self._open.get(key, False) and not (again and entered):
            self._violations.add(8, place, f"{key} {'entered' if entered else 'exited'} twice")
        self._open[key] = entered

    def _changelog(self, stage: str, number: int, records: Sequence[Stored]) -> None:
        self.folds[stage, number].commit({record.key or b"": record.value for record in records})
        place = f"{stage}-{number}"
        raw = {record.key: record.value for record in records}.get(BARRIER_KEY)
        if raw is None:
            self._violations.add(11, place, "a batch of the changelog without a barrier")
        elif stage == "identity":
            after = msgspec.msgpack.decode(raw, type=IdentityBarrier)
            if self.identity_barrier is not None:
                self._follows(place, self.identity_barrier, after)
                self._sources_follow(place, self.identity_barrier, after)
            self._ends(place, after)
            self.identity_barrier = after
        else:
            stands = msgspec.msgpack.decode(raw, type=ProfileBarrier)
            before = self.profile_barriers.get(number)
            if before is not None:
                self._follows(place, before, stands)
            self._ends(place, stands)
            self.profile_barriers[number] = stands

    def _follows(self, place: str, before: Barrier, after: Barrier) -> None:
        self.steps += 1
        moved = {"next_offset": (before.next_offset, after.next_offset), "now": (before.now, after.now)}
        if isinstance(before, ProfileBarrier) and isinstance(after, ProfileBarrier):
            moved["shipments_next"] = (before.shipments_next, after.shipments_next)
        for topic, partitions in before.outputs.items():
            for number, offset in partitions.items():
                moved[f"{topic}/{number}"] = (offset, after.outputs.get(topic, {}).get(number, 0))
        for name, (was, now) in moved.items():
            if now < was:
                self._violations.add(10, place, f"{name} went from {was} to {now}")
        inputs = ("next_offset", "shipments_next")
        if all(moved[name][0] == moved[name][1] for name in inputs if name in moved):
            self._violations.add(10, place, f"a step at {after.next_offset} was stored twice")

    def _sources_follow(self, place: str, before: IdentityBarrier, after: IdentityBarrier) -> None:
        for topic, partitions in before.sources.items():
            for number, position in partitions.items():
                now = after.sources.get(topic, {}).get(number)
                if now is None or now.offset < position.offset:
                    self._violations.add(10, place, f"source {topic}/{number} went back from {position.offset}")

    def _ends(self, place: str, barrier: Barrier) -> None:
        for topic, partitions in barrier.outputs.items():
            for number, offset in partitions.items():
                end = self._broker.partitions[TopicPartition(topic, number)].end
                if offset > end:
                    self._violations.add(12, place, f"{topic}/{number}: stored is {offset}, the end is {end}")

    def committed(self, stage: str, number: int, store: Store, changes: Changes) -> None:
        """A store was written; `changes` as they are in it now."""
        if all(map(_is_its_own, changes)):
            return
        fold = self.folds[stage, number]
        place = f"{stage}-{number}"
        barrier = changes.get(BARRIER_KEY)
        if barrier == fold.get(BARRIER_KEY):
            held = (pair for pair in store.scan(b"") if not _is_its_own(pair[0]))
            pairs = zip_longest(held, fold.scan(b""), fillvalue=(None, None))
            for (key, value), (wanted_key, wanted) in pairs:
                if (key, value) != (wanted_key, wanted):
                    self._violations.add(
                        11, place, f"the store has {key!r}, the changelog {wanted_key!r}, or another value"
                    )
                    break
        elif barrier is None or self._is_ahead(stage, barrier, fold.get(BARRIER_KEY)):
            self._violations.add(11, place, "a step was stored that the changelog does not hold")
        if stage == "identity":
            check_graph(store, self._violations)
        else:
            check_partition(store, number, self._names.partitions, self._violations)

    def _is_ahead(self, stage: str, barrier: bytes, logged: bytes | None) -> bool:
        if logged is None:
            return True
        if stage == "identity":
            first, second = (msgspec.msgpack.decode(raw, type=IdentityBarrier) for raw in (barrier, logged))
            return first.next_offset > second.next_offset
        stands, stood = (msgspec.msgpack.decode(raw, type=ProfileBarrier) for raw in (barrier, logged))
        return stands.next_offset + stands.shipments_next > stood.next_offset + stood.shipments_next


def _is_its_own(key: bytes) -> bool:
    """What a store says of itself; in no changelog."""
    return key.startswith(b"\0")
