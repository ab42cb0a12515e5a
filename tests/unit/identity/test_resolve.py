"""What one event decides: rows of the ledger, violations by their documented names, caps, accounts, other sources."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "reference"))
from memory_graph import MemoryGraph

from cdp_stream.config.topology import parse_topology
from cdp_stream.identity import resolve
from cdp_stream.identity.resolve import resolve_event
from cdp_stream.identity.rules import compile_rules
from cdp_stream.model.event import Event
from cdp_stream.model.graph import GraphProfile, IdentityOutcome, Resolution
from cdp_stream.model.ids import SourceRef, profile_id_for
from cdp_stream.model.time import DAY_MS

LETTERS = {"u": "user_id", "a": "anonymous_id", "e": "email"}
LOW = [{"type": "user_id"}, {"type": "email", "limit": 1}]


class Space:
    """Sends events to a graph; identifiers are words whose first letter is their type: `u1 e1`."""

    def __init__(self, **identity: Any) -> None:
        sources = [{"name": "web", "topic": "web"}]
        self.rules = compile_rules(
            "s", parse_topology({"space": "s", "sources": sources, "identity": identity}).identity
        )
        self.graph = MemoryGraph()
        self.sent = 0

    def event(self, words: str, group: str | None = None, time: int = 0, **fields: Any) -> Event:
        ids = {LETTERS[word[0]]: word for word in words.split()}
        source = SourceRef("web", "id", 0, self.sent)
        self.sent += 1
        fields.setdefault("traits", {} if group or "email" not in ids else {"email": ids["email"]})
        if group and "email" in ids:
            fields["context"] = {"traits": {"email": ids["email"]}, **fields.get("context", {})}
        return Event(
            "group" if group else "identify",
            f"m{self.sent}",
            time,
            source,
            user_id=ids.get("user_id"),
            anonymous_id=ids.get("anonymous_id"),
            group_id=group,
            **fields,
        )

    def send(self, words: str, group: str | None = None, time: int = 0, **fields: Any) -> IdentityOutcome:
        outcome = resolve_event(self.event(words, group, time, **fields), self.graph, self.rules)
        self.graph.apply(outcome)
        self.graph.check()
        return outcome

    def held(self, *, collection: str = "users") -> list[str]:
        alive = sorted(self.graph.profiles.values(), key=lambda profile: profile.number)
        return [" ".join(sorted(m.value for m in p.mappings)) for p in alive if p.collection == collection]


def rows(outcome: IdentityOutcome) -> list[str]:
    """`decision: identifiers (violation)`; identifiers are those left out where there are any."""
    told = []
    for row in outcome.decisions:
        values = " ".join(value or type_ for type_, value in (*row.identifiers, *row.demoted))
        told.append(f"{row.decision}: {values}" + (f" ({row.violation})" if row.violation else ""))
    return told


def external_ids(*items: tuple[str, str, str]) -> dict[str, Any]:
    keys = ("collection", "type", "id")
    return {"externalIds": [dict(zip(keys, item, strict=True), encoding="none") for item in items]}


def test_the_first_event_creates_a_profile_whose_id_is_derived_from_the_record() -> None:
    space = Space()
    event = space.event("u1 a1", time=7)
    outcome = resolve_event(event, space.graph, space.rules)
    assert ["profile_created: ", "identifier_mapped: u1", "identifier_mapped: a1"] == rows(outcome)
    profile = outcome.user.profile
    assert profile_id_for("s", "users", event.message_id, event.source) == profile.id
    assert [("user_id", "u1", 7, "m1"), ("anonymous_id", "a1", 7, "m1")] == [
        (m.type, m.value, m.mapped_at, m.message_id) for m in profile.mappings
    ]
    assert (0, 7, True, 1) == (profile.number, profile.created, outcome.user.created, outcome.created_count)
    assert {(row.profile_id, row.collection) for row in outcome.decisions} == {(profile.id, "users")}


def test_a_known_event_decides_nothing_and_writes_nothing() -> None:
    space = Space()
    profile = space.send("u1 a1 e1").user.profile
    assert IdentityOutcome(user=Resolution(profile)) == space.send("e1 a1 u1")


def test_a_known_group_call_decides_nothing_and_writes_nothing() -> None:
    space = Space()
    first = space.send("u1", group="acme")
    again = space.send("u1", group="acme")
    expected = IdentityOutcome(user=Resolution(first.user.profile), account=Resolution(first.account.profile))
    assert expected == again


def test_a_merge_names_who_was_absorbed_and_which_ids_matched() -> None:
    space = Space()
    first, second = (space.send(words).user.profile for words in ("u1", "a1 e1"))
    outcome = space.send("u1 e1 a2")
    assert ["profiles_merged: u1 e1", "identifier_mapped: a2"] == rows(outcome)
    row = outcome.decisions[0]
    assert (first.id, (second.id,)) == (row.profile_id, row.absorbed)
    assert [m.value for m in outcome.user.profile.mappings] == ["u1", "e1", "a1", "a2"]
    assert ((second.id, first.id),) == outcome.redirects


def test_profiles_that_were_absorbed_earlier_follow_to_the_new_survivor() -> None:
    space = Space()
    ids = [space.send(words).user.profile.id for words in ("a1", "a2", "a3 e3")]
    space.send("a2 e3")
    outcome = space.send("a1 e3")
    assert ((ids[1], ids[0]), (ids[2], ids[0])) == outcome.redirects
    assert (ids[1], ids[2]) == outcome.user.profile.absorbed
    assert (ids[1],) == outcome.user.absorbed
    assert 2 == outcome.user.profile.merges


def test_a_demotion_carries_the_documented_name_of_its_limit() -> None:
    ever = Space(identifiers=LOW)
    ever.send("u1 e1")
    outcome = ever.send("u1 e2")
    assert ["identifier_demoted: e2 (Identifier value limit exceeded)"] == rows(outcome)
    assert (("email", "e2"),) == outcome.user.demoted
    timed = Space(identifiers=[{"type": "user_id"}, {"type": "email", "limit": 1, "period": "weekly"}])
    timed.send("u1 e1")
    assert ["identifier_demoted: e2 (Identifier value time limit exceeded)"] == rows(timed.send("u1 e2"))


PERIODS = [("daily", 1), ("weekly", 7), ("monthly", 30), ("annually", 365)]


@pytest.mark.parametrize(("period", "days"), PERIODS)
def test_a_period_slides_and_its_edge_is_out(period: str, days: int) -> None:
    space = Space(identifiers=[{"type": "user_id"}, {"type": "email", "limit": 1, "period": period}])
    space.send("u1 e1", time=1_000)
    space.send("u1 e2", time=1_000 + days * DAY_MS - 1)
    assert ["e1 u1"] == space.held()
    space.send("u1 e2", time=1_000 + days * DAY_MS)
    assert ["e1 e2 u1"] == space.held()


def test_a_value_seen_again_does_not_count_as_new() -> None:
    space = Space(identifiers=[{"type": "user_id"}, {"type": "email", "limit": 1, "period": "daily"}])
    space.send("u1 e1")
    space.send("u1 e1", time=DAY_MS - 1)
    space.send("u1 e2", time=DAY_MS)
    assert ["e1 e2 u1"] == space.held()


def test_ever_never_ends() -> None:
    space = Space(identifiers=LOW)
    space.send("u1 e1")
    space.send("u1 e2", time=10_000 * DAY_MS)
    assert ["e1 u1"] == space.held()


def test_a_late_event_counts_mappings_that_were_made_after_its_time() -> None:
    space = Space(identifiers=[{"type": "user_id"}, {"type": "email", "limit": 1, "period": "daily"}])
    space.send("u1 e1", time=10 * DAY_MS)
    space.send("u1 e2", time=2 * DAY_MS)
    assert ["e1 u1"] == space.held()


def test_minimal_demotion_spares_what_cannot_cause_the_conflict() -> None:
    """Literally the lowest goes first, and the new device is lost with it; `minimal` leaves out the email alone."""
    for demotion, held in (("lowest_priority", "e1 u1"), ("minimal", "a2 e1 u1")):
        space = Space(identifiers=LOW, demotion=demotion)
        space.send("u1 e1")
        space.send("u1 e2 a2")
        assert [held] == space.held()


def test_a_blocked_value_is_reported_on_the_profile_of_the_event() -> None:
    space = Space(blocked_values=[{"exact": "u0"}])
    outcome = space.send("u0 a1")
    assert "value_blocked: u0 (ID value blocked)" == rows(outcome)[-1]
    assert outcome.user.profile.id == outcome.decisions[-1].profile_id
    assert ["value_blocked: u0 (ID value blocked)"] == rows(space.send("u0 a1"))


def test_an_event_without_a_usable_identifier_belongs_to_nobody() -> None:
    space = Space(blocked_values=[{"exact": "u0"}])
    outcome = space.send("u0")
    nobody = "no_identifiers:  (No matching identifiers on event)"
    assert ["value_blocked: u0 (ID value blocked)", nobody] == rows(outcome)
    assert (None, None, ()) == (outcome.user, outcome.account, outcome.profiles)
    assert [nobody] == rows(space.send(""))


def test_at_the_merge_cap_the_event_goes_to_its_most_trusted_id_and_new_ids_still_map() -> None:
    space = Space(merges_max=0)
    person, device = space.send("u1").user.profile, space.send("a1").user.profile
    outcome = space.send("u1 a1 e1")
    assert ["cap_reached: a1 u1 (Profile merge limit exceeded)", "identifier_mapped: e1"] == rows(outcome)
    assert person.id == outcome.user.profile.id
    assert ["e1 u1", "a1"] == space.held()
    assert device == space.graph.profile(device.id)


def test_merges_count_over_all_profiles_that_were_merged() -> None:
    space = Space(merges_max=2)
    for words in ("u1", "a1", "e2", "a2", "u1 a1", "e2 a2"):
        space.send(words)
    assert "cap_reached: u1 e2 (Profile merge limit exceeded)" in rows(space.send("u1 e2"))
    assert ["a1 u1", "a2 e2"] == space.held()


def test_a_merge_beyond_the_mapping_cap_is_not_made() -> None:
    space = Space(mappings_max=3)
    for words in ("u1 a1", "e1 a2"):
        space.send(words)
    assert ["cap_reached: u1 e1 (Identifier mapping limit exceeded)"] == rows(space.send("u1 e1"))
    assert ["a1 u1", "a2 e1"] == space.held()


def test_at_the_mapping_cap_the_most_trusted_ids_are_mapped_first() -> None:
    space = Space(mappings_max=2)
    space.send("a1")
    outcome = space.send("a1 e1 u1")
    assert ["identifier_mapped: u1", "cap_reached: e1 (Identifier mapping limit exceeded)"] == rows(outcome)
    assert ["a1 u1"] == space.held()


def test_types_are_registered_once() -> None:
    space = Space()
    context = external_ids(("users", "loyalty_id", "L1"))
    outcome = space.send("u1", context=context)
    assert "type_registered: loyalty_id" == rows(outcome)[0]
    assert ("loyalty_id",) == outcome.registered == space.graph.registered_types
    assert ["identifier_mapped: a1"] == rows(space.send("a1", context=context))
    assert ["L1 a1 u1"] == space.held()


def test_a_group_call_makes_two_profiles_with_numbers_of_their_own_and_links_them() -> None:
    space = Space()
    outcome = space.send("u1", group="acme")
    assert rows(outcome) == [
        "profile_created: ",
        "identifier_mapped: u1",
        "profile_created: ",
        "identifier_mapped: acme",
        "account_linked: acme",
    ]
    user, account = outcome.user.profile, outcome.account.profile
    assert (0, 1, 2) == (user.number, account.number, outcome.created_count)
    assert ((account.id,), (user.id,)) == (space.graph.links(user.id), space.graph.links(account.id))
    assert (user.id, "users") == (outcome.decisions[-1].profile_id, outcome.decisions[-1].collection)


def test_a_group_call_of_nobody_makes_an_account_only() -> None:
    outcome = Space().send("", group="acme")
    assert ["profile_created: ", "identifier_mapped: acme"] == rows(outcome)
    assert (None, "accounts") == (outcome.user, outcome.account.profile.collection)


def test_a_group_call_with_a_blocked_group_is_the_users_only() -> None:
    space = Space()
    space.send("u1")
    outcome = space.send("u1", group="null")
    assert (["value_blocked: null (ID value blocked)"], None) == (rows(outcome), outcome.account)


def test_users_of_one_group_are_not_merged() -> None:
    space = Space()
    space.send("u1", group="acme", context=external_ids(("users", "group_id", "acme")))
    space.send("u2", group="acme", context=external_ids(("users", "group_id", "acme")))
    assert (["u1", "u2"], ["acme"]) == (space.held(), space.held(collection="accounts"))


def test_accounts_merge_by_ids_of_their_own_and_their_users_follow() -> None:
    space = Space()
    space.send("u1", group="acme", context=external_ids(("accounts", "domain", "acme.org")))
    space.send("u2", group="acme-eu")
    outcome = space.send("u2", group="acme-eu", context=external_ids(("accounts", "domain", "acme.org")))
    users = sorted((p for p in space.graph.profiles.values() if p.collection == "users"), key=lambda p: p.number)
    account = outcome.account.profile
    assert ["acme acme-eu acme.org"] == space.held(collection="accounts")
    assert [(account.id,), (account.id,)] == [space.graph.links(user.id) for user in users]
    assert {user.id for user in users} == set(space.graph.links(account.id))
    assert users[1] == outcome.user.profile


def test_a_profile_with_too_many_links_is_not_absorbed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, "LINKS_MOVED_MAX", 1)
    space = Space()
    space.send("u1")
    for group in ("one", "two"):
        space.send("a2", group=group)
    outcome = space.send("u1 a2")
    assert [f"cap_reached: a2 u1 ({resolve.LINK_CAP})"] == [" ".join(row.split()) for row in rows(outcome)]
    assert ["u1", "a2"] == space.held()
    space.send("a3", group="one")
    assert ["profiles_merged: a3 u1"] == rows(space.send("u1 a3"))
    assert ["a3 u1", "a2"] == space.held()


def test_user_and_account_may_both_merge_in_one_event() -> None:
    space = Space()
    space.send("u1", group="one")
    space.send("a1", group="two", context=external_ids(("accounts", "domain", "d")))
    outcome = space.send("u1 a1", group="one", context=external_ids(("accounts", "domain", "d")))
    assert (["a1 u1"], ["d one two"]) == (space.held(), space.held(collection="accounts"))
    user, account = outcome.user.profile.id, outcome.account.profile.id
    assert ((account,), (user,)) == (space.graph.links(user), space.graph.links(account))
    assert {outcome.user.profile, outcome.account.profile} == set(outcome.profiles)


class TestSourceWithoutIdentity:
    """It names people who are known, and never changes who they are."""

    def test_goes_to_the_most_trusted_known_id(self) -> None:
        space = Space()
        space.send("a1")
        person = space.send("u1").user.profile
        expected = IdentityOutcome(user=Resolution(person))
        assert expected == space.send("u1 a1 e9", identity=False)

    def test_is_nobodys_when_nothing_is_known(self) -> None:
        outcome = Space().send("u1 a1", identity=False)
        assert ["no_identifiers:  (No matching identifiers on event)"] == rows(outcome)
        assert (None, 0, ()) == (outcome.user, outcome.created_count, outcome.profiles)

    def test_tells_what_is_blocked_whether_somebody_is_known_or_not(self) -> None:
        space = Space(blocked_values=[{"exact": "u9"}])
        person = space.send("a1").user.profile
        assert ["value_blocked: u9 (ID value blocked)"] == rows(space.send("u9 a1", identity=False))
        assert space.send("u9 a1", identity=False).decisions[0].profile_id == person.id
        nobody = space.send("u9", identity=False)
        expected = ["value_blocked: u9 (ID value blocked)", "no_identifiers:  (No matching identifiers on event)"]
        assert expected == rows(nobody)

    def test_registers_no_type(self) -> None:
        space = Space()
        space.send("u1")
        outcome = space.send("u1", identity=False, context=external_ids(("users", "loyalty_id", "L1")))
        assert ((), ()) == (outcome.registered, outcome.decisions)

    def test_links_no_account(self) -> None:
        space = Space()
        user, account = space.send("u1").user.profile, space.send("", group="acme").account.profile
        outcome = space.send("u1", group="acme", identity=False)
        assert IdentityOutcome(user=Resolution(user), account=Resolution(account)) == outcome


def test_a_profile_with_many_values_from_before_still_resolves() -> None:
    """Tightened rules bind only what grows."""
    loose, tight = Space(identifiers=[{"type": "email"}, {"type": "user_id", "limit": 3}]), Space(identifiers=LOW)
    for words in ("e1 u1", "e1 u2", "e1 u3"):
        loose.send(words)
    tight.graph = loose.graph
    profile: GraphProfile = tight.send("u2 a1").user.profile
    assert ["a1 e1 u1 u2 u3"] == tight.held()
    assert [] == rows(tight.send("u1"))
    assert profile.id == tight.send("u3").user.profile.id
