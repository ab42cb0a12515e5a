"""The messages themselves: exact payloads, names and ids."""

from __future__ import annotations

import re
from hashlib import sha1
from pathlib import Path
from typing import Any

import orjson
import pytest

from cdp_stream.config.destination import Destination
from cdp_stream.destinations.shape import ListPart, News, computation_id, shape_member, shape_messages, shape_part
from cdp_stream.model.ids import ProfileId
from cdp_stream.model.profile import Cause
from cdp_stream.model.time import parse_instant

AT = parse_instant("2025-01-02T11:30:02.000Z")
ORDER = Cause(kind="event", time=AT, now=AT + 5_000, message_id="m-1", seq="000000000001-000000000000")
BOTH = (("user_id", "cust-118"), ("email", "Ana@example.org"))


def destination(**settings: object) -> Destination:
    return Destination.model_validate({"name": "Webhooks", "topic": "shop.webhooks", **settings})


def news(**fields: object) -> News:
    plain = {
        "space": "shop",
        "destination": destination(),
        "profile_id": ProfileId("use_1"),
        "computation_class": "audience",
        "key": "lapsed_buyers_30d",
        "value": True,
        "cause": ORDER,
    }
    return News(**(plain | fields))


def payloads(told: News, combination: tuple[tuple[str, str], ...]) -> list[dict[str, object]]:
    return [message.payload for message in shape_messages(told, combination)]


def message_ids(told: News, combination: tuple[tuple[str, str], ...] = BOTH) -> list[object]:
    return [payload["messageId"] for payload in payloads(told, combination)]


def test_an_entry_is_an_identify_and_a_track_in_the_documented_shapes():
    personas = {
        "computation_class": "audience",
        "computation_id": computation_id("shop", "audience", "lapsed_buyers_30d"),
        "computation_key": "lapsed_buyers_30d",
        "namespace": "spa_shop",
        "space_id": "spa_shop",
    }
    identify, track = payloads(news(), BOTH)
    assert identify == {
        "type": "identify",
        "userId": "cust-118",
        "messageId": identify["messageId"],
        "timestamp": "2025-01-02T11:30:02.000Z",
        "traits": {"lapsed_buyers_30d": True, "email": "Ana@example.org"},
        "context": {"personas": personas},
        "integrations": {"All": False, "Webhooks": True},
    }
    assert track == {
        "type": "track",
        "event": "Audience Entered",
        "userId": "cust-118",
        "messageId": track["messageId"],
        "timestamp": "2025-01-02T11:30:02.000Z",
        "properties": {"audience_key": "lapsed_buyers_30d", "lapsed_buyers_30d": True},
        "context": {"traits": {"email": "Ana@example.org"}, "personas": personas},
        "integrations": {"All": False, "Webhooks": True},
    }


def test_an_exit_is_false_and_has_an_event_name_of_its_own():
    identify, track = payloads(news(value=False), BOTH)
    assert identify["traits"] == {"lapsed_buyers_30d": False, "email": "Ana@example.org"}
    assert track["event"] == "Audience Exited"
    assert track["properties"] == {"audience_key": "lapsed_buyers_30d", "lapsed_buyers_30d": False}


@pytest.mark.parametrize("value", [412.5, 3, "Shoes", ["hats", "shoes"], None, False, {"deep": [1]}])
def test_a_computed_trait_carries_its_value_as_it_is(value: object):
    identify, track = payloads(news(computation_class="trait", key="spend_90d", value=value), (("user_id", "u1"),))
    assert identify["traits"] == {"spend_90d": value}
    assert track["event"] == "Trait Computed"
    assert track["properties"] == {"trait_key": "spend_90d", "spend_90d": value}
    assert track["context"] == {
        "personas": {
            "computation_class": "trait",
            "computation_id": computation_id("shop", "trait", "spend_90d"),
            "computation_key": "spend_90d",
            "namespace": "spa_shop",
            "space_id": "spa_shop",
        }
    }
    assert track == orjson.loads(orjson.dumps(track))


def test_event_names_are_the_destination_s():
    renamed = destination(send=["track"], enter_event="In", exit_event="Out", compute_event="Now")
    told = [
        news(destination=renamed),
        news(destination=renamed, value=False),
        news(destination=renamed, computation_class="trait", value=False),
    ]
    assert [payloads(one, BOTH)[0]["event"] for one in told] == ["In", "Out", "Now"]


@pytest.mark.parametrize(
    ("send", "calls"),
    [
        (["identify", "track"], ["identify", "track"]),
        (["track", "identify"], ["identify", "track"]),
        (["track"], ["track"]),
        (["identify"], ["identify"]),
    ],
)
def test_only_the_chosen_calls_are_made_and_identify_comes_first(send: list[str], calls: list[str]):
    assert [payload["type"] for payload in payloads(news(destination=destination(send=send)), BOTH)] == calls


@pytest.mark.parametrize(
    ("combination", "sender"),
    [
        (BOTH, {"userId": "cust-118"}),
        ((("user_id", "u1"),), {"userId": "u1"}),
        ((("anonymous_id", "a1"),), {"anonymousId": "a1"}),
        (
            (("email", "ana@example.org"),),
            {"anonymousId": "eml_754b8d658cda743bf57cae986f071aa7aded7cd1"},
        ),
        ((("ios.idfa", "D-1"),), {"anonymousId": "idfa_841273e6e5fc30584ce347b7a4769e62bacab800"}),
        ((("phone", "+1"), ("loyalty", "L")), {"anonymousId": "phone_" + sha1(b"+1").hexdigest()}),
        ((("email", "a@b.c"), ("phone", "+1")), {"anonymousId": "eml_" + sha1(b"a@b.c").hexdigest()}),
    ],
)
def test_every_call_says_who_it_is_about(combination: tuple[tuple[str, str], ...], sender: dict[str, str]):
    for payload in payloads(news(), combination):
        assert {key: payload[key] for key in ("userId", "anonymousId") if key in payload} == sender


def test_an_advertising_id_rides_in_the_device():
    identify, track = payloads(news(), (("user_id", "u1"), ("android.idfa", "D-2")))
    assert identify["context"]["device"] == {"type": "android", "advertisingId": "D-2"}
    assert track["context"]["device"] == {"type": "android", "advertisingId": "D-2"}
    assert track["userId"] == "u1"


def test_chosen_identifiers_ride_in_their_fields():
    chosen = [
        {"type": "user_id", "field": "external_id"},
        {"type": "email", "field": "mail"},
        {"type": "phone"},
        {"type": "loyalty", "field": "card"},
    ]
    who = (("user_id", "u1"), ("email", "a@b.c"), ("phone", "+1"), ("loyalty", "L-1"))
    riding = {"external_id": "u1", "mail": "a@b.c", "phone": "+1", "card": "L-1"}
    identify, track = payloads(news(destination=destination(id_sync=chosen)), who)
    assert identify["userId"] == track["userId"] == "u1"
    assert identify["traits"] == {"lapsed_buyers_30d": True, **riding}
    assert track["properties"] == {"audience_key": "lapsed_buyers_30d", "lapsed_buyers_30d": True}
    assert track["context"]["traits"] == riding
    assert "traits" not in identify["context"]


def test_an_identifier_with_a_usual_place_is_not_repeated_unless_it_is_given_a_field():
    mobile = (("user_id", "u1"), ("ios.idfa", "D-2"))
    plain = destination(id_sync=[{"type": "user_id"}, {"type": "ios.idfa"}], send_mobile_ids=True)
    assert payloads(news(destination=plain), mobile)[0]["traits"] == {"lapsed_buyers_30d": True}
    named = destination(id_sync=[{"type": "ios.idfa", "field": "idfa"}], send_mobile_ids=True)
    identify, track = payloads(news(destination=named), mobile)
    assert identify["traits"] == {"lapsed_buyers_30d": True, "idfa": "D-2"}
    assert track["context"]["device"] == {"type": "ios", "advertisingId": "D-2"}


def test_enrichment_rides_in_the_traits_of_an_identify_and_the_properties_of_a_track():
    identify, track = payloads(news(enrichment={"plan": "pro", "seats": 3}), BOTH)
    assert list(identify["traits"].items()) == [
        ("lapsed_buyers_30d", True),
        ("email", "Ana@example.org"),
        ("plan", "pro"),
        ("seats", 3),
    ]
    assert track["properties"] == {
        "audience_key": "lapsed_buyers_30d",
        "lapsed_buyers_30d": True,
        "plan": "pro",
        "seats": 3,
    }
    assert track["context"]["traits"] == {"email": "Ana@example.org"}


def test_enrichment_hides_neither_the_value_nor_the_identifier():
    identify, track = payloads(news(enrichment={"lapsed_buyers_30d": "x", "email": "old@example.org"}), BOTH)
    assert identify["traits"] == {"lapsed_buyers_30d": True, "email": "Ana@example.org"}
    assert track["properties"]["lapsed_buyers_30d"] is True


def test_the_message_id_is_the_same_for_the_same_news():
    assert message_ids(news()) == message_ids(news())
    later = Cause(kind="event", time=AT, now=AT + 90_000, message_id="m-1", seq="000000000777-000000000001")
    assert message_ids(news()) == message_ids(news(cause=later))


def test_message_ids_never_change_between_versions():
    """A receiver that drops doubles by id must survive an upgrade and a replay."""
    assert message_ids(news()) == ["personas_McjrsxarxQNYtS8qxetoBZxaxem", "personas_X9EyTGeCkuH1dzeqArWADEv4Gpz"]


def test_the_message_id_differs_with_everything_that_makes_other_news():
    other_cause = Cause(kind="event", time=AT, now=AT, message_id="m-2", seq="")
    due = Cause(kind="time", time=AT, now=AT, message_id="", seq="")
    due_later = Cause(kind="time", time=AT + 1, now=AT, message_id="", seq="")
    told = [
        news(),
        news(space="shop-2"),
        news(profile_id=ProfileId("use_2")),
        news(key="other"),
        news(destination=destination(name="CRM")),
        news(value=False),
        news(value=1),
        news(value=1.0),
        news(cause=other_cause),
        news(cause=due),
        news(cause=due_later),
    ]
    ids = [message_id for one in told for message_id in message_ids(one)]
    ids += message_ids(news(), (("user_id", "cust-118"),))
    ids += message_ids(news(), (("user_id", "cust-11"), ("email", "8Ana@example.org")))
    assert len(ids) == len(set(ids)) == 26


def test_the_computation_id_tells_spaces_kinds_and_keys_apart():
    ids = {
        computation_id("shop", "audience", "a"),
        computation_id("shop", "audience", "b"),
        computation_id("shop", "trait", "a"),
        computation_id("other", "audience", "a"),
    }
    assert len(ids) == 4
    assert sorted(one[:4] for one in ids) == ["aud_", "aud_", "aud_", "tra_"]
    assert {len(one) for one in ids} == {31}


def test_the_documentation_shows_what_is_really_sent():
    page = (Path(__file__).parents[3] / "docs" / "destinations.md").read_text(encoding="utf-8")
    shown = [orjson.loads(block) for block in re.findall(r"```json\n(.*?)```", page, re.DOTALL)]
    spend = news(computation_class="trait", key="spend_90d", value=412.5)
    assert shown == [
        *payloads(news(), BOTH),
        payloads(news(value=False), (("email", "Ana@example.org"),))[1],
        payloads(spend, (("user_id", "cust-118"),))[1],
        list_record(),
    ]


def list_record() -> dict[str, Any]:
    ads = Destination(name="Ads", kind="list", topic="shop.ads")
    return shape_part(
        ListPart(
            space="shop",
            destination="Ads",
            audience_key="lapsed_buyers_30d",
            audience_name="Lapsed buyers",
            sync=parse_instant("2025-01-02T12:00:00Z"),
            whole=False,
            part=1,
            last=True,
            add=[shape_member(ads, BOTH, {})],
            remove=[shape_member(ads, (("email", "bo@example.org"),), {})],
        )
    )
