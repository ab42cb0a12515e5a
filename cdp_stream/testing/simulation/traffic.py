"""The records that simulated people send: merges and chains of them, limits that break, late, doubled and broken ones."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import orjson
from msgspec import Struct

from cdp_stream.model.time import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, Instant, format_instant, parse_instant
from cdp_stream.testing.people import People
from cdp_stream.testing.simulation.plan import SOURCES, Plan

_BROKEN = (
    b"",
    b"\xff\xfe",
    b"null",
    b'{"type": "identify"}',
    b'{"type": "track", "event": "x", "anonymousId": "00000-0000"}',
    b'{"type": "track", "event": "x", "userId": true}',
    b'{"type": "alias", "userId": "u-1"}',
    b"[" * 5_000,
)
_REVENUES = (0.1, 0.2, 0.3, 1e16, -1e16, 19.99, 1e-9, 7, 123456789.01)


class SourceRecord(Struct, frozen=True):
    """One record, when it is sent (as a share of the traffic's time), and where to."""

    at: float
    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    timestamp_offset_ms: int
    """How far the sender's timestamp lies from the broker's clock."""


def traffic(plan: Plan, start: Instant) -> Iterator[SourceRecord]:
    """Every source record of a run, in the order in which they are sent. `start`: the world's first instant."""
    draw = plan.draw("traffic")
    span_ms = plan.traffic_s * 1000 * plan.speed
    people = People(
        plan.seed,
        plan.people,
        duplicates=draw.choice((0.0, 0.05)),
        malformed=draw.choice((0.0, 0.03)),
        start=start,
        step_ms=max(1, round(span_ms / plan.events)),
    )
    sent: list[bytes | None] = []
    chain: list[bytes] = []
    for number, line in enumerate(people.lines(plan.events)):
        if not chain and draw.random() < plan.chains:
            chain = _chain(line, number, draw.randint(3, 5))
        value = chain.pop(0) if chain else _line(draw, plan, line, number)
        if sent and draw.random() < 0.03:
            value = draw.choice(sent[-200:])
        sent.append(value)
        source = draw.choices(SOURCES, (7, 3, 2))[0]
        yield SourceRecord(
            at=number / plan.events,
            topic=str(source["topic"]),
            partition=draw.randrange(plan.source_partitions),
            key=draw.choice((None, b"k", b"other")),
            value=value,
            timestamp_offset_ms=_timestamp_offset(draw, plan),
        )


def _timestamp_offset(draw: Random, plan: Plan) -> int:
    if draw.random() >= plan.late:
        return -draw.randrange(5)
    return draw.choice((-10 * DAY_MS, -HOUR_MS, -MINUTE_MS, 5 * MINUTE_MS, HOUR_MS))


def _line(draw: Random, plan: Plan, line: bytes, number: int) -> bytes | None:
    chance = draw.random()
    if chance < 0.01:
        return draw.choice(_BROKEN)
    if chance < 0.015:
        return None
    try:
        event = orjson.loads(line)
    except orjson.JSONDecodeError:
        return line
    if not isinstance(event, dict) or "messageId" not in event:
        return line
    if chance < 0.03:
        del event["messageId"]
    elif chance < 0.03 + plan.links:
        event = _link(draw, plan, event, number)
    elif chance < 0.18 + plan.links:
        event = {**event, "type": "track", "event": "Order Completed"}
        event["properties"] = {"revenue": draw.choice(_REVENUES), "items": draw.randint(1, 4)}
    if draw.random() < plan.late:
        event["originalTimestamp"] = event["sentAt"] = _earlier(draw, event)
    elif "sentAt" in event and draw.random() < plan.late:
        # Made long before it was sent: it comes into windows that have moved on.
        made = parse_instant(event["sentAt"]) - draw.randrange(10 * plan.unit_s * SECOND_MS)
        event["originalTimestamp"] = format_instant(made)
    return orjson.dumps(event)


def _earlier(draw: Random, event: dict[str, Any]) -> str:
    return format_instant(draw.choice((1_500_000_000_000, 1_767_225_000_000, 1_767_225_600_123)) + len(event))


def _chain(line: bytes, number: int, length: int) -> list[bytes]:
    """People one after the other, then each of them joined to the one before, the last ones first.

    Every survivor but the first is absorbed next, while it may still wait for what it has absorbed itself.
    """
    try:
        event = orjson.loads(line)
    except orjson.JSONDecodeError:
        event = {}
    times = ("originalTimestamp", "sentAt", "receivedAt")
    common = {name: event[name] for name in times if name in event} if isinstance(event, dict) else {}

    def identify(cookie: int, email: int, message: str) -> bytes:
        names = {"anonymousId": f"chain-{number}-{cookie}", "messageId": f"chain-{number}-{message}"}
        return orjson.dumps(
            {**common, **names, "type": "identify", "traits": {"email": f"c{number}-{email}@example.org"}}
        )

    begin = [identify(place, place, f"begin-{place}") for place in range(length)]
    return begin + [identify(place, place - 1, f"join-{place}") for place in range(length - 1, 0, -1)]


def _link(draw: Random, plan: Plan, event: dict[str, Any], number: int) -> dict[str, Any]:
    """An event that says that two people are one: devices passed on, accounts shared, numbers given away."""
    one, other = (draw.randrange(plan.people) for _ in range(2))
    common: dict[str, Any] = {
        name: event[name] for name in ("originalTimestamp", "sentAt", "receivedAt") if name in event
    }
    common["messageId"] = f"link-{number}"
    cookie = f"anon-{other}-{draw.randrange(3)}"
    match draw.randrange(6):
        case 0:
            return {**common, "type": "identify", "userId": f"u-{one}", "anonymousId": cookie}
        case 1:
            return {**common, "type": "alias", "userId": f"u-{one}", "previousId": f"u-{other}"}
        case 2:
            traits = {"email": f"shared-{other % 3}@example.org", "plan": draw.choice(("free", "pro"))}
            if "sentAt" in event:
                away = draw.randint(-8, 8) * plan.unit_s * SECOND_MS
                traits["renewal"] = format_instant(parse_instant(event["sentAt"]) + away)
            return {**common, "type": "identify", "anonymousId": cookie, "traits": traits}
        case 3:
            ids = [
                {"id": f"l-{other}", "type": "loyalty_id", "collection": "users", "encoding": "none"},
                {"id": f"dev-{one}", "type": f"my_type_{one % 2}", "collection": "users", "encoding": "none"},
            ]
            return {**common, "type": "track", "event": "Link", "userId": f"u-{one}", "context": {"externalIds": ids}}
        case 4:
            traits = {"name": "Company", "plan": draw.choice(("free", "pro"))}
            return {
                **common,
                "type": "group",
                "userId": f"u-{one}",
                "groupId": f"company-{other % 4}",
                "traits": traits,
            }
        case _:
            return {**common, "type": "page", "name": "Home", "anonymousId": f"anon-{one}-0", "userId": f"u-{other}"}
