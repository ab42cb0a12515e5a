"""Replay: a topology's whole walk over a file of events, without a broker."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Self

import orjson

from cdp_stream.errors import StateError
from cdp_stream.model.event import RawRecord
from cdp_stream.model.ids import SourceRef
from cdp_stream.model.time import Instant, parse_instant
from cdp_stream.pipeline import CompiledTopology
from cdp_stream.stages.digest import OutputsDigest
from cdp_stream.stages.entries import ClockEntry, Slice, SourceSlice, records_crc
from cdp_stream.stages.orders import first_topology
from cdp_stream.stages.records import OutputRecord
from cdp_stream.testing.local import LocalSpace

_FILE_TOPIC = "file"
"""What stands for the topic, and for its id: the same events give the same ids, whichever file or pipe they come from."""
_OUT_FILES = ("ledger", "trait_changes", "audience_changes", "dead_letters")


def records_of(lines: Iterable[bytes], *, identity: bool = True) -> Iterator[RawRecord]:
    """Lines as source records: topic `file`, partition 0, offset the line. A line is received at its own `receivedAt`,
    else its timestamp, else with the line before it.
    """
    received: Instant = 0
    for number, line in enumerate(lines):
        raw = line.rstrip(b"\r\n")
        received = _received(raw, received)
        yield RawRecord(SourceRef(_FILE_TOPIC, _FILE_TOPIC, 0, number), received, None, raw, identity)


def _received(raw: bytes, before: Instant) -> Instant:
    try:
        fields = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return before
    if not isinstance(fields, dict):
        return before
    for name in ("receivedAt", "timestamp", "originalTimestamp"):
        value = fields.get(name)
        if isinstance(value, str):
            try:
                return max(0, parse_instant(value))
            except ValueError:
                continue
    return before


class OutputFiles:
    """The output topics as JSONL files in a folder."""

    def __init__(self, folder: Path, destinations: Iterable[str]) -> None:
        """Create the folder and its files, also those that stay empty; another destination's when it comes."""
        self._folder = folder
        self._files: dict[str, BinaryIO] = {}
        (folder / "destinations").mkdir(parents=True, exist_ok=True)
        for name in (*_OUT_FILES, *(f"destinations/{name}" for name in destinations)):
            self._open(name.replace("_", "-") if "/" not in name else name, name)

    def _open(self, topic: str, name: str) -> BinaryIO:
        file = self._files[topic] = (self._folder / f"{name}.jsonl").open("wb")
        return file

    def write(self, record: OutputRecord) -> None:
        """Append a record to its topic's file."""
        file = self._files.get(record.topic) or self._open(record.topic, record.topic)
        file.write(record.value)
        file.write(b"\n")

    def write_profiles(self, profiles: Iterable[dict[str, Any]]) -> None:
        """Write `profiles.jsonl`, by id."""
        with (self._folder / "profiles.jsonl").open("wb") as file:
            for profile in sorted(profiles, key=lambda profile: str(profile["id"])):
                file.write(orjson.dumps(profile))
                file.write(b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every file."""
        for file in self._files.values():
            file.close()


class Replay:
    """One replay: feed it records, then ask for digest and figures."""

    def __init__(
        self,
        topology: CompiledTopology,
        *,
        partitions: int,
        step_size: int,
        state: str | Path = "memory",
        sink: Callable[[OutputRecord], None] | None = None,
        observe: Callable[[str, RawRecord, Any], None] | None = None,
    ) -> None:
        """`sink` gets every output. Raises StateError for a state folder that holds another replay already."""
        self._sink = sink
        self._step_size = step_size
        self.digest = OutputsDigest()
        self.space = LocalSpace(partitions, self._take, state)
        if self.space.next_offset:
            raise StateError(f"{state}: holds the state of a replay already; name a new folder, or remove it")
        self.space.identity.observe = observe
        self.space.take(0, 0, first_topology(topology, 0))

    def _take(self, record: OutputRecord) -> None:
        self.digest.add(record.topic, record.key, record.value)
        if self._sink is not None:
            self._sink(record)

    def run(self, records: Iterable[RawRecord]) -> Iterator[int]:
        """Take the records in steps; yields how many each step took. In the end, what is due by then fires."""
        pending = iter(records)
        while taken := list(itertools.islice(pending, self._step_size)):
            first, last = taken[0].source, taken[-1].source
            part = SourceSlice(
                first.topic, first.topic_id, 0, first.offset, last.offset + 1, len(taken), records_crc(taken)
            )
            clock = max(self.space.now, *(record.timestamp for record in taken)) if taken else self.space.now
            self.space.take(self.space.next_offset, clock, Slice(clock, (part,)), taken)
            yield len(taken)
        now = self.space.now
        self.space.take(self.space.next_offset, now, ClockEntry(clock=now, drained=True))

    def total_digest(self) -> str:
        """The digest of the final profiles and of every output."""
        return self.digest.total(self.space.all_profiles())
