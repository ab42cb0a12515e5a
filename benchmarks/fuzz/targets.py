"""What is fuzzed, and what must hold of it whatever the bytes are."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import orjson

from cdp_stream.cli.topology import load_compiled
from cdp_stream.errors import Problem
from cdp_stream.identity.extract import extract
from cdp_stream.intake.dead_letter import dead_letter_record
from cdp_stream.intake.decode import decode
from cdp_stream.intake.reasons import REASONS
from cdp_stream.language.nodes import Definition
from cdp_stream.language.parse import parse_definition
from cdp_stream.language.printer import format_definition
from cdp_stream.model.event import DeadLetter, RawRecord
from cdp_stream.model.ids import SourceRef
from cdp_stream.stages.entries import Slice, SourceSlice, records_crc
from cdp_stream.stages.orders import first_topology
from cdp_stream.testing.local import LocalSpace

NOW = 1_767_225_600_000
SLICE = 256
"""Records are taken through the stages in slices of so many."""
SPACE_RECORDS = 20_000
"""After so many a space begins anew, so that what grows is not the state."""


class Records:
    """Bytes as source records: through intake and extraction one by one, then in slices through the whole walk."""

    def __init__(self, folder: Path) -> None:
        self._topology = load_compiled(folder)
        self.count = 0
        self.outcomes: Counter[str] = Counter()
        self._slice: list[RawRecord] = []
        self._begin()

    def _begin(self) -> None:
        self._space = LocalSpace(2, lambda _: None)
        self._space.take(0, NOW, first_topology(self._topology, NOW))

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
        self._space.take(self._space.next_offset, now, Slice(now, (part,)), records)
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
        else:
            assert isinstance(found, Problem), found
            assert found.message, text
            self.outcomes["problem"] += 1
