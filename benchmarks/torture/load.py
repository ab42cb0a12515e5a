"""The load: seeded people on several devices. Merges, duplicates, broken records, late events, entries and exits.

Topology and traffic are plain enough for the slow model in `model.py`. People are about for a moment and stay away, so
that every window expires without further traffic. In mid-stream the second version comes into force, which adds an
audience that is computed over the past, and a destination is told again.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

PARTITIONS = 4
SOURCES = {"web.events": 3, "app.events": 2}
"""Source topics and their partitions."""
WINDOW_S = 8
SYNC_S = 5
TOPOLOGY: dict[str, Any] = {
    "space": "torture",
    "partitions": PARTITIONS,
    "sources": [{"name": "web", "topic": "web.events"}, {"name": "app", "topic": "app.events"}],
    "identity": {
        "identifiers": [{"type": name, "limit": 1000} for name in ("user_id", "email", "anonymous_id")],
    },
    "traits": [
        {
            "key": "orders",
            "definition": "event('Order Completed').count()",
            "include_anonymous": True,
        },
        {
            "key": "spend",
            "definition": "event('Order Completed').sum(property('revenue'))",
            "include_anonymous": True,
        },
        {
            "key": "lately",
            "definition": f"event('Order Completed').within({WINDOW_S} seconds).sum(property('revenue'))",
            "include_anonymous": True,
        },
    ],
    "audiences": [
        {
            "key": "buyers",
            "name": "Buyers",
            "definition": "event('Order Completed').count() >= 1",
            "destinations": ["crm", "ads"],
            "include_anonymous": True,
        },
        {"key": "pro", "name": "Pro plan", "definition": "trait('plan') = 'pro'", "destinations": ["crm"]},
        {
            "key": "big_pro",
            "name": "Big spenders on pro",
            "definition": "trait('spend') >= 300 AND trait('plan') = 'pro'",
            "destinations": ["crm"],
        },
        {
            "key": "active",
            "name": "Active now",
            "definition": f"event('Order Completed').within({WINDOW_S} seconds).count() >= 2",
            "destinations": ["crm", "ads"],
            "include_anonymous": True,
        },
    ],
    "destinations": [
        {"name": "crm", "topic": "dest.crm"},
        {"name": "ads", "topic": "dest.ads", "kind": "list", "sync_every": f"{SYNC_S}s"},
    ],
}
VIEWS_MIN = 3
SECOND_VERSION: dict[str, Any] = {
    **TOPOLOGY,
    "audiences": [
        *TOPOLOGY["audiences"],
        {
            "key": "viewers",
            "name": "Viewers",
            "definition": f"event('Page Viewed').count() >= {VIEWS_MIN}",
            "destinations": ["crm", "ads"],
        },
    ],
}
LISTS = ("buyers", "active", "viewers")
"""Audiences that go to the list destination."""
RESYNC = ("buyers", "crm")
"""Audience and event destination that are told again."""
_BROKEN = (
    b'{"type": "track", "userId": "u-1"',
    b'{"type": "track", "userId": "u-1", "messageId": "no-event"}',
    b'{"type": "purchase", "userId": "u-2"}',
    b'["not", "an", "object"]',
)
_AROUND = 40
"""How many people are about at a time; they come and go, so that merges never end."""
_EVENTS_EACH = 25
_LATE_MS = (0, 0, 0, 3_000, 600_000)


def lines(seed: int, count: int, clock: Callable[[], int]) -> Iterator[bytes]:
    """`count` records, in the order in which they are produced. `clock`: the time in ms; else the seed decides."""
    draw = random.Random(seed)
    recent: list[bytes] = []
    for number in range(count):
        chance = draw.random()
        if recent and chance < 0.01:
            yield draw.choice(recent)
        elif chance > 0.995:
            yield draw.choice(_BROKEN)
        else:
            line = json.dumps(_event(draw, number, clock())).encode()
            recent = [*recent[-49:], line]
            yield line


def _event(draw: random.Random, number: int, now: int) -> dict[str, Any]:
    person = number // _EVENTS_EACH + draw.randrange(_AROUND)
    # Now and then somebody uses a device of the one they live with: two people become one.
    owner = person ^ 1 if draw.random() < 0.004 else person
    time = datetime.fromtimestamp((now - draw.choice(_LATE_MS)) / 1000, UTC)
    event: dict[str, Any] = {
        "messageId": f"m-{number}",
        "anonymousId": f"a-{owner}-{draw.randrange(4)}",
        "timestamp": time.isoformat(timespec="milliseconds"),
    }
    kind = draw.random()
    if kind < 0.2:
        plan = draw.choice(("free", "pro", "gold"))
        event |= {"type": "identify", "userId": f"u-{person}"}
        event["traits"] = {"email": f"p{person}@example.org", "plan": plan}
    elif kind < 0.5:
        event |= {"type": "track", "event": "Order Completed", "properties": {"revenue": draw.randrange(1, 120)}}
        if draw.random() < 0.5:
            event["userId"] = f"u-{person}"
    else:
        event |= {"type": "page", "name": "Home", "properties": {"path": "/"}}
    return event
