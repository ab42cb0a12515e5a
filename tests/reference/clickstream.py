"""Six months of a made-up shop: random people, what they do, and who turns out to be whom."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from person import (
    ADD,
    DAY,
    HOUR,
    MINUTE,
    MONTHS,
    ORDER,
    PAGE,
    REFUND,
    SCREEN,
    START,
    VIEW,
    Act,
    Person,
    Said,
    iso,
)


@dataclass
class Arrival:
    """One source record; `done` is None for a message that had come before."""

    received: int
    event: dict[str, Any]
    names: list[str]
    done: Act | Said | None


def arrivals(random: Random, people: int, events: int) -> Iterator[Arrival]:
    """What some people do in six months, in order of arrival: late at times, twice at times, by skewed clocks at times."""
    planned = []
    for number in range(people):
        time = START + random.randrange(150 * DAY)
        devices = [f"d{number}-{device}" for device in range(random.randint(1, 4))]
        known = random.random() < 0.7
        for _ in range(int(random.expovariate(people / events)) + 3):
            time += random.choice(
                [0, 1, HOUR, random.randrange(5 * MINUTE), random.randrange(DAY), random.randrange(9 * DAY)]
            )
            if time > START + MONTHS:
                break
            late = random.choice([0] * 12 + [1, random.randrange(HOUR), random.randrange(40 * DAY)])
            planned.append((time + late, time, number, devices, known))
    recent: list[Arrival] = []
    for place, (received, time, number, devices, known) in enumerate(sorted(planned)):
        message_id = f"m{random.randrange(10**6):06d}-{place}"
        event, names = _who(random, number, random.choice(devices), known)
        event |= {"messageId": message_id} | _when(random, time, received)
        done = (
            _said(random, event, time, message_id) if random.random() < 0.12 else _act(random, event, time, message_id)
        )
        arrival = Arrival(received, event, names, done)
        recent = [*recent[-19:], arrival]
        yield arrival
        again = random.choice(recent)
        if random.random() < 0.04 and received - again.received < 6 * DAY:
            yield Arrival(received, again.event, again.names, None)


def _who(random: Random, number: int, device: str, known: bool) -> tuple[dict[str, Any], list[str]]:
    user, email = f"u{number}", f"e{number}@example.org"
    way = random.random() if known else 1.0
    if way < 0.35:
        event: dict[str, Any] = {"userId": user}
        names = [f"user_id:{user}"]
    elif way < 0.43:
        event = {"context": {"traits": {"email": email}}}
        names = [f"email:{email}"]
    else:
        return {"anonymousId": device}, [f"anonymous_id:{device}"]
    if random.random() < 0.3:
        event["anonymousId"] = device
        names.append(f"anonymous_id:{device}")
    return event, names


def _when(random: Random, time: int, received: int) -> dict[str, str]:
    if random.random() > 0.1:
        return {"timestamp": iso(time)}
    skewed = time + random.randrange(-2 * DAY, 2 * DAY)
    return {"originalTimestamp": iso(skewed), "sentAt": iso(skewed + received - time), "receivedAt": iso(received)}


def _said(random: Random, event: dict[str, Any], time: int, message_id: str) -> Said:
    traits: dict[str, Any] = random.choice(
        [
            {"plan": random.choice(["gold", "free", "platinum", None, ""])},
            {"renewal": random.choice([iso(time + random.randrange(-10 * DAY, 20 * DAY)), None, "2025-03-01"])},
            {"address": {"city": random.choice(["Oslo", "Bergen", "oslo", None])}},
            {"goal": random.choice([100, 250.5, 1000])},
        ]
    )
    event |= {"type": "identify", "traits": traits}
    return Said(time, message_id, traits)


def _act(random: Random, event: dict[str, Any], time: int, message_id: str) -> Act:
    kind = random.random()
    if kind < 0.35:
        name, url = (
            random.choice(["Home", "Cart", None]),
            random.choice(["https://shop.example/blog/1", "https://shop.example/"]),
        )
        event.setdefault("context", {})["page"] = {"url": url}
        event |= {"type": "page", "properties": {"depth": 1}} | ({"name": name} if name else {})
        return Act(time, message_id, PAGE, {"depth": 1} | ({"page_name": name} if name else {}), url)
    if kind < 0.4:
        name = random.choice(["Main", "Search"])
        event |= {"type": "screen", "name": name}
        return Act(time, message_id, SCREEN, {"screen_name": name})
    name = random.choice([VIEW] * 5 + [ADD] * 3 + [ORDER] * 3 + [REFUND, "Other"])
    sku = random.choice(["s1", "s2", "s3", None])
    properties: dict[str, Any] = {
        VIEW: {"category": random.choice(["shoes", "hats", "bags", "Zed", "ämne", None, 7, "8", True]), "sku": sku},
        ADD: {"sku": sku},
        ORDER: {
            "oid": random.choice("abcde"),
            "total": random.choice([10, 99.99, 100, 0.1, 0.2, 250, 1000.5, "300", None, 12]),
            "items": [{"n": random.randint(1, 3)} for _ in range(random.randint(0, 3))],
            "eta": random.choice([None, iso(time + random.randrange(10 * DAY))]),
        },
        REFUND: {"oid": random.choice("abcde")},
    }.get(name, {})
    properties = {key: value for key, value in properties.items() if value is not None or random.random() < 0.5}
    event |= {"type": "track", "event": name, "properties": properties}
    return Act(time, message_id, name, properties)


class Town:
    """Who is who, by whatever identifiers came together, and what each has done so far."""

    def __init__(self) -> None:
        self.same: dict[str, set[str]] = {}
        self.done: list[tuple[str, Act | Said]] = []

    def take(self, arrival: Arrival) -> None:
        if arrival.done is None:
            return
        whole = set().union(*(self.same.get(name, {name}) for name in arrival.names))
        self.same.update(dict.fromkeys(whole, whole))
        self.done.append((arrival.names[0], arrival.done))

    def everyone(self) -> list[set[str]]:
        return list({id(names): names for names in self.same.values()}.values())

    def person(self, names: set[str], now: int) -> Person:
        known = any(not name.startswith("anonymous_id:") for name in names)
        return Person([done for name, done in self.done if name in names], now, known=known)
