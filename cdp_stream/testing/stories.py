"""The events of the example topologies: seeded stories of a shared tablet, of a product by subscription, of shops.

The same story gives the same bytes. `python -m cdp_stream.testing.stories retail > topologies/retail/events.jsonl`
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

import orjson

from cdp_stream.model.time import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, Instant, format_instant, parse_instant

_FIRST: Final = ("Ana", "Ben", "Chloe", "Dev", "Elif", "Femi", "Grace", "Hugo", "Ines", "Jonas", "Kira", "Liam", "Mei")
_LAST: Final = ("Rossi", "Okafor", "Novak", "Silva", "Tanaka", "Weber", "Haddad", "Larsen", "Moreau", "Singh", "Abebe")


class Story:
    """Events at any time, given out in the order of their times."""

    def __init__(self, seed: int, start: str) -> None:
        self.draw = random.Random(seed)  # noqa: S311 - a story, no secrets
        self.start = parse_instant(start)
        self._told: list[tuple[Instant, int, dict[str, Any]]] = []

    def tell(self, at: Instant, call: str, **fields: Any) -> Instant:
        """One event; returns when it happened. `event` and `properties` may be given as `event` and keywords."""
        number = len(self._told)
        self._told.append((at, number, {"type": call, **fields}))
        return at

    def minutes(self, least: float, most: float) -> int:
        """Some time between so many minutes."""
        return round(self.draw.uniform(least, most) * MINUTE_MS)

    def lines(self, source: str, library: dict[str, str]) -> Iterator[bytes]:
        """The events as a library sends them. Some arrive twice, as they do where a network is bad."""
        for number, (at, _, event) in enumerate(sorted(self._told, key=lambda told: told[:2])):
            delay = self.draw.randint(20, 2 * SECOND_MS)
            context = {"library": library, **event.pop("context", {})}
            line = orjson.dumps(
                {
                    "messageId": f"{source}-{number:05d}",
                    **event,
                    "context": context,
                    "originalTimestamp": format_instant(at),
                    "sentAt": format_instant(at + delay - 15),
                    "receivedAt": format_instant(at + delay),
                }
            )
            yield line
            if self.draw.random() < 0.01:
                yield line


def _person(number: int) -> tuple[str, str]:
    first = _FIRST[number % len(_FIRST)]
    last = _LAST[(number * 7) % len(_LAST)]
    return f"{first} {last}", f"{first}.{last}.{number}@example.org".lower()


def _device(name: str) -> dict[str, Any]:
    return {"device": {"type": "android", "model": name}, "os": {"name": "Android", "version": "14"}}


def shared_device() -> Iterator[bytes]:
    """Tablets of a library: children sign in, learn, and hand the tablet on; one in three forgets to sign out."""
    story = Story(77, "2026-02-02T08:00:00Z")
    draw = story.draw
    subjects = ("reading", "maths", "music", "science")
    children = [f"child-{number}" for number in range(36)]
    for tablet in range(9):
        here = children[tablet * 4 : tablet * 4 + 4]
        context = _device(f"tab-{tablet}")
        for day in range(12):
            at = story.start + day * DAY_MS + story.minutes(0, 60)
            cookie = f"tablet-{tablet}-{day // 6}"
            for child in draw.sample(here, draw.randint(1, 3)):
                common = {"anonymousId": cookie, "context": context}
                at = story.tell(at + story.minutes(2, 20), "screen", name="Welcome", **common)
                number = children.index(child)
                name, _ = _person(number)
                if draw.random() < 0.8:
                    traits: dict[str, Any] = {"first_name": name.split(" ")[0], "age": 7 + number % 5}
                    if number % 3 == 0:
                        # Twins and siblings have one parent, and the parent one address.
                        traits["parent_email"] = _person(number // 2 * 2)[1]
                    at = story.tell(at + story.minutes(0.2, 1), "identify", userId=child, traits=traits, **common)
                    common = {**common, "userId": child}
                for _ in range(draw.randint(1, 4)):
                    properties = {"subject": draw.choice(subjects), "score": draw.randint(3, 10)}
                    at += story.minutes(3, 12)
                    story.tell(at, "track", event="Lesson Completed", properties=properties, **common)
                if "userId" in common and draw.random() < 0.67:
                    story.tell(at + story.minutes(0.5, 2), "track", event="Signed Out", **common)
    yield from story.lines("tab", {"name": "analytics-kotlin", "version": "1.16.3"})


def saas() -> Iterator[bytes]:
    """A product by subscription: trials, first projects, teams, work in bursts, payments, and some who fall silent."""
    story = Story(4242, "2026-03-02T07:00:00Z")
    draw = story.draw
    features = ("board", "timeline", "export", "search", "automation", "report")
    for number in range(60):
        name, email = _person(number)
        visitor, user, company = f"v-{number}", f"usr-{number}", f"org-{number // 4}"
        web = {
            "anonymousId": visitor,
            "context": {"page": {"path": "/pricing", "url": "https://app.example.org/pricing"}},
        }
        at = story.tell(story.start + story.minutes(0, 10 * 24 * 60), "page", name="Pricing", **web)
        if number % 5 == 4:
            continue
        at += story.minutes(2, 90)
        plan = draw.choice(("trial", "trial", "team"))
        traits = {"name": name, "email": email, "plan": plan, "trial_ends": format_instant(at + 14 * DAY_MS)}
        story.tell(at, "identify", userId=user, anonymousId=visitor, traits=traits)
        signed_up = story.tell(at + SECOND_MS, "track", event="Signed Up", userId=user, anonymousId=visitor)
        story.tell(
            at + 2 * SECOND_MS,
            "group",
            userId=user,
            groupId=company,
            traits={"name": f"Company {number // 4}", "employees": 10 + number // 4},
        )
        if draw.random() < 0.7:
            at = story.tell(
                signed_up + story.minutes(5, 3 * 24 * 60),
                "track",
                event="Project Created",
                userId=user,
                properties={"template": draw.choice(("blank", "roadmap", "launch"))},
            )
            for mate in range(draw.choice((0, 0, 1, 3))):
                properties: dict[str, Any] = {"email": f"mate-{number}-{mate}@example.org", "role": "editor"}
                story.tell(
                    at + story.minutes(1, 600), "track", event="Teammate Invited", userId=user, properties=properties
                )
        days = draw.choice((3, 9, 20))
        for day in range(days):
            if draw.random() < 0.45:
                at = signed_up + day * DAY_MS + story.minutes(10, 500)
                for _ in range(draw.randint(1, 6)):
                    properties = {"feature": draw.choice(features), "seconds": draw.randint(5, 900)}
                    at += story.minutes(0.5, 40)
                    story.tell(at, "track", event="Feature Used", userId=user, properties=properties)
        if plan == "team" or draw.random() < 0.3:
            at = signed_up + story.minutes(60, 13 * 24 * 60)
            properties = {"mrr": draw.choice((29, 29, 99)), "seats": draw.randint(1, 12)}
            story.tell(at, "track", event="Subscription Started", userId=user, properties=properties)
            if draw.random() < 0.25:
                cancelled = at + story.minutes(24 * 60, 8 * 24 * 60)
                story.tell(cancelled, "track", event="Subscription Cancelled", userId=user, properties={"mrr": 0})
    yield from story.lines("app", {"name": "analytics.js", "version": "2.1.0"})


def retail() -> Iterator[bytes]:
    """Shops and a web shop: a loyalty card at the till, an account on the web, and the day on which they meet."""
    story = Story(1701, "2026-05-04T06:00:00Z")
    draw = story.draw
    stores = ("harbour", "station", "market")
    goods = (("bread", 3.2), ("coffee", 8.9), ("wine", 14.5), ("cheese", 6.75), ("flowers", 19.0), ("pan", 54.0))
    for number in range(90):
        name, email = _person(number)
        card, visitor, user = f"card-{number:04d}", f"web-{number}", f"c-{number}"
        till = {
            "context": {"externalIds": [{"id": card, "type": "loyalty_id", "collection": "users", "encoding": "none"}]}
        }
        at = story.start + story.minutes(0, 5 * 24 * 60)
        home = draw.choice(stores)
        for _ in range(draw.choice((0, 2, 4, 9))):
            basket = draw.sample(goods, draw.randint(1, 4))
            properties = {
                "order_id": f"till-{number}-{at // HOUR_MS}",
                "revenue": round(sum(price for _, price in basket) * draw.choice((1, 1, 2)), 2),
                "store": home if draw.random() < 0.8 else draw.choice(stores),
                "products": [{"sku": sku, "price": price} for sku, price in basket],
            }
            story.tell(at, "track", event="Order Completed", properties=properties, **till)
            at += story.minutes(20 * 60, 6 * 24 * 60)
        if number % 3 == 2:
            continue
        at = story.start + story.minutes(0, 12 * 24 * 60)
        for _ in range(draw.randint(1, 3)):
            sku, price = draw.choice(goods)
            at += story.minutes(2, 3 * 24 * 60)
            viewed = {"sku": sku, "price": price}
            story.tell(at, "track", event="Product Viewed", anonymousId=visitor, properties=viewed)
            if draw.random() < 0.6:
                story.tell(at + MINUTE_MS, "track", event="Product Added", anonymousId=visitor, properties=viewed)
        if draw.random() < 0.75:
            at += story.minutes(1, 60)
            traits = {"email": email, "name": name, "newsletter": draw.random() < 0.6}
            story.tell(at, "identify", userId=user, anonymousId=visitor, traits=traits)
            if draw.random() < 0.5:
                # The card is entered on the web: till and account are one person from here on.
                story.tell(at + 5 * MINUTE_MS, "identify", userId=user, traits={"loyalty_id": card})
            if draw.random() < 0.6:
                revenue = {"order_id": f"web-{number}", "revenue": round(draw.uniform(9, 140), 2), "store": "web"}
                paid = at + story.minutes(6, 2 * 24 * 60)
                story.tell(paid, "track", event="Order Completed", userId=user, properties=revenue)
    yield from story.lines("shop", {"name": "analytics-python", "version": "2.3.2"})


STORIES: Final[dict[str, Callable[[], Iterator[bytes]]]] = {
    "shared_device": shared_device,
    "saas": saas,
    "retail": retail,
}
"""Topology folder to the story that its events tell."""

if __name__ == "__main__":
    for told in STORIES[sys.argv[1]]():
        sys.stdout.buffer.write(told + b"\n")
