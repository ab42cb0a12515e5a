"""Where identifiers are read, per call and location; what is not one."""

from __future__ import annotations

from typing import Any

import pytest

from cdp_stream.config.topology import parse_topology
from cdp_stream.identity.extract import (
    IDS_PER_EVENT_MAX,
    REGISTERED_TYPES_MAX,
    Extraction,
    extract,
    unusable_id,
)
from cdp_stream.identity.rules import IdentityRules, compile_rules
from cdp_stream.model.event import ID_LENGTH_MAX, DeadLetter, Event
from cdp_stream.model.ids import ExternalId, SourceRef

CUSTOM = [{"type": "user_id"}, {"type": "email"}, {"type": "phone"}, {"type": "loyalty_code"}]


def rules(**identity: Any) -> IdentityRules:
    identity.setdefault("identifiers", CUSTOM)
    sources = [{"name": "web", "topic": "web"}]
    return compile_rules("s", parse_topology({"space": "s", "sources": sources, "identity": identity}).identity)


def event(type_: str = "track", **fields: Any) -> Event:
    return Event(type_, "m", 0, SourceRef("web", "id", 0, 0), **fields)


def item(type_: Any, value: Any, collection: Any = "users", encoding: Any = "none") -> dict[str, Any]:
    return {"type": type_, "id": value, "collection": collection, "encoding": encoding}


def listed(*items: Any) -> dict[str, Any]:
    return {"externalIds": list(items)}


def found(subject: Event, of: IdentityRules | None = None) -> list[str]:
    return [f"{type_} {value}" for type_, value in extract(subject, of or rules(), ()).users]


def test_every_location_in_extraction_order() -> None:
    subject = event(
        user_id="cust-118",
        anonymous_id="6f0c",
        properties={"tier": "gold", "loyaltyCode": "LY-9"},
        context={
            "externalIds": [item("phone", "+15550100")],
            "integrations": {"Google Analytics": {"clientId": "GA-3"}, "Braze": {"braze_id": "B-1"}, "All": True},
            "Braze": {"braze_id": "B-2"},
            "device": {"id": "D-77", "type": "ios", "token": "tok", "advertisingId": "IDFA", "adTrackingEnabled": True},
            "traits": {"crossDomainId": "xd-5", "email": "Ana@example.org"},
            "groupId": "acme",
        },
    )
    assert [
        "anonymous_id 6f0c",
        "user_id cust-118",
        "loyalty_code LY-9",
        "cross_domain_id xd-5",
        "email Ana@example.org",
        "ios.id D-77",
        "ios.idfa IDFA",
        "ios.push_token tok",
        "braze_id B-1",
        "braze_id B-2",
        "ga_client_id GA-3",
        "phone +15550100",
    ] == found(subject)


EMAIL_PLACES = [
    ("identify", {"traits": {"email": "e"}}, True),
    ("identify", {"context": {"traits": {"email": "e"}}}, True),
    ("track", {"context": {"traits": {"email": "e"}}}, True),
    ("group", {"context": {"traits": {"email": "e"}}}, True),
    ("alias", {"context": {"traits": {"email": "e"}}}, True),
    ("track", {"properties": {"email": "e"}}, True),
    ("page", {"properties": {"email": "e"}}, True),
    ("screen", {"properties": {"email": "e"}}, True),
    ("group", {"traits": {"email": "e"}}, False),
    ("track", {"context": {"email": "e"}}, False),
]


@pytest.mark.parametrize(("type_", "fields", "is_one"), EMAIL_PLACES)
def test_an_email_is_read_from_its_places_only(type_: str, fields: dict[str, Any], is_one: bool) -> None:
    assert (["email e"] if is_one else []) == found(event(type_, **fields))


def test_an_email_among_properties_can_be_switched_off() -> None:
    subject = event(properties={"email": "e", "phone": "1"}, context={"traits": {"email": "f"}})
    assert ["phone 1", "email f"] == found(subject, rules(email_from_properties=False))


def test_two_emails_on_one_call_are_two() -> None:
    assert ["email a", "email b"] == found(event("identify", traits={"email": "a"}, context={"traits": {"email": "b"}}))


def test_traits_taken_from_the_context_stay_at_their_place() -> None:
    traits = {"email": "e"}
    subject = event("identify", traits=traits, context={"traits": traits}, traits_from_context=True)
    assert ["email e"] == found(subject)


@pytest.mark.parametrize("type_", ["identify", "track", "page", "screen"])
def test_a_custom_identifier_is_found_in_both_casings(type_: str) -> None:
    fields = "traits" if type_ == "identify" else "properties"
    both = {"loyalty_code": "2", "loyaltyCode": "1"}
    subject = event(type_, **{fields: both}, context={"traits": {"loyaltyCode": "3"}})
    assert ["loyalty_code 1", "loyalty_code 2", "loyalty_code 3"] == found(subject)


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("phone_number", ["phone_number", "phoneNumber"]),
        ("phoneNumber", ["phone_number", "phoneNumber"]),
        ("Phone Number", ["Phone Number"]),
    ],
)
def test_keys_of_ones_own_are_found_in_both_casings_too(key: str, names: list[str]) -> None:
    of = rules(identifiers=[{"type": "phone", "keys": [key]}])
    values = ["phone_number", "phoneNumber", "Phone Number", "phone", "phonenumber"]
    assert sorted(f"phone {name}" for name in names) == found(event(properties={name: name for name in values}), of)


def test_a_groups_traits_are_the_accounts() -> None:
    """Custom user identifiers on a group call come only from the context."""
    subject = event("group", user_id="u", group_id="acme", traits={"phone": "1", "email": "e"})
    expected = Extraction(users=(ExternalId("user_id", "u"),), accounts=(ExternalId("group_id", "acme"),))
    assert expected == extract(subject, rules(), ())


DEVICES = [
    ({"type": "ios", "advertisingId": "x"}, ["ios.idfa x"]),
    ({"type": "ios", "advertisingId": "x", "adTrackingEnabled": True}, ["ios.idfa x"]),
    ({"type": "ios", "advertisingId": "x", "adTrackingEnabled": False}, []),
    ({"type": "android", "advertisingId": "x"}, []),
    ({"type": "android", "advertisingId": "x", "adTrackingEnabled": True}, ["android.idfa x"]),
    ({"type": "android", "advertisingId": "x", "adTrackingEnabled": False}, []),
    ({"type": "android", "advertisingId": "x", "adTrackingEnabled": "true"}, []),
    ({"type": "android", "id": "i", "token": "t"}, ["android.id i", "android.push_token t"]),
    ({"type": "web", "id": "i", "token": "t"}, []),
    ({"id": "i"}, []),
    ({"type": ["ios"], "id": "i"}, []),
]


@pytest.mark.parametrize(("device", "expected"), DEVICES)
def test_devices(device: dict[str, Any], expected: list[str]) -> None:
    assert expected == found(event(context={"device": device}))


@pytest.mark.parametrize(
    "bad",
    [
        "x",
        {"id": "1", "type": "phone", "collection": "users"},
        item("phone", "1", encoding="sha256"),
        item("phone", "1", "people"),
        item("phone", "1", ["users"]),
        item("Phone", "1"),
        item("phone number", "1"),
        item("p" * 65, "1"),
        item(7, "1"),
        item("phone", None),
        item("phone", ""),
        item("phone", True),
        item("phone", "x" * 501),
        item("group_id", "acme"),
    ],
)
def test_items_that_are_no_identifiers_of_a_person(bad: Any) -> None:
    assert ["phone 2"] == found(event(context=listed(bad, item("phone", "2"))))


@pytest.mark.parametrize("bad", [None, [], {}, True, "", "x" * 501])
def test_values_that_cannot_be_ids_are_no_identifiers(bad: Any) -> None:
    assert [] == found(event(properties={"email": bad, "phone": bad}, context={"traits": {"email": bad}}))


@pytest.mark.parametrize("part", [None, "x", 1, [], True])
def test_a_context_of_other_shapes_holds_none(part: Any) -> None:
    names = ("traits", "device", "integrations", "externalIds", "Braze")
    assert [] == found(event(context=dict.fromkeys(names, part)))
    assert [] == found(event(context={"integrations": {"Google Analytics": part, "Braze": part}}))


def test_numbers_are_ids_as_decimal_text() -> None:
    assert ["phone 15550100"] == found(event(properties={"phone": 15550100}))
    assert ["phone 1.5"] == found(event(properties={"phone": 1.5}))
    assert ["phone 3"] == found(event(properties={"phone": 3.0}))


def test_a_value_that_stands_twice_counts_once_where_it_stands_first() -> None:
    subject = event("identify", traits={"email": "b"}, context={"traits": {"email": "a"}, **listed(item("email", "b"))})
    assert ["email b", "email a"] == found(subject)


def test_inside_one_location_values_stand_in_byte_order() -> None:
    values = ["b", "é", "Z", "10", "9", "𐀀", "\uffff"]
    subject = event(context=listed(*(item("phone", value) for value in values)))
    assert [f"phone {value}" for value in sorted(values, key=str.encode)] == found(subject)


def test_blocked_values_are_set_apart() -> None:
    blocked = [{"exact": "nobody"}, {"pattern": "^test"}]
    own = [{"type": "email", "blocked_values": [{"pattern": "@example\\.org$"}]}, {"type": "phone"}]
    of = rules(identifiers=own, blocked_values=blocked)
    subject = event(
        "identify",
        user_id="nobody",
        anonymous_id="tester",
        traits={"email": "a@example.org", "phone": "b@example.org"},
        context={"traits": {"email": "0-0"}},
    )
    apart = (("anonymous_id", "tester"), ("user_id", "nobody"), ("email", "a@example.org"))
    expected = Extraction(users=(ExternalId("phone", "b@example.org"), ExternalId("email", "0-0")), blocked=apart)
    assert expected == extract(subject, of, ())


@pytest.mark.parametrize("value", ["0", "000-000", "-", "-1", "null", "anonymous"])
def test_suggested_values_are_blocked_unless_switched_off(value: str) -> None:
    subject = event(user_id=value)
    assert Extraction(blocked=(ExternalId("user_id", value),)) == extract(subject, rules(), ())
    assert [f"user_id {value}"] == found(subject, rules(blocked_values="none"))


@pytest.mark.parametrize("value", ["01", "-10", "Null", "anonymous2", "0 0", "0\n"])
def test_values_like_the_suggested_ones_are_not(value: str) -> None:
    assert [f"user_id {value}"] == found(event(user_id=value))


def test_a_suggested_value_of_one_type_only() -> None:
    of = rules(identifiers=[{"type": "user_id", "blocked_values": "suggested"}], blocked_values="none")
    assert ["anonymous_id null"] == found(event(user_id="null", anonymous_id="null"), of)


def test_an_unknown_type_is_registered_and_used_at_once() -> None:
    subject = event(user_id="u", context=listed(item("member_id", "1"), item("club.id", "2", "accounts")))
    extraction = extract(subject, rules(), ("member_id",))
    assert ("club.id",) == extraction.registered
    assert (("user_id", "u"), ("member_id", "1")) == extraction.users


def test_a_type_that_was_switched_off_is_neither_used_nor_registered() -> None:
    of = rules(identifiers=[{"type": "user_id"}, {"type": "ios.id", "enabled": False}])
    subject = event(user_id="u", context={"device": {"type": "ios", "id": "d"}, **listed(item("ios.id", "e"))})
    assert Extraction(users=(ExternalId("user_id", "u"),)) == extract(subject, of, ())


def test_an_account_item_counts_on_group_calls_only() -> None:
    context = listed(item("domain", "x.org", "accounts"))
    assert () == extract(event(user_id="u", context=context), rules(), ()).accounts
    subject = event("group", user_id="u", group_id="acme", context=context)
    assert (("group_id", "acme"), ("domain", "x.org")) == extract(subject, rules(), ()).accounts


def test_only_so_many_ids_and_types_of_one_event_are_used() -> None:
    many = event(context=listed(*(item("phone", f"{number:03d}+") for number in range(200))))
    assert [f"phone {number:03d}+" for number in range(IDS_PER_EVENT_MAX)] == found(many)
    known = tuple(f"t{number:03d}" for number in range(REGISTERED_TYPES_MAX - 1))
    two = event(context=listed(item("zebra", "1"), item("yak", "2")))
    extraction = extract(two, rules(), known)
    assert (("yak",), (("yak", "2"),)) == (extraction.registered, extraction.users)


@pytest.mark.parametrize(
    ("subject", "field"),
    [
        (event(properties={"loyaltyCode": {"id": 1}}), "properties.loyaltyCode"),
        (event("page", properties={"loyalty_code": {}}), "properties.loyalty_code"),
        (event("identify", traits={"phone": {"home": 1}}), "traits.phone"),
        (event("group", group_id="g", context={"traits": {"phone": {}}}), "context.traits.phone"),
        (event("alias", context={"traits": {"phone": {}}}), "context.traits.phone"),
        # taken from the context: named by where it stands
        (event("identify", traits={"phone": {}}, traits_from_context=True, context={"traits": {"phone": {}}}),
         "context.traits.phone"),
    ],
)  # fmt: skip
def test_an_object_as_an_id_of_ones_own_is_told_with_its_place(subject: Event, field: str) -> None:
    refused = DeadLetter("wrong_type", field, "an id must be a text or a number, not an object")
    assert refused == unusable_id(subject, rules())


@pytest.mark.parametrize(("value", "kind"), [(True, "a boolean"), ([], "an array"), (["1"], "an array")])
def test_booleans_and_arrays_are_no_ids_of_ones_own(value: Any, kind: str) -> None:
    subject = event("identify", traits={"phone": value})
    refused = DeadLetter("wrong_type", "traits.phone", f"an id must be a text or a number, not {kind}")
    assert refused == unusable_id(subject, rules())


@pytest.mark.parametrize("value", [None, "", "x" * ID_LENGTH_MAX, 7, 7.5])
def test_what_is_an_id_or_none_at_all_is_no_reason_to_refuse(value: Any) -> None:
    assert unusable_id(event(properties={"phone": value}), rules()) is None


def test_a_long_id_of_ones_own_is_told() -> None:
    refused = unusable_id(event(properties={"phone": "x" * (ID_LENGTH_MAX + 1)}), rules())
    assert refused == DeadLetter("id_too_long", "properties.phone", "501 characters; at most 500 are taken")


@pytest.mark.parametrize(
    "subject",
    [
        event("group", group_id="g", traits={"phone": True}),  # the account's
        event("identify", traits={"telephone": True}),
        event(context={"device": {"phone": True}}),
    ],
)
def test_only_where_an_identifier_is_read_its_value_must_be_one(subject: Event) -> None:
    assert unusable_id(subject, rules()) is None
    assert unusable_id(event(properties={"phone": True}), rules(identifiers=[{"type": "user_id"}])) is None
