"""One connection for all claims: what goes together, what goes again, and in which order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError, NotLeaderForPartitionError, OutOfOrderSequenceNumber, ProducerFenced
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.structs import TopicPartition

from cdp_stream.stream.producing import Producing, Request, Taken

ONE, TWO, FAR = TopicPartition("t", 1), TopicPartition("t", 2), TopicPartition("far", 0)
NOT_LEADER, FENCED = 6, 47


class Cluster:
    def __init__(self) -> None:
        self.leaders = {ONE: 1, TWO: 1, FAR: 2}
        self.unknown = False

    def leader_for_partition(self, where: TopicPartition) -> int | None:
        return None if self.unknown else self.leaders[where]


class Response:
    def __init__(self, topics: list[Any]) -> None:
        self.topics = topics


class Client:
    """Keeps what is sent; a test says when it is answered, and how."""

    def __init__(self) -> None:
        self.cluster = Cluster()
        self.sent: list[tuple[int, dict[TopicPartition, bytes], asyncio.Future[Any]]] = []
        self.asked = 0
        self.closed = False

    async def send(self, node: int, request: Any) -> Any:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        batches = {TopicPartition(topic, at): raw for topic, found in request._topics.items() for at, raw in found}
        self.sent.append((node, batches, answer))
        return await answer

    def answer(self, number: int, code: int = 0, offset: int = 0, appended: int = -1) -> None:
        _, batches, answer = self.sent[number]
        said = [(where.topic, [(where.partition, code, offset, appended, 0)]) for where in batches]
        answer.set_result(Response(said))

    def add_topic(self, topic: str) -> None:
        self.asked += 1

    async def force_metadata_update(self) -> bool:
        self.asked += 1
        self.cluster.unknown = False
        return True

    async def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("version", range(3, 8))
def test_a_request_is_the_client_s_own_byte_for_byte(version: int) -> None:
    topics = {"t": [(1, b"one"), (2, b"")], "ünused": [], "far": [(0, bytes(300))]}
    versions = {ProduceRequest.API_KEY: (version, version)}
    ours = Request(topics).prepare(versions)
    assert ours.API_VERSION == version
    assert ours.encode() == ProduceRequest(None, -1, 30_000, list(topics.items())).prepare(versions).encode()


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def run(scenario: Callable[[Producing, Client], Coroutine[Any, Any, None]]) -> None:
    async def inside() -> None:
        producing, client = Producing({}), Client()
        producing._client = client
        producing._joined = 1
        await scenario(producing, client)

    asyncio.run(asyncio.wait_for(inside(), 10))


def shape(client: Client) -> list[tuple[int, dict[TopicPartition, bytes]]]:
    return [(node, batches) for node, batches, _ in client.sent]


def test_what_is_put_in_line_at_one_time_goes_in_one_request_to_a_node() -> None:
    async def scenario(producing: Producing, client: Client) -> None:
        answers = [producing.put(where, b"%d" % where.partition, object()) for where in (ONE, FAR, TWO)]
        await turns()
        assert shape(client) == [(1, {ONE: b"1", TWO: b"2"}), (2, {FAR: b"0"})]
        client.answer(0, offset=5)
        client.answer(1, offset=9)
        assert [await answer for answer in answers] == [Taken(5), Taken(9), Taken(5)]

    run(scenario)


def test_steps_decided_one_after_the_other_share_a_request_but_none_waits_for_ever() -> None:
    async def scenario(producing: Producing, client: Client) -> None:
        many = [TopicPartition("t", number) for number in range(3, 103)]
        client.cluster.leaders |= dict.fromkeys(many, 1)
        for where in many[:8]:
            producing.put(where, b"", object())
            await turns(2)
        assert client.sent == []
        await turns(3)
        assert shape(client) == [(1, dict.fromkeys(many[:8], b""))]
        for where in many[8:]:
            producing.put(where, b"", object())
            await turns(1)
        assert len(client.sent) > 1
        assert set(client.sent[1][1]) == set(many[8 : 8 + len(client.sent[1][1])])

    run(scenario)


def test_what_comes_while_its_partition_or_its_node_is_busy_gathers_for_the_next() -> None:
    async def scenario(producing: Producing, client: Client) -> None:
        for number in range(3, 9):
            client.cluster.leaders[TopicPartition("t", number)] = 1
        first = producing.put(ONE, b"a", object())
        for number in (3, 4):
            await turns()
            producing.put(TopicPartition("t", number), b"", object())
        await turns()
        assert len(client.sent) == 3
        later = [producing.put(where, raw, object()) for where, raw in ((ONE, b"b"), (TWO, b"c"), (ONE, b"d"))]
        await turns()
        assert len(client.sent) == 3
        client.answer(0)
        await first
        await turns()
        assert shape(client)[3:] == [(1, {ONE: b"b", TWO: b"c"})]
        client.answer(3)
        await turns()
        assert shape(client)[4:] == [(1, {ONE: b"d"})]
        client.answer(4, offset=7)
        assert await later[2] == Taken(7)

    run(scenario)


@pytest.mark.parametrize("failure", [NOT_LEADER, KafkaConnectionError("cut"), NotLeaderForPartitionError()])
def test_a_batch_without_an_answer_goes_again_before_what_follows_it(failure: Any) -> None:
    async def scenario(producing: Producing, client: Client) -> None:
        first, second = (producing.put(ONE, raw, object()) for raw in (b"a", b"b"))
        await turns()
        if isinstance(failure, int):
            client.answer(0, code=failure)
        else:
            client.sent[0][2].set_exception(failure)
        while len(client.sent) < 2:
            await asyncio.sleep(0.01)
        assert shape(client)[1] == (1, {ONE: b"a"})
        assert client.asked
        # It may have been there already: then it is older than this answer.
        client.answer(1, offset=3, appended=1_000)
        assert await first == Taken(3)
        await turns()
        client.answer(2, offset=4, appended=1_001)
        assert (shape(client)[2], await second) == ((1, {ONE: b"b"}), Taken(4, 1_001))

    run(scenario)


@pytest.mark.parametrize(
    ("failure", "raised"),
    [(FENCED, ProducerFenced), (45, OutOfOrderSequenceNumber), (10, Exception), (ValueError("ours"), ValueError)],
)
def test_whatever_may_not_go_again_is_told(failure: Any, raised: type[Exception]) -> None:
    async def scenario(producing: Producing, client: Client) -> None:
        answer = producing.put(ONE, b"a", object())
        await turns()
        if isinstance(failure, int):
            client.answer(0, code=failure)
        else:
            client.sent[0][2].set_exception(failure)
        with pytest.raises(raised):
            await answer
        # The line is free for whoever comes next.
        producing.put(ONE, b"b", object())
        await turns()
        assert shape(client)[1:] == [(1, {ONE: b"b"})]

    run(scenario)


def test_a_partition_without_a_leader_waits_for_one() -> None:
    async def scenario(producing: Producing, client: Client) -> None:
        client.cluster.unknown = True
        answer: Awaitable[Taken] = producing.put(ONE, b"a", object())
        while not client.sent:
            await asyncio.sleep(0.01)
        client.answer(0, offset=1)
        assert await answer == Taken(1)

    run(scenario)


def test_who_leaves_takes_along_what_is_in_line_and_nothing_of_others() -> None:
    async def scenario(producing: Producing, client: Client) -> None:
        goes, stays = object(), object()
        producing._joined = 2
        under_way, dropped = (producing.put(ONE, raw, goes) for raw in (b"a", b"dropped"))
        kept = producing.put(ONE, b"kept", stays)
        await turns()
        leaving = asyncio.ensure_future(producing.leave(goes, 5.0))
        await turns()
        assert not leaving.done()
        client.answer(0, offset=2)
        await leaving
        await turns()
        client.answer(1, offset=3)
        assert (await under_way, await kept) == (Taken(2), Taken(3))
        assert shape(client) == [(1, {ONE: b"a"}), (1, {ONE: b"kept"})]
        assert not asyncio.ensure_future(dropped).done()
        assert not client.closed
        await producing.leave(stays, 5.0)
        assert client.closed

    run(scenario)
