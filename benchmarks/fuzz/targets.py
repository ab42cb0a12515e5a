"""What is fuzzed, and what must hold of it whatever the bytes are."""

from __future__ import annotations

from collections import Counter
from itertools import zip_longest
from pathlib import Path
from random import Random
from typing import Any, Final

import msgspec
import orjson

from cdp_stream.cli.topology import load_compiled
from cdp_stream.config.topology import parse_topology
from cdp_stream.errors import Problem, TopologyError
from cdp_stream.identity.extract import extract
from cdp_stream.intake.dead_letter import dead_letter_record
from cdp_stream.intake.decode import decode
from cdp_stream.intake.reasons import REASONS
from cdp_stream.language.nodes import Definition, Scalar
from cdp_stream.language.parse import parse_definition
from cdp_stream.language.printer import format_definition
from cdp_stream.language.values import INSTANT_MIN
from cdp_stream.model.change import Clock, NewExternalId, ProfileChanges, ProfileEvent, TopologyApplied
from cdp_stream.model.event import DeadLetter, RawRecord
from cdp_stream.model.ids import ProfileId, SourceRef
from cdp_stream.model.time import INSTANT_MAX
from cdp_stream.pipeline import CompiledTopology, compile_topology
from cdp_stream.stages.entries import Slice, SourceSlice, records_crc
from cdp_stream.stages.identity import BARRIER_KEY
from cdp_stream.stages.native import NATIVE
from cdp_stream.stages.native_plan import plan_of
from cdp_stream.stages.orders import first_topology
from cdp_stream.stages.profile_shapes import encode_changes
from cdp_stream.stages.profiles import ProfileStage
from cdp_stream.stages.records import OutputRecord
from cdp_stream.store.memory import MemoryStore
from cdp_stream.testing.local import LocalSpace
from cdp_stream.testing.simulation.definitions import drawn_definitions

NOW = 1_767_225_600_000
SLICE = 256
"""Records are taken through the stages in slices of so many."""
SPACE_RECORDS = 20_000
"""After so many a space begins anew, so that what grows is not the state."""


class Records:
    """Bytes as source records: through intake and extraction one by one, then in slices through the whole walk.

    Twice: with the compiled core and short cut, and in Python; both must say the same.
    """

    def __init__(self, folder: Path) -> None:
        self._topology = load_compiled(folder)
        self.count = 0
        self.outcomes: Counter[str] = Counter()
        self._slice: list[RawRecord] = []
        self._begin()

    def _begin(self) -> None:
        self._told: list[list[OutputRecord]] = [[], []]
        self._spaces = [LocalSpace(2, told.append, compiled=not number) for number, told in enumerate(self._told)]
        for space in self._spaces:
            space.take(0, NOW, first_topology(self._topology, NOW))

    def __call__(self, data: bytes) -> None:
        """One record."""
        place = SourceRef("fuzz", "fuzz", 0, self.count)
        record = RawRecord(place, NOW + self.count, None, data, True)
        self.count += 1
        event = decode(record)
        if isinstance(event, DeadLetter):
            self.outcomes[event.reason] += 1
            assert event.reason in REASONS, event
            orjson.dumps(dead_letter_record(event, record, NOW))
        else:
            self.outcomes[event.type] += 1
            assert 0 < len(event.message_id) <= 100, event.message_id
            found = extract(event, self._topology.identity, ())
            assert len(found.users) + len(found.blocked) <= 128
        self._slice.append(record)
        if len(self._slice) == SLICE:
            self._through_the_stages()

    def _through_the_stages(self) -> None:
        """The short cut, the graph, the profile stage: all that bytes can reach."""
        records, self._slice = self._slice, []
        first, last = records[0].source.offset, records[-1].source.offset
        part = SourceSlice("fuzz", "fuzz", 0, first, last + 1, len(records), records_crc(records))
        now = NOW + self.count
        for space in self._spaces:
            space.take(space.next_offset, now, Slice(now, (part,)), records)
        quick, slow = self._told
        assert quick == slow, next(pair for pair in zip(quick, slow, strict=False) if pair[0] != pair[1])
        assert self._spaces[0].tally == self._spaces[1].tally
        quick.clear(), slow.clear()
        if self.count % SPACE_RECORDS < SLICE:
            self._begin()


class Definitions:
    """Bytes as a definition: a tree that prints to a text which gives the same tree, or problems with their place."""

    def __init__(self) -> None:
        self.count = 0
        self.outcomes: Counter[str] = Counter()

    def __call__(self, data: bytes) -> None:
        """One text."""
        self.count += 1
        text = data.decode("utf-8", "surrogateescape" if data[:1] < b"\x80" else "replace")
        found = parse_definition(text, "definition")
        if isinstance(found, Definition):
            self.outcomes["definition"] += 1
            again = parse_definition(format_definition(found), "definition")
            assert again == found, (found, again)
            self._to_the_core(text, found)
        else:
            assert isinstance(found, Problem), found
            assert found.message, text
            self.outcomes["problem"] += 1

    def _to_the_core(self, text: str, found: Definition) -> None:
        """What the language takes, the core understands."""
        section = "traits" if isinstance(found.body, Scalar) else "audiences"
        declared = {section: [{"key": "k", "definition": text}]}
        try:
            topology = compile_topology(
                parse_topology({"space": "fuzz", "sources": [{"name": "s", "topic": "s"}], **declared})
            )
        except TopologyError:
            return
        plan = plan_of(topology)
        assert plan is not None, text
        if NATIVE is not None:
            NATIVE.ProfileCore(0, OutputRecord).add_plan("v", plan)
            self.outcomes["plan"] += 1


def differences(quick: list[Any], slow: list[Any]) -> list[Any]:
    """What the core says otherwise, for whoever looks at what was found."""
    outputs = [pair for pair in zip_longest(quick[0], slow[0]) if pair[0] != pair[1]][:1]
    stored = [(key, quick[2][key], raw) for key, raw in slow[2].items() if quick[2][key] != raw]
    return [outputs, quick[1] - slow[1], slow[1] - quick[1], stored]


class Changes:
    """Bytes as the changes of one message: the core reads whatever it is, and decides what is one as the rooms do."""

    def __init__(self) -> None:
        assert NATIVE is not None, "there is no core to be fuzzed"
        self.count = 0
        self.outcomes: Counter[str] = Counter()
        self._topology = _of_every_kind()
        self._begin()

    def _begin(self) -> None:
        self._stages = [ProfileStage(MemoryStore(), 0, 1, compiled=compiled) for compiled in (True, False)]
        self._offset, self._now = 0, NOW
        form = first_topology(self._topology, NOW).topology
        change = TopologyApplied(index=0, record=0, now=NOW, version=self._topology.version, topology=form)
        self._decide([change])

    def __call__(self, data: bytes) -> None:
        """One message."""
        self.count += 1
        assert NATIVE is not None
        NATIVE.ProfileCore(0, OutputRecord).open(data)
        try:
            found = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.outcomes["refused"] += 1
            return
        self._decide([self._plausible(*each) for each in enumerate(found if isinstance(found, list) else [found])])
        if self.count % 1_000 == 0:
            self._begin()

    def _plausible(self, number: int, given: Any) -> ProfileEvent | Clock:
        """A change as the identity stage would have sent it: in order, with instants that there are."""
        if not isinstance(given, dict):
            self.outcomes["clock"] += 1
            self._now = min(INSTANT_MAX, self._now + _PAUSE_MS)
            return Clock(index=number, record=number, now=self._now)
        self.outcomes["event"] += 1

        def text(name: str) -> str:
            return value if isinstance(value := given.get(name), str) else name

        late = given.get("time")
        parts = {name: value if isinstance(value := given.get(name), dict) else None for name in _OBJECTS}
        ids = given.get("external_ids")
        return ProfileEvent(
            index=number,
            record=number,
            now=self._now,
            profile_id=ProfileId(f"use_{text('profile_id')}"),
            collection="users" if given.get("collection") == "users" else "accounts",
            type="track",
            message_id=text("message_id") or "m",
            time=max(INSTANT_MIN, self._now - late) if isinstance(late, int) and late >= 0 else self._now,
            name=text("name"),
            external_ids=tuple(NewExternalId(text("type"), one, self._now) for one in ids if isinstance(one, str))
            if isinstance(ids, list)
            else (),
            **parts,
        )

    def _decide(self, changes: list[Any]) -> None:
        message = ProfileChanges(
            step=self._offset, previous=self._offset - 1, topology_version=self._topology.version, changes=changes
        )
        raw = encode_changes(message)
        told: list[Any] = []
        touched = set[bytes]()
        for stage in self._stages:
            outputs, tally = list[OutputRecord](), Counter[tuple[str, ...]]()
            while (step := stage.decide([(self._offset, raw)])) is not None:
                outputs += step.outputs
                tally.update(step.tally)
                touched |= step.writes.keys()
                stage.store.commit({**step.writes, BARRIER_KEY: stage.encoded_barrier()})
                stage.states.committed()
            told.append([outputs, tally])
        for stage, about in zip(self._stages, told, strict=True):
            # Not the writes: what a step puts somewhere and takes away again is written by one walk, and not by the other.
            about.append({key: stage.store.get(key) for key in touched if not key.startswith(b"h")})
        assert told[0] == told[1], (raw, *differences(*told))
        self._offset += 1


_OBJECTS: Final = ("properties", "context", "traits")
_PAUSE_MS: Final = 1_800_000


def _of_every_kind() -> CompiledTopology:
    """Every definition that simulations draw from."""
    declared: dict[str, dict[str, Any]] = {"traits": {}, "audiences": {}}
    for seed in range(20):
        for section, entries in drawn_definitions(Random(seed), 3_600).items():
            declared[section].update({one["key"]: one for one in entries})
    destinations = [{"name": name, "topic": f"to-{name}"} for name in ("crm", "ads")]
    sections = {section: list(entries.values()) for section, entries in declared.items()}
    plain = {"space": "fuzz", "sources": [{"name": "s", "topic": "s"}], "destinations": destinations, **sections}
    return compile_topology(parse_topology(plain))
