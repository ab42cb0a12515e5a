"""What is known of one person of the made-up shop, and the truth about each definition by counting anew.

The truth of a definition is a Python function beside its text. Neither the parser nor anything else of the engine is used,
so that a definition that is read wrongly shows.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
START = (datetime(2025, 1, 1, tzinfo=UTC) - EPOCH) // timedelta(milliseconds=1)
MONTHS = 181 * DAY
END = START + 400 * DAY
"""Every window has passed by then."""

VIEW, ADD, ORDER, REFUND = "Product Viewed", "Product Added", "Order Completed", "Refunded"
PAGE, SCREEN = "Page Viewed", "Screen Viewed"


def iso(instant: int) -> str:
    return (EPOCH + timedelta(milliseconds=instant)).strftime("%Y-%m-%dT%H:%M:%S.") + f"{instant % 1000:03d}Z"


def instant_of(text: Any) -> int | None:
    """The instant of a full timestamp, None for anything else; the stream has no others than these two forms."""
    if not isinstance(text, str) or not text.endswith("Z"):
        return None
    return (datetime.fromisoformat(text) - EPOCH) // timedelta(milliseconds=1)


@dataclass
class Act:
    """One track, page or screen event."""

    time: int
    message_id: str
    name: str
    properties: dict[str, Any]
    url: str = ""


@dataclass
class Said:
    """Custom traits of one identify call."""

    time: int
    message_id: str
    traits: dict[str, Any]


class Person:
    """All that is known of one person at one instant; `person[key]` is the truth about a definition."""

    def __init__(self, done: Iterable[Act | Said], now: int, *, known: bool) -> None:
        ordered = sorted(done, key=lambda one: (one.time, one.message_id))
        self.acts = [one for one in ordered if isinstance(one, Act)]
        self.custom: dict[str, Any] = {}
        for one in ordered:
            if isinstance(one, Said):
                self.custom |= one.traits
        self.now = now
        self.known = known
        self.found: dict[str, Any] = {}

    def __getitem__(self, key: str) -> Any:
        if key not in self.found:
            truth = TRUTHS[key]
            nobody = False if truth.is_audience else None
            self.found[key] = truth.of(self) if self.known or truth.include_anonymous else nobody
        return self.found[key]

    def since(self, instant: int) -> Person:
        """The same person without the acts before: as an audience sees it that takes no history."""
        other = Person([act for act in self.acts if act.time >= instant], self.now, known=self.known)
        other.custom, other.found = self.custom, {key: self[key] for key in TRUTHS}
        return other

    def acts_of(self, name: str, where: Callable[[Act], bool] = lambda _: True) -> list[Act]:
        return [act for act in self.acts if act.name == name and where(act)]

    def within(self, acts: list[Act], far: int, near: int = 0) -> list[Act]:
        return [act for act in acts if self.now - far < act.time <= self.now - near]

    def after(self, parent: Act, name: str, span: int, where: Callable[[Act], bool] = lambda _: True) -> list[Act]:
        return [act for act in self.acts_of(name, where) if parent.time < act.time < parent.time + span]

    def session(self, acts: list[Act], gap: int) -> list[Act]:
        if not acts or acts[-1].time + gap <= self.now:
            return []
        first = len(acts) - 1
        while first and acts[first].time - acts[first - 1].time < gap:
            first -= 1
        return acts[first:]


@dataclass(frozen=True)
class Truth:
    text: str
    of: Callable[[Person], Any]
    include_anonymous: bool
    is_audience: bool
    reads: tuple[str, ...] = ()


TRUTHS: dict[str, Truth] = {}


def trait(key: str, text: str, of: Callable[[Person], Any], *, anonymous: bool = True, reads: str = "") -> None:
    TRUTHS[key] = Truth(text, of, anonymous, is_audience=False, reads=tuple(reads.split()))


def audience(key: str, text: str, of: Callable[[Person], bool], *, anonymous: bool = False, reads: str = "") -> None:
    TRUTHS[key] = Truth(text, of, anonymous, is_audience=True, reads=tuple(reads.split()))


def values(acts: list[Act], key: str) -> list[Any]:
    return [act.properties[key] for act in acts if act.properties.get(key) is not None]


def numbers(acts: list[Act], key: str) -> list[float]:
    return [one for one in values(acts, key) if isinstance(one, int | float) and not isinstance(one, bool)]


def decimal(number: Any) -> Fraction:
    return Fraction(number if isinstance(number, str) else repr(number))


def plain(number: Fraction) -> int | float:
    return int(number) if number.denominator == 1 else float(number)


def total(some: list[Any]) -> int | float | None:
    return plain(sum(map(decimal, some), Fraction(0))) if some else None


def mean(some: list[Any]) -> int | float | None:
    return plain(sum(map(decimal, some), Fraction(0)) / len(some)) if some else None


def text_of(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def most_frequent(some: list[Any], minimum: int = 2) -> str | None:
    counts = Counter(map(text_of, some))
    most = max(counts.values(), default=0)
    return min(text for text in counts if counts[text] == most) if most >= minimum else None


def distinct(some: list[Any]) -> list[Any]:
    return [value for _, value in sorted({text_of(value): value for value in some}.items())]


def counted(acts_in: list[Act], acts_ever: list[Act]) -> int | None:
    """A count is nothing before its first event, and 0 when the last has left."""
    return len(acts_in) if acts_ever else None


def is_above(value: Any, other: Any) -> bool:
    return value is not None and other is not None and decimal(value) > decimal(other)
