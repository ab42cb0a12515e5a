"""Record batches on their way to the broker: one connection for all claims of a process.

A claim has a producer id, an epoch and sequence numbers of its own, and they stand in its batches; whose connection brings
them is all the same to the broker. So what the owners of several partitions send at one time goes into one request, which
costs both sides as much as one for each of them would (docs/adr/0017-one-connection.md).

Batches of one partition go one at a time and in order. One that the broker did not answer, or would take later, goes
again as it is: with its sequence number it stands in the log once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
from collections import deque
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import errors
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, ProducerFenced
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.structs import TopicPartition

from cdp_stream.model.time import Instant
from cdp_stream.stream.log import NOT_TOLD

_REQUESTS_AT_ONCE: Final = 3
"""Under way to one node: a changelog, the next step's outputs, an entry of the log. What comes meanwhile gathers for the next."""
_QUIET_TURNS, _TURNS_MAX = 3, 40
"""Of the event loop: a request goes when so many pass in which nothing is put in line, and after so many in any case."""
_REQUEST_BYTES: Final = 32 * 1024 * 1024
_AGAIN_AFTER_S: Final = 0.1
_ACKS_ALL: Final = -1
_BROKER_WAITS_MS: Final = 30_000
_NOBODY: Final = (None, -1)
_VERSION_LEAST: Final = 3
_NO_TRANSACTION: Final = -1
_HEAD: Final = struct.Struct(">hhii")
_SHORT, _COUNT, _PARTITION = struct.Struct(">h"), struct.Struct(">i"), struct.Struct(">ii")
log = logging.getLogger("cdp_stream.producing")


@dataclass(frozen=True, slots=True)
class Taken:
    """What the log says of a batch that it has taken."""

    offset: int
    """Of the batch's first record."""
    appended_ms: Instant = NOT_TOLD
    """The records' time, where the log gives them its own."""


@dataclass(slots=True, eq=False)
class _Batch:
    where: TopicPartition
    raw: bytes
    sender: object
    answer: asyncio.Future[Taken]
    is_sent_again: bool = False


class Producing:
    """Sends the batches of all who joined; connected as long as there is one."""

    def __init__(self, options: dict[str, Any]) -> None:
        """`options`: what every client of the broker is given."""
        self._options = options
        self._joined = 0
        self._client: AIOKafkaClient | None = None
        self._starting = asyncio.Lock()
        self._lines: dict[TopicPartition, deque[_Batch]] = {}
        self._busy: dict[TopicPartition, _Batch] = {}
        self._requests: dict[int, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn_is_near = False
        self._put = 0
        """How many batches were put in line so far."""
        self._looks_for_leaders = False

    async def join(self) -> None:
        """Connect, if nobody has yet."""
        async with self._starting:
            if self._client is None:
                client = AIOKafkaClient(**self._options)
                try:
                    await client.bootstrap()
                except BaseException:
                    await client.close()
                    raise
                self._client = client
            self._joined += 1

    async def leave(self, sender: object, within_s: float) -> None:
        """No more of this sender: what is in line is dropped, what is under way is waited for, though not for long."""
        for where, line in list(self._lines.items()):
            self._lines[where] = deque(batch for batch in line if batch.sender is not sender)
        under_way = [batch.answer for batch in self._busy.values() if batch.sender is sender]
        if under_way:
            await asyncio.wait(under_way, timeout=within_s)
        for answer in under_way:
            answer.cancel()
        async with self._starting:
            self._joined -= 1
            if not self._joined and self._client is not None:
                client, self._client = self._client, None
                tasks = list(self._tasks)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                self._lines.clear()
                self._busy.clear()
                self._requests.clear()
                await client.close()

    def put(self, where: TopicPartition, raw: bytes, sender: object) -> Awaitable[Taken]:
        """Put a finished batch in line; await the result for the log's answer."""
        batch = _Batch(where, raw, sender, asyncio.get_running_loop().create_future())
        self._lines.setdefault(where, deque()).append(batch)
        self._put += 1
        self._soon()
        return batch.answer

    def _soon(self) -> None:
        """Whatever is put in line within a few turns of the loop goes together: the changelog of one step and the outputs of
        the next, which two tasks send that were woken by the same answer; the steps of all partitions whose messages came at
        one time, which are decided one after the other.
        """
        if not self._turn_is_near:
            self._turn_is_near = True
            self._wait(_QUIET_TURNS, _TURNS_MAX, self._put)

    def _wait(self, quiet: int, turns: int, put: int) -> None:
        if self._put != put:
            quiet = _QUIET_TURNS
        if quiet and turns:
            asyncio.get_running_loop().call_soon(self._wait, quiet - 1, turns - 1, self._put)
        else:
            self._send_what_may_go()

    def _send_what_may_go(self) -> None:
        self._turn_is_near = False
        client = self._client
        if client is None:
            return
        leaderless = []
        by_node: dict[int, list[_Batch]] = {}
        sizes: dict[int, int] = {}
        for where in [where for where in self._lines if where not in self._busy]:
            line = self._lines[where]
            # Nobody waits any more for what was given up.
            while line and line[0].answer.done():
                line.popleft()
            if not line:
                del self._lines[where]
                continue
            node = client.cluster.leader_for_partition(where)
            if node in _NOBODY:
                leaderless.append(where)
                continue
            size = sizes.get(node, 0) + len(line[0].raw)
            if self._requests.get(node, 0) < _REQUESTS_AT_ONCE and (size < _REQUEST_BYTES or node not in by_node):
                sizes[node] = size
                self._busy[where] = line.popleft()
                by_node.setdefault(node, []).append(self._busy[where])
        for node, batches in by_node.items():
            self._requests[node] = self._requests.get(node, 0) + 1
            self._begin(self._request(client, node, batches))
        if leaderless and not self._looks_for_leaders:
            self._looks_for_leaders = True
            self._begin(self._look_for_leaders(client, leaderless))

    def _begin(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _look_for_leaders(self, client: AIOKafkaClient, leaderless: list[TopicPartition]) -> None:
        try:
            for where in leaderless:
                client.add_topic(where.topic)
            with contextlib.suppress(KafkaError):
                await client.force_metadata_update()
            if any(client.cluster.leader_for_partition(where) in _NOBODY for where in leaderless):
                await asyncio.sleep(_AGAIN_AFTER_S)
        finally:
            self._looks_for_leaders = False
        self._soon()

    async def _request(self, client: AIOKafkaClient, node: int, batches: list[_Batch]) -> None:
        topics: dict[str, list[tuple[int, bytes]]] = {}
        for batch in batches:
            topics.setdefault(batch.where.topic, []).append((batch.where.partition, batch.raw))
        request = Request(topics)
        said: dict[TopicPartition, Taken | Exception] = {}
        try:
            response = await client.send(node, request)
            for topic, partitions in response.topics:
                for partition, code, offset, *more in partitions:
                    taken = Taken(offset, more[0] if more else NOT_TOLD)
                    said[TopicPartition(topic, partition)] = _error_of(code) if code else taken
        except Exception as error:  # noqa: BLE001 - what may not be tried again ends the claims
            said = dict.fromkeys((batch.where for batch in batches), error)
        finally:
            self._requests[node] -= 1
        again = [batch for batch in batches if not self._settled(batch, said.get(batch.where))]
        self._soon()
        if again:
            await self._again(client, again)

    def _settled(self, batch: _Batch, said: Taken | Exception | None) -> bool:
        """Tell whoever waits for a batch what became of it; False if it has to go again."""
        if not isinstance(said, Taken) and getattr(said, "retriable", said is None):
            log.warning("%s/%d: sending again: %r", *batch.where, said)
            return False
        del self._busy[batch.where]
        if batch.answer.done():
            return True
        if isinstance(said, Taken):
            # Of a batch that stood there already, whoever reads it knows the time.
            batch.answer.set_result(Taken(said.offset) if batch.is_sent_again else said)
        elif said is not None:
            batch.answer.set_exception(said)
            # Whoever waits for several batches hears of the first that failed, and that is enough.
            batch.answer.exception()
        return True

    async def _again(self, client: AIOKafkaClient, batches: list[_Batch]) -> None:
        """Put batches back at the heads of their lines after a while, and ask who leads their partitions now."""
        await asyncio.sleep(_AGAIN_AFTER_S)
        with contextlib.suppress(KafkaError):
            await client.force_metadata_update()
        for batch in batches:
            del self._busy[batch.where]
            batch.is_sent_again = True
            self._lines.setdefault(batch.where, deque()).appendleft(batch)
        self._soon()


class Request:
    """A produce request as the client's connection wants it, whose batches are copied once.

    The client's own copies them at each level of its nesting: a tenth of what a profile worker did.
    """

    required_acks: Final = _ACKS_ALL

    def __init__(self, topics: Mapping[str, Sequence[tuple[int, bytes]]]) -> None:
        """`topics`: partitions and their batches."""
        self._topics = topics

    def prepare(self, versions: dict[int, tuple[int, int]]) -> Any:
        """In the version that the broker and the client agree on."""
        plain = ProduceRequest(None, _ACKS_ALL, _BROKER_WAITS_MS, [(*topic,) for topic in self._topics.items()])
        prepared = plain.prepare(versions)
        if prepared.API_VERSION >= _VERSION_LEAST:
            prepared.encode = self.encode
        return prepared

    def encode(self) -> bytes:
        """The request's bytes, from version 3 on."""
        parts = [_HEAD.pack(_NO_TRANSACTION, _ACKS_ALL, _BROKER_WAITS_MS, len(self._topics))]
        for topic, batches in self._topics.items():
            name = topic.encode()
            parts += (_SHORT.pack(len(name)), name, _COUNT.pack(len(batches)))
            for partition, raw in batches:
                parts += (_PARTITION.pack(partition, len(raw)), raw)
        return b"".join(parts)


def _error_of(code: int) -> Exception:
    kind: type[Exception] = errors.for_code(code)
    return ProducerFenced() if kind is errors.InvalidProducerEpoch else kind()
