"""Messages on their way: order within a profile, none across profiles, and what may be committed meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from aiokafka.structs import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from cdp_stream.stream import webhook_lanes
from cdp_stream.stream.webhook_delivery import Abandoned
from cdp_stream.stream.webhook_lanes import Lanes, Message

HERE = TopicPartition("crm", 0)
THERE = TopicPartition("crm", 1)


def message(offset: int, key: str = "p", where: TopicPartition = HERE, value: bytes = b"{}") -> Message:
    return Message(where, offset, key.encode(), value)


class Gates:
    """Deals with a message when the test says so."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.done: list[int] = []
        self._gates: dict[int, asyncio.Event] = {}

    async def __call__(self, one: Message, closing: asyncio.Event) -> None:
        self.begun.append(one.offset)
        gate = self._gates.setdefault(one.offset, asyncio.Event())
        waits = [asyncio.ensure_future(gate.wait()), asyncio.ensure_future(closing.wait())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        if not gate.is_set():
            raise Abandoned
        self.done.append(one.offset)

    async def open(self, *offsets: int) -> None:
        for offset in offsets:
            self._gates.setdefault(offset, asyncio.Event()).set()
        await settle()


async def settle() -> None:
    for _ in range(200):
        await asyncio.sleep(0)


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(scenario())


def test_one_profile_s_messages_go_one_after_the_other_and_others_do_not_wait():
    async def scenario() -> None:
        gates = Gates()
        lanes = Lanes(gates)
        for offset, key in enumerate(["a", "a", "b", "a"]):
            lanes.put(message(offset, key))
        await settle()
        assert gates.begun == [0, 2]
        await gates.open(2)
        assert gates.done == [2]
        await gates.open(0)
        assert gates.begun == [0, 2, 1]
        await gates.open(3, 1)
        assert gates.done == [2, 0, 1, 3]
        assert lanes.in_flight == 0

    run(scenario)


def test_what_may_be_committed_ends_before_the_first_that_is_not_dealt_with():
    async def scenario() -> None:
        gates = Gates()
        lanes = Lanes(gates)
        for offset in (5, 7, 8):  # gaps are normal
            lanes.put(message(offset, f"p{offset}"))
        lanes.put(message(0, "x", THERE))
        await settle()
        assert lanes.committable() == {HERE: 5, THERE: 0}
        await gates.open(7, 8)
        assert lanes.committable() == {HERE: 5, THERE: 0}
        await gates.open(5)
        assert lanes.committable() == {HERE: 9, THERE: 0}

    run(scenario)


def test_closing_begins_nothing_more_and_commits_only_what_was_dealt_with():
    async def scenario() -> None:
        gates = Gates()
        lanes = Lanes(gates)
        for offset, key in enumerate("aaab"):
            lanes.put(message(offset, key))
        await gates.open(0)
        await lanes.close()
        assert lanes.committable() == {HERE: 1}
        lanes.put(message(4, "c"))
        await gates.open(1, 2, 3, 4)
        assert gates.done == [0]
        assert lanes.committable() == {HERE: 1}

    run(scenario)


def test_memory_is_bounded_by_count_and_by_bytes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(webhook_lanes, "IN_FLIGHT_MAX", 3)
    monkeypatch.setattr(webhook_lanes, "IN_FLIGHT_BYTES_MAX", 100)

    async def scenario() -> None:
        gates = Gates()
        lanes = Lanes(gates)
        assert lanes.room() == 3
        lanes.put(message(0, "a", value=b"x" * 99))
        assert lanes.room() == 2
        lanes.put(message(1, "b", value=b"x"))
        assert lanes.room() == 0
        await gates.open(0, 1)
        assert lanes.room() == 3
        for offset in (2, 3, 4):
            lanes.put(message(offset, f"p{offset}"))
        assert lanes.room() == 0
        await lanes.close()

    run(scenario)


def test_a_failure_is_kept_for_whoever_looks_and_its_message_is_not_done():
    async def fail(one: Message, _: asyncio.Event) -> None:
        raise ValueError(one.offset)

    async def scenario() -> None:
        lanes = Lanes(fail)
        lanes.put(message(3))
        await settle()
        assert isinstance(lanes.failure, ValueError)
        assert lanes.committable() == {HERE: 3}

    run(scenario)


@given(st.lists(st.sampled_from("abc"), max_size=20), st.randoms(use_true_random=False))
def test_whatever_the_order_of_answers_each_profile_keeps_its_own(keys: list[str], chance: Any):
    async def scenario() -> None:
        gates = Gates()
        lanes = Lanes(gates)
        for offset, key in enumerate(keys):
            lanes.put(message(offset, key))
        order = list(range(len(keys)))
        chance.shuffle(order)
        for offset in order:
            await gates.open(offset)
            undone = [number for number in range(len(keys)) if number not in gates.done]
            assert lanes.committable() == {HERE: min(undone, default=len(keys))}
        for key in "abc":
            mine = [offset for offset in gates.done if keys[offset] == key]
            assert mine == sorted(mine)
        assert sorted(gates.done) == list(range(len(keys)))

    run(scenario)
