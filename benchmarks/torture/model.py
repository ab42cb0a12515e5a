"""A slow, obviously right model of the torture topology: a profile is the list of its events, computed anew each time.

It shares no code with the product. Profiles are known by the message id of the event that created them.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Person:
    """One profile: what it is called, its place in the order of creation, its ids and its events."""

    name: str
    place: int
    ids: list[tuple[str, str]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)

    def traits(self) -> dict[str, Any]:
        """Every trait's value, from all events."""
        told: dict[str, Any] = {}
        for event in sorted(self.events, key=lambda event: (event["timestamp"], event["messageId"])):
            told |= event.get("traits", {})
        orders = [event["properties"]["revenue"] for event in self.events if event.get("event") == "Order Completed"]
        # No value before the first match.
        return told | ({"orders": len(orders), "spend": sum(orders)} if orders else {})

    def audiences(self) -> set[str]:
        """What the profile is a member of."""
        traits = self.traits()
        known = any(kind in ("user_id", "email") for kind, _ in self.ids)
        found = {"buyers"} if traits.get("orders", 0) >= 1 else set()
        if known and traits.get("plan") == "pro":
            found |= {"pro", "big_pro"} if traits.get("spend", 0) >= 300 else {"pro"}
        return found


class Model:
    """Feed it the source records in the order of the identity log."""

    def __init__(self) -> None:
        self.people: dict[str, Person] = {}
        """Living profiles by the message id that created them."""
        self.owner: dict[tuple[str, str], Person] = {}
        self.seen: set[str] = set()
        self.names: list[str] = []
        """Of all profiles ever made, in order."""
        self.dead = 0
        self.duplicates = 0
        self.audience_changes: dict[tuple[str, str], list[tuple[str, str, str]]] = defaultdict(list)
        """(profile, audience) to (change, cause, message id), in order."""
        self.trait_changes: dict[tuple[str, str], list[tuple[Any, Any, str]]] = defaultdict(list)
        """(profile, trait) to (value, previous, message id), in order."""

    def take(self, raw: bytes) -> None:
        """One source record."""
        try:
            event = json.loads(raw)
        except ValueError:
            event = None
        if not isinstance(event, dict) or event.get("type") not in ("identify", "track", "page") or _no_name(event):
            self.dead += 1
            return
        if event["messageId"] in self.seen:
            self.duplicates += 1
            return
        self.seen.add(event["messageId"])
        ids = _ids(event)
        matched = sorted({self.owner[one].place for one in ids if one in self.owner})
        people = {person.place: person for one in ids if (person := self.owner.get(one)) is not None}
        if matched:
            home = people[matched[0]]
            self._absorb(home, [people[place] for place in matched[1:]], event["messageId"])
        else:
            home = Person(event["messageId"], len(self.names))
            self.names.append(home.name)
            self.people[home.name] = home
        before = home.traits(), home.audiences()
        for one in ids:
            if one not in self.owner:
                home.ids.append(one)
                self.owner[one] = home
        home.events.append(event)
        self._tell(home, before, "event", event["messageId"])

    def _absorb(self, home: Person, others: list[Person], message_id: str) -> None:
        if not others:
            return
        before = home.traits(), home.audiences()
        for other in others:
            for audience in other.audiences():
                self.audience_changes[other.name, audience].append(("exited", "absorbed", message_id))
            del self.people[other.name]
            home.ids += other.ids
            home.events += other.events
            for one in other.ids:
                self.owner[one] = home
        self._tell(home, before, "merge", message_id)

    def _tell(self, home: Person, before: tuple[dict[str, Any], set[str]], cause: str, message_id: str) -> None:
        traits, audiences = home.traits(), home.audiences()
        for key, value in traits.items():
            if value != before[0].get(key):
                self.trait_changes[home.name, key].append((value, before[0].get(key), message_id))
        for audience in audiences - before[1]:
            self.audience_changes[home.name, audience].append(("entered", cause, message_id))
        for audience in before[1] - audiences:
            self.audience_changes[home.name, audience].append(("exited", cause, message_id))


def _no_name(event: dict[str, Any]) -> bool:
    return event["type"] == "track" and "event" not in event


def _ids(event: dict[str, Any]) -> list[tuple[str, str]]:
    ids = []
    if "userId" in event:
        ids.append(("user_id", event["userId"]))
    if "email" in event.get("traits", {}):
        ids.append(("email", event["traits"]["email"]))
    return [*ids, ("anonymous_id", event["anonymousId"])]
