"""Processor time of an event on a profile that has had thousands of its kind: the second table of docs/traits.md.

python benchmarks/hot_profile.py [--events 4000] [--only NAME …]

In-process: the whole walk (`TopologyDriver`, one partition, steps of 100), a topology with the one definition, an event
every two minutes of one user.
"""

from __future__ import annotations

import argparse
import time
from datetime import UTC, datetime, timedelta
from random import Random

from cdp_stream.testing import TopologyDriver

START = datetime(2025, 1, 1, tzinfo=UTC)
PRODUCTS = 500
MEAN = "event('Ordered').avg('total')"
DEFINITIONS = {
    "funnel: then did not": (
        "event('Added').where(event('Ordered').within(parent: 7 days).count() = 0).within(30 days).count()"
    ),
    "funnel: then did": (
        "event('Added').where(event('Ordered').within(parent: 7 days).count() >= 1).within(30 days).count()"
    ),
    "funnel: the same product": (
        "event('Added').where(event('Ordered').where(property('sku') = property(parent: 'sku'))"
        ".within(parent: 7 days).count() = 0).within(30 days).count()"
    ),
    "funnel: more than so much": (
        "event('Added').where(event('Ordered').within(parent: 7 days).sum('total') > 1000).within(30 days).count()"
    ),
    "condition on a trait that stays": "event('Ordered').where(property('total') = trait('floor')).count()",
    "condition on a trait that changes": "event('Ordered').where(property('total') > trait('mean')).count()",
    "window: count": "event('Added').within(30 days).count()",
    "window: sum": "event('Added').within(30 days).sum('total')",
    "window: mode, 500 values": "event('Added').within(30 days).mode('sku')",
    "window: unique, 500 values": "event('Added').within(30 days).unique('sku')",
}


def seconds(name: str, events: int) -> float:
    """Processor time of so many events."""
    traits = [{"key": "it", "definition": DEFINITIONS[name]}]
    if "trait('mean')" in DEFINITIONS[name]:
        traits.append({"key": "mean", "definition": MEAN})
    plain = {"space": "hot", "sources": [{"name": "web", "topic": "web"}]}
    driver = TopologyDriver({**plain, "traits": traits}, partitions=1, step_size=100)
    driver.put({"type": "identify", "userId": "u1", "traits": {"floor": 50}}, received_at=START)
    names = {"window": ("Added",), "condition": ("Ordered",)}.get(
        name.partition(":")[0].partition(" ")[0], ("Added", "Ordered")
    )
    draw = Random(1)
    began = time.process_time()
    for number in range(events):
        about = {"sku": f"sku-{draw.randrange(PRODUCTS):06}", "total": draw.randrange(10_000) / 100}
        event = {"type": "track", "event": draw.choice(names), "userId": "u1", "messageId": f"m{number:06}"}
        driver.put({**event, "properties": about}, received_at=START + timedelta(minutes=2 * number))
    assert driver.profile("user_id:u1") is not None
    took = time.process_time() - began
    driver.close()
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=4_000)
    parser.add_argument("--only", nargs="*", default=list(DEFINITIONS))
    given = parser.parse_args()
    print(f"| {given.events} events of one profile | processor time | an event |\n|---|---|---|")
    for name in given.only:
        took = seconds(name, given.events)
        print(f"| {name} | {took:.2f} s | {took / given.events * 1e6:.0f} µs |", flush=True)


if __name__ == "__main__":
    main()
