"""Seeded people with their devices, and the events that they cause: demo data, workloads, test streams.

The same seed gives the same bytes. Visitors browse anonymously, some sign up and buy; devices are shared, cookies are
lost, messages are delivered twice, and a few records are broken.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from cdp_stream.model.time import HOUR_MS, MINUTE_MS, SECOND_MS, Instant, format_instant

_FIRST: Final = ("Ana", "Ben", "Chloe", "Dev", "Elif", "Femi", "Grace", "Hugo", "Ines", "Jonas", "Kira", "Liam", "Mei")
_LAST: Final = ("Rossi", "Okafor", "Novak", "Silva", "Tanaka", "Weber", "Haddad", "Larsen", "Moreau", "Singh")
_PRODUCTS: Final = (
    ("mug", 12.5, "kitchen"),
    ("lamp", 49.9, "home"),
    ("chair", 129.0, "home"),
    ("headset", 89.95, "tech"),
    ("monitor", 249.0, "tech"),
    ("notebook", 4.2, "office"),
    ("pen set", 9.99, "office"),
    ("backpack", 64.5, "travel"),
)
_PLANS: Final = ("free", "pro", "enterprise")
_PAGES: Final = ("Home", "Search", "Product", "Cart", "Help")


@dataclass(slots=True)
class Person:
    """One person: what identifies them, and the devices they use."""

    number: int
    first: str
    last: str
    company: str
    loyal: bool
    mobile: str | None
    town: str = ""
    """Begins each of their ids; people of different towns share nothing."""
    cookies: int = 0
    signed_up: bool = False
    cart: list[tuple[str, float, str]] = field(default_factory=list)

    @property
    def user_id(self) -> str:
        """The id in the shop's database."""
        return f"{self.town}u-{self.number}"

    @property
    def email(self) -> str:
        """An address under a reserved domain."""
        return f"{self.town}{self.first}.{self.last}.{self.number}@example.org".lower()

    @property
    def anonymous_id(self) -> str:
        """The cookie of the present browser."""
        return f"{self.town}anon-{self.number}-{self.cookies}"


class People:
    """A population and its clickstream."""

    def __init__(  # noqa: PLR0913 - the shape of a population
        self,
        seed: int,
        people: int,
        *,
        duplicates: float = 0.01,
        malformed: float = 0.005,
        start: Instant = 1_767_225_600_000,
        step_ms: int = 20 * SECOND_MS,
        town: str = "",
    ) -> None:
        """`duplicates`, `malformed`: shares of records. `step_ms`: mean time between two events. `town` begins every id:
        populations of different towns can be mixed in any order without touching each other's profiles.
        """
        self._town = town
        self._random = random.Random(seed)  # noqa: S311 - data, not secrets
        self._people = [self._person(number) for number in range(people)]
        self._weights = [1 / (number + 3) ** 0.6 for number in range(people)]
        self._duplicates = duplicates
        self._malformed = malformed
        self._now = start
        self._step_ms = step_ms
        self._count = 0

    def _person(self, number: int) -> Person:
        draw = self._random
        return Person(
            number,
            draw.choice(_FIRST),
            draw.choice(_LAST),
            f"{self._town}company-{draw.randrange(20)}",
            loyal=draw.random() < 0.3,
            mobile=self._device(number),
            town=self._town,
        )

    def _device(self, number: int) -> str | None:
        """Two in five have a phone; some of them use a tablet that lies in a shop, as others do."""
        if self._random.random() >= 0.4:
            return None
        name = f"tablet-{number % 3}" if self._random.random() < 0.15 else f"device-{number}"
        return self._town + name

    def lines(self, count: int) -> Iterator[bytes]:
        """`count` records as JSON lines, in the order in which they arrive."""
        recent: list[bytes] = []
        draw = self._random
        picked = draw.choices(self._people, self._weights, k=count)
        for person in picked:
            chance = draw.random()
            if recent and chance < self._duplicates:
                yield draw.choice(recent)
                continue
            if chance > 1 - self._malformed:
                yield self._broken()
                continue
            line = orjson.dumps(self._event(person))
            recent = [*recent[-49:], line]
            yield line

    def _broken(self) -> bytes:
        return self._random.choice(
            (
                b'{"type": "track", "userId": "u-1"',
                b'{"type": "track", "userId": "u-1", "messageId": "no-event"}',
                b'{"type": "purchase", "userId": "u-2"}',
                b'{"type": "identify", "userId": {"id": 7}}',
                b'["not", "an", "object"]',
                b'{"type": "group", "userId": "u-3", "groupId": ""}',
            )
        )

    def _event(self, person: Person) -> dict[str, Any]:
        self._now += self._random.randrange(1, 2 * self._step_ms)
        self._count += 1
        draw = self._random.random()
        if draw < 0.02:
            person.cookies += 1
        if not person.signed_up and draw > 0.88:
            person.signed_up = True
            return self._identify(person)
        if person.signed_up and 0.84 < draw <= 0.88:
            return self._identify(person)
        if person.signed_up and 0.82 < draw <= 0.84:
            return self._call(person, "group", groupId=person.company, traits=self._company(person))
        if draw < 0.35:
            page = self._random.choice(_PAGES)
            url = f"https://shop.example.org/{page.lower()}"
            return self._call(person, "page", name=page, properties={"url": url, "title": page})
        if person.mobile is not None and draw < 0.45:
            return self._call(person, "screen", name=self._random.choice(_PAGES), properties={"tab": "shop"})
        return self._shop(person)

    def _shop(self, person: Person) -> dict[str, Any]:
        draw = self._random
        if person.cart and person.signed_up and draw.random() < 0.35:
            items, person.cart = person.cart, []
            revenue = round(sum(price for _, price, _ in items), 2)
            properties = {
                "order_id": f"o-{self._count}",
                "revenue": revenue,
                "currency": "EUR",
                "items": len(items),
                "category": items[0][2],
            }
            return self._call(person, "track", event="Order Completed", properties=properties)
        name, price, category = draw.choice(_PRODUCTS)
        properties = {"product": name, "price": price, "category": category}
        if draw.random() < 0.4:
            person.cart.append((name, price, category))
            return self._call(person, "track", event="Product Added", properties=properties)
        return self._call(person, "track", event="Product Viewed", properties=properties)

    def _identify(self, person: Person) -> dict[str, Any]:
        traits: dict[str, Any] = {
            "email": person.email,
            "first_name": person.first,
            "last_name": person.last,
            "plan": self._random.choice(_PLANS),
        }
        if person.loyal:
            traits["loyalty_id"] = f"{person.town}L-{person.number}"
        return self._call(person, "identify", traits=traits)

    def _company(self, person: Person) -> dict[str, Any]:
        return {"name": person.company.title(), "plan": self._random.choice(_PLANS)}

    def _call(self, person: Person, call: str, **own: Any) -> dict[str, Any]:
        delay = self._random.randrange(20, 3 * SECOND_MS)
        skew = self._random.choice((0, 0, 0, -MINUTE_MS, 5 * MINUTE_MS, HOUR_MS))
        event: dict[str, Any] = {
            "type": call,
            "messageId": f"{self._town}m-{self._count}",
            "anonymousId": person.anonymous_id,
            **own,
        }
        if person.signed_up:
            event["userId"] = person.user_id
        if person.mobile is not None and call in ("screen", "track") and self._random.random() < 0.5:
            event["context"] = {"device": {"type": "ios", "id": person.mobile}}
        # The device's clock is wrong by `skew`; the formula takes that out again.
        event["originalTimestamp"] = format_instant(self._now - delay + skew)
        event["sentAt"] = format_instant(self._now + skew)
        event["receivedAt"] = format_instant(self._now)
        return event
