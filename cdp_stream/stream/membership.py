"""Whether this process is still the member to whom the group gave a partition, asked of the broker, not of memory.

A process that was frozen wakes up in the belief that nothing happened. So a claim asks before it fences anybody off, and
asks again before it uses what it claimed; an owner that was fenced asks before it claims anew. Two workers therefore
never fence each other in turns: one of them is not the member.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Any, Final

import faust
from aiokafka.errors import KafkaError
from aiokafka.protocol.group import HeartbeatRequest

from cdp_stream.errors import BrokerUnavailable

_ASK_EVERY_S: Final = 0.2
_UNDECIDED_MAX_S: Final = 120.0
"""After so long it is this process whose group client has died: a group settles within seconds, or its broker is away."""
_NO_GENERATION: Final = -1
_NOT_A_MEMBER: Final = (22, 25)
"""Illegal generation, unknown member id."""
log = logging.getLogger("cdp_stream.membership")


class Standing(Enum):
    """What the group says."""

    MEMBER = "member"
    GONE = "gone"
    UNDECIDED = "undecided"
    """The group rebalances, or nobody answers: ask again."""


class Membership:
    """The group's word on this process. `ask` gets the standing of the process as a whole, `held` its partitions."""

    def __init__(self, ask: Callable[[], Awaitable[Standing]], held: Callable[[], set[int]]) -> None:
        self._ask = ask
        self._held = held

    async def holds(self, partition: int) -> bool:
        """Is the partition ours in the present generation? Waits while the group is undecided.

        Raises BrokerUnavailable when it stays so.
        """
        said, until = False, asyncio.get_running_loop().time() + _UNDECIDED_MAX_S
        while True:
            standing = await self._ask()
            if standing is Standing.GONE:
                return False
            if standing is Standing.MEMBER:
                return partition in self._held()
            if asyncio.get_running_loop().time() > until:
                raise BrokerUnavailable(
                    f"partition {partition}: the group did not settle within {_UNDECIDED_MAX_S:.0f} s"
                )
            if not said:
                log.info("partition %d: waiting for the group to settle", partition)
                said = True
            await asyncio.sleep(_ASK_EVERY_S)


def group_membership(app: faust.App, topic: str) -> Membership:
    """The membership of this app's consumer, for the partitions of `topic`."""

    async def ask() -> Standing:
        thread = app.consumer._thread  # type: ignore[attr-defined]  # noqa: SLF001 - Faust keeps its client in a thread of its own
        client = None if thread is None else thread._consumer  # noqa: SLF001
        if client is None or client._coordinator is None:  # noqa: SLF001
            return Standing.UNDECIDED
        future = asyncio.run_coroutine_threadsafe(_heartbeat(client._coordinator), thread.thread_loop)  # noqa: SLF001
        return await asyncio.wrap_future(future)

    def held() -> set[int]:
        return {where.partition for where in app.consumer.assignment() if where.topic == topic}

    return Membership(ask, held)


async def _heartbeat(coordinator: Any) -> Standing:
    generation, member = coordinator.generation, coordinator.member_id
    if generation == _NO_GENERATION:
        return Standing.UNDECIDED
    try:
        answer = await coordinator._send_req(HeartbeatRequest(coordinator.group_id, generation, member))  # noqa: SLF001
    except KafkaError:
        return Standing.UNDECIDED
    if answer.error_code in _NOT_A_MEMBER:
        return Standing.GONE
    return Standing.UNDECIDED if answer.error_code else Standing.MEMBER
