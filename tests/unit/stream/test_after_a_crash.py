"""What was sent before a crash, found by the next owner: positions, what is done, and overtaken claims."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from random import Random
from typing import cast

import msgspec
import pytest
from aiokafka.structs import TopicPartition

from cdp_stream.errors import Fenced
from cdp_stream.metrics import Metrics, ProfileMetrics
from cdp_stream.model.change import ProfileEvent
from cdp_stream.stages.identity import BARRIER_KEY, IdentityBarrier, IdentityStage
from cdp_stream.stages.profile_shapes import Parked, ProfileBarrier, ProfileStep
from cdp_stream.stages.profiles import ProfileStage
from cdp_stream.stages.records import LEDGER, OutputRecord
from cdp_stream.store.memory import MemoryStore
from cdp_stream.stream.claim import claim
from cdp_stream.stream.log import BatchRecord, World
from cdp_stream.stream.profiles import ProfileOwner
from cdp_stream.stream.settings import Settings
from cdp_stream.stream.step import StepWriter
from cdp_stream.stream.topics import TopicNames
from cdp_stream.testing.simulation.broker import SimulatedBroker
from cdp_stream.testing.simulation.client import Network, SimulatedLog, Taken
from cdp_stream.testing.simulation.loop import VirtualLoop
from cdp_stream.testing.simulation.process import Process

NAMES = TopicNames("space", "", 2, (), ())
TOPIC = NAMES.of_role(LEDGER)
WHERE = TopicPartition(TOPIC, 0)


class Writer:
    def __init__(self, end: int) -> None:
        self.end = end

    async def submit(self, where: TopicPartition, records: Sequence[BatchRecord]) -> asyncio.Future[Taken]:
        answer: asyncio.Future[Taken] = asyncio.get_running_loop().create_future()
        answer.set_result(Taken(self.end))
        self.end += len(records)
        return answer

    async def stop(self) -> None:
        pass


def output(src: str) -> OutputRecord:
    return OutputRecord(LEDGER, 0, b"key", b"{}", src)


def test_a_stored_position_stays_before_what_a_later_step_will_look_for() -> None:
    async def scenario() -> tuple[dict[str, dict[int, int]], ...]:
        writer = StepWriter(Writer(10), NAMES, TopicPartition("changelog", 0), {(WHERE, "profiles/0/3/0/0"): 7})
        seen = []
        positions: dict[str, dict[int, int]] = {}
        for src in ("profiles/0/9/0/0", "profiles/0/3/0/0", "profiles/0/9/1/0"):
            await writer.send([output(src)], positions)
            seen.append({topic: dict(offsets) for topic, offsets in positions.items()})
        return tuple(seen)

    held, skipped, free = asyncio.run(scenario())
    assert ({TOPIC: {0: 7}}, {TOPIC: {0: 7}}, {TOPIC: {0: 12}}) == (held, skipped, free)


def test_outputs_of_a_parked_change_are_not_done_though_its_message_is() -> None:
    event = ProfileEvent(
        index=2, record=0, now=0, profile_id="use_a", collection="users", type="track", message_id="m", time=0
    )
    store = MemoryStore()
    parked = msgspec.msgpack.encode(Parked(4, 4, "v", event))
    store.commit({b"quse_a" + bytes(8): parked, BARRIER_KEY: msgspec.msgpack.encode(ProfileBarrier(next_offset=6))})
    is_done = ProfileStage(store, 0, 1).outputs_done()
    sources = ["profiles/0/4/2/0", "profiles/0/4/1/0", "profiles/0/5/2/0", "profiles/0/6/0/0"]
    assert [False, True, True, False] == [is_done(src) for src in sources]


def test_outputs_of_an_entry_are_done_when_the_entry_is() -> None:
    store = MemoryStore()
    store.commit({BARRIER_KEY: msgspec.msgpack.encode(IdentityBarrier(next_offset=5))})
    stage = IdentityStage(store, 1)
    assert (True, False) == (stage.is_done("identity/0/4/0/0"), stage.is_done("identity/0/5/0/0"))


def test_nothing_is_decided_on_top_of_a_step_that_was_not_stored() -> None:
    """The two inputs of a partition take turns: the other one is there at once when a step fails."""

    class Unstored(ProfileOwner):
        async def _finish(self, step: ProfileStep, began: float) -> None:
            raise Fenced("lost")

    decided: list[str] = []

    def decide(which: str) -> ProfileStep:
        decided.append(which)
        return ProfileStep([], {}, Counter(), done=True)

    async def scenario() -> None:
        owner = Unstored(Settings("none:1"), NAMES, 0, ProfileMetrics(Metrics()), cast("World", None))
        owner._owner.writer = StepWriter(Writer(0), NAMES, TopicPartition("changelog", 0), {})
        for which in ("changes", "shipments"):
            with pytest.raises(Fenced):
                await owner._take_steps(partial(decide, which))

    asyncio.run(scenario())
    assert decided == ["changes"]


class Refusing(Writer):
    async def submit(self, where: TopicPartition, records: Sequence[BatchRecord]) -> asyncio.Future[Taken]:
        raise ConnectionError("refused")


async def sends(writer: StepWriter) -> None:
    await writer.send([output("profiles/0/9/0/0")], {})


async def writes_its_changelog(writer: StepWriter) -> None:
    await writer.changelog({b"key": b"value"})


async def is_given_up(writer: StepWriter) -> None:
    with writer.step():
        raise asyncio.CancelledError


@pytest.mark.parametrize("fails", [sends, writes_its_changelog, is_given_up])
def test_nothing_follows_on_a_step_that_failed_however_it_failed(
    fails: Callable[[StepWriter], Awaitable[None]],
) -> None:
    async def scenario() -> None:
        broken = Refusing(0)
        writer = StepWriter(broken, NAMES, TopicPartition("changelog", 0), {})
        with pytest.raises((Fenced, asyncio.CancelledError)):
            await fails(writer)
        writer._writer = Writer(0)
        for follows in (sends, writes_its_changelog, is_given_up):
            with pytest.raises(Fenced, match="a step before this one could not be stored"):
                await follows(writer)

    asyncio.run(scenario())


def test_a_claim_that_another_one_overtook_is_given_up() -> None:
    async def always() -> bool:
        return True

    async def scenario() -> None:
        broker = SimulatedBroker(Random(1), lambda: 0)
        broker.create(TOPIC, 2)
        slow, fast = (Process(name, None, None, 9.0) for name in ("slow", "fast"))
        logs = [SimulatedLog(broker, Network(Random(1), 0, 0), process) for process in (slow, fast)]
        outputs = [TopicPartition(TOPIC, number) for number in range(2)]
        # Two actions mark, the third begins the second initialisation: there it stands still.
        slow.freezes_at = 3
        overtaken = asyncio.ensure_future(claim(logs[0], "id", outputs, always))
        await asyncio.sleep(1)
        writer, _ = await claim(logs[1], "id", outputs, always)
        with pytest.raises(Fenced, match="another claim"):
            await overtaken
        await (await writer.submit(outputs[0], [(b"k", b"v", None)]))

    loop = VirtualLoop()
    try:
        loop.run_until_complete(scenario())
    finally:
        loop.close()
