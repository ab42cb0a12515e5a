"""What is wrong within a destination, and between a destination and what it is told of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from cdp_stream.config.destination import EVENTS_ONLY, MOBILE_TYPES, SYNC_ALL_MAX
from cdp_stream.config.explain import shown
from cdp_stream.config.places import entries_of, texts_of, twice
from cdp_stream.errors import Problem

_TRACK_FIELDS: Final = ("audience_key", "trait_key")
MESSAGE_FIELDS: Final = ("email", *_TRACK_FIELDS)
"""Names that a message's `traits` or `properties` hold beside the key of what was computed."""


def find_in_destinations(data: Mapping[str, Any]) -> list[Problem]:
    """The problems of all destinations; parts that are malformed in themselves are passed over."""
    computed = {key for section in ("traits", "audiences") for _, key in texts_of(data, section, "key")}
    problems = []
    for path, entry in entries_of(data, "destinations"):
        problems += _calls(path, entry)
        problems += _id_sync(path, entry, computed)
        problems += _enrich(path, entry)
        problems += _of_its_kind(path, entry)
    return problems + _no_traits_in_lists(data)


def _items(path: str, entry: Mapping[str, Any], key: str) -> list[tuple[str, str]]:
    listed = entry.get(key)
    if not isinstance(listed, list | tuple):
        return []
    return [(f"{path}.{key}[{place}]", item) for place, item in enumerate(listed) if isinstance(item, str)]


def _calls(path: str, entry: Mapping[str, Any]) -> list[Problem]:
    calls = _items(path, entry, "send")
    # Audiences and traits are about users so far; a `group` call would have nothing to say.
    groups = [
        Problem(place, "'group' tells of accounts, and no audience or trait here is about accounts", "leave it out")
        for place, call in calls
        if call == "group"
    ]
    return twice("call", calls) + groups


def _id_sync(path: str, entry: Mapping[str, Any], computed: set[str]) -> list[Problem]:
    chosen = list(_chosen(path, entry))
    problems = twice("type", [(place, item["type"]) for place, item in chosen if isinstance(item.get("type"), str)])
    fields = texts_of(entry, "id_sync", "field")
    problems += twice("field", [(f"{path}.{place}", field) for place, field in fields])
    problems += [
        Problem(f"{path}.{place}", f"the field {shown(field)} is the key of a trait or audience")
        for place, field in fields
        if field in computed
    ]
    everything = [place for place, item in chosen if item.get("strategy") == "all"]
    problems += [
        Problem(place, f"at most {SYNC_ALL_MAX} identifiers may have the strategy 'all'", "use 'last' or 'first'")
        for place in everything[SYNC_ALL_MAX:]
    ]
    problems += [
        Problem(place, f"{shown(item['type'])} is an advertising id", "set 'send_mobile_ids: true', too")
        for place, item in chosen
        if item.get("type") in MOBILE_TYPES and entry.get("send_mobile_ids", False) is False
    ]
    return problems


def _chosen(path: str, entry: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    written = entry.get("id_sync")
    if isinstance(written, Mapping):
        for type_, strategy in written.items():
            yield f"{path}.id_sync.{type_}", {"type": type_, "strategy": strategy}
    for place, item in entries_of(entry, "id_sync"):
        yield f"{path}.{place}", item


def _enrich(path: str, entry: Mapping[str, Any]) -> list[Problem]:
    keys = _items(path, entry, "enrich")
    return twice("trait", keys) + [
        Problem(place, f"the key {shown(key)} is a field of outgoing messages")
        for place, key in keys
        if key in _TRACK_FIELDS
    ]


def _of_its_kind(path: str, entry: Mapping[str, Any]) -> list[Problem]:
    if entry.get("kind") == "list":
        return [
            Problem(f"{path}.{key}", f"'{key}' is for destinations of the kind 'event'", "leave it out")
            for key in EVENTS_ONLY
            if key in entry
        ]
    if entry.get("sync_every") is not None:
        return [Problem(f"{path}.sync_every", "'sync_every' is for lists", "set 'kind: list', or leave it out")]
    return []


def _no_traits_in_lists(data: Mapping[str, Any]) -> list[Problem]:
    """Computed traits are not supported by list destinations ("using-engage-data")."""
    lists = {entry.get("name") for _, entry in entries_of(data, "destinations") if entry.get("kind") == "list"}
    return [
        Problem(place, f"{shown(name)} is a list, and lists hold members of audiences", "name it on an audience")
        for path, entry in entries_of(data, "traits")
        for place, name in _items(path, entry, "destinations")
        if name in lists
    ]
