"""What is kept of evaluations changes no result, and the cost of an event does not grow with the events before it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random
from typing import Any

import pytest

from cdp_stream.language import blocks, kept, numbered, ranks, readers, reducing, scope, verdicts
from cdp_stream.language.numbered import Numbered
from cdp_stream.testing import TopologyDriver as Driver
from cdp_stream.traits.kinds import rows as rows_kind

TopologyDriver = partial(Driver, compiled=False)
"""What is kept is kept by the rooms in Python, to which the core leaves profiles of many candidates."""
START = datetime(2025, 1, 1, tzinfo=UTC)
NEVER = 2**62

TRAITS = {
    "mean": "event('Order').avg('total')",
    "spend": "event('Order').within(5 hours).sum('total')",
    "spend_old": "event('Order').between(1 hours, 6 hours).avg('total')",
    "least": "event('Order').within(5 hours).min('total')",
    "greatest": "event('Order').within(5 hours).max(property('total') as string)",
    "usual": "event('Add').within(6 hours).mode('sku', 1)",
    "skus": "event('Add').within(6 hours).unique('sku')",
    "tags": "event('Add').within(4 hours).unique('tags.$')",
    "left": "event('Add').where(event('Order').within(parent: 1 hours).count() = 0).count()",
    "left_lately": "event('Add').where(event('Order').within(parent: 1 hours).count() = 0).within(4 hours).count()",
    "left_before": "event('Add').where(event('Order').count() < 3).between(1 hours, 4 hours).last('sku')",
    "bought": "event('Add').where(event('Order').within(parent: 2 hours).count() >= 1).within(8 hours).unique('sku')",
    "thrice": "event('Add').where(event('Order').within(parent: 3 hours).count() = 3).first('sku')",
    "few": "event('Add').where(2.5 >= event('Order').within(parent: 3 hours).count()).count()",
    "one_or_four": "event('Add').where(event('Order').within(parent: 3 hours).count().one_of(1, 4)).count()",
    "two_to_four": (
        "event('Add').where(event('Order').within(parent: 3 hours).count() > 1"
        " AND event('Order').within(parent: 3 hours).count() <= 4).count()"
    ),
    "same": (
        "event('Add').where(event('Order').where(property('sku') = property(parent: 'sku'))"
        ".within(parent: 3 hours).count() = 0).within(6 hours).count()"
    ),
    "same_or_none": (
        "event('Add').where(event('Order').where(property('sku') = property(parent: 'sku')).count() >= 2"
        " OR NOT event('View').within(parent: 1 hours).count() > 0).sum('n')"
    ),
    "dear": "event('Add').where(event('Order').within(parent: 2 hours).sum('total') > 12).within(8 hours).count()",
    "kinds": "event('Add').where(event('Order').within(parent: 2 hours).unique('sku').count() >= 2).count()",
    "dear_same": (
        "event('Add').where(event('Order').where(property('sku') = property(parent: 'sku') AND property('total') > 0.5)"
        ".within(parent: 4 hours).avg('total') > 2).within(8 hours).count()"
    ),
    "then": "event('Add').where(event('Order').within(parent: 2 hours).first('sku') = 'a').count()",
    "at_last": "event('Add').where(event('Order').where(property('n') > 1).last('sku') = property('sku')).count()",
    "tagged": "event('Add').where(event('View').within(parent: 2 hours).mode('tags.$', 2) = 'b').count()",
    "any_kind": "event('Add').where(event('Order').unique('sku').exists()).within(3 hours).count()",
    "steps": (
        "event('View').where(event('Add').where(event('Order').within(parent: 1 hours).count() >= 1)"
        ".within(parent: 2 hours).count() >= 2).within(9 hours).count()"
    ),
    "no_steps": (
        "event('View').where(event('Add').where(event('Order').within(parent: 1 hours).count() = 0)"
        ".within(parent: 2 hours).count() = 1).count()"
    ),
    "above": "event('Order').where(property('total') > trait('mean')).within(5 hours).count()",
    "planned": "event('Order').where(property('total') > trait('floor')).count()",
    "planned_kind": (
        "event('Add').where(event('Order').where(property('sku') = trait('wanted')).within(parent: 4 hours)"
        ".count() >= 1).count()"
    ),
    "each": "event('Add').where(property('tags.$') = trait('wanted') AND event('Order').count() > 0).count()",
    "more": "event('Order').where(property('mixed') > trait('floor')).within(4 hours).count()",
    "as_many": "event('Order').where(property('mixed') >= trait('wanted')).between(1 hours, 5 hours).count()",
    "less": "event('Order').where(trait('wanted') > property('mixed')).count()",
    "at_most": "event('Order').where(property('mixed').at_most(trait('floor'))).count()",
    "soon": "event('Order').where(event('Add').within(1 hours).count() > 0).count()",
}


def stream(seed: int, count: int) -> list[tuple[str, dict[str, Any], timedelta, timedelta]]:
    """Name, values, time since the one before, and how late it comes."""
    draw = Random(seed)
    late = draw.choice((0.0, 0.02, 0.1))
    events = []
    for _ in range(count):
        name = draw.choices(("Add", "Order", "View", "identify"), (10, 8, 4, 1))[0]
        about: dict[str, Any] = {
            "sku": draw.choice("abcd"),
            "total": draw.choice((1, 2.5, 0.1, 7, None)),
            "n": draw.randrange(5),
            "mixed": draw.choice((1, 2, 2.5, "2", "02", "x", "", True, None, [1], "1e30")),
            "tags": draw.sample("abc", draw.randrange(3)),
        }
        if name == "identify":
            about = {draw.choice(("floor", "wanted")): draw.choice((1, 2.5, 2, "2", True, "a", "b", None))}
        gap = timedelta(minutes=draw.choice((0, 0, 1, 1, 2, 5, 20)), seconds=draw.choice((0, 0, 30)))
        lateness = timedelta(minutes=draw.choice((1, 20, 200))) if draw.random() < late else timedelta()
        events.append((name, about, gap, lateness))
    return events


def results(events: list[Any], keys: list[str]) -> list[Any]:
    """Every change of a trait, in order, of a profile that is one from the start and of one that is put together."""
    topology = {
        "space": "kept",
        "sources": [{"name": "web", "topic": "web"}],
        "traits": [{"key": key, "definition": TRAITS[key]} for key in keys],
    }
    driver = TopologyDriver(topology, partitions=1, step_size=7)
    now, half = START, len(events) // 2
    for number, (name, about, gap, lateness) in enumerate(events):
        now += gap
        event: dict[str, Any] = {"messageId": f"m{number:04d}", "timestamp": (now - lateness).isoformat()}
        event |= {"anonymousId": "a1" if number % 3 or number > half else "a2"}
        if number == half:
            event |= {"userId": "u1", "anonymousId": "a2"}
        if number == half + 20:
            event |= {"userId": "u1", "anonymousId": "a1"}
        about_it = {"traits": about} if name == "identify" else {"event": name, "properties": about}
        driver.put({"type": "identify" if name == "identify" else "track", **about_it, **event}, received_at=now)
    driver.advance_to(now + timedelta(hours=10))
    told = [(row["trait_key"], row["profile_id"], row["value"], row["time"]) for row in driver.take("trait_changes")]
    driver.close()
    return told


@pytest.mark.parametrize(("seed", "most"), [(1, 10_000), (2, 10_000), (3, 40), (4, 40)])
def test_results_are_those_of_looking_at_everything_anew(monkeypatch: pytest.MonkeyPatch, seed: int, most: int) -> None:
    monkeypatch.setattr(rows_kind, "ROWS_MAX", most)
    events, keys = stream(seed, 220), [*TRAITS]
    for room in (verdicts, blocks, ranks):
        monkeypatch.setattr(room, "KEPT_FROM", NEVER)
    expected = results(events, keys)
    for room, kept_from in ((verdicts, 0), (ranks, 0), (blocks, 8)):
        monkeypatch.setattr(room, "KEPT_FROM", kept_from)
    monkeypatch.setattr(blocks, "_LEAF", 4)
    assert expected == results(events, keys)
    assert set(TRAITS) - {"soon"} <= {key for key, *_ in expected}


COSTS = {
    "then did not": "event('Add').where(event('Order').within(parent: 7 days).count() = 0).within(30 days).count()",
    "then did": "event('Add').where(event('Order').within(parent: 7 days).count() >= 3).within(30 days).count()",
    "two steps": (
        "event('View').where(event('Add').where(event('Order').within(parent: 1 hours).count() >= 1)"
        ".within(parent: 2 hours).count() >= 1).count()"
    ),
    "a trait that stays": "event('Add').where(property('n') = trait('floor')).within(30 days).count()",
    "a trait that changes": "event('Add').where(property('n') > trait('mean')).within(30 days).count()",
    "a sum": "event('Add').within(30 days).sum('n')",
}


@pytest.mark.parametrize("definition", COSTS.values(), ids=COSTS)
def test_an_event_costs_as_much_after_many_events_as_after_few(
    monkeypatch: pytest.MonkeyPatch, definition: str
) -> None:
    looked_at = 0

    class Counted(scope.Occurrence):
        __slots__ = ()

        def __init__(self, *given: Any) -> None:
            nonlocal looked_at
            looked_at += 1
            super().__init__(*given)

    def values(_: Any) -> Any:
        def look(some: Any) -> Any:
            nonlocal looked_at
            looked_at += len(some)
            return ((row[-1], row[0], row[1]) for row in some)

        return look

    monkeypatch.setattr(verdicts, "Occurrence", Counted)
    monkeypatch.setattr(readers, "Occurrence", Counted)
    monkeypatch.setattr(reducing, "_values", values)
    plain = {"space": "kept", "sources": [{"name": "web", "topic": "web"}]}
    traits = [{"key": "x", "definition": definition}, {"key": "mean", "definition": "event('Add').avg('n')"}]
    driver = TopologyDriver({**plain, "traits": traits}, partitions=1)
    draw, costs = Random(1), []
    driver.put({"type": "identify", "userId": "u1", "traits": {"floor": 50}}, received_at=START)
    for number in range(2_000):
        event = {"type": "track", "event": draw.choice(("Add", "Add", "View", "Order")), "userId": "u1"}
        at = START + timedelta(minutes=2 * number)
        driver.put({**event, "properties": {"n": draw.randrange(100)}, "messageId": f"m{number}"}, received_at=at)
        if number % 500 == 499:
            assert driver.profile("user_id:u1") is not None
            costs.append(looked_at)
            looked_at = 0
    driver.close()
    assert max(costs[1:]) <= 1.5 * costs[1] < 500 * 80


ROWS = [[number, "", number % 3] for number in range(20)]


def followed(before: list[Any], after: list[Any]) -> tuple[bool, int, int]:
    found = Numbered()
    assert found.follow(before)
    return found.follow(after), found.first, found.end


@pytest.mark.parametrize(
    ("before", "after", "first", "end"),
    [
        ([], ROWS, 0, 20),
        (ROWS, ROWS, 0, 20),
        (ROWS[:10], ROWS, 0, 20),
        (ROWS[:10], ROWS[4:], 4, 20),
        (ROWS[:10], ROWS[9:12], 9, 12),
        (ROWS[:10], [], 10, 10),
    ],
)
def test_rows_keep_their_numbers(before: list[Any], after: list[Any], first: int, end: int) -> None:
    assert (True, first, end) == followed([*before], [*after])


@pytest.mark.parametrize(
    "after",
    [
        [*ROWS[:5], [4, "late", 0], *ROWS[5:]],
        [[0, "late", 0], *ROWS],
        [*ROWS[:9], [8, "late", 0]],
        [list(row) for row in ROWS],
        ROWS[10:],
        ROWS[:5],
        [[7, "other", 0], *ROWS[8:]],
    ],
)
def test_rows_that_came_late_or_are_others_are_noticed(after: list[Any]) -> None:
    assert not followed(ROWS[:10], after)[0]


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdicts, "KEPT_FROM", 0)
    monkeypatch.setattr(kept, "PROFILES_MAX", 3)
    made: list[Numbered] = []
    monkeypatch.setattr(verdicts, "Numbered", lambda: made.append(numbered.Numbered()) or made[-1])
    definition = "event('Add').where(event('Order').count() = 0).count()"
    plain = {"space": "kept", "sources": [{"name": "web", "topic": "web"}]}
    driver = TopologyDriver({**plain, "traits": [{"key": "x", "definition": definition}]}, partitions=1)
    for number in [*range(3), *range(3), *range(5), *range(5)]:
        driver.put({"type": "track", "event": "Add", "userId": f"u{number}"}, received_at=START)
    assert driver.profile("user_id:u0") is not None
    # The first three are found again once; five in turn are each pushed out before they are asked for again.
    assert 3 + 2 + 5 == len(made)
    driver.close()
