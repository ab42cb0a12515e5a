"""The shipped test kit: a topology in memory, fed one event at a time, with a clock that the test moves."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from cdp_stream.config.load import load_topology
from cdp_stream.config.topology import Topology, parse_topology
from cdp_stream.errors import Problem, TopologyError, UsageError
from cdp_stream.model.event import RawRecord
from cdp_stream.model.ids import Collection, SourceRef
from cdp_stream.model.time import Instant, instant_of, parse_instant
from cdp_stream.pipeline import compile_topology
from cdp_stream.stages.entries import ClockEntry, Control, ResyncEntry, Slice, SourceSlice, records_crc
from cdp_stream.stages.orders import first_topology, resync_entry
from cdp_stream.stages.records import OutputRecord
from cdp_stream.testing.local import LocalSpace

_TOPICS = {
    "ledger": "ledger",
    "trait_changes": "trait-changes",
    "audience_changes": "audience-changes",
    "dead_letters": "dead-letters",
}
_TOPIC_ID = "driver"


class TopologyDriver:
    """Put events, move the clock, read topics and profiles. Same core, store and step loop as the worker."""

    def __init__(
        self,
        topology: str | Path | Mapping[str, Any] | Topology,
        *,
        partitions: int | None = None,
        step_size: int = 100,
        store: str | Path = "memory",
        compiled: bool = True,
    ) -> None:
        """`topology`: a folder, a dict or a Topology. `store`: `memory`, or a folder for RocksDB. `compiled`: False decides
        everything in Python, also where the compiled core was built: with the same results.
        """
        self._topology = _topology(topology)
        self._step_size = step_size
        self._taken: dict[str, list[dict[str, Any]]] = {}
        self._space = LocalSpace(partitions or self._topology.partitions, self._collect, store, compiled=compiled)
        self._pending: list[RawRecord] = []
        self._offsets: dict[str, int] = {}
        self._clock: Instant = self._space.now
        self._clock_was_set = False
        self._fired: Instant = self._clock
        if self._space.next_offset == 0:
            self._entry(first_topology(compile_topology(self._topology), self._clock))
        else:
            for topic, positions in self._space.identity.barrier.sources.items():
                self._offsets[topic] = positions[0].offset

    def put(
        self,
        event: Mapping[str, Any] | bytes | str | None,
        received_at: str | datetime | None = None,
        source: str | None = None,
    ) -> None:
        """Hand in one source record, received at this instant or, by default, now by the driver's clock.

        As long as no test has set the clock, an event without `received_at` is received at its own `receivedAt` or
        timestamp, as in replay.
        """
        value = orjson.dumps(event) if isinstance(event, Mapping) else event
        raw = value.encode() if isinstance(value, str) else value
        if received_at is not None:
            received = _instant(received_at)
            self._clock_was_set = True
        else:
            received = self._clock if self._clock_was_set else max(self._clock, _own_time(event))
        self._clock = max(self._clock, received)
        chosen = self._source(source)
        offset = self._offsets.get(chosen.topic, 0)
        self._offsets[chosen.topic] = offset + 1
        place = SourceRef(chosen.topic, _TOPIC_ID, 0, offset)
        self._pending.append(RawRecord(place, received, None, raw, chosen.identity))
        if len(self._pending) >= self._step_size:
            self._flush()

    def advance_to(self, instant: str | datetime) -> None:
        """Move the clock and fire what is due. Raises UsageError when that would be backwards."""
        target = _instant(instant)
        if target < self._clock:
            raise UsageError(f"the clock stands at {self._clock} ms and cannot go back to {target} ms")
        self._flush()
        self._clock = target
        self._clock_was_set = True
        self._settle()

    def reconfigure(self, topology: str | Path | Mapping[str, Any] | Topology) -> None:
        """Put another topology version in force, as a control entry. Raises TopologyError when it is refused, as the
        ledger then says, too.
        """
        self._flush()
        barrier = self._space.identity.barrier
        based_on = barrier.topology_version
        wanted = _topology(topology)
        compiled = compile_topology(wanted)
        proposed = first_topology(compiled, self._clock)
        number = self._space.next_offset
        identity = f"driver-{number}-{compiled.version}"
        self._entry(
            Control(clock=self._clock, control="apply", id=identity, based_on=based_on, topology=proposed.topology)
        )
        if barrier.topology_version != compiled.version:
            row = self._taken["ledger"][-1]
            raise TopologyError("topology", [Problem("", row["violation"])])
        self._topology = wanted

    def resync(self, audience: str, destination: str) -> None:
        """Tell a destination of every present member of an audience again, as an entry of the log."""
        self._settle()
        self._entry(resync_entry(audience, destination, self._space.next_offset, self._clock))

    def profile(self, name: str) -> dict[str, Any] | None:
        """A profile by `type:value` (`group_id:…` looks in accounts) or profile id, also an absorbed one's."""
        self._settle()
        return self._space.find(name)

    def profiles(self, collection: Collection = "users") -> list[dict[str, Any]]:
        """All profiles of a collection, in order of creation."""
        self._settle()
        graph = [found for found in self._space.identity.graph.all_profiles() if found.collection == collection]
        return [self._space.view(found) for found in sorted(graph, key=lambda found: found.number)]

    def take(self, topic: str) -> list[dict[str, Any]]:
        """The records of a topic since the last take: `ledger`, `trait_changes`, `audience_changes`,
        `dead_letters` or `destinations/<name>`.
        """
        self._settle()
        if topic not in _TOPICS and not topic.startswith("destinations/"):
            raise UsageError(f"no topic {topic!r}; there are {', '.join(_TOPICS)} and destinations/<name>")
        return self._taken.pop(_TOPICS.get(topic, topic), [])

    def close(self) -> None:
        """Decide what is pending and close the stores."""
        self._flush()
        self._space.close()

    def _collect(self, record: OutputRecord) -> None:
        self._taken.setdefault(record.topic, []).append(orjson.loads(record.value))

    def _source(self, name: str | None) -> Any:
        for source in self._topology.sources:
            if name is None or source.name == name:
                return source
        names = ", ".join(source.name for source in self._topology.sources)
        raise UsageError(f"no source {name!r} in the topology; there are: {names}")

    def _settle(self) -> None:
        """Decide what is pending, and fire what is due by the driver's clock: what is read is true at that instant."""
        self._flush()
        if self._fired < self._clock:
            self._entry(ClockEntry(clock=self._clock, drained=True))
            self._fired = self._clock

    def _flush(self) -> None:
        records, self._pending = self._pending, []
        if not records:
            return
        # A slice lists each partition once, so a step's records go by source, as the worker's do.
        by_topic: dict[str, list[RawRecord]] = {}
        for record in records:
            last = next(reversed(by_topic), None)
            if last is not None and last != record.source.topic and record.source.topic in by_topic:
                self._slice(by_topic)
                by_topic = {}
            by_topic.setdefault(record.source.topic, []).append(record)
        self._slice(by_topic)

    def _slice(self, by_topic: dict[str, list[RawRecord]]) -> None:
        parts = tuple(
            SourceSlice(
                topic, _TOPIC_ID, 0, taken[0].source.offset, taken[-1].source.offset + 1, len(taken), records_crc(taken)
            )
            for topic, taken in by_topic.items()
        )
        ordered = [record for taken in by_topic.values() for record in taken]
        self._entry(Slice(clock=self._clock, sources=parts), ordered)

    def _entry(self, entry: Slice | Control | ResyncEntry | ClockEntry, records: list[RawRecord] | None = None) -> None:
        self._space.take(self._space.next_offset, self._clock, entry, records or [])


def _topology(given: str | Path | Mapping[str, Any] | Topology) -> Topology:
    if isinstance(given, Topology):
        return given
    if isinstance(given, Mapping):
        return parse_topology(given)
    return load_topology(Path(given), {})


def _instant(given: str | datetime) -> Instant:
    return parse_instant(given) if isinstance(given, str) else instant_of(given)


def _own_time(event: Mapping[str, Any] | bytes | str | None) -> Instant:
    """When an event says it was received or made; 0 when it does not say."""
    fields: Any = event
    if isinstance(event, bytes | str):
        try:
            fields = orjson.loads(event)
        except orjson.JSONDecodeError:
            return 0
    if not isinstance(fields, Mapping):
        return 0
    for name in ("receivedAt", "timestamp", "originalTimestamp"):
        value = fields.get(name)
        if isinstance(value, str):
            try:
                return max(0, parse_instant(value))
            except ValueError:
                continue
    return 0
