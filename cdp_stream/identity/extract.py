"""Step 2b: the external ids of an event, in extraction order; blocked values apart. Reads the event, nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from msgspec import Struct

from cdp_stream.identity.rules import IdentityRules
from cdp_stream.model.event import Event
from cdp_stream.model.ids import ExternalId
from cdp_stream.model.values import canonical_id

ID_LENGTH_MAX: Final = 500
IDS_PER_EVENT_MAX: Final = 64
REGISTERED_TYPES_MAX: Final = 100
"""How many identifier types `externalIds` may register in a space; later ones are ignored."""
_TYPE: Final = re.compile(r"[a-z0-9][a-z0-9_.]{0,63}\Z")
_PROPERTY_CALLS: Final = frozenset(("track", "page", "screen"))
_ALL_KEYS: Final = ("id", "type", "collection", "encoding")


class Extraction(Struct, frozen=True):
    """External ids by collection in extraction order, values that were blocked, types seen for the first time."""

    users: tuple[ExternalId, ...]
    accounts: tuple[ExternalId, ...]
    blocked: tuple[ExternalId, ...]
    blocked_accounts: tuple[ExternalId, ...]
    registered: tuple[str, ...]


class _Collector:
    """Gathers ids location by location; inside one location, by type and byte order of the value."""

    def __init__(self, rules: IdentityRules, registered: tuple[str, ...]) -> None:
        self.rules = rules
        self.ranks = rules.ranks(registered)
        self.found: list[ExternalId] = []
        self.blocked: list[ExternalId] = []

    def add(self, pairs: Iterable[tuple[str, Any]]) -> None:
        batch = []
        for type_, raw in pairs:
            if raw is None or type_ not in self.ranks:
                continue
            try:
                value = canonical_id(raw)
            except TypeError:
                continue
            if value is not None and len(value) <= ID_LENGTH_MAX:
                batch.append(ExternalId(type_, value))
        if len(batch) > 1:
            batch.sort(key=lambda found: (found.type, found.value.encode()))
        for external_id in batch:
            if self.rules.is_blocked(external_id):
                if external_id not in self.blocked:
                    self.blocked.append(external_id)
            elif external_id not in self.found and len(self.found) < IDS_PER_EVENT_MAX:
                self.found.append(external_id)


def extract(event: Event, rules: IdentityRules, registered: tuple[str, ...]) -> Extraction:
    """All identifiers of the event. Order of locations: top level, traits / properties, context.traits, device,
    integrations, externalIds (public page "identity-resolution-onboarding").
    """
    context = event.context
    listed = _external_ids(context) if "externalIds" in context else ()
    new = _new_types(listed, rules, registered)
    users = _Collector(rules, registered if not new else tuple(sorted({*registered, *new})))
    users.add((("user_id", event.user_id), ("anonymous_id", event.anonymous_id)))
    if event.type == "identify" and not event.traits_from_context:
        users.add(_keyed(event.traits, rules, email=True))
    elif event.type in _PROPERTY_CALLS and event.properties:
        users.add(_keyed(event.properties, rules, email=rules.email_from_properties))
    if context:
        _from_context(users, context, rules)
    users.add((item["type"], item["id"]) for item in listed if item["collection"] == "users")
    accounts = _Collector(rules, registered if not new else tuple(sorted({*registered, *new})))
    if event.type == "group":
        accounts.add((("group_id", event.group_id),))
        accounts.add((item["type"], item["id"]) for item in listed if item["collection"] == "accounts")
    return Extraction(tuple(users.found), tuple(accounts.found), tuple(users.blocked), tuple(accounts.blocked), new)


def _keyed(values: Mapping[str, Any], rules: IdentityRules, *, email: bool) -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    if email and "email" in values:
        pairs.append(("email", values["email"]))
    for custom in rules.custom:
        pairs.extend((custom.type, values[key]) for key in custom.keys if key in values)
    return pairs


def _from_context(users: _Collector, context: Mapping[str, Any], rules: IdentityRules) -> None:
    traits = context.get("traits")
    if isinstance(traits, dict) and traits:
        pairs = _keyed(traits, rules, email=True)
        pairs.extend(("cross_domain_id", traits[key]) for key in ("crossDomainId", "cross_domain_id") if key in traits)
        users.add(pairs)
    device = context.get("device")
    if isinstance(device, dict) and device:
        users.add(_device(device))
    integrations = context.get("integrations")
    pairs = []
    if isinstance(integrations, dict):
        analytics, braze = integrations.get("Google Analytics"), integrations.get("Braze")
        if isinstance(analytics, dict):
            pairs.append(("ga_client_id", analytics.get("clientId")))
        if isinstance(braze, dict):
            pairs.append(("braze_id", braze.get("braze_id")))
    braze = context.get("Braze")
    if isinstance(braze, dict):
        pairs.append(("braze_id", braze.get("braze_id")))
    users.add(pairs)


def _device(device: Mapping[str, Any]) -> list[tuple[str, Any]]:
    system = device.get("type")
    if system not in ("android", "ios"):
        return []
    pairs = [(f"{system}.id", device.get("id")), (f"{system}.push_token", device.get("token"))]
    tracking = device.get("adTrackingEnabled")
    # Android needs consent to be given; for iOS it must not be refused.
    if tracking is True or (system == "ios" and tracking is not False):
        pairs.append((f"{system}.idfa", device.get("advertisingId")))
    return pairs


def _external_ids(context: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Usable items: all four keys, encoding none, a known collection, a type name."""
    items = context["externalIds"]
    if not isinstance(items, list):
        return []
    return [
        item
        for item in items
        if isinstance(item, dict)
        and all(key in item for key in _ALL_KEYS)
        and item["encoding"] == "none"
        and item["collection"] in ("users", "accounts")
        and isinstance(item["type"], str)
        and _TYPE.match(item["type"])
    ]


def _new_types(listed: Iterable[dict[str, Any]], rules: IdentityRules, registered: tuple[str, ...]) -> tuple[str, ...]:
    known = rules.ranks(registered)
    new = sorted({item["type"] for item in listed} - set(known) - rules.disabled)
    return tuple(new[: max(0, REGISTERED_TYPES_MAX - len(registered))])
