"""Whom a destination is told about, as a table."""

from __future__ import annotations

import pytest

from cdp_stream.config.destination import Destination
from cdp_stream.destinations.combine import COMBINATIONS_MAX, combinations, entry_selection, exit_selection
from cdp_stream.model.ids import USERS, ProfileId
from cdp_stream.model.profile import KnownId, ProfileState

NAMES = {
    "user_id": "u",
    "email": "e",
    "anonymous_id": "a",
    "ios.idfa": "i",
    "android.idfa": "d",
    "phone": "p",
    "loyalty": "l",
}
TYPES = {letter: type_ for type_, letter in NAMES.items()}


def known_id(word: str) -> KnownId:
    """`e1` is an email; `e1@5` one that was added at instant 5."""
    value, _, added = word.partition("@")
    return KnownId(TYPES[value[0]], value, int(added or 0))


def told_about(ids: str, **settings: object) -> str:
    """`u1 e1 e2` as a profile's ids, in order; the combinations as `u1+e1 u1+e2`."""
    include_anonymous = bool(settings.pop("include_anonymous", False))
    select = exit_selection if settings.pop("exit", False) else entry_selection
    known = tuple(known_id(word) for word in ids.split())
    profile = ProfileState(id=ProfileId("use_1"), collection=USERS, created=0, external_ids=known)
    destination = Destination.model_validate({"name": "crm", "topic": "crm", **settings})
    formed = combinations(profile, select(destination, include_anonymous=include_anonymous))
    for combination in formed:
        assert all(TYPES[value[0]] == type_ for type_, value in combination)
    return " ".join("+".join(value for _, value in combination) for combination in formed)


@pytest.mark.parametrize(
    ("ids", "known_only", "with_anonymous"),
    [
        # ids of the profile     one message each        with include_anonymous
        ("", "", ""),
        ("u1", "u1", "u1"),
        ("u1 e1", "u1+e1", "u1+e1"),
        ("e1 u1", "u1+e1", "u1+e1"),
        ("u1 e1 e2", "u1+e1 u1+e2", "u1+e1 u1+e2"),
        ("u1 u2 e1", "u1+e1 u2+e1", "u1+e1 u2+e1"),
        ("u2 e2 u1 e1", "u2+e2 u2+e1 u1+e2 u1+e1", "u2+e2 u2+e1 u1+e2 u1+e1"),
        ("u1 u2", "u1 u2", "u1 u2"),
        ("e1 e2", "e1 e2", "e1 e2"),
        ("a1", "", "a1"),
        ("a1 a2 u1", "u1", "u1 a1 a2"),
        ("a1 e1 u1", "u1+e1", "u1+e1 a1"),
        ("a1 e1", "e1", "e1 a1"),
        ("p1 u1", "u1", "u1"),
        ("p1", "", ""),
        ("i1 d1", "", ""),
        ("i1 u1", "u1", "u1"),
        ("u1 e1 u1", "u1+e1", "u1+e1"),
    ],
)
def test_one_message_for_each_pair_of_user_id_and_email(ids: str, known_only: str, with_anonymous: str):
    assert told_about(ids) == known_only
    assert told_about(ids, include_anonymous=True) == with_anonymous


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ("u1", "u1"),
        ("u1 i1", "u1+i1"),
        ("e1 i1", "e1+i1"),
        ("u1 e1 i1", "u1+e1+i1"),
        ("d1 i1", "d1 i1"),
        ("u1 d1 i1", "u1+d1 u1+i1"),
        ("a1 i1", "i1"),
    ],
)
def test_advertising_ids_join_the_pairs_when_the_destination_wants_them(ids: str, expected: str):
    assert told_about(ids, send_mobile_ids=True) == expected


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ("", ""),
        ("u1 e1 e2", "u1 e1 e2"),
        ("e1 u1 u2", "u1 u2 e1"),
        ("i1 e1 a1", "e1 i1 a1"),
    ],
)
def test_one_message_for_each_identifier_in_the_literal_reading(ids: str, expected: str):
    told = told_about(ids, combine="per_identifier", send_mobile_ids=True, include_anonymous=True)
    assert told == expected


def sync(text: str) -> list[dict[str, str]]:
    """`e:last p:all` as the setting `id_sync`."""
    return [{"type": TYPES[letter], "strategy": strategy} for letter, strategy in (w.split(":") for w in text.split())]


@pytest.mark.parametrize(
    ("ids", "id_sync", "entries", "exits"),
    [
        # ids of the profile   id_sync               who is told of an entry       who is told of an exit
        ("u1 e1", "e:last", "e1", "u1+e1"),
        ("u1 e1@1 e2@2", "e:last", "e2", "u1+e1 u1+e2"),
        ("u1 e1@1 e2@2", "e:first", "e1", "u1+e1 u1+e2"),
        ("u1 e1@1 e2@2", "e:all", "e1 e2", "u1+e1 u1+e2"),
        ("u1 e1@2 e2@1", "e:last", "e1", "u1+e1 u1+e2"),
        ("u1 e1@2 e2@1", "e:first", "e2", "u1+e1 u1+e2"),
        ("u1 e1@1 e2@1", "e:last", "e2", "u1+e1 u1+e2"),
        ("u1 e1@1 e2@1", "e:first", "e1", "u1+e1 u1+e2"),
        ("u1@1 u2@2 e1@1 e2@2", "u:first e:last", "u1+e2", "u1+e1 u1+e2 u2+e1 u2+e2"),
        ("u1@1 u2@2 e1@1 e2@2", "e:last u:first", "u1+e2", "u1+e1 u1+e2 u2+e1 u2+e2"),
        ("u1 p1", "u:last p:all", "u1+p1", "u1+p1"),
        ("u1 p1@1 p2@2", "p:last", "p2", "u1+p1 u1+p2"),
        ("p1 l1", "p:all l:all", "p1+l1", "p1+l1"),
        ("p1 l1", "l:all p:all", "l1+p1", "l1+p1"),
        ("u1 e1", "p:all", "", "u1+e1"),
        ("u1", "u:all e:all", "u1", "u1"),
        ("a1 u1", "u:all a:last", "u1", "u1"),
    ],
)
def test_id_sync_chooses_whom_an_entry_is_about_and_exits_ignore_it(ids: str, id_sync: str, entries: str, exits: str):
    assert told_about(ids, id_sync=sync(id_sync)) == entries
    assert told_about(ids, id_sync=sync(id_sync), exit=True) == exits


def test_id_sync_with_advertising_ids_chooses_of_each_type_and_lets_them_stand_for_one_another():
    chosen = {"id_sync": sync("u:all i:last d:first"), "send_mobile_ids": True}
    assert told_about("u1 i1@1 i2@2 d1@1 d2@2", **chosen) == "u1+i2 u1+d1"
    assert told_about("u1 i1@1 i2@2 d1@1 d2@2", **chosen, exit=True) == "u1+i1 u1+i2 u1+d1 u1+d2"


def test_id_sync_names_anonymous_ids_or_leaves_them_out_where_they_are_included():
    assert told_about("u1 a1@1 a2@2", id_sync=sync("u:all a:last"), include_anonymous=True) == "u1 a2"
    assert told_about("u1 a1@1 a2@2", id_sync=sync("u:all"), include_anonymous=True) == "u1"
    assert told_about("u1 a1@1 a2@2", id_sync=sync("u:all"), include_anonymous=True, exit=True) == "u1 a1 a2"


def test_id_sync_one_identifier_at_a_time():
    chosen = {"id_sync": sync("p:all u:last"), "combine": "per_identifier"}
    assert told_about("u1@1 u2@2 e1 p1 p2", **chosen) == "u2 p1 p2"
    assert told_about("u1@1 u2@2 e1 p1 p2", **chosen, exit=True) == "u1 u2 e1 p1 p2"


def test_without_id_sync_entries_and_exits_are_about_the_same():
    for ids in ("u1 e1 e2 a1", "p1", "a1"):
        assert told_about(ids, include_anonymous=True) == told_about(ids, include_anonymous=True, exit=True)


def test_the_combinations_of_one_profile_have_a_limit_and_the_first_ones_are_told():
    many = " ".join(f"u{n}" for n in range(100)) + " " + " ".join(f"e{n}" for n in range(100)) + " a1"
    told = told_about(many, include_anonymous=True).split(" ")
    assert len(told) == COMBINATIONS_MAX
    assert told[:2] == ["u0+e0", "u0+e1"]
    assert told[-1] == "u9+e99"
