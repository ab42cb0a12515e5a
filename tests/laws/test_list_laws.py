"""Lists, seen by a receiver who does what the records say: at each sync it holds the members of that instant."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from cdp_stream.model.time import format_instant, parse_instant
from cdp_stream.testing import TopologyDriver

START = parse_instant("2026-01-01T00:00:00Z")
MINUTE = 60_000
TOPOLOGY: dict[str, Any] = {
    "space": "shop",
    "sources": [{"name": "web", "topic": "events"}],
    "identity": {"identifiers": [{"type": "user_id", "limit": 9}, {"type": "email", "limit": 9}]},
    "audiences": [
        {"key": "vip", "definition": "event('Bought').count() >= 2", "destinations": ["ads"]},
        {
            "key": "recent",
            "definition": "event('Bought').within(25 minutes).count() >= 1",
            "include_anonymous": True,
            "destinations": ["ads", "mail"],
        },
        {"key": "not_lapsed", "definition": "NOT (trait('lapsed') = true)", "destinations": ["mail"]},
    ],
    "destinations": [
        {"name": "ads", "kind": "list", "topic": "ads", "sync_every": "10m", "combine": "per_identifier"},
        {"name": "mail", "kind": "list", "topic": "mail", "sync_every": "15m"},
    ],
}
PEOPLE = 4
acts = st.tuples(
    st.sampled_from(["bought", "bought", "mail", "link", "lapsed", "back", "anonymous"]),
    st.integers(0, PEOPLE - 1),
    st.integers(0, PEOPLE - 1),
    st.sampled_from([0, 1, 4, 10, 15, 20, 41]),
)
lives = st.lists(acts, max_size=25)


def event(number: int, what: str, whom: int, other: int) -> dict[str, Any]:
    common: dict[str, Any] = {"messageId": f"m{number}", "userId": f"u{whom}"}
    match what:
        case "bought":
            return common | {"type": "track", "event": "Bought"}
        case "anonymous":
            return {"messageId": f"m{number}", "type": "track", "event": "Bought", "anonymousId": f"a{other}"}
        case "mail":
            return common | {"type": "identify", "traits": {"email": f"e{whom}@x.org"}}
        case "link":
            return common | {"type": "identify", "traits": {"email": f"e{other}@x.org"}, "anonymousId": f"a{other}"}
        case _:
            return common | {"type": "identify", "traits": {"lapsed": True if what == "lapsed" else None}}


def lived(life: list[Any], partitions: int, step_size: int, *, looks: bool) -> dict[str, list[dict[str, Any]]]:
    """The records of each destination. `looks`: the clock moves after every event, else only in the end."""
    driver = TopologyDriver(TOPOLOGY, partitions=partitions, step_size=step_size)
    at = START
    for number, (what, whom, other, minutes) in enumerate(life):
        at += minutes * MINUTE
        driver.put(event(number, what, whom, other), received_at=format_instant(at))
        if looks:
            driver.profiles()
    driver.advance_to(format_instant(at + 2 * 60 * MINUTE))
    records = {name: driver.take(f"destinations/{name}") for name in ("ads", "mail")}
    driver.close()
    return records


@settings(max_examples=40, deadline=None)
@given(lives)
def test_records_do_not_depend_on_partitions_steps_or_when_somebody_looks(life: list[Any]):
    expected = lived(life, 1, 100, looks=False)
    assert lived(life, 3, 1, looks=False) == expected
    assert lived(life, 8, 7, looks=True) == expected


@settings(max_examples=40, deadline=None)
@given(lives)
def test_a_receiver_holds_the_members_of_the_last_sync(life: list[Any]):
    held: dict[tuple[str, str], list[Any]] = {}
    for name, rows in lived(life, 3, 10, looks=False).items():
        for row in rows:
            key = (name, row["context"]["personas"]["computation_key"])
            assert (key in held) == (row["sync"] == "changes")
            assert row["add"] or row["remove"]
            members = held.setdefault(key, [])
            for member in row["remove"]:
                members.remove(member)
            for member in row["add"]:
                assert member not in members
                members.append(member)
    driver = TopologyDriver(TOPOLOGY)
    at = START
    for number, (what, whom, other, minutes) in enumerate(life):
        at += minutes * MINUTE
        driver.put(event(number, what, whom, other), received_at=format_instant(at))
    driver.advance_to(format_instant(at + 2 * 60 * MINUTE))
    for profile in driver.profiles():
        users = [known["id"] for known in profile["external_ids"] if known["type"] == "user_id"]
        for user in users:
            for (name, key), members in held.items():
                on = any(member.get("userId") == user for member in members)
                assert on == (key in profile["audiences"]), (name, key, user)
    driver.close()


def test_an_exit_at_the_very_instant_of_a_sync_is_part_of_it_and_an_event_is_not():
    driver = TopologyDriver(TOPOLOGY)
    # Bought at 0:05, gone 25 minutes later: at 0:30, a sync of both destinations.
    driver.put({**event(0, "bought", 0, 0)}, received_at=format_instant(START + 5 * MINUTE))
    driver.put({**event(1, "bought", 1, 0)}, received_at=format_instant(START + 30 * MINUTE))
    driver.advance_to(format_instant(START + 40 * MINUTE))
    told = [
        (row["timestamp"][11:16], [who["userId"] for who in row["add"]], [who["userId"] for who in row["remove"]])
        for row in driver.take("destinations/ads")
        if row["context"]["personas"]["computation_key"] == "recent"
    ]
    assert told == [("00:10", ["u0"], []), ("00:30", [], ["u0"]), ("00:40", ["u1"], [])]
    driver.close()
