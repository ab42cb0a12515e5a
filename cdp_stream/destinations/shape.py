"""Step 5d: news for a destination become identify and track messages, or records of a list, in the documented shapes."""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha1
from typing import Any, Final, Literal, assert_never

import orjson
from msgspec import Struct

from cdp_stream.config.destination import MOBILE_TYPES, Destination
from cdp_stream.model.ids import ProfileId, base62, derive
from cdp_stream.model.profile import Cause, Combination, DestinationMessage
from cdp_stream.model.time import Instant, format_instant

_ANONYMOUS_PREFIXES: Final = {"email": "eml", **dict.fromkeys(MOBILE_TYPES, "idfa")}
ComputationClass = Literal["audience", "trait"]
UserCall = Literal["identify", "track"]

USER_CALLS: Final[tuple[UserCall, ...]] = ("identify", "track")
"""Calls about a user, in the order they are sent in."""

_USUAL_PLACES: Final = frozenset(["user_id", "anonymous_id", *MOBILE_TYPES])
_ID_PREFIX: Final[dict[ComputationClass, str]] = {"audience": "aud_", "trait": "tra_"}


class News(Struct, frozen=True, kw_only=True):
    """What one destination is to hear about one profile: the value of an audience or computed trait, and why."""

    space: str
    destination: Destination
    profile_id: ProfileId
    computation_class: ComputationClass
    key: str
    value: Any
    """Of an audience: True for an entry, False for an exit. Of a trait: its value, None when it has none any more."""
    cause: Cause
    enrichment: dict[str, Any] = {}
    """Further traits that ride along: key to present value."""


def shape_messages(news: News, combination: Combination) -> list[DestinationMessage]:
    """Tell the news about one identifier combination: identify before track, if both are sent.

    Shapes and names are those of "using-engage-data".
    """
    return [
        DestinationMessage(
            destination=news.destination.name,
            profile_id=news.profile_id,
            payload=_payload(news, call, combination),
        )
        for call in USER_CALLS
        if call in news.destination.send
    ]


def _payload(news: News, call: UserCall, combination: Combination) -> dict[str, Any]:
    ids = dict(combination)
    payload: dict[str, Any] = {"type": call}
    if call == "track":
        payload["event"] = _event_name(news)
    payload.update(_sender(ids))
    payload["messageId"] = _message_id(news, call, combination)
    payload["timestamp"] = format_instant(news.cause.time)
    context: dict[str, Any] = {"personas": _personas(news.space, news.computation_class, news.key)}
    identifiers = _identifier_fields(news.destination, ids)
    if call == "identify":
        payload["traits"] = _joined({news.key: news.value}, identifiers, news.enrichment)
    else:
        about = {f"{news.computation_class}_key": news.key, news.key: news.value}
        payload["properties"] = _joined(about, news.enrichment)
        if identifiers:
            context["traits"] = identifiers
    context.update(_device(ids))
    payload["context"] = context
    payload["integrations"] = _only(news.destination.name)
    return payload


def shape_member(destination: Destination, combination: Combination, enrichment: dict[str, Any]) -> dict[str, Any]:
    """A member of a list: who it is, by the same fields as in messages, and traits that ride along."""
    ids = dict(combination)
    member: dict[str, Any] = dict(_sender(ids))
    traits = _joined(_identifier_fields(destination, ids), enrichment)
    if traits:
        member["traits"] = traits
    member.update(_device(ids))
    return member


class ListPart(Struct, frozen=True, kw_only=True):
    """One record of a list's sync: all of it, or one of several parts. Members are JSON already."""

    space: str
    destination: str
    audience_key: str
    audience_name: str
    """When the list was created; later names are not propagated."""
    sync: Instant
    whole: bool
    part: int
    """From 1."""
    last: bool
    add: list[Any]
    remove: list[Any]


def shape_part(part: ListPart) -> dict[str, Any]:
    """The record as it goes to the destination's topic."""
    personas = _personas(part.space, "audience", part.audience_key)
    personas["external_audience_id"] = "lst_" + base62(derive("list", part.space, part.destination, part.audience_key))
    instant = format_instant(part.sync)
    about = (part.space, part.destination, part.audience_key, instant, str(part.part))
    return {
        "type": "audience",
        "name": part.audience_name,
        "messageId": "personas_" + base62(derive("sync", *about)),
        "timestamp": instant,
        "sync": "whole" if part.whole else "changes",
        "part": part.part,
        "last": part.last,
        "add": part.add,
        "remove": part.remove,
        "context": {"personas": personas},
        "integrations": _only(part.destination),
    }


def _only(destination: str) -> dict[str, bool]:
    return {"All": False, destination: True}


def _device(ids: dict[str, str]) -> dict[str, Any]:
    """The advertising id, if the combination holds one."""
    for mobile_type in MOBILE_TYPES:
        if mobile_type in ids:
            return {"device": {"type": mobile_type.partition(".")[0], "advertisingId": ids[mobile_type]}}
    return {}


def _identifier_fields(destination: Destination, ids: dict[str, str]) -> dict[str, str]:
    """The ids that ride in fields: emails and types of `id_sync` without a usual place, and all that it gives a field.

    Others have their usual places: `userId`, `anonymousId`, `context.device`.
    """
    fields = {item.type: item.field for item in destination.id_sync}
    riding = {}
    for type_, value in ids.items():
        field = fields.get(type_) or (None if type_ in _USUAL_PLACES else type_)
        if field is not None:
            riding[field] = value
    return riding


def _joined(first: dict[str, Any], *more: dict[str, Any]) -> dict[str, Any]:
    """All fields in this order; of the same field the earlier value holds, so nothing hides what the news is about."""
    joined = dict(first)
    for fields in more:
        for key, value in fields.items():
            joined.setdefault(key, value)
    return joined


def _event_name(news: News) -> str:
    match news.computation_class:
        case "audience":
            return news.destination.enter_event if news.value else news.destination.exit_event
        case "trait":
            return news.destination.compute_event
        case _:
            assert_never(news.computation_class)


def _sender(ids: dict[str, str]) -> dict[str, str]:
    """Name who the call is about: every call needs a `userId` or an `anonymousId`.

    A combination with neither gets an anonymous id made of its email, else of its device, else of its first id. It is
    for the receiver alone and never comes back into identity.
    """
    if "user_id" in ids:
        return {"userId": ids["user_id"]}
    if "anonymous_id" in ids:
        return {"anonymousId": ids["anonymous_id"]}
    for type_, prefix in _ANONYMOUS_PREFIXES.items():
        if type_ in ids:
            return {"anonymousId": f"{prefix}_{_hex_of(ids[type_])}"}
    type_, value = next(iter(ids.items()))
    return {"anonymousId": f"{type_}_{_hex_of(value)}"}


def _hex_of(value: str) -> str:
    return sha1(value.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()


def _personas(space: str, computation_class: ComputationClass, key: str) -> dict[str, str]:
    space_id = f"spa_{space}"
    return {
        "computation_class": computation_class,
        "computation_id": computation_id(space, computation_class, key),
        "computation_key": key,
        "namespace": space_id,
        "space_id": space_id,
    }


@lru_cache(maxsize=4_096)
def computation_id(space: str, computation_class: ComputationClass, key: str) -> str:
    """`aud_` or `tra_` and 27 base62 digits: the same for ever for a key of a space."""
    return _ID_PREFIX[computation_class] + base62(derive("computation", space, computation_class, key))


def _message_id(news: News, call: UserCall, combination: Combination) -> str:
    """Derive the id from all that the message says: a receiver can drop what was sent twice."""
    cause = news.cause
    because = format_instant(cause.time) if cause.kind == "time" else cause.message_id
    value = orjson.dumps(news.value, option=orjson.OPT_SORT_KEYS).decode()
    ids = [part for pair in combination for part in pair]
    about = (news.space, news.profile_id, news.key, news.destination.name)
    return "personas_" + base62(derive("destination", *about, call, value, because, *ids))
