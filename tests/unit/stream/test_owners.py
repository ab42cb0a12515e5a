"""Owners begin, end, and begin again: after a fence as long as the partition is ours, never two at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from cdp_stream.errors import Fenced, LogContradiction
from cdp_stream.stream import owners
from cdp_stream.stream.membership import Membership, Standing
from cdp_stream.stream.owners import Owners

FOREVER = 3_600.0


class Fake:
    """An owner that runs until cancelled, or fails as it was told; the log of all is shared."""

    def __init__(self, partition: int, log: list[str], failures: list[BaseException], deaf: int) -> None:
        self.partition = partition
        self.log = log
        self.failures = failures
        self.deaf = deaf

    def hear(self, offset: int, done: Callable[[], None]) -> None:
        raise AssertionError

    async def run(self) -> None:
        self.log.append(f"run {self.partition}")
        if self.failures:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._fail())
        while True:
            try:
                await asyncio.sleep(FOREVER)
            except asyncio.CancelledError:
                self.deaf -= 1
                if self.deaf < 0:
                    raise

    async def _fail(self) -> None:
        raise self.failures.pop(0)

    async def close(self) -> None:
        await asyncio.sleep(0.01)
        self.log.append(f"close {self.partition}")


class Setting:
    def __init__(self, *failures: BaseException, deaf: int = 0, renew_s: float = FOREVER) -> None:
        self.log: list[str] = []
        self.crashed: list[BaseException] = []
        left = list(failures)
        self.owners = Owners(lambda partition: Fake(partition, self.log, left, deaf), renew_s, self.crashed.append)

    def group(self, *standings: Standing, held: set[int]) -> None:
        left = list(standings)

        async def ask() -> Standing:
            return left.pop(0) if len(left) > 1 else left[0]

        self.owners.membership = Membership(ask, lambda: held)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owners, "_PAUSES_S", (0.0,))
    monkeypatch.setattr(owners, "_CANCEL_AGAIN_S", 0.01)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 30))  # type: ignore[arg-type]


def test_a_partition_that_stays_keeps_its_owner() -> None:
    async def scenario() -> None:
        setting = Setting()
        setting.owners.assign({0, 1})
        await until(lambda: len(setting.log) == 2)
        first = setting.owners.get(0)
        setting.owners.assign({0, 2})
        await until(lambda: len(setting.log) == 4)
        assert setting.owners.get(0) is first
        assert setting.owners.get(1) is None
        assert [0, 2] == setting.owners.owned()
        await setting.owners.stop_all()
        assert ({"run 0", "run 1"}, {"run 2", "close 1"}) == (set(setting.log[:2]), set(setting.log[2:4]))

    run(scenario)


@pytest.mark.parametrize("deaf", [0, 1, 3])
def test_a_partition_that_comes_back_is_begun_when_its_last_owner_has_closed(deaf: int) -> None:
    async def scenario() -> None:
        setting = Setting(deaf=deaf)
        setting.owners.assign({0})
        await until(lambda: setting.log == ["run 0"])
        setting.owners.assign(set())
        setting.owners.assign({0})
        await until(lambda: len(setting.log) == 3)
        assert ["run 0", "close 0", "run 0"] == setting.log
        await setting.owners.stop_all()
        assert "close 0" == setting.log[-1]

    run(scenario)


def test_a_fenced_owner_that_is_still_the_member_claims_again() -> None:
    async def scenario() -> None:
        setting = Setting(Fenced("once"), Fenced("twice"))
        setting.group(Standing.UNDECIDED, Standing.MEMBER, held={0})
        setting.owners.assign({0})
        await until(lambda: len(setting.log) == 5)
        assert ["run 0", "close 0"] * 2 + ["run 0"] == setting.log
        await setting.owners.stop_all()
        assert [] == setting.crashed

    run(scenario)


class Panic(BaseException):
    """As a panic of the compiled core arrives in Python: no Exception, so that nobody goes on after it by accident."""


def test_a_panic_in_compiled_code_ends_the_process_like_any_other_failure() -> None:
    async def scenario() -> None:
        panic = Panic("called `Option::unwrap()` on a `None` value")
        setting = Setting(panic)
        setting.group(Standing.MEMBER, held={0})
        setting.owners.assign({0})
        await until(lambda: setting.crashed == [panic])
        assert ["run 0", "close 0"] == setting.log
        await setting.owners.stop_all()

    run(scenario)


@pytest.mark.parametrize(("standing", "held"), [(Standing.GONE, {0}), (Standing.MEMBER, {1})])
def test_a_fenced_owner_that_is_no_longer_the_member_stops(standing: Standing, held: set[int]) -> None:
    async def scenario() -> None:
        setting = Setting(Fenced("once"))
        setting.group(standing, held=held)
        setting.owners.assign({0})
        await until(lambda: setting.owners.owned() == [])
        assert ["run 0", "close 0"] == setting.log
        setting.owners.assign({0})
        await until(lambda: setting.log[-1] == "run 0")
        await setting.owners.stop_all()

    run(scenario)


def test_one_that_waits_for_the_group_ends_when_the_partition_goes() -> None:
    async def scenario() -> None:
        setting = Setting(Fenced("once"))
        setting.group(Standing.UNDECIDED, held={0})
        setting.owners.assign({0})
        await until(lambda: len(setting.log) == 2)
        setting.owners.assign(set())
        await setting.owners.stop_all()
        assert ["run 0", "close 0"] == setting.log

    run(scenario)


def test_a_claim_is_renewed() -> None:
    async def scenario() -> None:
        setting = Setting(renew_s=0.02)
        setting.owners.assign({0})
        await until(lambda: setting.log.count("run 0") >= 3)
        await setting.owners.stop_all()
        assert setting.log.count("run 0") == setting.log.count("close 0")

    run(scenario)


def test_fences_without_end_end_the_process() -> None:
    async def scenario() -> None:
        setting = Setting(*(Fenced(str(number)) for number in range(9)))
        setting.group(Standing.MEMBER, held={0})
        setting.owners.assign({0})
        await until(lambda: setting.crashed != [])
        assert setting.log.count("run 0") == setting.log.count("close 0") == 5

    run(scenario)


def test_any_other_failure_ends_the_process() -> None:
    async def scenario() -> None:
        setting = Setting(LogContradiction("tampered"))
        setting.owners.assign({0})
        await until(lambda: setting.crashed != [])
        assert ["tampered"] == [str(error) for error in setting.crashed]
        assert ["run 0", "close 0"] == setting.log

    run(scenario)


@pytest.mark.parametrize("error", [ValueError("closing"), asyncio.CancelledError("closing")])
def test_an_owner_that_fails_to_close_ends_the_process(error: BaseException) -> None:
    class Unclosed(Fake):
        async def close(self) -> None:
            raise error

    async def scenario() -> None:
        setting = Setting()
        setting.owners._make = lambda partition: Unclosed(partition, setting.log, [], 0)
        setting.owners.assign({0})
        await until(lambda: setting.log == ["run 0"])
        setting.owners.assign(set())
        await until(lambda: setting.crashed != [])
        assert [type(error)] == [type(found) for found in setting.crashed]

    run(scenario)


@pytest.mark.parametrize("what", ["end", "close"])
def test_an_owner_that_does_not_end_ends_the_process(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owners, "_END_WITHIN_S", 0.05)

    class Endless(Fake):
        async def close(self) -> None:
            if what == "close":
                await asyncio.sleep(FOREVER)

    async def scenario() -> None:
        setting = Setting()
        endless = Endless(0, setting.log, [], 1_000 if what == "end" else 0)
        setting.owners._make = lambda _: endless
        setting.owners.assign({0})
        await until(lambda: setting.log == ["run 0"])
        setting.owners.assign(set())
        await until(lambda: setting.crashed != [])
        assert f"an owner did not {what} within" in str(setting.crashed[0])
        endless.deaf = 0

    run(scenario)


def test_a_refusal_that_is_older_than_the_groups_last_word_does_not_count() -> None:
    async def scenario() -> None:
        setting = Setting(Fenced("once"))
        asked = 0

        async def ask() -> Standing:
            nonlocal asked
            asked += 1
            if asked == 1:
                setting.owners.assign({0})
                return Standing.GONE
            return Standing.MEMBER

        setting.owners.membership = Membership(ask, lambda: {0})
        setting.owners.assign({0})
        await until(lambda: len(setting.log) == 3)
        assert ["run 0", "close 0", "run 0"] == setting.log
        await setting.owners.stop_all()

    run(scenario)


def test_a_group_that_stays_undecided_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cdp_stream.stream.membership._UNDECIDED_MAX_S", 0.05)

    async def scenario() -> None:
        setting = Setting(Fenced("once"))
        setting.group(Standing.UNDECIDED, held={0})
        setting.owners.assign({0})
        await until(lambda: setting.crashed != [])
        assert "the group did not settle" in str(setting.crashed[0])

    run(scenario)
