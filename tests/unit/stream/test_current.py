"""How old a state is, and what becomes of one that is so old that the changelog may have forgotten deletions since."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiokafka.structs import TopicPartition

from cdp_stream.errors import StateError
from cdp_stream.model.time import DAY_MS, HOUR_MS, Instant
from cdp_stream.store.rocks import RocksStore
from cdp_stream.stream.catch_up import CURRENT_KEY, current_ms, encode_current
from cdp_stream.stream.log import World
from cdp_stream.stream.owner import open_state, partition_folder
from cdp_stream.stream.settings import Settings
from cdp_stream.stream.standby import Standbys
from cdp_stream.stream.topics import TopicNames

NOW = 1_796_000_000_000
NAMES = TopicNames("shop", "p.", 1, (), ())
CHANGELOG = TopicPartition(NAMES.changelog("profiles"), 0)


def world(now_ms: Instant = NOW) -> World:
    nothing: Any = None
    return World(nothing, RocksStore, lambda: now_ms)


def made(folder: Path, current: Instant | None) -> Path:
    store = RocksStore(folder)
    store.commit({b"key": b"value", CURRENT_KEY: None if current is None else encode_current(current)})
    store.close()
    return folder


def look(folder: Path, now_ms: Instant = NOW) -> tuple[bytes | None, Instant | None]:
    """Open it as a worker does, and close it without having done anything."""
    store = open_state(world(now_ms), folder)
    try:
        return store.get(b"key"), current_ms(store)
    finally:
        store.close()


def test_an_empty_one_is_as_current_as_what_will_come_into_it(tmp_path: Path) -> None:
    assert look(tmp_path / "state") == (None, NOW)


def test_looking_at_it_makes_it_no_younger(tmp_path: Path) -> None:
    folder = made(tmp_path / "state", NOW - DAY_MS)
    for day in range(3):
        assert look(folder, NOW + day * DAY_MS) == (b"value", NOW - DAY_MS)
    assert look(folder, NOW + 3 * DAY_MS) == (None, NOW + 3 * DAY_MS)


def test_a_time_to_come_says_nothing(tmp_path: Path) -> None:
    """The clock was wrong when it was written, or is wrong now."""
    assert look(made(tmp_path / "one", NOW + HOUR_MS)) == (b"value", NOW + HOUR_MS)
    assert look(made(tmp_path / "other", NOW + HOUR_MS + 1)) == (None, NOW)


@pytest.mark.parametrize(("days", "kept"), [(3, True), (4, False)])
def test_one_of_an_older_version_is_as_old_as_its_files(days: int, *, kept: bool, tmp_path: Path) -> None:
    folder, then = made(tmp_path / "state", None), NOW - days * DAY_MS
    for file in folder.iterdir():
        os.utime(file, ns=(then * 1_000_000, then * 1_000_000))
    assert look(folder) == ((b"value", then) if kept else (None, NOW))


def test_one_that_another_has_open_is_left_as_it_is(tmp_path: Path) -> None:
    folder = made(tmp_path / "state", NOW - 9 * DAY_MS)
    store = RocksStore(folder)
    with pytest.raises(StateError, match="cannot be opened"):
        open_state(world(), folder)
    assert store.get(b"key") == b"value"
    store.close()


@dataclass
class Record:
    offset: int
    key: bytes
    value: bytes | None


class Changelog:
    """A log whose one partition brings what it is given, from where it is read."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.reads: list[int] = []
        self._at = 0

    def consumer(self, **_more: Any) -> Changelog:
        return self

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        pass

    async def beginning_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        return dict.fromkeys(partitions, 0)

    def seek(self, _where: TopicPartition, offset: int) -> None:
        self.reads.append(offset)
        self._at = offset

    def highwater(self, _where: TopicPartition) -> int:
        return self.records[-1].offset + 1

    async def getmany(self, **_more: Any) -> Mapping[TopicPartition, Sequence[Record]]:
        await asyncio.sleep(0)
        found = [record for record in self.records if record.offset >= self._at]
        self._at = found[-1].offset + 1 if found else self._at
        return {CHANGELOG: found} if found else {}


def test_a_standby_that_heard_nothing_for_days_begins_anew(tmp_path: Path) -> None:
    """Its broker was away, and has forgotten a deletion when it is back."""
    asyncio.run(_stand_by_without_a_broker(tmp_path))


async def _stand_by_without_a_broker(tmp_path: Path) -> None:
    changelog, now = Changelog(), [NOW]
    changelog.records = [Record(0, b"gone", b"1"), Record(1, b"stays", b"1")]
    settings, told = Settings("none:1", data_dir=str(tmp_path)), asyncio.Event()
    log: Any = changelog
    world = World(log, RocksStore, lambda: now[0])

    def report(_partition: int, behind: int | None) -> None:
        if behind is not None:
            told.set()

    standbys = Standbys(settings, NAMES, "profiles", world, list, report)
    running = asyncio.create_task(standbys.run())
    await asyncio.wait_for(told.wait(), 10)
    for days in (3, 4):
        now[0] += days * DAY_MS
        told.clear()
        kept = changelog.records[0] if days == 3 else Record(1, b"stays", b"1")
        changelog.records = [kept, Record(changelog.highwater(CHANGELOG), b"new", b"%d" % days)]
        await asyncio.wait_for(told.wait(), 10)
    standbys.release(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    store = RocksStore(partition_folder(settings, NAMES, "profiles", 0))
    pairs = {key: value for key, value in store.scan(b"") if not key.startswith(b"\0")}
    assert pairs == {b"stays": b"1", b"new": b"4"}
    assert current_ms(store) == now[0]
    assert changelog.reads == [0, 0]
    store.close()
