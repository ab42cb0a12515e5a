"""An order to tell a destination again, from the log to what the destination hears."""

from __future__ import annotations

from typing import Any

import pytest

from cdp_stream.stages.entries import decode_entry, encode_entry
from cdp_stream.stages.orders import resync_entry
from cdp_stream.testing import TopologyDriver

TOPOLOGY: dict[str, Any] = {
    "space": "shop",
    "sources": [{"name": "web", "topic": "events"}],
    "audiences": [
        {"key": "vip", "definition": "event('Bought').count() >= 1", "destinations": ["crm", "ads"]},
        {
            "key": "recent",
            "definition": "event('Bought').within(45 minutes).count() >= 1",
            "destinations": ["crm", "ads", "mail"],
        },
    ],
    "destinations": [
        {"name": "crm", "topic": "crm", "send": ["track"]},
        {"name": "ads", "kind": "list", "topic": "ads", "sync_every": "30m"},
        {"name": "mail", "topic": "mail", "send": ["identify"]},
    ],
}


def driver_of(partitions: int) -> TopologyDriver:
    """At 10:30: u1 and u2 are vip; of recent, u2 is a member."""
    driver = TopologyDriver(TOPOLOGY, partitions=partitions)
    for user, at in (("u1", "09:00"), ("u2", "10:10")):
        event = {"type": "track", "event": "Bought", "userId": user, "messageId": user}
        driver.put(event, received_at=f"2026-01-01T{at}:00Z")
    driver.advance_to("2026-01-01T10:30:00Z")
    return driver


def heard(driver: TopologyDriver, name: str) -> list[str]:
    """`vip +u1` for an entry, `vip whole +u1 -u2` for a list."""
    lines = []
    for row in driver.take(f"destinations/{name}"):
        key = row["context"]["personas"]["computation_key"]
        if row["type"] == "audience":
            who = [f"+{member['userId']}" for member in row["add"]] + [
                f"-{member['userId']}" for member in row["remove"]
            ]
            lines.append(" ".join([key, row["sync"], *sorted(who)]))
        else:
            value = row.get("properties", row.get("traits"))[key]
            lines.append(f"{key} {'+' if value else '-'}{row['userId']}")
    return lines


def skip(driver: TopologyDriver) -> None:
    for topic in ("destinations/crm", "destinations/ads", "destinations/mail", "ledger", "audience_changes"):
        driver.take(topic)


@pytest.mark.parametrize("partitions", [1, 8])
def test_an_event_destination_hears_of_present_members_and_nobody_else_hears_anything(partitions: int) -> None:
    driver = driver_of(partitions)
    skip(driver)
    driver.resync("vip", "crm")
    told = driver.take("destinations/crm")
    assert [(row["event"], row["userId"], row["timestamp"]) for row in sorted(told, key=lambda row: row["userId"])] == [
        ("Audience Entered", "u1", "2026-01-01T10:30:00.000Z"),
        ("Audience Entered", "u2", "2026-01-01T10:30:00.000Z"),
    ]
    assert (heard(driver, "ads"), heard(driver, "mail"), driver.take("audience_changes")) == ([], [], [])
    driver.advance_to("2026-01-01T12:00:00Z")
    assert heard(driver, "crm") == ["recent -u2"]
    assert heard(driver, "ads") == ["recent changes -u2"]


def test_each_order_has_message_ids_of_its_own_and_a_new_identifier_is_told_once() -> None:
    driver = driver_of(2)
    skip(driver)
    for _ in range(2):
        driver.resync("recent", "crm")
    told = driver.take("destinations/crm")
    assert [row["userId"] for row in told] == ["u2", "u2"]
    assert len({row["messageId"] for row in told}) == 2
    driver.put({"type": "identify", "userId": "u2", "messageId": "e", "traits": {"email": "e@x.org"}})
    assert sorted(heard(driver, "crm")) == ["recent +u2", "vip +u2"]


def test_a_list_is_told_whole_at_its_next_sync_and_in_changes_after_it() -> None:
    driver = driver_of(3)
    skip(driver)
    driver.put({"type": "track", "event": "Bought", "userId": "u3", "messageId": "m3"})
    driver.resync("vip", "ads")
    assert heard(driver, "ads") == []
    driver.advance_to("2026-01-01T11:00:00Z")
    assert heard(driver, "ads") == ["recent changes +u3 -u2", "vip whole +u1 +u2 +u3"]
    driver.put({"type": "track", "event": "Bought", "userId": "u4", "messageId": "m4"})
    driver.advance_to("2026-01-01T11:30:00Z")
    assert heard(driver, "ads") == ["recent changes +u4 -u3", "vip changes +u4"]


def test_a_whole_list_of_nobody_is_told_as_well() -> None:
    driver = driver_of(2)
    driver.advance_to("2026-01-01T10:50:00Z")
    skip(driver)
    driver.resync("recent", "ads")
    driver.advance_to("2026-01-01T13:00:00Z")
    assert heard(driver, "ads") == ["recent whole"]


def test_a_list_that_was_never_told_is_not_told_empty_and_begins_whole_later() -> None:
    driver = TopologyDriver(TOPOLOGY)
    driver.advance_to("2026-01-01T10:10:00Z")
    driver.resync("vip", "ads")
    driver.advance_to("2026-01-01T11:10:00Z")
    assert heard(driver, "ads") == []
    driver.put({"type": "track", "event": "Bought", "userId": "u1", "messageId": "m"})
    driver.advance_to("2026-01-01T12:10:00Z")
    driver.advance_to("2026-01-01T14:10:00Z")
    assert [line for line in heard(driver, "ads") if line.startswith("vip")] == ["vip whole +u1"]


def with_ads(**settings: Any) -> dict[str, Any]:
    crm, ads, mail = TOPOLOGY["destinations"]
    return {**TOPOLOGY, "destinations": [crm, {**ads, **settings}, mail]}


def test_a_whole_list_that_is_ahead_comes_at_the_next_sync_of_another_topology() -> None:
    driver = driver_of(3)
    driver.advance_to("2026-01-01T10:31:00Z")
    skip(driver)
    driver.resync("vip", "ads")
    driver.reconfigure(with_ads(sync_every="7m"))
    driver.advance_to("2026-01-01T10:41:00Z")
    assert [line for line in heard(driver, "ads") if line.startswith("vip")] == ["vip whole +u1 +u2"]
    driver.advance_to("2026-01-01T12:01:00Z")
    assert [line for line in heard(driver, "ads") if line.startswith("vip")] == []


def test_a_whole_list_that_is_ahead_waits_while_the_audience_goes_elsewhere() -> None:
    driver = driver_of(3)
    driver.advance_to("2026-01-01T10:31:00Z")
    skip(driver)
    driver.resync("vip", "ads")
    vip, recent = TOPOLOGY["audiences"]
    driver.reconfigure({**TOPOLOGY, "audiences": [{**vip, "destinations": ["crm"]}, recent]})
    driver.advance_to("2026-01-01T12:01:00Z")
    assert [line for line in heard(driver, "ads") if line.startswith("vip")] == []
    driver.reconfigure(TOPOLOGY)
    driver.advance_to("2026-01-01T13:01:00Z")
    assert [line for line in heard(driver, "ads") if line.startswith("vip")] == ["vip whole +u1 +u2"]


@pytest.mark.parametrize(
    ("audience", "destination", "violation"),
    [
        ("vip", "crm", None),
        ("nobody", "crm", "refused: there is no audience nobody"),
        ("vip", "mail", "refused: the audience vip does not go to mail"),
    ],
)
def test_the_ledger_says_what_became_of_it(audience: str, destination: str, violation: str | None) -> None:
    driver = driver_of(1)
    skip(driver)
    driver.resync(audience, destination)
    (row,) = driver.take("ledger")
    named = (row["decision"], row["audience_key"], row["destination"], row.get("violation"))
    assert named == ("resync_requested", audience, destination, violation)
    assert heard(driver, "mail") == []


def test_the_entry_reads_back() -> None:
    entry = resync_entry("vip", "crm", 7, 1_000)
    assert decode_entry(encode_entry(entry)) == entry
