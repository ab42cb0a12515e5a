"""Standbys: this worker follows the changelogs of partitions that others own, so that it can take one over at once.

A standby store is in the shape of a restore that was interrupted: changes up to a position, and that position. Whoever
is given the partition closes the standby and restores what little is left. Nothing is decided from a standby.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from cdp_stream.errors import StateError
from cdp_stream.model.ports import Store
from cdp_stream.stream.catch_up import (
    CURRENT_KEY,
    RESTORED_KEY,
    current_ms,
    encode_current,
    encode_restored,
    restored_to,
)
from cdp_stream.stream.log import Consumer, World
from cdp_stream.stream.owner import changelog_position, is_stale, open_state, partition_folder
from cdp_stream.stream.settings import Settings
from cdp_stream.stream.topics import TopicNames

_FETCH_MS: Final = 200
_RECORDS_MAX: Final = 5_000
_FETCH_BYTES: Final = 2 * 1024 * 1024
_AGAIN_S: Final = 5.0
_LOOK_EVERY_S: Final = 1.0
"""How often a partition that was given up, or is held by another process on this folder, is tried."""
log = logging.getLogger("cdp_stream.standby")


class Standbys:
    """The standby stores of one stage in this process. `owned`: partitions that this process owns or is about to."""

    def __init__(
        self,
        settings: Settings,
        names: TopicNames,
        stage: str,
        world: World,
        owned: Callable[[], list[int]],
        report: Callable[[int, int | None], None],
    ) -> None:
        """`report(partition, behind)`: how many changelog records a standby has still to read; None when it is released."""
        self._settings = settings
        self._names = names
        self._stage = stage
        self._partitions = 1 if stage == "identity" else names.partitions
        self._world = world
        self._owned = owned
        self._report = report
        self._stores: dict[int, Store] = {}
        self._changed = False

    async def run(self) -> None:
        """Follow until cancelled. A broker that is away is waited for."""
        while True:
            consumer = self._world.log.consumer(bare=True, max_partition_fetch_bytes=_FETCH_BYTES)
            try:
                await consumer.start()
                await self._follow(consumer)
            except (KafkaError, ConnectionError) as error:
                log.warning("standbys of stage %s: %r; again in %.0f s", self._stage, error, _AGAIN_S)
            finally:
                self._close_all()
                await consumer.stop()
            await asyncio.sleep(_AGAIN_S)

    def release(self, partition: int) -> None:
        """Close the standby of a partition that this process is given: its owner opens the store now."""
        store = self._stores.pop(partition, None)
        if store is not None:
            store.close()
            self._changed = True
            self._report(partition, None)

    def _close_all(self) -> None:
        for partition in list(self._stores):
            self.release(partition)

    async def _follow(self, consumer: Consumer) -> None:
        changelog = self._names.changelog(self._stage)
        loop = asyncio.get_running_loop()
        while True:
            self._open_others()
            followed = [TopicPartition(changelog, partition) for partition in sorted(self._stores)]
            starts = {where: _position(self._stores[where.partition], self._stage) for where in followed}
            earliest = await consumer.beginning_offsets(followed) if followed else {}
            consumer.assign(followed)
            for where in followed:
                consumer.seek(where, max(starts[where], earliest[where]))
            self._changed = False
            look_at = loop.time() + _LOOK_EVERY_S
            while not self._changed and not (loop.time() > look_at and self._is_missing()):
                await self._take(consumer, followed)

    async def _take(self, consumer: Consumer, followed: list[TopicPartition]) -> None:
        if not followed:
            await asyncio.sleep(_FETCH_MS / 1000)
            return
        batches = await consumer.getmany(timeout_ms=_FETCH_MS, max_records=_RECORDS_MAX)
        for where, records in batches.items():
            store = self._stores.get(where.partition)
            if store is None or self._changed or not records:
                continue  # released while the answer was on its way: its owner has the store
            now_ms = self._world.clock_ms()
            if is_stale(current_ms(store) or 0, now_ms):
                # Nothing came for days, from a broker that was away: it is opened again, and made anew by that.
                self.release(where.partition)
                continue
            changes: dict[bytes, bytes | None] = {record.key: record.value for record in records}
            end = consumer.highwater(where)
            lag = 0 if end is None else max(0, end - records[-1].offset - 1)
            changes[RESTORED_KEY] = encode_restored(records[-1].offset + 1)
            if not lag:
                changes[CURRENT_KEY] = encode_current(now_ms)
            store.commit(changes)
            self._report(where.partition, lag)

    def _is_missing(self) -> bool:
        owned = set(self._owned())
        return any(number not in owned and number not in self._stores for number in range(self._partitions))

    def _open_others(self) -> None:
        owned = set(self._owned())
        for partition in range(self._partitions):
            if partition in owned or partition in self._stores:
                continue
            folder = partition_folder(self._settings, self._names, self._stage, partition)
            try:
                self._stores[partition] = open_state(self._world, folder)
            except StateError:
                # Its former owner in this process is still closing it.
                continue
            log.info("%s-%d: standing by", self._stage, partition)


def _position(store: Store, stage: str) -> int:
    return max(changelog_position(store, stage), restored_to(store))
