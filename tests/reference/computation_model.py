"""A slow, plain model of traits and audiences: everything anew from the whole list of events, at one instant.

It reads the parsed definition and nothing else of the engine: no states, no candidates, no due times.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

import orjson

from cdp_stream.language.nodes import (
    And,
    Between,
    Comparison,
    DateTest,
    Exists,
    Holds,
    Literal,
    Membership,
    Not,
    Or,
    PropertyRef,
    Reduction,
    Session,
    SpanTest,
    TextTest,
    TraitRef,
    Within,
)
from cdp_stream.language.parse import parse_definition


@dataclass(frozen=True)
class Happened:
    """One event: when, its message id, its name and properties, and custom traits that it sets."""

    time: int
    message_id: str
    name: str | None = None
    properties: dict[str, Any] = field(default_factory=dict)
    traits: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Computed:
    """A declared trait or audience."""

    key: str
    definition: str
    is_audience: bool
    include_anonymous: bool


class World:
    """All that is known of one person at one instant."""

    def __init__(self, declared: list[Computed], events: list[Happened], now: int, *, identified: bool) -> None:
        self.declared = {one.key: one for one in declared}
        self.events = sorted(events, key=lambda event: (event.time, event.message_id))
        self.now = now
        self.identified = identified

    def value(self, key: str) -> Any:
        """The value of a declared trait, or whether an audience has the person as a member."""
        one = self.declared[key]
        definition = parse_definition(one.definition, key)
        body = definition.body
        eligible = self.identified or one.include_anonymous
        if not one.is_audience:
            return self.read(body, None, in_condition=False) if eligible else None
        return eligible and self.holds(Holds(body) if isinstance(body, TraitRef) else body, None)

    def read(self, scalar: Any, around: tuple[Happened, ...] | None, *, in_condition: bool = True) -> Any:
        """The value of a scalar; `around`: the events of the `where()`s around it, the innermost last."""
        match scalar:
            case Literal(value):
                return value
            case TraitRef(path):
                return self._trait(path)
            case PropertyRef(path, parent):
                return _find(around[-2 if parent else -1].properties, path)
            case Reduction():
                found = self._reduce(scalar, around)
                if found is None and in_condition and (scalar.reducer == "count" or scalar.counted):
                    return 0
                return found
        raise AssertionError(scalar)

    def _trait(self, path: tuple[str, ...]) -> Any:
        if path[0] in self.declared:
            return _find({path[0]: self.value(path[0])}, path)
        latest = None
        for event in self.events:
            latest = event.traits.get(path[0], latest) if path[0] in event.traits else latest
        return _find({path[0]: latest}, path)

    def _reduce(self, reduction: Reduction, around: tuple[Happened, ...] | None) -> Any:
        static, later = [], []
        if reduction.where is not None:
            for conjunct in reduction.where.operands if isinstance(reduction.where, And) else [reduction.where]:
                (later if _is_later(conjunct) else static).append(conjunct)
        outer = around or ()
        events = [event for event in self.events if event.name == reduction.event]
        events = [event for event in events if all(self.holds(test, (*outer, event)) for test in static)]
        window = reduction.window
        if reduction.path is not None and not isinstance(window, Session):
            events = [event for event in events if _values(event, reduction)]
        if around is not None:
            start = around[-1].time
            end = start + reduction.within_parent if reduction.within_parent is not None else None
            events = [event for event in events if event.time > start and (end is None or event.time < end)]
        ever, near = list(events), 0
        if isinstance(window, Within | Between):
            near = window.near if isinstance(window, Between) else 0
            events = [event for event in events if self.now - window.far < event.time <= self.now - near]
        events = [event for event in events if all(self.holds(test, (*outer, event)) for test in later)]
        if isinstance(window, Session):
            # A session is a burst of events; only then does it matter which of them have a value.
            events = _last_session(events, window.gap, self.now)
            events = [event for event in events if reduction.path is None or _values(event, reduction)]
        if events:
            return _fold(events, reduction)
        if around is None and not any(event.time + near <= self.now for event in ever):
            return None
        return 0 if reduction.reducer == "count" or reduction.counted else [] if reduction.reducer == "unique" else None

    def holds(self, condition: Any, around: tuple[Happened, ...] | None) -> bool:
        """Whether a condition is true."""
        match condition:
            case And(operands):
                return all(self.holds(operand, around) for operand in operands)
            case Or(operands):
                return any(self.holds(operand, around) for operand in operands)
            case Not(operand):
                return not self.holds(operand, around)
        left = self.read(condition.scalar if isinstance(condition, Holds) else condition.left, around)
        match condition:
            case Holds():
                return left is True
            case Exists(_, negated):
                return (left is None) is negated
            case Comparison(_, operator, right):
                return _compare(left, operator, self.read(right, around))
            case TextTest(_, operator, options):
                parts = [self.read(option, around) for option in options]
                some = left is not None and any(
                    {"starts_with": str(left).startswith, "ends_with": str(left).endswith}.get(
                        operator, str(left).__contains__
                    )(str(part))
                    for part in parts
                    if part is not None
                )
                return not some if operator == "omits" else some
            case Membership(_, options, negated):
                some = any(_compare(left, "=", self.read(option, around)) for option in options)
                return not some if negated else some
            case DateTest(_, operator, instant):
                date = _date(left)
                return date is not None and (date < instant if operator == "before_date" else date > instant)
            case SpanTest(_, operator, span):
                date, now = _date(left), self.now
                return (
                    date is not None
                    and {
                        "within_last": now - span <= date <= now,
                        "within_next": now <= date <= now + span,
                        "before_last": date <= now - span,
                        "after_next": date >= now + span,
                    }[operator]
                )
        raise AssertionError(condition)


def _is_later(condition: Any) -> bool:
    text = repr(condition)
    return any(word in text for word in ("TraitRef", "Reduction", "SpanTest", "parent=True"))


def _find(value: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _date(value: Any) -> int | None:
    if not isinstance(value, str) or "T" not in value or not value.endswith("Z"):
        return None
    return round(datetime.fromisoformat(value).timestamp() * 1000)


def _compare(left: Any, operator: str, right: Any) -> bool:
    if left is None or right is None:
        return False
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in (left, right))
    if not numbers:
        left, right = (one if isinstance(one, str) else orjson.dumps(one).decode() for one in (left, right))
    return {
        "=": left == right, "!=": left != right, "<": left < right,
        "<=": left <= right, ">": left > right, ">=": left >= right,
    }[operator]  # fmt: skip


def _values(event: Happened, reduction: Reduction) -> list[Any]:
    path = reduction.path
    if "$" in path:
        place = path.index("$")
        array = _find(event.properties, path[:place])
        found = [_find(one, path[place + 1 :]) for one in array] if isinstance(array, list) else []
    else:
        found = [_find(event.properties, path)]
    found = [one for one in found if one is not None]
    if reduction.reducer in ("sum", "avg") or (reduction.reducer in ("min", "max") and reduction.value_type is None):
        found = [one for one in found if isinstance(one, int | float) and not isinstance(one, bool)]
    return found


def _fold(events: list[Happened], reduction: Reduction) -> Any:
    if reduction.reducer == "count":
        return len(events)
    values = [value for event in events for value in _values(event, reduction)]
    match reduction.reducer:
        case "sum" | "avg":
            total = sum((Decimal(repr(value)) for value in values), Decimal(0))
            return _plain(total / len(values) if reduction.reducer == "avg" else total)
        case "min" | "max":
            if reduction.value_type == "string":
                values = [str(value) for value in values]
            return (min if reduction.reducer == "min" else max)(values)
        case "first" | "last":
            return values[0 if reduction.reducer == "first" else -1]
        case "unique":
            return len(set(values)) if reduction.counted else sorted(set(values), key=str)
        case "mode":
            counts = Counter(map(str, values))
            most = max(counts.values())
            return min(text for text in counts if counts[text] == most) if most >= reduction.minimum else None
    raise AssertionError(reduction)


def _plain(number: Decimal) -> int | float:
    return int(number) if number == number.to_integral_value() else float(number)


def _last_session(events: list[Happened], gap: int, now: int) -> list[Happened]:
    if not events or events[-1].time + gap <= now:
        return []
    start = len(events) - 1
    while start and events[start].time - events[start - 1].time < gap:
        start -= 1
    return events[start:]
