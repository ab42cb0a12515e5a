"""Consumers outside any group, as the port in `log.py` describes them; what they fetch is made into as little as will do."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.structs import TopicPartition

from cdp_stream.stages.native import NATIVE

_FETCH_BYTES = 4 * 1024 * 1024
"""How much one answer of the broker holds; a record batch that is larger comes alone. Answers of tens of megabytes cost
more in copying and fresh memory than they save in requests."""


def plain_consumer(
    options: dict[str, Any], *, bare: bool = False, packed: bool = False, **more: Any
) -> AIOKafkaConsumer:
    """A consumer outside any group, reading from where it is told.

    `bare`: its records do not say where they stand. `packed`: they come as runs, of which `source_buffer` makes records;
    without the compiled core, and where it leaves an answer to the client, they are bare ones.
    """
    settings: dict[str, Any] = {
        "enable_auto_commit": False,
        "auto_offset_reset": "earliest",
        "max_partition_fetch_bytes": _FETCH_BYTES // 8,
        "fetch_max_bytes": _FETCH_BYTES,
        **more,
    }
    if packed and NATIVE is not None:
        return PackedConsumer(**options, **settings)
    return (BareConsumer if bare or packed else PlainConsumer)(**options, **settings)


async def closed(closing: Coroutine[Any, Any, None]) -> None:
    """Await the end of a client that is told to close. Who is cancelled meanwhile is cancelled, and the client closes alone.

    As the clients come, they take such a cancellation for the end of a task of theirs, and whoever was to end goes on.
    """
    task = asyncio.get_running_loop().create_task(closing)
    _closing.add(task)
    task.add_done_callback(_closing.discard)
    await asyncio.shield(task)


_closing: set[asyncio.Task[None]] = set()
"""The loop itself holds a task only weakly."""


class PlainConsumer(AIOKafkaConsumer):  # type: ignore[misc]
    """The client's own, with three differences. It asks for the leaders of partitions before it asks them; as it comes, it asks
    nobody first, and tries again after a tenth of a second, and a start has a dozen consumers. Whoever stops it can be
    cancelled meanwhile (`closed`). And whoever reads is told when its fetching has failed.
    """

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int = 0, max_records: int | None = None
    ) -> dict[TopicPartition, list[Any]]:
        """What is there, after waiting at most so long for the first of it. Raises KafkaError when nothing more will come:
        as the client comes, it says so in its own log, and finds nothing for ever.
        """
        found: dict[TopicPartition, list[Any]]
        found = await super().getmany(*partitions, timeout_ms=timeout_ms, max_records=max_records)
        fetching = self._fetcher.error_future
        if not found and fetching.done() and not fetching.cancelled():
            fetching.result()
        return found

    async def stop(self) -> None:
        """Release everything."""
        await closed(super().stop())

    async def beginning_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """The earliest offsets that the log still has."""
        await self._find_leaders(partitions)
        offsets: dict[TopicPartition, int] = await super().beginning_offsets(partitions)
        return offsets

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """The ends of the partitions as they are now."""
        await self._find_leaders(partitions)
        offsets: dict[TopicPartition, int] = await super().end_offsets(partitions)
        return offsets

    async def _find_leaders(self, partitions: Sequence[TopicPartition]) -> None:
        known = self._client.cluster.partitions_for_topic
        for topic in sorted({where.topic for where in partitions if known(where.topic) is None}):
            self._client.add_topic(topic)
        if any(known(where.topic) is None for where in partitions):
            await self._client.force_metadata_update()


class _AsParsed(OrderedDict[TopicPartition, Any]):
    """What a consumer has fetched; its records are given out as the parser makes them."""

    def __setitem__(self, where: TopicPartition, fetched: Any) -> None:
        records = getattr(fetched, "_partition_records", None)
        if records is not None:
            records._consumer_record = _as_parsed  # noqa: SLF001 - a contract test watches it
        super().__setitem__(where, fetched)


def _as_parsed(_where: TopicPartition, record: Any) -> Any:
    return record


class BareConsumer(PlainConsumer):
    """A consumer whose records know their offset, timestamp, key, value and headers, and no more: a third of the cost
    of a record lies in writing its topic, its partition and sizes beside it.
    """

    async def start(self) -> None:
        """Connect."""
        await super().start()
        self._fetcher._records = _AsParsed(self._fetcher._records)  # noqa: SLF001 - a contract test watches it


class PackedConsumer(PlainConsumer):
    """A consumer that gives out each answer of the broker whole, parsed by the compiled core."""

    async def start(self) -> None:
        """Connect."""
        held = _AsPacked()
        ask = self._client.send

        async def send(node_id: int, request: Any, **more: Any) -> Any:
            response = await ask(node_id, request, **more)
            if isinstance(request, FetchRequest):
                held.answered(response)
            return response

        self._client.send = send
        await super().start()
        held.update(self._fetcher._records)  # noqa: SLF001 - a contract test watches it
        self._fetcher._records = held  # noqa: SLF001


class _AsPacked(OrderedDict[TopicPartition, Any]):
    """What a consumer has fetched; the bytes of an answer are taken from it, and not from what the client makes of them."""

    def __init__(self) -> None:
        super().__init__()
        self._raw: dict[TopicPartition, bytes] = {}

    def answered(self, response: Any) -> None:
        """The client has this answer, and takes it in before anything else."""
        self._raw = {
            TopicPartition(topic, partition): raw
            for topic, partitions in response.topics
            for partition, *_, raw in partitions
        }

    def __setitem__(self, where: TopicPartition, fetched: Any) -> None:
        records = getattr(fetched, "_partition_records", None)
        if records is not None:
            run = _run_of(self._raw.pop(where), records)
            if run is None:
                records._consumer_record = _as_parsed  # noqa: SLF001
            else:
                fetched._partition_records = run  # noqa: SLF001
        super().__setitem__(where, fetched)


def _run_of(raw: bytes, records: PartitionRecords) -> _Run | None:
    assert NATIVE is not None, "there is no such consumer without it"
    committed = records._isolation_level == READ_COMMITTED  # noqa: SLF001
    start = records.next_fetch_offset
    try:
        run = NATIVE.fetched_records(raw, start, records._aborted_transactions if committed else None)  # noqa: SLF001
    except ValueError:
        # The client finds the same, and says so in its own way.
        return None
    return None if run is None else _Run(run, start)


class _Run:
    """The records of an answer as the client sees them: a single one, behind which the next fetch begins."""

    def __init__(self, run: Any, start: int) -> None:
        self._run = run
        self.next_fetch_offset = start

    def __iter__(self) -> Iterator[Any]:
        run, self._run = self._run, None
        if run is not None:
            self.next_fetch_offset = run.next_offset
            if len(run):
                yield run
