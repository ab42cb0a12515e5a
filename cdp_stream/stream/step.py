"""One step, sent and stored: outputs acknowledged, then the changelog, then one atomic write. Both stages use it.

The order is the guarantee. Outputs whose `src` the log already holds are not sent again; the changelog goes only when
every output is acknowledged; the store is written last, with the position behind the step. A crash anywhere between
leaves a state from which the same step is decided again, identically.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Iterator, Mapping, Sequence

from aiokafka.structs import TopicPartition

from cdp_stream.errors import Fenced
from cdp_stream.stages.records import OutputRecord
from cdp_stream.stream.log import Acknowledged, BatchRecord, BatchWriter
from cdp_stream.stream.topics import MESSAGE_BYTES_MAX, TopicNames

Positions = dict[str, dict[int, int]]
"""Next offset by topic and partition."""

_BATCH_BYTES_MAX = MESSAGE_BYTES_MAX // 4


class StepWriter:
    """Sends what a stage partition decides, through the writer of its claim."""

    def __init__(
        self,
        writer: BatchWriter,
        names: TopicNames,
        changelog: TopicPartition,
        sent: dict[tuple[TopicPartition, str], int],
    ) -> None:
        """`sent`: outputs of ours that the log holds and the state does not, by `src`, with their offsets."""
        self._writer = writer
        self._names = names
        self._changelog = changelog
        self._sent = sent
        self._failed: BaseException | None = None

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """A step from its decision until it is stored, or a part of that. Raises Fenced if one before has failed.

        However it failed, or was given up: it stands in memory and not in the state, so nothing may follow on it. Whoever
        waits for the other input, or has the next step under way, would go on before the failure ends the owner.
        """
        if self._failed is not None:
            raise Fenced(f"a step before this one could not be stored, which ends the claim: {self._failed!r}")
        try:
            yield
        except BaseException as error:
            self._failed = self._failed or error
            raise

    async def send(self, records: Sequence[OutputRecord], positions: Positions) -> list[int]:
        """Send and await all acknowledgements; enters the new positions. Returns each record's offset."""
        offsets = [-1] * len(records)
        by_partition: dict[TopicPartition, list[int]] = {}
        with self.step():
            for number, record in enumerate(records):
                where = TopicPartition(self._names.of_role(record.topic), record.partition)
                found = self._sent.pop((where, record.src), None) if self._sent else None
                if found is None:
                    by_partition.setdefault(where, []).append(number)
                else:
                    offsets[number] = found
            try:
                async with asyncio.TaskGroup() as group:
                    for where, numbers in by_partition.items():
                        group.create_task(self._send_to(where, numbers, records, offsets, positions))
            except* Exception as errors:  # noqa: BLE001 - any failed send ends the claim
                first = errors.exceptions[0]
                raise Fenced(f"a send failed, which ends the claim: {first!r}") from first
        return offsets

    async def _send_to(
        self,
        where: TopicPartition,
        numbers: Sequence[int],
        records: Sequence[OutputRecord],
        offsets: list[int],
        positions: Positions,
    ) -> None:
        """One partition's records in order, in as few batches as their size allows."""
        futures: list[tuple[list[int], Awaitable[Acknowledged]]] = []
        batch: list[BatchRecord] = []
        members: list[int] = []
        size = 0
        for number in numbers:
            record = records[number]
            length = len(record.value) + len(record.key)
            if members and size + length > _BATCH_BYTES_MAX:
                futures.append((members, await self._writer.submit(where, batch)))
                batch, members, size = [], [], 0
            batch.append((record.key, record.value, record.src))
            members.append(number)
            size += length
        futures.append((members, await self._writer.submit(where, batch)))
        for members_of, future in futures:
            base = (await future).offset
            for place, number in enumerate(members_of):
                offsets[number] = base + place
        # A position must not pass an output that a step yet to come will look for: a profile partition takes its two
        # inputs in any order, so what was sent before a crash may belong to a later step than this one.
        ahead = [offset for (place, _), offset in self._sent.items() if place == where]
        positions.setdefault(where.topic, {})[where.partition] = min([offsets[numbers[-1]] + 1, *ahead])

    async def changelog(self, changes: Mapping[bytes, bytes | None]) -> int:
        """The step's state changes as one record batch, which the log takes whole or not at all. Returns the next offset."""
        batch: list[BatchRecord] = [(key, value, None) for key, value in changes.items()]
        with self.step():
            try:
                taken = await (await self._writer.submit(self._changelog, batch))
            except Exception as error:
                raise Fenced(f"the changelog was refused, which ends the claim: {error!r}") from error
        return int(taken.offset) + len(changes)

    async def append(self, where: TopicPartition, value: bytes) -> int:
        """One record of its own, such as an entry of the identity log. Returns its offset."""
        try:
            taken = await (await self._writer.submit(where, [(None, value, None)]))
        except Exception as error:
            raise Fenced(f"an append was refused, which ends the claim: {error!r}") from error
        return int(taken.offset)
