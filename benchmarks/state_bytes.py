"""Bytes that one reduction of each kind keeps on a profile, after 1, 100 and 10,000 events: the table of docs/traits.md.

python benchmarks/state_bytes.py
"""

from __future__ import annotations

from typing import Any

import msgspec

from cdp_stream.config.topology import parse_topology
from cdp_stream.language.computations import Computations, compile_computations
from cdp_stream.model.change import ProfileEvent
from cdp_stream.model.ids import USERS, ProfileId
from cdp_stream.model.time import MINUTE_MS
from cdp_stream.traits.fold import fold_states

EVENTS = (1, 100, 10_000)
START = 1_767_225_600_000
SKUS = 500
"""How many different products there are; each name has 10 characters."""

DEFINITIONS = {
    "count": "event('Order').count()",
    "sum": "event('Order').sum('total')",
    "avg": "event('Order').avg('total')",
    "min, max": "event('Order').min('total')",
    "min, max as string": "event('Order').min(property('sku') as string)",
    "first, last": "event('Order').first('sku')",
    "mode, 500 values": "event('Order').mode('sku')",
    "unique, 500 values": "event('Order').unique('sku')",
    "unique, a value an event": "event('Order').unique('id')",
    "session: sum": "event('Order').expires_after(30 minutes).sum('total')",
    "session: sum, each event alone": "event('Order').expires_after(30 seconds).sum('total')",
    "window: count": "event('Order').within(3650 days).count()",
    "window: count, of an hour": "event('Order').within(1 hours).count()",
    "window: sum": "event('Order').within(3650 days).sum('total')",
    "window: last": "event('Order').within(3650 days).last('sku')",
    "condition on a trait: count": "event('Order').where(property('total') > trait('mean')).count()",
    "funnel, both steps": (
        "event('Order').where(event('Order').where(property('sku') = property(parent: 'sku'))"
        ".within(parent: 1 days).count() >= 1).count()"
    ),
}


def compiled(definition: str) -> Computations:
    topology = parse_topology(
        {
            "space": "size",
            "sources": [{"name": "web", "topic": "web"}],
            "traits": [{"key": "it", "definition": definition}],
        }
    )
    computations, problems = compile_computations(topology)
    assert not problems, problems
    return computations


def order(number: int) -> ProfileEvent:
    """One every minute."""
    time = START + number * MINUTE_MS
    properties: dict[str, Any] = {
        "total": (number * 7_919 % 100_000) / 100,
        "sku": f"sku-{number % SKUS:06}",
        "id": f"order-{number:09}",
    }
    return ProfileEvent(
        index=0,
        record=0,
        now=time,
        profile_id=ProfileId("use_0"),
        collection=USERS,
        type="track",
        message_id=f"ajs-{number:032}",
        time=time,
        name="Order",
        properties=properties,
    )


def sizes(definition: str) -> list[int]:
    computations = compiled(definition)
    states: dict[str, Any] = {}
    empty = len(msgspec.msgpack.encode(states))
    found = []
    for number in range(max(EVENTS)):
        states = fold_states(states, order(number), computations)
        if number + 1 in EVENTS:
            found.append(len(msgspec.msgpack.encode(states)) - empty)
    return found


if __name__ == "__main__":
    print("| kind | " + " | ".join(f"{count:,} event{'s' if count > 1 else ''}" for count in EVENTS) + " |")
    print("|---|" + "---|" * len(EVENTS))
    for kind, definition in DEFINITIONS.items():
        print(f"| {kind} | " + " | ".join(f"{size:,}" for size in sizes(definition)) + " |")
