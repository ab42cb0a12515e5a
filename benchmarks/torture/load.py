"""The load: seeded people on several devices. Merges, duplicates, broken records, late events, entries and exits.

Traffic and a part of the topology (`MODELLED`) are plain enough for the slow model in `model.py`; every other kind of trait,
condition and destination is there for the recomputation to be held to. People are about for a moment and stay away, so
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
_ORDERS = "event('Order Completed')"
_LATELY = f"{_ORDERS}.within({WINDOW_S} seconds)"
_OF_EVERY_KIND = {
    "mean": f"{_ORDERS}.avg(property('revenue'))",
    "least_lately": f"{_LATELY}.min(property('revenue'))",
    "most": f"{_ORDERS}.max(property('revenue'))",
    "last_name": f"{_ORDERS}.max(property('item') as string)",
    "first_item": f"{_ORDERS}.first(property('item'))",
    "last_item": f"{_LATELY}.last(property('item'))",
    "favourite": f"{_ORDERS}.mode(property('item'))",
    "items": f"{_ORDERS}.unique(property('item'))",
    "items_lately": f"{_LATELY}.unique(property('item')).count()",
    "dear": f"{_ORDERS}.where(property('revenue') > 60 AND property('item').one_of('hat', 'scarf')).count()",
    "session": f"event('Page Viewed').expires_after({WINDOW_S // 2} seconds).count()",
    "before": f"{_ORDERS}.between({WINDOW_S // 2} seconds, {WINDOW_S} seconds).count()",
}
_CONDITIONS = {
    "went_on": f"event('Page Viewed').where({_ORDERS}.within(parent: 2 seconds).count() >= 1).count() >= 1",
    "left_it": f"event('Page Viewed').where({_ORDERS}.within(parent: 1 seconds).count() = 0).count() >= 2",
    "lapsed": "trait('buyers') AND NOT trait('active')",
    "above_mean": "trait('last_item').exists() AND trait('most') > trait('mean')",
    "exactly_two": f"{_LATELY}.count() = 2",
    "at_most_one": f"{_ORDERS}.count() <= 1 AND event('Page Viewed').count() >= 1",
    "seen_lately": f"trait('seen').within_last({WINDOW_S // 2} seconds)",
    "fond_of_hats": "trait('items').one_of('hat') OR trait('favourite') = 'scarf'",
}
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
        *({"key": key, "definition": one, "destinations": ["mail"]} for key, one in _OF_EVERY_KIND.items()),
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
        *(
            {"key": key, "name": key, "definition": one, "destinations": ["mail", "segments"]}
            for key, one in _CONDITIONS.items()
        ),
    ],
    "destinations": [
        {"name": "crm", "topic": "dest.crm"},
        {"name": "ads", "topic": "dest.ads", "kind": "list", "sync_every": f"{SYNC_S}s"},
        {"name": "mail", "topic": "dest.mail", "id_sync": {"email": "last"}, "enrich": ["plan", "orders", "buyers"]},
        {"name": "segments", "topic": "dest.segments", "kind": "list", "sync_every": f"{2 * SYNC_S}s"},
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
MODELLED = {"plan", "email", "orders", "spend", "lately", "buyers", "pro", "big_pro", "active", "viewers"}
"""Traits and audiences that the slow model knows."""
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
        event["traits"] = {"email": f"p{person}@example.org", "plan": plan, "seen": event["timestamp"]}
    elif kind < 0.5:
        event |= {"type": "track", "event": "Order Completed", "properties": {"revenue": draw.randrange(1, 120)}}
        event["properties"]["item"] = draw.choice(("hat", "scarf", "coat", "sock"))
        if draw.random() < 0.5:
            event["userId"] = f"u-{person}"
    else:
        event |= {"type": "page", "name": "Home", "properties": {"path": "/"}}
    return event
