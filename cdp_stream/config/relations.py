"""What the user wrote, seen as a whole: names that clash, names that lead nowhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from cdp_stream.config.destination_relations import MESSAGE_FIELDS, find_in_destinations
from cdp_stream.config.explain import nearest, shown
from cdp_stream.config.fields import BUILT_IN_IDENTIFIER_TYPES
from cdp_stream.config.places import entries_of, texts_of, twice
from cdp_stream.errors import Problem

_INTERNAL_TOPICS: Final = (
    "identity-log",
    "profile-changes",
    "shipments",
    "ledger",
    "trait-changes",
    "audience-changes",
    "dead-letters",
    "identity.changelog",
    "profiles.changelog",
)


def find_contradictions(data: Any) -> list[Problem]:
    """What is wrong between the parts of a topology; parts that are malformed in themselves are passed over."""
    if not isinstance(data, Mapping):
        return []
    problems: list[Problem] = []
    problems += twice("name", texts_of(data, "sources", "name"))
    problems += twice("name", texts_of(data, "destinations", "name"))
    problems += twice("topic", [*texts_of(data, "sources", "topic"), *texts_of(data, "destinations", "topic")])
    problems += twice("key", [*texts_of(data, "traits", "key"), *texts_of(data, "audiences", "key")])
    problems += _identifiers(data.get("identity"))
    problems += _defined_once(data)
    problems += _destinations_known(data)
    problems += _topics_free(data)
    problems += _keys_free(data)
    problems += find_in_destinations(data)
    return problems


def _identifiers(identity: Any) -> list[Problem]:
    if not isinstance(identity, Mapping):
        return []
    places = [(f"identity.{path}", value) for path, value in texts_of(identity, "identifiers", "type")]
    problems = twice("type", places)
    for path, entry in entries_of(identity, "identifiers"):
        if entry.get("type") in BUILT_IN_IDENTIFIER_TYPES and entry.get("keys"):
            problems.append(
                Problem(
                    f"identity.{path}.keys", f"the built-in type {shown(entry['type'])} has fixed places, no 'keys'"
                )
            )
    return problems


def _defined_once(data: Mapping[str, Any]) -> list[Problem]:
    """Each trait and audience is defined, as a text or in YAML."""
    problems = []
    for section in ("traits", "audiences"):
        for path, entry in entries_of(data, section):
            forms = [key for key in ("definition", "where") if entry.get(key) is not None]
            if not forms and "definition" not in entry:
                problems.append(
                    Problem(f"{path}.definition", "'definition' is missing", "or say it in YAML, as 'where'")
                )
            elif not forms:
                problems.append(Problem(f"{path}.definition", "an empty value should be text"))
            elif len(forms) > 1:
                problems.append(
                    Problem(f"{path}.where", "'where' says again what 'definition' says", "keep one of them")
                )
    return problems


def _destinations_known(data: Mapping[str, Any]) -> list[Problem]:
    known = [name for _, name in texts_of(data, "destinations", "name")]
    problems = []
    for section in ("traits", "audiences"):
        for path, entry in entries_of(data, section):
            named = entry.get("destinations")
            if not isinstance(named, list | tuple):
                continue
            places = [(f"{path}.destinations[{n}]", name) for n, name in enumerate(named) if isinstance(name, str)]
            problems += [
                Problem(place, f"there is no destination {shown(name)}", nearest(name, known) or _choices(known))
                for place, name in places
                if name not in known
            ]
    return problems


def _choices(known: list[str]) -> str:
    return "there are: " + ", ".join(map(shown, known)) if known else "no destinations are declared"


def _topics_free(data: Mapping[str, Any]) -> list[Problem]:
    taken = {f"{data.get('space')}.{name}" for name in _INTERNAL_TOPICS}
    places = [*texts_of(data, "sources", "topic"), *texts_of(data, "destinations", "topic")]
    return [
        Problem(path, f"the topic {shown(topic)} is one of the space's own")
        for path, topic in places
        if topic in taken or topic.startswith(f"{data.get('space')}.webhook.")
    ]


def _keys_free(data: Mapping[str, Any]) -> list[Problem]:
    """A message holds the value of a trait or audience under its key, beside fields of its own."""
    places = [*texts_of(data, "traits", "key"), *texts_of(data, "audiences", "key")]
    return [
        Problem(path, f"the key {shown(key)} is a field of outgoing messages", "choose another key")
        for path, key in places
        if key in MESSAGE_FIELDS
    ]
