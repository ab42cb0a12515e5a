"""One step, sent and stored: outputs acknowledged, then the changelog, then one atomic write. Both stages use it.

The order is the guarantee. Outputs whose `src` the log already holds are not sent again; the changelog goes only when
every output is acknowledged; the store is written last, with the position behind the step. A crash anywhere between
leaves a state from which the same step is decided again, identically.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from itertools import repeat

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
        with self.step():
            try:
                lines = [
                    (where, numbers, await self._put_in_line(where, numbers, records))
                    for where, numbers in self._unsent(records, offsets).items()
                ]
                for where, numbers, batches in lines:
                    await self._acknowledged(where, numbers, batches, offsets, positions)
            except Exception as error:
                raise Fenced(f"a send failed, which ends the claim: {error!r}") from error
        return offsets

    def _unsent(self, records: Sequence[OutputRecord], offsets: list[int]) -> dict[TopicPartition, list[int]]:
        """Which of the records the log does not hold yet, by partition; enters the offsets of the others."""
        by_partition: dict[tuple[str, int], list[int]] = defaultdict(list)
        for number, record in enumerate(records):
            by_partition[record.topic, record.partition].append(number)
        lines = {TopicPartition(self._names.of_role(role), at): numbers for (role, at), numbers in by_partition.items()}
        if self._sent:
            for where, numbers in list(lines.items()):
                for number in numbers:
                    offsets[number] = self._sent.pop((where, records[number].src), -1)
                lines[where] = [number for number in numbers if offsets[number] < 0]
        return {where: numbers for where, numbers in lines.items() if numbers}

    async def _put_in_line(
        self, where: TopicPartition, numbers: Sequence[int], records: Sequence[OutputRecord]
    ) -> list[tuple[int, Awaitable[Acknowledged]]]:
        """One partition's records in order, in as few batches as their size allows: how many each has, and its answer."""
        batches: list[tuple[int, Awaitable[Acknowledged]]] = []
        batch: list[BatchRecord] = []
        size = 0
        for number in numbers:
            record = records[number]
            size += len(record.value) + len(record.key)
            if batch and size > _BATCH_BYTES_MAX:
                batches.append((len(batch), await self._writer.submit(where, batch)))
                batch, size = [], len(record.value) + len(record.key)
            batch.append((record.key, record.value, record.src))
        batches.append((len(batch), await self._writer.submit(where, batch)))
        return batches

    async def _acknowledged(
        self,
        where: TopicPartition,
        numbers: Sequence[int],
        batches: Sequence[tuple[int, Awaitable[Acknowledged]]],
        offsets: list[int],
        positions: Positions,
    ) -> None:
        """Wait for the answers of one partition, and enter what they say."""
        begun = 0
        for count, answer in batches:
            base = (await answer).offset
            for place, number in enumerate(numbers[begun : begun + count]):
                offsets[number] = base + place
            begun += count
        # A position must not pass an output that a step yet to come will look for: a profile partition takes its two
        # inputs in any order, so what was sent before a crash may belong to a later step than this one.
        ahead = [offset for (place, _), offset in self._sent.items() if place == where] if self._sent else []
        positions.setdefault(where.topic, {})[where.partition] = min([offsets[numbers[-1]] + 1, *ahead])

    async def changelog(self, changes: Mapping[bytes, bytes | None]) -> int:
        """The step's state changes as one record batch, which the log takes whole or not at all. Returns the next offset."""
        batch: list[BatchRecord] = list(zip(changes.keys(), changes.values(), repeat(None)))
        with self.step():
            try:
                taken = await (await self._writer.submit(self._changelog, batch))
            except Exception as error:
                raise Fenced(f"the changelog was refused, which ends the claim: {error!r}") from error
        return int(taken.offset) + len(changes)

    async def append(self, where: TopicPartition, value: bytes) -> Acknowledged:
        """One record of its own, such as an entry of the identity log."""
        try:
            return await (await self._writer.submit(where, [(None, value, None)]))
        except Exception as error:
            raise Fenced(f"an append was refused, which ends the claim: {error!r}") from error
