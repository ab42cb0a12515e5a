"""Whom a destination is told about, as a table."""

from __future__ import annotations

import pytest

from cdp_stream.config.topology import Destination
from cdp_stream.destinations.combine import combinations
from cdp_stream.model.ids import USERS, ProfileId
from cdp_stream.model.profile import KnownId, ProfileState

NAMES = {"user_id": "u", "email": "e", "anonymous_id": "a", "ios.idfa": "i", "android.idfa": "d", "phone": "p"}
TYPES = {letter: type_ for type_, letter in NAMES.items()}


def told_about(ids: str, **settings: object) -> str:
    """`u1 e1 e2` as a profile's ids, in order; the combinations as `u1+e1 u1+e2`."""
    include_anonymous = bool(settings.pop("include_anonymous", False))
    known = tuple(KnownId(TYPES[word[0]], word, 0) for word in ids.split())
    profile = ProfileState(id=ProfileId("use_1"), collection=USERS, created=0, external_ids=known)
    destination = Destination.model_validate({"name": "crm", "topic": "crm", **settings})
    formed = combinations(profile, destination, include_anonymous)
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
