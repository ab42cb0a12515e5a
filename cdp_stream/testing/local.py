"""A whole space in one process: both stages, their stores and the log between them, without a broker.

The decisions, the state and the step loop are those of the worker; only the transport is a function call.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from cdp_stream.errors import StateError
from cdp_stream.model.change import ProfileChanges
from cdp_stream.model.event import RawRecord
from cdp_stream.model.graph import GraphProfile
from cdp_stream.model.ids import ACCOUNTS, USERS, Collection, ExternalId, ProfileId
from cdp_stream.model.ports import Store
from cdp_stream.model.time import Instant
from cdp_stream.stages.entries import Entry
from cdp_stream.stages.history import message_ids
from cdp_stream.stages.identity import BARRIER_KEY, IdentityStage
from cdp_stream.stages.known import COMPILED
from cdp_stream.stages.profile_shapes import ProfileStep, encode_changes
from cdp_stream.stages.profiles import ProfileStage
from cdp_stream.stages.records import SHIPMENTS, OutputRecord, partition_of
from cdp_stream.stages.views import profile_view
from cdp_stream.store.memory import MemoryStore
from cdp_stream.store.rocks import RocksStore

Sink = Callable[[OutputRecord], None]


def open_stores(where: str | Path, partitions: int, *, read_only: bool = False) -> tuple[Store, list[Store]]:
    """The identity store and one store a profile partition: in memory, or in a folder."""
    if where == "memory":
        return MemoryStore(), [MemoryStore() for _ in range(partitions)]
    folder = Path(where)
    if read_only and not (folder / "identity-0").exists():
        raise StateError(f"{folder}: no state here (no folder identity-0); was it written by `replay --state`?")
    return (
        RocksStore(folder / "identity-0", read_only=read_only),
        [RocksStore(folder / f"profiles-{number}", read_only=read_only) for number in range(partitions)],
    )


class LocalSpace:
    """Feed it entries of an identity log; outputs go to the sink, in the order of their topics."""

    def __init__(
        self,
        partitions: int,
        sink: Sink,
        where: str | Path = "memory",
        *,
        read_only: bool = False,
        topic_prefix: str = "",
        compiled: bool = True,
    ) -> None:
        """`compiled`: False decides everything in Python, also where the core was built: the reference."""
        self.partitions = partitions
        self._sink = sink
        identity_store, profile_stores = open_stores(where, partitions, read_only=read_only)
        short_cut = COMPILED if compiled else None
        self.identity = IdentityStage(identity_store, partitions, short_cut, topic_prefix=topic_prefix)
        self.profiles = [
            ProfileStage(store, number, partitions, compiled=compiled) for number, store in enumerate(profile_stores)
        ]
        self.tally: Counter[tuple[str, ...]] = Counter()

    @property
    def next_offset(self) -> int:
        """Offset of the next entry."""
        return self.identity.barrier.next_offset

    @property
    def now(self) -> Instant:
        """Stream time."""
        return self.identity.barrier.now

    def take(self, offset: int, append_time: Instant, entry: Entry, records: Sequence[RawRecord] = ()) -> None:
        """One entry through both stages, until nothing is under way."""
        step = self.identity.decide(offset, append_time, entry, records)
        self.tally.update(step.tally)
        for record in step.outputs:
            self._sink(record)
        previous = self.identity.barrier.previous
        messages: list[tuple[int, int, bytes]] = []
        for partition, changes in sorted(step.changes.items()):
            message = ProfileChanges(
                step=offset,
                previous=previous[partition],
                topology_version=step.topology_version,
                changes=changes,
            )
            previous[partition] += 1
            messages.append((partition, previous[partition], encode_changes(message)))
        self.identity.store.commit({**step.writes, BARRIER_KEY: self.identity.encode_barrier(step)})
        self.identity.graph.committed()
        shipments: list[OutputRecord] = []
        for partition, at, raw in messages:
            self.hand_over(partition, at, raw, shipments)
        self.deliver(shipments)

    def hand_over(self, partition: int, offset: int, raw: bytes, then: list[OutputRecord]) -> None:
        """Bring one message of profile changes to its partition; `then` takes what is shipped because of that."""
        self.profile_steps(partition, partial(self.profiles[partition].decide, [(offset, raw)]), then)

    def deliver(self, shipments: list[OutputRecord]) -> None:
        """Bring shipments to their partitions, and what is shipped because of that, until nothing is under way."""
        while shipments:
            self.deliver_one(shipments.pop(0), shipments)

    def deliver_one(self, shipment: OutputRecord, then: list[OutputRecord]) -> None:
        """Bring one shipment record to its partition; `then` takes what is shipped because of that."""
        stage = self.profiles[shipment.partition]
        decide = partial(stage.decide_shipments, [(stage.barrier.shipments_next, shipment.value)])
        self.profile_steps(shipment.partition, decide, then)

    def profile_steps(
        self, partition: int, decide: Callable[[], ProfileStep | None], shipments: list[OutputRecord]
    ) -> None:
        """All steps of these inputs."""
        while (step := decide()) is not None:
            self.tally.update(step.tally)
            for record in step.outputs:
                if record.topic == SHIPMENTS:
                    shipments.append(record)
                else:
                    self._sink(record)
            stage = self.profiles[partition]
            step.writes[BARRIER_KEY] = stage.encoded_barrier()
            stage.store.commit(step.writes)
            stage.states.committed()

    def find(self, name: str) -> dict[str, Any] | None:
        """A profile by `type:value` or by profile id (an absorbed one leads to its survivor), or None."""
        graph = self.find_graph(name)
        return None if graph is None else self.view(graph)

    def find_graph(self, name: str) -> GraphProfile | None:
        """The same, as the identity graph knows it."""
        profile_id: ProfileId | None = None
        if name.startswith("use_") and ":" not in name:
            profile_id = self.identity.graph.redirect(ProfileId(name)) or ProfileId(name)
        else:
            type_, _, value = name.partition(":")
            collection: Collection = ACCOUNTS if type_ == "group_id" else USERS
            external_id = ExternalId(type_, value)
            profile_id = self.identity.graph.owner(collection, external_id)
            if profile_id is None and collection == USERS:
                profile_id = self.identity.graph.owner(ACCOUNTS, external_id)
        if profile_id is None:
            return None
        try:
            return self.identity.graph.profile(profile_id)
        except KeyError:
            return None

    def all_profiles(self) -> Iterator[dict[str, Any]]:
        """Every profile, by id."""
        for graph in self.identity.graph.all_profiles():
            yield self.view(graph)

    def view(self, graph: GraphProfile) -> dict[str, Any]:
        """The public form of a profile."""
        states = self.profiles[partition_of(graph.id, self.partitions)].states
        links = self.identity.graph.links(graph.id)
        return profile_view(graph, states.get(graph.id), message_ids(states.histories.of(graph.id)), links)

    def close(self) -> None:
        """Close every store."""
        self.identity.store.close()
        for stage in self.profiles:
            stage.store.close()
