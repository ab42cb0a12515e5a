"""Traits and audiences as the documentation tells them, through the whole walk: one person, a few events, a clock."""

from __future__ import annotations

from typing import Any

import pytest

from cdp_stream.errors import TopologyError
from cdp_stream.testing import TopologyDriver

DAY = "2025-01-{:02d}T00:00:00.000Z"


def driver_of(*, traits: dict[str, str] | None = None, audiences: dict[str, str] | None = None) -> TopologyDriver:
    def listed(declared: dict[str, str] | None) -> list[dict[str, str]]:
        return [{"key": key, "definition": text} for key, text in (declared or {}).items()]

    plain = {"space": "shop", "sources": [{"name": "web", "topic": "web"}]}
    return TopologyDriver({**plain, "traits": listed(traits), "audiences": listed(audiences)}, partitions=2)


def put(driver: TopologyDriver, name: str, time: str, received: str | None = None, **properties: Any) -> None:
    event = {"type": "track", "event": name, "userId": "u1", "timestamp": time, "properties": properties}
    driver.put(event, received_at=received or time)


def changes(driver: TopologyDriver) -> list[tuple[str, str, str, str]]:
    rows = driver.take("audience_changes")
    return [(row["audience_key"], row["change"], row["cause"], row["time"]) for row in rows]


def traits(driver: TopologyDriver) -> dict[str, Any]:
    profile = driver.profile("user_id:u1")
    assert profile is not None
    return profile["traits"]


def member(driver: TopologyDriver, key: str) -> bool:
    profile = driver.profile("user_id:u1")
    assert profile is not None
    return key in profile["audiences"]


@pytest.mark.parametrize(
    ("seen", "most_frequent", "first", "last", "unique", "count"),
    [
        (["shoes"], None, "shoes", "shoes", ["shoes"], 1),
        (["shoes", "hats"], None, "shoes", "hats", ["hats", "shoes"], 2),
        (["shoes", "hats", "shoes"], "shoes", "shoes", "shoes", ["hats", "shoes"], 2),
        (["shoes", "hats", "shoes", "hats"], "hats", "shoes", "hats", ["hats", "shoes"], 2),
    ],
)
def test_the_documented_table_of_kinds(
    seen: list[str], most_frequent: Any, first: str, last: str, unique: list[str], count: int
) -> None:
    driver = driver_of(
        traits={
            "most_frequent": "event('Viewed').mode(property('cat'), 2)",
            "first": "event('Viewed').first('cat')",
            "last": "event('Viewed').last('cat')",
            "unique": "event('Viewed').unique('cat')",
            "count": "event('Viewed').unique('cat').count()",
        }
    )
    for number, cat in enumerate(seen, start=1):
        put(driver, "Viewed", DAY.format(number), cat=cat)
    assert {"first": first, "last": last, "unique": unique, "count": count} | (
        {} if most_frequent is None else {"most_frequent": most_frequent}
    ) == traits(driver)


ABANDONED = "event('Added').where(event('Ordered').within(parent: 7 days).count() = 0).within(30 days).count() >= 1"
BOUGHT = "event('Added').where(event('Ordered').within(parent: 7 days).count() >= 1).within(30 days).count() >= 1"


@pytest.mark.parametrize(
    ("sequence", "abandoned", "bought"),
    [
        ([("Added", 1)], True, False),
        ([("Added", 1), ("Ordered", 3)], False, True),
        ([("Ordered", 1), ("Added", 3)], True, False),
        ([("Added", 1), ("Ordered", 2), ("Added", 3)], True, True),
        ([("Added", 1), ("Ordered", 10)], True, False),
        # the window of the child is open at its end, and begins after the parent
        ([("Added", 1), ("Ordered", 8)], True, False),
        ([("Added", 1), ("Ordered", 1)], True, False),
    ],
)
def test_the_documented_table_of_funnels(sequence: list[tuple[str, int]], abandoned: bool, bought: bool) -> None:
    driver = driver_of(audiences={"abandoned": ABANDONED, "bought": BOUGHT})
    for name, day in sequence:
        put(driver, name, DAY.format(day))
    assert (abandoned, bought) == (member(driver, "abandoned"), member(driver, "bought"))


def test_a_funnel_that_arrives_in_reverse_is_the_same() -> None:
    driver = driver_of(audiences={"abandoned": ABANDONED, "bought": BOUGHT})
    put(driver, "Ordered", DAY.format(3))
    put(driver, "Added", DAY.format(1), received=DAY.format(4))
    assert (False, True) == (member(driver, "abandoned"), member(driver, "bought"))


def test_the_last_order_leaves_the_window_at_its_own_instant() -> None:
    driver = driver_of(audiences={"buyers": "event('Ordered').within(7 days).count() >= 1"})
    put(driver, "Ordered", "2025-01-01T10:00:00.123Z")
    driver.advance_to("2025-01-08T10:00:00.122Z")
    assert [("buyers", "entered", "event", "2025-01-01T10:00:00.123Z")] == changes(driver)
    driver.advance_to("2025-01-20T00:00:00Z")
    assert [("buyers", "exited", "time", "2025-01-08T10:00:00.123Z")] == changes(driver)
    put(driver, "Ordered", "2025-01-21T00:00:00.000Z")
    assert [("buyers", "entered", "event", "2025-01-21T00:00:00.000Z")] == changes(driver)


def test_a_backlog_passes_the_edges_before_the_next_event() -> None:
    driver = driver_of(audiences={"buyers": "event('Ordered').within(2 days).count() >= 1"})
    put(driver, "Ordered", DAY.format(1))
    put(driver, "Ordered", DAY.format(10))
    assert [
        ("buyers", "entered", "event", DAY.format(1)),
        ("buyers", "exited", "time", DAY.format(3)),
        ("buyers", "entered", "event", DAY.format(10)),
    ] == changes(driver)


def test_between_begins_where_within_ends() -> None:
    driver = driver_of(
        audiences={
            "recent": "event('Seen').within(3 days).count() >= 1",
            "earlier": "event('Seen').between(3 days, 9 days).count() >= 1",
        }
    )
    put(driver, "Seen", DAY.format(1))
    driver.advance_to(DAY.format(20))
    assert [
        ("recent", "entered", "event", DAY.format(1)),
        ("recent", "exited", "time", DAY.format(4)),
        ("earlier", "entered", "time", DAY.format(4)),
        ("earlier", "exited", "time", DAY.format(10)),
    ] == sorted(changes(driver), key=lambda row: (row[3], row[1] == "entered"))


def test_a_count_falls_with_each_event_that_leaves_and_ends_at_zero() -> None:
    driver = driver_of(traits={"views": "event('Seen').within(5 days).count()", "cats": "event('Seen').within(5 days).unique('cat')",
                               "mean": "event('Seen').within(5 days).avg('n')"})  # fmt: skip
    for day, cat in ((1, "b"), (2, "a"), (3, "b")):
        put(driver, "Seen", DAY.format(day), cat=cat, n=day)
    driver.take("trait_changes")
    driver.advance_to(DAY.format(20))
    told: dict[str, list[Any]] = {}
    for row in driver.take("trait_changes"):
        told.setdefault(row["trait_key"], []).append((row["time"], row["value"]))
    assert [(DAY.format(6), 2), (DAY.format(7), 1), (DAY.format(8), 0)] == told["views"]
    assert [(DAY.format(7), ["b"]), (DAY.format(8), [])] == told["cats"]
    assert [(DAY.format(6), 2.5), (DAY.format(7), 3), (DAY.format(8), None)] == told["mean"]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (0, 2, 1)])
def test_a_session_joins_what_arrives_in_any_order(order: tuple[int, ...]) -> None:
    driver = driver_of(traits={"spend": "event('Paid').expires_after(1 hours).sum('total')"})
    times = ("2025-01-01T10:00:00Z", "2025-01-01T10:59:59.999Z", "2025-01-01T11:30:00Z")
    for number in order:
        put(driver, "Paid", times[number], received="2025-01-01T12:00:00Z", total=number + 0.1)
    assert {"spend": 3.3} == traits(driver)
    driver.advance_to("2025-01-01T12:30:00Z")
    assert {} == traits(driver)


@pytest.mark.parametrize("condition", ["", ".where(NOT property('sku') = trait('plan'))"])
@pytest.mark.parametrize(
    ("reducer", "valued", "valueless"),
    [
        ("count()", 3, 1),
        ("sum('total')", 5, None),
        ("avg('total')", 5, None),
        ("first('total')", 5, None),
        ("last('total')", 5, None),
        ("max('total')", 5, None),
        ("min(property('total') as string)", "5", None),
        ("mode('total', 1)", "5", None),
        ("unique('total')", [5], []),
        ("unique('total').count()", 1, 0),
    ],
)
def test_an_event_without_the_value_prolongs_its_session(
    condition: str, reducer: str, valued: Any, valueless: Any
) -> None:
    # With the condition on a trait the events are kept as candidates, without it as sessions: the rule is one.
    driver = driver_of(traits={"spend": f"event('Paid'){condition}.expires_after(1 hours).{reducer}"})
    nothing = 0 if "count()" in reducer else [] if "unique" in reducer else None

    def stands() -> Any:
        return traits(driver).get("spend")

    driver.put({"type": "identify", "userId": "u1", "timestamp": "2025-01-01T00:00:00.000Z"})
    assert stands() is None  # never matched
    put(driver, "Paid", "2025-01-01T00:00:00.000Z", total=5)
    put(driver, "Paid", "2025-01-01T00:40:00.000Z")
    put(driver, "Paid", "2025-01-01T01:20:00.000Z", total=None)
    driver.advance_to("2025-01-01T02:19:59.999Z")
    assert valued == stands()  # 80 minutes after the only value, 40 after the event before
    driver.advance_to("2025-01-01T02:20:00.000Z")
    assert nothing == stands()  # expired
    put(driver, "Paid", "2025-01-01T05:00:00.000Z")
    assert valueless == stands()  # a live session without any value
    driver.advance_to("2025-01-01T06:00:00.000Z")
    assert nothing == stands()


def test_an_event_with_an_unusable_value_prolongs_its_session() -> None:
    driver = driver_of(traits={"spend": "event('Paid').expires_after(1 hours).sum('total')"})
    put(driver, "Paid", "2025-01-01T00:00:00.000Z", total=5)
    put(driver, "Paid", "2025-01-01T00:40:00.000Z", total="7")
    put(driver, "Paid", "2025-01-01T01:20:00.000Z", total=2)
    assert {"spend": 7} == traits(driver)


def test_a_gap_of_exactly_the_expiry_begins_a_new_session() -> None:
    driver = driver_of(traits={"views": "event('Seen').expires_after(1 hours).count()"})
    put(driver, "Seen", "2025-01-01T10:00:00Z")
    put(driver, "Seen", "2025-01-01T11:00:00Z")
    assert {"views": 1} == traits(driver)
    driver.advance_to("2025-01-01T12:00:00Z")
    assert {"views": 0} == traits(driver)


@pytest.mark.parametrize(
    ("condition", "told"),
    [
        ("within_last(2 days)", [("entered", DAY.format(10)), ("exited", "2025-01-12T00:00:00.001Z")]),
        ("within_next(2 days)", [("entered", DAY.format(8)), ("exited", "2025-01-10T00:00:00.001Z")]),
        ("before_last(2 days)", [("entered", DAY.format(12))]),
        ("after_next(2 days)", [("entered", DAY.format(1)), ("exited", "2025-01-08T00:00:00.001Z")]),
        ("after_date('2025-01-09T00:00:00Z')", [("entered", DAY.format(1))]),
        ("before_date('2025-01-10T00:00:00Z')", []),
    ],
)
def test_a_date_is_compared_with_now_as_time_passes(condition: str, told: list[tuple[str, str]]) -> None:
    driver = driver_of(audiences={"it": f"trait('renewal').{condition}"})
    driver.put(
        {"type": "identify", "userId": "u1", "traits": {"renewal": DAY.format(10)}, "timestamp": DAY.format(1)},
        received_at=DAY.format(1),
    )
    driver.advance_to(DAY.format(30))
    assert told == [(change, time) for _, change, _, time in changes(driver)]


def test_conditions_look_at_each_element_of_an_array() -> None:
    driver = driver_of(
        traits={"skus": "event('Paid').unique('items.$.sku')", "pieces": "event('Paid').sum('items.$.n')",
                "set": "event('Paid').mode(property('items.$.sku') as array, 1)"},
        audiences={
            "hat": "event('Paid').where(property('items.$.sku') = 'hat').count() >= 1",
            "dear": "event('Paid').where(property('items.$.price') > 90).count() >= 1",
            "any_other": "event('Paid').where(property('items.$.sku') != 'hat').count() >= 1",
        },
    )  # fmt: skip
    put(driver, "Paid", DAY.format(1), items=[{"sku": "hat", "price": 5, "n": 2}, {"sku": "bag", "price": 20, "n": 1}])
    assert {"skus": ["bag", "hat"], "pieces": 3, "set": ["hat", "bag"]} == traits(driver)
    assert [True, False, True] == [member(driver, key) for key in ("hat", "dear", "any_other")]


def test_an_order_is_above_the_average_that_is_true_now() -> None:
    driver = driver_of(
        traits={"avg_order": "event('Paid').avg('total')"},
        audiences={"above": "event('Paid').where(property('total') > trait('avg_order')).count() >= 1"},
    )
    put(driver, "Paid", DAY.format(1), total=10)
    assert not member(driver, "above")
    put(driver, "Paid", DAY.format(2), total=4)
    assert member(driver, "above")


def test_a_clock_that_passes_more_than_a_step_holds_is_cut_and_loses_nothing() -> None:
    driver = driver_of(audiences={"seen": "event('Seen').within(1 days).count() >= 1"})
    for number in range(4_500):
        driver.put(
            {"type": "track", "event": "Seen", "userId": f"u{number}", "timestamp": DAY.format(1)},
            received_at=DAY.format(1),
        )
    driver.advance_to(DAY.format(3))
    exits = [row for row in driver.take("audience_changes") if row["change"] == "exited"]
    assert 4_500 == len(exits) == len({row["profile_id"] for row in exits})
    assert {DAY.format(2)} == {row["time"] for row in exits}
    assert [] == driver.take("audience_changes")


def test_a_condition_reads_the_context_of_an_event() -> None:
    driver = driver_of(traits={"blog": "event('Seen').where(context('page.url').contains('/blog')).count()"})
    for number, url in enumerate(["https://a.b/blog/1", "https://a.b/shop", "https://a.b/blog/2"], start=1):
        driver.put(
            {
                "type": "track",
                "event": "Seen",
                "userId": "u1",
                "messageId": f"m{number}",
                "context": {"page": {"url": url}},
            },
            received_at=DAY.format(number),
        )
    assert {"blog": 2} == traits(driver)


@pytest.mark.parametrize(
    ("type_", "event", "also"), [("page", "Page Viewed", "page_name"), ("screen", "Screen Viewed", "screen_name")]
)
def test_the_name_of_a_page_is_found_under_both_keys(type_: str, event: str, also: str) -> None:
    """The Profile API's sample of a page view has both among its properties ("unify/profile-api")."""
    driver = driver_of(
        traits={
            "names": f"event('{event}').unique('name')",
            "same": f"event('{event}').unique('{also}')",
            "home": f"event('{event}').where(property('name') = 'Home').count()",
            "lately": f"event('{event}').within(30 days).last('name')",
            "again": f"event('{event}').where(event('{event}').where(property('name') = property(parent: 'name'))"
            ".count() > 0).count()",
            "tracked": "event('Seen').unique('name')",
        }
    )
    calls: list[tuple[Any, dict[str, Any]]] = [
        ("Home", {}),
        ("Cart", {"name": "Basket"}),
        ("Home", {"name": None}),
        (None, {"name": "Own"}),
        (None, {}),
        ("", {"path": "/"}),
    ]
    for number, (name, properties) in enumerate(calls):
        at = DAY.format(number + 1)
        driver.put({"type": type_, "name": name, "userId": "u1", "properties": properties}, received_at=at)
    put(driver, "Seen", DAY.format(7), **{also: "Home"})
    assert {
        "names": ["Basket", "Home", "Own"],
        "same": ["Cart", "Home"],
        "home": 2,
        "lately": "Own",
        "again": 1,
    } == traits(driver)


def test_events_of_excluded_sources_do_not_count() -> None:
    plain = {
        "space": "shop",
        "sources": [{"name": "web", "topic": "events"}, {"name": "kiosk", "topic": "shop.events"}],
        "traits": [
            {"key": "all", "definition": "event('Visit').count()"},
            {"key": "elsewhere", "definition": "event('Visit').sources(exclude: ['kiosk']).count()"},
            {"key": "large", "definition": "event('Visit').where(property('n') > 1).sources(exclude: ['web']).count()"},
            {"key": "recent", "where": {"event": "Visit", "exclude_sources": ["web"], "within": "30d"}},
            {"key": "nowhere", "definition": "event('Visit').sources(exclude: ['web', 'kiosk']).count()"},
        ],
    }
    driver = TopologyDriver(plain, partitions=2)
    for number, source in enumerate(["web", "kiosk", "web", "kiosk"]):
        event = {"type": "track", "event": "Visit", "userId": "u1", "properties": {"n": number}}
        # What a sender puts under any key of the context says nothing of the source.
        driver.put({**event, "context": {"\0source": "web"}}, received_at=DAY.format(number + 1), source=source)
    assert traits(driver) == {"all": 4, "elsewhere": 2, "large": 1, "recent": 2}
    driver.advance_to("2025-02-03T00:00:00.000Z")
    assert traits(driver)["recent"] == 0


def test_a_source_that_the_topology_does_not_have_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(TopologyError) as refused:
        driver_of(traits={"n": "event('Visit').sources(exclude: ['wep']).count()"})
    assert "names 'wep', which is no source of this topology; did you mean 'web'?" in str(refused.value)
