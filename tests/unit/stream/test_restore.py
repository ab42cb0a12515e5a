"""A restore goes on where it was interrupted, and an input that is not the one the state was made from is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from aiokafka.structs import TopicPartition

from cdp_stream.errors import LogContradiction
from cdp_stream.store.memory import MemoryStore
from cdp_stream.stream import catch_up
from cdp_stream.stream.catch_up import RESTORED_KEY, read_to_end, require_input, restore

CHANGELOG = TopicPartition("space.identity.changelog", 0)


@dataclass
class Entry:
    offset: int
    key: bytes
    value: bytes | None


class Reader:
    """One partition, from `earliest` on; it can break after some records."""

    def __init__(self, log: FakeLog) -> None:
        self._log = log
        self._at = 0

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def assign(self, partitions: Sequence[TopicPartition]) -> None: ...

    def pause(self, *partitions: TopicPartition) -> None: ...

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self._at = offset

    async def position(self, partition: TopicPartition) -> int:
        return self._at

    async def beginning_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        return dict.fromkeys(partitions, self._log.earliest)

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        return dict.fromkeys(partitions, self._log.end)

    async def getmany(self, *partitions: TopicPartition, timeout_ms: int = 0, max_records: int | None = None) -> Any:
        if self._log.breaks_at is not None and self._at >= self._log.breaks_at:
            raise ConnectionError("the broker went away")
        taken = [entry for entry in self._log.entries if entry.offset >= self._at][:7]
        self._at = taken[-1].offset + 1 if taken else self._log.end
        self._log.read += [entry.offset for entry in taken]
        return {CHANGELOG: taken}


class FakeLog:
    def __init__(self, entries: list[Entry], earliest: int = 0, end: int | None = None) -> None:
        self.entries = entries
        self.earliest = earliest
        self.end = entries[-1].offset + 1 if end is None else end
        self.breaks_at: int | None = None
        self.read: list[int] = []

    def consumer(self, **_: Any) -> Any:
        return Reader(self)


def changelog(count: int) -> FakeLog:
    """Compacted: the barrier stands only once, at the end; every third key is deleted."""
    entries = [Entry(at, f"k{at % 40}".encode(), None if at % 3 == 0 else str(at).encode()) for at in range(count)]
    return FakeLog([*entries, Entry(count, b"barrier", b"b")])


def pairs(store: MemoryStore) -> list[tuple[bytes, bytes]]:
    return list(store.scan(b""))


def bring_up(log: FakeLog, store: MemoryStore, position: int = 0) -> int:
    return asyncio.run(restore(log, store, CHANGELOG, position))  # type: ignore[arg-type]


def test_an_interrupted_restore_goes_on_and_ends_as_one_that_was_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catch_up, "_RESTORE_CHUNK", 10)
    whole, log, store = MemoryStore(), changelog(200), MemoryStore()
    bring_up(changelog(200), whole)
    log.breaks_at = 120
    with pytest.raises(ConnectionError):
        bring_up(log, store)
    assert store.get(RESTORED_KEY) is not None
    log.breaks_at, log.read = None, []
    assert 201 == bring_up(log, store)
    assert log.read[0] > 50
    assert pairs(whole) == pairs(store)
    assert store.get(RESTORED_KEY) is None


def test_a_restore_tells_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catch_up, "_RESTORE_CHUNK", 10)
    told: list[int] = []
    asyncio.run(restore(changelog(200), MemoryStore(), CHANGELOG, 0, told.append))  # type: ignore[arg-type]
    assert told == sorted(set(told))
    assert 0 < told[0] < 50 < told[-1] <= 100


def test_a_store_that_is_up_to_date_reads_nothing() -> None:
    log, store = changelog(20), MemoryStore()
    assert 21 == bring_up(log, store, 21)
    assert [] == log.read


def test_a_changelog_that_is_shorter_than_the_state_is_refused() -> None:
    with pytest.raises(LogContradiction, match=r"identity\.changelog/0: ends at 21, but the state was stored up to 30"):
        bring_up(changelog(20), MemoryStore(), 30)


@pytest.mark.parametrize(
    ("earliest", "end", "next_offset", "words"),
    [
        (0, 0, 0, None),
        (5, 9, 5, None),
        (5, 9, 9, None),
        (5, 9, 4, "records 4 to 4 were removed before they were read"),
        (0, 3, 4, "ends at 3, but everything before 4 was read"),
    ],
)
def test_an_input_must_reach_the_next_offset_and_begin_no_later(
    earliest: int, end: int, next_offset: int, words: str | None
) -> None:
    log = FakeLog([], earliest, end)
    if words is None:
        asyncio.run(require_input(log, CHANGELOG, next_offset))  # type: ignore[arg-type]
    else:
        with pytest.raises(LogContradiction, match=words):
            asyncio.run(require_input(log, CHANGELOG, next_offset))  # type: ignore[arg-type]


def test_a_log_is_read_up_to_where_it_is_known_to_be_written_though_a_new_leader_tells_an_earlier_end() -> None:
    log = FakeLog(changelog(20).entries, end=12)

    async def offsets(least: dict[TopicPartition, int] | None) -> list[int]:
        return [record.offset async for _, record in read_to_end(Reader(log), {CHANGELOG: 5}, least)]  # type: ignore[arg-type]

    assert asyncio.run(offsets(None)) == list(range(5, 12))
    assert asyncio.run(offsets({CHANGELOG: 18})) == list(range(5, 18))
    assert asyncio.run(offsets({CHANGELOG: 3})) == list(range(5, 12))
