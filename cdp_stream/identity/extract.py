"""Step 2b: the external ids of an event, in extraction order; blocked values apart. Reads the event, nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Final

from msgspec import Struct

from cdp_stream.identity.rules import IdentityRules, Keys
from cdp_stream.model.event import ID_LENGTH_MAX, DeadLetter, Event, id_in
from cdp_stream.model.ids import ExternalId
from cdp_stream.model.values import canonical_id

IDS_PER_EVENT_MAX: Final = 64
"""How many ids of an event are used, and how many blocked ones reported, in each collection; later ones are ignored."""
REGISTERED_TYPES_MAX: Final = 100
"""How many identifier types `externalIds` may register in a space; later ones are ignored."""
_TYPE: Final = re.compile(r"[a-z0-9][a-z0-9_.]{0,63}\Z")
_PROPERTY_CALLS: Final = frozenset(("track", "page", "screen"))
_ITEM_KEYS: Final = frozenset(("id", "type", "collection", "encoding"))

_external_id = partial(tuple.__new__, ExternalId)
"""What the class's own constructor does, at half its cost."""

_Found = tuple[str, Any]
"""An identifier type and a value as it stands in the event."""


class Extraction(Struct, frozen=True):
    """External ids by collection in extraction order, values that were blocked, types seen for the first time."""

    users: tuple[ExternalId, ...] = ()
    accounts: tuple[ExternalId, ...] = ()
    blocked: tuple[ExternalId, ...] = ()
    blocked_accounts: tuple[ExternalId, ...] = ()
    registered: tuple[str, ...] = ()


def unusable_id(event: Event, rules: IdentityRules) -> DeadLetter | None:
    """Why an event cannot be used: an identifier of the topology's own holds what is no id, or is too long.

    Intake holds built-in identifiers to the same, with the same words; it does not know the topology's keys.
    """
    if not rules.custom_keys:
        return None
    traits = event.context.get("traits")
    places = [
        ("properties", event.properties if event.type in _PROPERTY_CALLS else {}),
        ("traits", event.traits if event.type == "identify" and not event.traits_from_context else {}),
        ("context.traits", traits if isinstance(traits, dict) else {}),
    ]
    for place, values in places:
        for key, _ in rules.custom_keys if values else ():
            if key in values and isinstance(found := id_in(values[key], f"{place}.{key}"), DeadLetter):
                return found
    return None


def extract(event: Event, rules: IdentityRules, registered: tuple[str, ...]) -> Extraction:
    """All identifiers of the event. Order of locations: top level, traits / properties, context.traits, device,
    integrations, externalIds (public page "identity-resolution-onboarding"). Inside one location values stand in byte
    order, so that the order of keys in the event's JSON never matters.

    `registered`: the types that `externalIds` registered so far, sorted. Values that cannot be ids are left out.
    """
    context = event.context
    listed = _listed(context["externalIds"]) if "externalIds" in context else []
    new: tuple[str, ...] = ()
    if listed:
        new = _new_types(listed, rules, registered)
        registered = tuple(sorted((*registered, *new))) if new else registered
    ranks = rules.ranks(registered)

    # Written out in the order that sorting would give, as most events end here.
    places: list[Sequence[_Found]] = []
    if event.anonymous_id is not None:
        places.append((("anonymous_id", event.anonymous_id),))
    if event.user_id is not None:
        places.append((("user_id", event.user_id),))
    if event.type == "identify":
        if not event.traits_from_context:
            places.append(_under(rules.trait_keys, event.traits))
    elif event.properties and event.type in _PROPERTY_CALLS:
        places.append(_under(rules.property_keys, event.properties))
    if context:
        places += _in_context(context, rules)
        if listed:
            # A group's id never joins people, wherever it stands.
            places.append([(type_, id_) for place, type_, id_ in listed if place == "users" and type_ != "group_id"])
    users, blocked = _usable(places, rules, ranks)
    if event.type != "group":
        return Extraction(users, (), blocked, (), new)
    account_places: list[Sequence[_Found]] = [
        (("group_id", event.group_id),),
        [(type_, id_) for place, type_, id_ in listed if place == "accounts"],
    ]
    accounts, blocked_accounts = _usable(account_places, rules, ranks)
    return Extraction(users, accounts, blocked, blocked_accounts, new)


def _usable(
    places: Iterable[Sequence[_Found]], rules: IdentityRules, ranks: dict[str, int]
) -> tuple[tuple[ExternalId, ...], tuple[ExternalId, ...]]:
    """Ids of ranked types, each once, and the blocked ones among them."""
    used: dict[ExternalId, None] = {}
    blocked: dict[ExternalId, None] = {}
    for place in places:
        here = []
        for type_, raw in place:
            value = raw if type(raw) is str else _text(raw)
            if value and type_ in ranks and len(value) <= ID_LENGTH_MAX:
                here.append(_external_id((type_, value)))
        if len(here) > 1:
            # Texts compare by code point, which is the order of their UTF-8 bytes.
            here.sort()
        for external_id in here:
            fate = blocked if rules.is_blocked(external_id) else used
            if len(fate) < IDS_PER_EVENT_MAX:
                fate[external_id] = None
    return tuple(used), tuple(blocked)


def _text(raw: Any) -> str | None:
    try:
        return canonical_id(raw)
    except TypeError:
        return None


def _under(keys: Keys, values: dict[str, Any]) -> Sequence[_Found]:
    return [(type_, values[key]) for key, type_ in keys if key in values] if values else ()


def _in_context(context: dict[str, Any], rules: IdentityRules) -> list[Sequence[_Found]]:
    places: list[Sequence[_Found]] = []
    traits = context.get("traits")
    if isinstance(traits, dict):
        places.append(_under(rules.context_keys, traits))
    device = context.get("device")
    if isinstance(device, dict):
        places.append(_of_device(device))
    integrations = context.get("integrations")
    if isinstance(integrations, dict) or "Braze" in context:
        places.append(_of_integrations(context, integrations if isinstance(integrations, dict) else {}))
    return places


def _of_device(device: dict[str, Any]) -> list[_Found]:
    system = device.get("type")
    if system not in ("android", "ios"):
        return []
    found = [(f"{system}.id", device.get("id")), (f"{system}.push_token", device.get("token"))]
    tracking = device.get("adTrackingEnabled")
    # Android needs consent to be given; for iOS it must not be refused.
    if tracking is True or (system == "ios" and tracking is not False):
        found.append((f"{system}.idfa", device.get("advertisingId")))
    return found


def _of_integrations(context: dict[str, Any], integrations: dict[str, Any]) -> list[_Found]:
    found = []
    for type_, holder, key in (
        ("ga_client_id", integrations.get("Google Analytics"), "clientId"),
        ("braze_id", integrations.get("Braze"), "braze_id"),
        ("braze_id", context.get("Braze"), "braze_id"),
    ):
        if isinstance(holder, dict):
            found.append((type_, holder.get(key)))
    return found


def _listed(items: Any) -> list[tuple[str, str, Any]]:
    """Collection, type and value of the usable items: all four keys, encoding none, a lower-case type."""
    if not isinstance(items, list):
        return []
    return [
        (item["collection"], item["type"], item["id"])
        for item in items
        if isinstance(item, dict)
        and item.keys() >= _ITEM_KEYS
        and item["encoding"] == "none"
        and item["collection"] in ("users", "accounts")
        and isinstance(item["type"], str)
        and _TYPE.match(item["type"])
    ]


def _new_types(
    listed: Iterable[tuple[str, str, Any]], rules: IdentityRules, registered: tuple[str, ...]
) -> tuple[str, ...]:
    new = {type_ for _, type_, _ in listed} - rules.ranks(registered).keys() - rules.disabled
    return tuple(sorted(new)[: max(0, REGISTERED_TYPES_MAX - len(registered))]) if new else ()
