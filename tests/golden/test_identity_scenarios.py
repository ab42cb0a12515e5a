"""The worked identity scenarios and group scenarios, as tables, through the shipped driver.

A row: an event's identifiers, and the profile it must resolve to (P1 is created before P2; `-`: no profile). Letters:
u user_id, e email, a anonymous_id, i ios.id, d android.id, g ga_client_id, p phone, L loyalty_id; `day 3` moves the
clock. `final` lists what every profile owns in the end.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cdp_stream.testing import TopologyDriver

START = datetime(2025, 1, 1, tzinfo=UTC)
TYPES = {
    "u": "user_id",
    "e": "email",
    "a": "anonymous_id",
    "i": "ios.id",
    "d": "android.id",
    "g": "ga_client_id",
    "p": "phone",
    "L": "loyalty_id",
}


def rules(*identifiers: str, **more: Any) -> dict[str, Any]:
    """`u 1 ever` per identifier, in order of priority."""
    listed = []
    for text in identifiers:
        letter, limit, period = text.split()
        listed.append({"type": TYPES[letter], "limit": int(limit), "period": period})
    return {"identifiers": listed, **more} if listed else dict(more)


D: dict[str, Any] = {}
PRESET = rules("u 1 ever", "e 5 annually", "i 2 annually", "a 5 weekly")

SCENARIOS: dict[str, tuple[dict[str, Any], str, str]] = {
    "ID-01": (D, "a1 -> P1 | u1 a1 -> P1 | a1 -> P1", "P1: a1 u1"),
    "ID-02": (rules("u 1 ever", "e 5 ever", "a 3 ever"), "uabc123 ejane -> P1 | uabc456 ejane -> P2", "P1: uabc123 ejane | P2: uabc456"),
    "ID-03": (D, "u1 a1 -> P1 | a1 -> P1 | u2 a1 -> P2", "P1: u1 a1 | P2: u2"),
    "ID-04": (D, "u1 a1 -> P1 | a1 -> P1 | u2 a1 -> P2 | a1 -> P1", "P1: u1 a1 | P2: u2"),
    "ID-05": (D, "u1 a1 -> P1 | a1 -> P1 | u2 a1 -> P2 | u2 a9 -> P2 | a9 -> P2", "P1: u1 a1 | P2: u2 a9"),
    "ID-06": (D, "a123 i1 -> P1 | a123 i1 -> P1 | u7 a123 i1 ejane -> P1 | u7 a456 d1 -> P1 | u7 a789 d1 -> P1",
              "P1: u7 ejane i1 d1 a123 a456 a789"),
    "ID-07": (D, "aA -> P1 | aA e1 -> P1 | aB -> P2 | aB e1 -> P1", "P1: aA e1 aB"),
    "ID-08": (D, "a1 -> P1 | a3 u1 e1 -> P2 | a1 u1 e1 -> P1", "P1: a1 a3 u1 e1"),
    "ID-09": (D, "a1 g1 -> P1 | a2 g1 -> P1", "P1: a1 g1 a2"),
    "ID-10": (D, "aw -> P1 | am -> P2 | u1 aw -> P1 | u1 am -> P1", "P1: aw u1 am"),
    "ID-11": (D, "aw -> P1 | am -> P2 | u1 aw -> P1", "P1: aw u1 | P2: am"),
    "ID-12": (D, "u1 e1 -> P1 | u1 e2 -> P1 | u1 e3 -> P1 | u1 e4 -> P1 | u1 e5 -> P1 | u1 e6 -> P1", "P1: u1 e1 e2 e3 e4 e5"),
    "ID-13": (D, "a1 e1 -> P1 | a1 e2 -> P1 | a1 e3 -> P1 | a1 e4 -> P1 | a1 e5 -> P1 | a1 e6 -> P2 | a1 -> P1",
              "P1: a1 e1 e2 e3 e4 e5 | P2: e6"),
    "ID-14": (rules("u 1 ever", "e 5 ever", "a 5 weekly"),
              "u1 a1 -> P1 | day 1 | u1 a2 -> P1 | day 2 | u1 a3 -> P1 | day 3 | u1 a4 -> P1 | day 4 | u1 a5 -> P1 | "
              "day 5 | u1 a6 -> P1 | day 8 | u1 a6 -> P1 | u1 a7 -> P1", "P1: u1 a1 a2 a3 a4 a5 a6 a7"),
    "ID-15": (rules("u 1 ever", "e 5 ever", "a 2 daily"),
              "u1 a1 -> P1 | hour 2 | u1 a2 -> P1 | hour 5 | u1 a3 -> P1 | a3 -> P2 | hour 28 | u1 a3 -> P1", "P1: u1 a1 a2 a3"),
    "ID-16": (rules("u 1 ever", "e 5 ever", "a 5 weekly"),
              "u1 a1 -> P1 | u1 a2 -> P1 | u1 a3 -> P1 | e1 b1 -> P2 | e1 b2 -> P2 | e1 b3 -> P2 | day 1 | u1 e1 -> P1 | "
              "day 9 | u1 e1 -> P1", "P1: u1 a1 a2 a3 e1 b1 b2 b3"),
    "ID-17": (D, "u1 iP ax -> P1 | u2 iP ax -> P2 | iP ax -> P1", "P1: u1 iP ax | P2: u2"),
    "ID-18": (D, "e1 i1 -> P1 | e2 i1 -> P1 | e3 i1 -> P1 | e4 i1 -> P1 | e5 i1 -> P1 | e6 i1 -> P2 | e7 i1 -> P3",
              "P1: e1 e2 e3 e4 e5 i1 | P2: e6 | P3: e7"),
    "ID-19": (rules("u 1 ever", "e 1 ever"), "e1 i1 -> P1 | e2 i1 -> P2 | e3 i1 -> P3", "P1: e1 i1 | P2: e2 | P3: e3"),
    "ID-20": (D, "u1 e1 -> P1 | u2 a2 -> P2 | e1 a2 -> P1", "P1: u1 e1 | P2: u2 a2"),
    "ID-21": (D, "a1 -> P1 | e1 -> P2 | u1 -> P3 | u1 e1 a1 -> P1", "P1: a1 e1 u1"),
    "ID-22": (D, "u1 -> P1 | u2 e2 -> P2 | u1 e2 anew -> P1", "P1: u1 | P2: u2 e2"),
    "ID-22 minimal": (rules(demotion="minimal"), "u1 -> P1 | u2 e2 -> P2 | u1 e2 anew -> P1", "P1: u1 anew | P2: u2 e2"),
    "ID-23": (rules("u 1 ever", "e 1 ever"), "u1 e1 a1 -> P1 | u1 e2 a2 -> P1", "P1: u1 e1 a1"),
    "ID-23 minimal": (rules("u 1 ever", "e 1 ever", demotion="minimal"), "u1 e1 a1 -> P1 | u1 e2 a2 -> P1", "P1: u1 e1 a1 a2"),
    "ID-24": (D, "eteam a1 -> P1 | u1 eteam a1 -> P1 | u2 eteam a2 -> P2 | u2 a2 -> P2 | eteam a3 -> P1",
              "P1: eteam a1 u1 a3 | P2: u2 a2"),
    "ID-25": (D, "u1 a1 -> P1 | u2 e2 -> P2 | u1 e2 a1 -> P1", "P1: u1 a1 | P2: u2 e2"),
    "ID-26": (D, "u1 -> P1 | e9 -> P2 | u7 a7 -> P3 | u1 e9 a7 -> P1", "P1: u1 e9 | P3: u7 a7"),
    "ID-27": (rules("e 1 ever", "u 2 ever"), "e1 ushop1 -> P1 | e1 uuuid1 -> P1 | e1 uthird -> P1 | e2 ushop1 -> P2",
              "P1: e1 ushop1 uuuid1 | P2: e2"),
    "ID-28": (D, "u1 i1 -> P1 | u2 a2 -> P2 | a2 i1 -> P2", "P1: u1 i1 | P2: u2 a2"),
    "ID-29": (PRESET, "u1 i1 -> P1 | u2 a2 -> P2 | a2 i1 -> P1", "P1: u1 i1 | P2: u2 a2"),
    "ID-30": (rules("u 1 ever", "e 5 ever", "i 2 annually"),
              "u1 i1 -> P1 | day 1 | u1 i2 -> P1 | day 2 | u1 i3 -> P1 | day 366 | u1 i3 -> P1", "P1: u1 i1 i2 i3"),
    "ID-31": (D, "uanonymous a1 -> P1 | u000-000 a2 -> P2 | unull a0000-00 -> - | u-1 -> -", "P1: a1 | P2: a2"),
    "ID-32": (D, "u1 xL1 -> P1 | a9 xL1 -> P1", "P1: u1 L1 a9"),
    "ID-33": (D, "eJo@x.com a1 -> P1 | ejo@x.com a2 -> P2", "P1: eJo@x.com a1 | P2: ejo@x.com a2"),
    "ID-34": (rules(merges_max=2), "u1 -> P1 | a1 -> P2 | a2 -> P3 | a3 -> P4 | u1 a1 -> P1 | u1 a2 -> P1 | u1 a3 -> P1 | u1 afresh -> P1",
              "P1: u1 a1 a2 afresh | P4: a3"),
    "ID-35": (rules("u 1 ever", "a 50 ever", mappings_max=4),
              "u1 a1 -> P1 | u1 a2 -> P1 | u1 a3 -> P1 | u1 a4 -> P1 | u1 a5 -> P1", "P1: u1 a1 a2 a3"),
    "ID-36": (D, "u1 yu2 -> P1", "P1: u1"),
    "ID-38": (D, "u1 #m1 -> P1 | u9 #m1 -> -", "P1: u1"),
    "ID-39": (D, "a1 -> P1 | a2 -> P2 | a3 e3 -> P3 | a2 e3 -> P2 | a1 e3 -> P1", "P1: a1 a2 a3 e3"),
    "ID-40": (D, "u1 e1 -> P1 | u1 e2 -> P1 | u1 e3 -> P1 | a2 f1 -> P2 | a2 f2 -> P2 | a2 f3 -> P2 | u1 a2 -> P1",
              "P1: u1 e1 e2 e3 | P2: a2 f1 f2 f3"),
    "ID-41": (D, "a1 e1 -> P1 | u1 e1 a2 -> P1", "P1: a1 e1 u1 a2"),
    "ID-42": (rules("u 1 ever", "e 1 ever"), "u1 eold -> P1 | u1 enew -> P1 | enew a5 -> P2 | u1 a5 -> P1", "P1: u1 eold | P2: enew a5"),
    "ID-43": (D, "u1 -> P1 | alias u1 u2 -> P2", "P1: u1 | P2: u2"),
    "ID-44": (rules("u 1 ever", "p 1 ever", "e 5 ever"), "p+1 e1 -> P1 | p+2 e1 -> P2 | p+1 e2 a1 -> P1", "P1: p+1 e1 e2 a1 | P2: p+2"),
    "ID-45": (D, "a1 -> P1 | a2 -> P2 | a3 -> P3 | a4 -> P4 | a5 -> P5 | a6 -> P6 | u1 a1 -> P1 | u1 a2 -> P1 | u1 a3 -> P1 | "
                 "u1 a4 -> P1 | u1 a5 -> P1 | u1 a6 -> P1", "P1: a1 a2 a3 a4 a5 u1 | P6: a6"),
}  # fmt: skip


def named(text: str) -> tuple[str, str]:
    """`e1` → ("email", "e1"); b… are anonymous ids and f… emails of a second profile."""
    letter = {"b": "a", "f": "e"}.get(text[0], text[0])
    if text[0] in "Lp":
        return TYPES[letter], text[1:] if text[0] == "p" else text
    bare = not text[1:].isdigit() if text[0] == "u" else set(text[1:]) == {"0", "-"}
    value = text[1:] if bare else text
    return TYPES[letter], value


def event_of(words: list[str], message: str) -> dict[str, Any]:
    event: dict[str, Any] = {"type": "identify", "messageId": message, "traits": {}, "context": {}}
    if words[0] == "alias":
        return {"type": "alias", "messageId": message, "previousId": words[1], "userId": words[2]}
    listed = event["context"].setdefault("externalIds", [])
    for word in words:
        if word[0] == "#":
            event["messageId"] = word[1:]
            continue
        if word[0] in "xy":
            type_ = "loyalty_id" if word[0] == "x" else "user_id"
            listed.append({"id": word[1:], "type": type_, "collection": "users", "encoding": "none"})
            continue
        type_, value = named(word)
        match type_:
            case "user_id":
                event["userId"] = value
            case "anonymous_id":
                event["anonymousId"] = value
            case "email" | "phone":
                event["traits"][type_] = value
            case "ios.id" | "android.id":
                event["context"]["device"] = {"type": type_.split(".")[0], "id": value}
            case "ga_client_id":
                event["context"]["integrations"] = {"Google Analytics": {"clientId": value}}
    return event


def ids_of(profile: dict[str, Any]) -> set[tuple[str, str]]:
    return {(known["type"], known["id"]) for known in profile["external_ids"]}


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("step_size", [1, 100])
def test_scenario(name: str, step_size: int) -> None:
    identity, walk, final = SCENARIOS[name]
    topology = {"space": "scenario", "sources": [{"name": "web", "topic": "web"}], "identity": identity}
    driver = TopologyDriver(topology, step_size=step_size, partitions=3)
    now, created, expected = START, {}, {}
    for number, row in enumerate(row.strip() for row in walk.split("|")):
        if row.startswith(("day", "hour")):
            unit, count = row.split()
            now = START + timedelta(**{unit + "s": int(count)})
            continue
        ids, _, label = row.partition(" -> ")
        event = event_of(ids.split(), f"event-{number}")
        driver.put(event, received_at=now + timedelta(seconds=number))
        expected[event["messageId"], number] = label
        if label == "-" or label in created:
            continue
        before = set(created.values())
        alive = [profile["id"] for profile in driver.profiles()]
        new = [profile_id for profile_id in alive if profile_id not in before]
        assert 1 == len(new), (row, driver.profiles())
        created[label] = new[0]
    survivors = {label: driver.profile(profile_id) for label, profile_id in created.items()}
    for (message, _), label in expected.items():
        if label != "-":
            assert message in survivors[label]["message_ids"], (message, label)
    wanted = {}
    for part in final.split("|"):
        label, _, ids = part.strip().partition(": ")
        wanted[created[label]] = {named(word) for word in ids.split()}
    assert wanted == {profile["id"]: ids_of(profile) for profile in driver.profiles()}


def test_rules_that_were_tightened_bind_only_what_grows() -> None:
    loose = {"space": "s", "sources": [{"name": "web", "topic": "web"}], "identity": rules("u 3 ever", "e 5 ever")}
    driver = TopologyDriver(loose)
    for number, words in enumerate((["e1", "u1"], ["e1", "u2"], ["e1", "u3"])):
        driver.put(event_of(words, f"m{number}"))
    first = driver.profile("email:e1")
    driver.reconfigure({**loose, "identity": rules("u 1 ever", "e 5 ever")})
    for number, words in enumerate((["u1"], ["u2", "a1"], ["e1", "u4"]), 3):
        driver.put(event_of(words, f"m{number}"))
    assert first["id"] == driver.profile("user_id:u1")["id"] == driver.profile("anonymous_id:a1")["id"]
    assert {("user_id", "u4")} == ids_of(driver.profile("user_id:u4"))
    assert first["id"] != driver.profile("user_id:u4")["id"]


@pytest.fixture
def driver() -> TopologyDriver:
    return TopologyDriver({"space": "groups", "sources": [{"name": "web", "topic": "web"}]})


def group(user: str, account: str, **traits: str) -> dict[str, Any]:
    return {"type": "group", "userId": user, "groupId": account, "traits": traits}


def test_g1_to_g3_a_group_call_makes_an_account_and_links_it(driver: TopologyDriver) -> None:
    driver.put(group("u1", "acme", plan="pro"))
    user, account = driver.profile("user_id:u1"), driver.profile("group_id:acme")
    assert {"plan": "pro"} == account["traits"]
    assert ([account["id"]], [user["id"]]) == (user["links"], account["links"])
    driver.put(group("u2", "acme", plan="ent"))
    other = driver.profile("user_id:u2")
    assert {"plan": "ent"} == driver.profile("group_id:acme")["traits"]
    assert [user["id"], other["id"]] == driver.profile("group_id:acme")["links"]
    assert user["id"] != other["id"]
    driver.put(group("u1", "globex"))
    assert [account["id"], driver.profile("group_id:globex")["id"]] == driver.profile("user_id:u1")["links"]


def test_g4_a_track_call_with_a_group_links_nothing(driver: TopologyDriver) -> None:
    driver.put({"type": "track", "event": "X", "userId": "u1", "context": {"groupId": "globex"}})
    assert [] == driver.profile("user_id:u1")["links"]
    assert driver.profile("group_id:globex") is None


def test_g5_links_of_merged_users_are_united(driver: TopologyDriver) -> None:
    driver.put(group("u1", "acme"))
    driver.put({"type": "group", "anonymousId": "a2", "groupId": "globex"})
    driver.put({"type": "track", "event": "X", "userId": "u1", "anonymousId": "a2"})
    user = driver.profile("user_id:u1")
    accounts = [driver.profile("group_id:acme"), driver.profile("group_id:globex")]
    assert [account["id"] for account in accounts] == user["links"]
    assert [[user["id"]], [user["id"]]] == [account["links"] for account in accounts]


def test_g6_an_empty_group_id_is_a_dead_letter(driver: TopologyDriver) -> None:
    driver.put(group("u1", ""))
    assert ["missing_group_id"] == [letter["reason"] for letter in driver.take("dead_letters")]
    assert [] == driver.profiles()
