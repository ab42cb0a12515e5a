"""Traits and audiences that are declared, edited and removed while the space runs, through the whole walk."""

from __future__ import annotations

from typing import Any

import pytest

from cdp_stream.errors import TopologyError
from cdp_stream.testing import TopologyDriver

DAY = "2025-01-{:02d}T00:00:00.000Z"
PLAIN = {"space": "shop", "sources": [{"name": "web", "topic": "web"}]}
BUYERS = {"key": "buyers", "definition": "event('Order').count() >= 2"}


def topology(*audiences: dict[str, Any], traits: list[dict[str, Any]] | None = None, **more: Any) -> dict[str, Any]:
    return {**PLAIN, "audiences": list(audiences), "traits": traits or [], **more}


def driver_with_orders(*days: int, **more: Any) -> TopologyDriver:
    driver = TopologyDriver(topology(**more), partitions=3)
    for day in days:
        order(driver, day)
    return driver


def order(driver: TopologyDriver, day: int, who: str = "u1", received: int | None = None, **properties: Any) -> None:
    event = {"type": "track", "event": "Order", "userId": who, "timestamp": DAY.format(day), "properties": properties}
    driver.put(event, received_at=DAY.format(received or day))


def profile(driver: TopologyDriver, who: str = "u1") -> dict[str, Any]:
    found = driver.profile(f"user_id:{who}")
    assert found is not None
    return found


def changes(driver: TopologyDriver) -> list[tuple[str, str, str, bool]]:
    rows = driver.take("audience_changes")
    return [(row["audience_key"], row["change"], row["cause"], row.get("backfill", False)) for row in rows]


def test_an_audience_that_is_declared_late_has_the_members_that_it_would_have_had() -> None:
    driver = driver_with_orders(1, 2)
    order(driver, 2, "u2")
    driver.reconfigure(topology(BUYERS, traits=[{"key": "orders", "definition": "event('Order').count()"}]))
    assert [("buyers", "entered", "topology", True)] == changes(driver)
    assert ["buyers"] == profile(driver)["audiences"]
    assert {"orders": 2} == profile(driver)["traits"]
    assert {"orders": 1} == profile(driver, "u2")["traits"]
    traits = [(row["value"], row["backfill"]) for row in driver.take("trait_changes")]
    assert [(1, True), (2, True)] == sorted(traits)
    order(driver, 3, "u2")  # goes on from where the past ended
    assert [("buyers", "entered", "event", False)] == changes(driver)
    assert {"orders": 2} == profile(driver, "u2")["traits"]


def test_windows_sessions_and_funnels_are_computed_from_the_past_and_fire_at_their_edges() -> None:
    driver = driver_with_orders(1, 2)
    recent = {"key": "recent", "definition": "event('Order').within(3 days).count() >= 1"}
    driver.reconfigure(topology(recent))
    assert [("recent", "entered", "topology", True)] == changes(driver)
    driver.advance_to("2025-01-05T00:00:00.000Z")
    assert [("recent", "exited", "time", False)] == changes(driver)


def test_an_edit_lets_those_go_who_match_no_longer() -> None:
    driver = driver_with_orders(1, 2)
    driver.reconfigure(topology(BUYERS))
    driver.take("audience_changes")
    driver.reconfigure(topology({**BUYERS, "definition": "event('Order').where(property('gift')).count() >= 2"}))
    assert [("buyers", "exited", "topology", True)] == changes(driver)
    driver.reconfigure(topology({**BUYERS, "definition": "event('Order').where(NOT property('gift')).count() >= 2"}))
    assert [("buyers", "entered", "topology", True)] == changes(driver)


def test_what_is_declared_no_more_leaves_its_last_value_as_a_custom_trait() -> None:
    spend = {"key": "spend", "definition": "event('Order').sum('total')"}
    driver = TopologyDriver(topology(BUYERS, traits=[spend]))
    order(driver, 1, total=5)
    order(driver, 2, total=7)
    order(driver, 2, "u2")
    driver.take("audience_changes"), driver.take("trait_changes")
    driver.reconfigure(topology({"key": "spenders", "definition": "trait('spend') > 10 AND trait('buyers')"}))
    assert {"spend": 12, "buyers": True} == profile(driver)["traits"]
    assert ["spenders"] == profile(driver)["audiences"]
    assert {} == profile(driver, "u2")["traits"]
    assert [("spenders", "entered", "topology", True)] == changes(driver)  # nobody exits
    told = [(row["trait_key"], row["class"], row["value"]) for row in driver.take("trait_changes")]
    assert [("buyers", "custom", True), ("spend", "custom", 12)] == told
    order(driver, 3, total=1)
    assert {"spend": 12, "buyers": True} == profile(driver)["traits"]


def test_what_was_not_kept_for_a_while_is_whole_when_it_is_wanted_again() -> None:
    gifts = "event('Order').where(property('gift')).count() >= {}"
    driver = TopologyDriver(topology({"key": "givers", "definition": gifts.format(1)}))
    order(driver, 1, gift=True)
    driver.reconfigure(topology())
    order(driver, 2, gift=True)
    driver.reconfigure(topology({"key": "givers_2", "definition": gifts.format(2)}))
    assert ["givers_2"] == profile(driver)["audiences"]
    order(driver, 3, gift=True)
    driver.reconfigure(topology({"key": "givers_2", "definition": gifts.format(4)}))
    assert [] == profile(driver)["audiences"]


def test_a_key_means_one_thing_for_the_life_of_a_space() -> None:
    driver = TopologyDriver(topology(BUYERS, traits=[{"key": "plan", "definition": "event('Order').last('plan')"}]))
    with pytest.raises(TopologyError, match="the key 'buyers' is that of an audience and is never used"):
        driver.reconfigure(topology(traits=[{"key": "buyers", "definition": "event('Order').count()"}]))
    driver.reconfigure(topology())
    with pytest.raises(TopologyError, match="the key 'buyers' was removed earlier and is never used again"):
        driver.reconfigure(topology(BUYERS))
    assert driver.take("ledger")[-1]["violation"].startswith(
        "refused: audiences[0].key: the key 'buyers' was removed earlier"
    )
    driver.reconfigure(topology({**BUYERS, "key": "buyers_2"}))


def test_an_edit_may_keep_anonymous_profiles_out_of_an_audience_and_not_let_them_in() -> None:
    driver = TopologyDriver(topology(BUYERS, {**BUYERS, "key": "all_buyers", "include_anonymous": True}))
    order(driver, 1)
    opened = topology({**BUYERS, "key": "all_buyers"}, {**BUYERS, "include_anonymous": True})
    with pytest.raises(TopologyError) as refused:
        driver.reconfigure(opened)
    assert (
        "refused: audiences[1].include_anonymous: the audience 'buyers' was declared without anonymous profiles, and "
        "cannot be opened to them; set it back to false, and declare another audience, with a key of its own, for both"
    ) in str(refused.value)
    # Nothing has changed: the version before stays in force, with what it said of the other audience.
    for day in (20, 21):
        driver.put({"type": "track", "event": "Order", "anonymousId": "a9"}, received_at=DAY.format(day))
    found = driver.profile("anonymous_id:a9")
    assert found is not None
    assert ["all_buyers"] == found["audiences"]
    driver.reconfigure(topology(BUYERS, {**BUYERS, "key": "all_buyers"}))
    found = driver.profile("anonymous_id:a9")
    assert found is not None
    assert [] == found["audiences"]
    with pytest.raises(TopologyError, match=r"audiences\[1\]\.include_anonymous"):
        driver.reconfigure(topology(BUYERS, {**BUYERS, "key": "all_buyers", "include_anonymous": True}))


@pytest.mark.parametrize(
    ("historical", "member"),
    [(True, True), (False, False), ("1d", False), ("8d", False), ("9d", True), ("90d", True)],
)
def test_history_counts_as_far_back_as_the_audience_says(historical: Any, member: bool) -> None:
    # Declared on the 10th: a lookback of nine days begins at the first order's own instant.
    driver = driver_with_orders(1, 2)
    driver.advance_to(DAY.format(10))
    driver.reconfigure(topology({**BUYERS, "historical": historical}))
    assert member == ("buyers" in profile(driver)["audiences"])


def test_without_history_only_events_that_happened_since_count() -> None:
    driver = driver_with_orders(1)
    driver.advance_to(DAY.format(10))
    newly = {**BUYERS, "historical": False}
    driver.reconfigure(topology(newly))
    order(driver, 9, received=11)  # late: it happened before
    order(driver, 11)
    assert [] == profile(driver)["audiences"]
    driver.reconfigure(topology(newly, {"key": "any", "definition": "event('Order').count() >= 3"}))
    assert ["any"] == profile(driver)["audiences"]  # another version does not begin it anew
    order(driver, 12)
    assert ["any", "buyers"] == profile(driver)["audiences"]


def test_an_edited_audience_without_history_begins_anew_and_going_back_does_not() -> None:
    driver = driver_with_orders(1)
    newly = {**BUYERS, "definition": "event('Order').count() >= 1", "historical": False}
    driver.advance_to(DAY.format(2))
    driver.reconfigure(topology(newly))
    order(driver, 3)
    assert ["buyers"] == profile(driver)["audiences"]
    driver.advance_to(DAY.format(4))
    driver.reconfigure(topology({**newly, "definition": "event('Order').where(NOT property('gift')).count() >= 1"}))
    assert [] == profile(driver)["audiences"]
    driver.reconfigure(topology(newly))
    assert ["buyers"] == profile(driver)["audiences"]


@pytest.mark.parametrize(
    ("retain", "orders"), [({}, 5), ({"events": 3}, 3), ({"events": 0}, None), ({"duration": "3d"}, 2)]
)
def test_the_past_is_as_long_as_the_topology_retains_it(retain: dict[str, Any], orders: int | None) -> None:
    driver = driver_with_orders(1, 2, 3, 4, 5, retain=retain)
    driver.advance_to("2025-01-06T00:00:00.000Z")
    driver.reconfigure(topology(traits=[{"key": "orders", "definition": "event('Order').count()"}], retain=retain))
    assert orders == profile(driver)["traits"].get("orders")


def test_wider_limits_do_not_bring_back_what_was_not_retained() -> None:
    driver = driver_with_orders(1, 2, 3, retain={"events": 1})
    driver.reconfigure(topology(retain={"events": 100}))
    order(driver, 4)
    driver.reconfigure(topology(traits=[{"key": "orders", "definition": "event('Order').count()"}]))
    assert {"orders": 2} == profile(driver)["traits"]
    assert 4 == len(profile(driver)["message_ids"])


def test_the_past_of_an_absorbed_profile_is_the_survivors() -> None:
    driver = TopologyDriver(topology(), partitions=4)
    for day, who in ((1, "a1"), (2, "a2"), (3, "a1"), (4, "a2")):
        event = {"type": "track", "event": "Order", "anonymousId": who, "timestamp": DAY.format(day)}
        driver.put(event, received_at=DAY.format(day))
    for who in ("a1", "a2"):
        driver.put({"type": "identify", "userId": "u1", "anonymousId": who}, received_at=DAY.format(5))
    driver.reconfigure(topology(traits=[{"key": "orders", "definition": "event('Order').count()"}]))
    assert {"orders": 4} == profile(driver)["traits"]


def test_the_context_of_past_events_is_there_where_it_was_retained() -> None:
    for retain, views in (({}, None), ({"context": ["page"]}, 1)):
        driver = TopologyDriver(topology(retain=retain))
        context = {"page": {"url": "/shoes"}, "ip": "10.0.0.1"}
        event = {"type": "track", "event": "Seen", "userId": "u1", "timestamp": DAY.format(1), "context": context}
        driver.put(event)
        definition = "event('Seen').where(context('page.url') = '/shoes').count()"
        driver.reconfigure(topology(traits=[{"key": "views", "definition": definition}], retain=retain))
        assert views == profile(driver)["traits"].get("views")


def test_a_backfill_goes_on_where_it_was_when_a_store_is_opened_again(tmp_path: Any) -> None:
    driver = TopologyDriver(topology(), partitions=2, store=tmp_path)
    for number in range(30):
        order(driver, 1 + number % 9, f"u{number}", received=10)
    driver.close()
    driver = TopologyDriver(topology(), partitions=2, store=tmp_path)
    driver.reconfigure(topology({**BUYERS, "definition": "event('Order').count() >= 1"}))
    assert 30 == len(changes(driver))
    driver.close()


def test_more_profiles_than_a_step_holds_are_all_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cdp_stream.stages.profile_work.STEP_UNITS_MAX", 3)
    driver = TopologyDriver(topology(), partitions=2)
    for number in range(40):
        order(driver, 1, f"u{number}")
    driver.reconfigure(topology({**BUYERS, "definition": "event('Order').count() >= 1"}))
    assert 40 == len(changes(driver))
    assert all(stage.barrier.reconsidered_from == "" for stage in driver._space.profiles)


def test_a_destination_that_is_connected_late_or_again_hears_what_it_has_missed() -> None:
    crm = {"name": "crm", "topic": "dest.crm", "send": ["track"]}
    ads = {"name": "ads", "kind": "list", "topic": "dest.ads"}

    def connected(*to: str) -> dict[str, Any]:
        lately = {"key": "lately", "definition": "event('Order').within(2 days).count() >= 1", "destinations": to}
        orders = {
            "key": "orders",
            "definition": "event('Order').count()",
            "destinations": [one for one in to if one == "crm"],
        }
        return topology(lately, traits=[orders], destinations=[crm, ads])

    def told(driver: TopologyDriver) -> list[tuple[str, str]]:
        return [(row["event"], row["userId"]) for row in driver.take("destinations/crm")]

    def synced(driver: TopologyDriver) -> list[tuple[Any, ...]]:
        rows = driver.take("destinations/ads")
        return [(row["sync"], *([one["userId"] for one in row[part]] for part in ("add", "remove"))) for row in rows]

    driver = TopologyDriver(connected(), partitions=3)
    order(driver, 1)
    driver.advance_to("2025-01-01T06:00:00.000Z")
    assert [] == told(driver) == synced(driver)
    driver.reconfigure(connected("crm", "ads"))
    assert [("Trait Computed", "u1"), ("Audience Entered", "u1")] == told(driver)
    driver.advance_to("2025-01-01T07:00:00.000Z")
    assert [("whole", ["u1"], [])] == synced(driver)
    driver.reconfigure(connected())
    order(driver, 4, "u2")  # by now u1 is no member any more
    driver.advance_to("2025-01-04T06:00:00.000Z")
    assert [] == told(driver) == synced(driver)
    driver.reconfigure(connected("crm", "ads"))
    assert [("Audience Entered", "u2"), ("Audience Exited", "u1"), ("Trait Computed", "u2")] == sorted(told(driver))
    driver.advance_to("2025-01-04T07:00:00.000Z")
    assert [("changes", ["u2"], ["u1"])] == synced(driver)
    driver.close()
