"""A sync comes together at home: complete when all partitions have passed it, cut by bytes, resumable."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson
import pytest

from cdp_stream.model.ids import ProfileId
from cdp_stream.stages import lists as room
from cdp_stream.stages.lists import ListNews, Lists, ListsPassed
from cdp_stream.store.memory import MemoryStore

SYNC = 3_600_000


class Home:
    """The lists of a home of two partitions, stored after every step."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.lists = Lists(self.store, 0, 2)

    def commit(self) -> None:
        self.store.commit(self.lists.take_writes())

    def keep(
        self, profile: str, *added: str, removed: tuple[str, ...] = (), sync: int = SYNC, key: str = "vip"
    ) -> None:
        news = ListNews(
            destination="ads",
            audience_key=key,
            audience_name=key.upper(),
            profile_id=ProfileId(profile),
            sync=sync,
            added=tuple(orjson.dumps({"userId": one}) for one in added),
            removed=tuple(orjson.dumps({"userId": one}) for one in removed),
        )
        self.lists.keep(news, msgspec.msgpack.encode(news))
        self.commit()

    def passed(self, partition: int, until: int, parts: int = 100) -> list[dict[str, Any]]:
        """A partition has passed a sync: what is told then, as far as a step of so many parts holds it."""
        self.lists.pass_by(ListsPassed(destination="ads", partition=partition, until=until))
        told = []
        for record in self.lists.tell("ads", "shop"):
            told.append({"src": record.src, **orjson.loads(record.value)})
            if len(told) == parts:
                break
        self.commit()
        return told


def short(told: list[dict[str, Any]]) -> list[str]:
    """Each part as `vip 1 whole +u1 +u2 -u3 last`."""
    lines = []
    for row in told:
        who = [f"+{member['userId']}" for member in row["add"]] + [f"-{member['userId']}" for member in row["remove"]]
        key = row["context"]["personas"]["computation_key"]
        lines.append(" ".join([key, str(row["part"]), row["sync"], *who, *(["last"] if row["last"] else [])]))
    return lines


@pytest.fixture
def home() -> Home:
    return Home()


def test_a_sync_waits_for_every_partition_and_is_told_in_order_of_profile_ids(home: Home) -> None:
    home.keep("use_b", "u2")
    home.keep("use_a", "u1", "u1b")
    assert home.passed(0, SYNC) == []
    assert short(home.passed(1, SYNC)) == ["vip 1 whole +u1 +u1b +u2 last"]


def test_later_syncs_are_changes_and_the_name_stays(home: Home) -> None:
    home.keep("use_a", "u1")
    home.keep("use_a", removed=("u1",), sync=2 * SYNC)
    home.keep("use_b", "u2", sync=3 * SYNC)
    home.passed(0, 2 * SYNC)
    told = home.passed(1, 3 * SYNC)
    assert short(told) == ["vip 1 whole +u1 last", "vip 1 changes -u1 last"]
    assert {row["name"] for row in told} == {"VIP"}
    assert short(home.passed(0, 3 * SYNC)) == ["vip 1 changes +u2 last"]


def test_each_audience_is_a_list_of_its_own(home: Home) -> None:
    home.keep("use_a", "u1", key="vip")
    home.keep("use_a", "u1", key="big")
    home.passed(0, SYNC)
    assert short(home.passed(1, SYNC)) == ["big 1 whole +u1 last", "vip 1 whole +u1 last"]


def test_many_members_make_several_numbered_parts_cut_by_bytes(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "PART_BYTES_MAX", 2 * len(b'{"userId":"u1"}'))
    for number in range(5):
        home.keep(f"use_{number}", f"u{number}")
    home.passed(0, SYNC)
    assert short(home.passed(1, SYNC)) == ["vip 1 whole +u0 +u1", "vip 2 whole +u2 +u3", "vip 3 whole +u4 last"]


def test_a_sync_cut_by_the_end_of_a_step_goes_on_where_it_was_also_with_another_owner(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "PART_BYTES_MAX", 1)
    for number in range(3):
        home.keep(f"use_{number}", f"u{number}")
    home.passed(0, SYNC)
    first = home.passed(1, SYNC, parts=1)
    is_told = [home.lists.is_told("ads", SYNC, "vip", part) for part in (1, 2)]
    home.lists = Lists(home.store, 0, 2)
    rest = home.passed(1, SYNC, parts=1) + home.passed(1, SYNC)
    assert short(first + rest) == ["vip 1 whole +u0", "vip 2 whole +u1", "vip 3 whole +u2 last"]
    assert is_told == [True, False]
    assert len({row["src"] for row in first + rest}) == 3
    assert len({row["messageId"] for row in first + rest}) == 3
    assert [key for key, _ in home.store.scan(b"l")] == []


def test_nothing_is_told_twice_and_a_quiet_sync_not_at_all(home: Home) -> None:
    home.keep("use_a", "u1")
    home.passed(0, SYNC)
    assert len(home.passed(1, SYNC)) == 1
    assert home.passed(1, SYNC) == []
    home.passed(0, 5 * SYNC)
    assert home.passed(1, 5 * SYNC) == []
