"""A slow, obviously right model of the torture topology: a profile is the list of its events, computed anew each time.

It shares no code with the product. Profiles are known by the message id of the event that created them. Time passes for
a profile when something happens to it, and at the end for all: what is due fires at its own instant, whoever notices.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from torture.load import MODELLED, VIEWS_MIN, WINDOW_S

_WINDOW_MS = WINDOW_S * 1000
State = tuple[dict[str, Any], set[str]]
"""Traits, and the audiences that the profile is in."""


@dataclass
class Person:
    """One profile: what it is called, its place in the order of creation, its ids and its events."""

    name: str
    place: int
    ids: list[tuple[str, str]] = field(default_factory=list)
    events: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    """With their times, which are never later than the stream's."""
    now: int = 0
    """Until when it has been looked at."""
    told: State = field(default_factory=lambda: ({}, set()))

    def edge(self) -> int | None:
        """The next instant at which an order leaves the window."""
        edges = (time + _WINDOW_MS for time, event in self.events if event.get("event") == "Order Completed")
        return min((edge for edge in edges if edge > self.now), default=None)

    def state(self, *, with_viewers: bool) -> State:
        """Every trait's value and every membership, from all events."""
        traits: dict[str, Any] = {}
        for _, event in sorted(self.events, key=lambda one: (one[0], one[1]["messageId"])):
            traits |= {key: value for key, value in event.get("traits", {}).items() if key in MODELLED}
        orders = [(time, event) for time, event in self.events if event.get("event") == "Order Completed"]
        lately = [event for time, event in orders if time + _WINDOW_MS > self.now]
        if orders:
            # No value before the first match.
            traits |= {"orders": len(orders), "spend": _revenue(event for _, event in orders)}
        if lately:
            traits["lately"] = _revenue(lately)
        found = {"buyers"} if orders else set()
        if len(lately) >= 2:
            found.add("active")
        if any(kind in ("user_id", "email") for kind, _ in self.ids):
            if traits.get("plan") == "pro":
                found |= {"pro", "big_pro"} if traits.get("spend", 0) >= 300 else {"pro"}
            if with_viewers and sum(event["type"] == "page" for _, event in self.events) >= VIEWS_MIN:
                found.add("viewers")
        return traits, found


class Model:
    """Feed it the entries of the identity log and their source records in order; then `end`."""

    def __init__(self) -> None:
        self.people: dict[str, Person] = {}
        """Living profiles by the message id that created them."""
        self.owner: dict[tuple[str, str], Person] = {}
        self.seen: set[str] = set()
        self.names: list[str] = []
        """Of all profiles ever made, in order."""
        self.now = 0
        self.dead = 0
        self.duplicates = 0
        self.resyncs = 0
        self.resynced: set[str] = set()
        """Members that the destination was to be told of again."""
        self.audience_changes: dict[tuple[str, str], list[tuple[str, str, str]]] = defaultdict(list)
        """(profile, audience) to (change, cause, message id), in order; no message has to do with time or a topology."""
        self.trait_changes: dict[tuple[str, str], list[tuple[Any, Any, str]]] = defaultdict(list)
        """(profile, trait) to (value, previous, message id), in order."""
        self._with_viewers = False

    def pass_time(self, to: int) -> None:
        """The stream's time is this, unless it was later already."""
        self.now = max(self.now, to)

    def put_in_force_second(self) -> None:
        """The second version, with the audience that the first one has not; what is due before fires under the first."""
        for person in self.people.values():
            self._age(person)
        self._with_viewers = True
        for person in self.people.values():
            self._tell(person, "topology", "")

    def resync(self, audience: str) -> None:
        """A destination is to be told of all members again."""
        self.resyncs += 1
        for person in self.people.values():
            self._age(person)
        self.resynced |= self.members(audience)

    def members(self, audience: str) -> set[str]:
        """The names of those who are in an audience, as things were told last."""
        return {person.name for person in self.people.values() if audience in person.told[1]}

    def end(self) -> None:
        """All windows have expired."""
        self.now += 10 * _WINDOW_MS
        for person in self.people.values():
            self._age(person)

    def take(self, raw: bytes) -> None:
        """One source record; `pass_time` before."""
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
        people = {person.place: person for one in ids if (person := self.owner.get(one)) is not None}
        if people:
            home, *others = (people[place] for place in sorted(people))
            self._age(home)
            self._absorb(home, others, event["messageId"])
        else:
            home = Person(event["messageId"], len(self.names), now=self.now)
            self.names.append(home.name)
            self.people[home.name] = home
        for one in ids:
            if one not in self.owner:
                home.ids.append(one)
                self.owner[one] = home
        time = int(datetime.fromisoformat(event["timestamp"]).timestamp() * 1000 + 0.5)
        home.events.append((min(time, self.now), event))
        self._tell(home, "event", event["messageId"])

    def _age(self, person: Person) -> None:
        while (edge := person.edge()) is not None and edge <= self.now:
            person.now = edge
            self._tell(person, "time", "")
        person.now = self.now

    def _absorb(self, home: Person, others: list[Person], message_id: str) -> None:
        if not others:
            return
        for other in others:
            self._age(other)
            for audience in other.told[1]:
                self.audience_changes[other.name, audience].append(("exited", "absorbed", message_id))
            del self.people[other.name]
            home.ids += other.ids
            home.events += other.events
            for one in other.ids:
                self.owner[one] = home
        self._tell(home, "merge", message_id)

    def _tell(self, person: Person, cause: str, message_id: str) -> None:
        traits_before, before = person.told
        traits, audiences = person.state(with_viewers=self._with_viewers)
        for key in {*traits, *traits_before}:
            if traits.get(key) != traits_before.get(key):
                change = traits.get(key), traits_before.get(key), message_id
                self.trait_changes[person.name, key].append(change)
        for audience in audiences - before:
            self.audience_changes[person.name, audience].append(("entered", cause, message_id))
        for audience in before - audiences:
            self.audience_changes[person.name, audience].append(("exited", cause, message_id))
        person.told = traits, audiences


def _revenue(orders: Any) -> int:
    return sum(int(event["properties"]["revenue"]) for event in orders)


def _no_name(event: dict[str, Any]) -> bool:
    return event["type"] == "track" and "event" not in event


def _ids(event: dict[str, Any]) -> list[tuple[str, str]]:
    ids = []
    if "userId" in event:
        ids.append(("user_id", event["userId"]))
    if "email" in event.get("traits", {}):
        ids.append(("email", event["traits"]["email"]))
    return [*ids, ("anonymous_id", event["anonymousId"])]
