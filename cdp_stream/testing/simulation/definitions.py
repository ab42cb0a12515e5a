"""The traits and audiences of simulated topologies: every kind of reduction, window and condition, some for each seed."""

from __future__ import annotations

import re
from random import Random
from typing import Any, Final

_TRAITS: Final = {
    "orders": "event('Order Completed').count()",
    "spend": "event('Order Completed').sum(property('revenue'))",
    "average": "event('Order Completed').avg(property('revenue'))",
    "smallest": "event('Product Viewed').min(property('price'))",
    "largest": "event('Product Viewed').max(property('price'))",
    "longest_name": "event('Product Viewed').max(property('product') as string)",
    "first_product": "event('Product Added').first(property('product'))",
    "last_product": "event('Product Added').last(property('product'))",
    "favourite": "event('Product Viewed').mode(property('category'), 1)",
    "categories": "event('Product Viewed').unique(property('category'))",
    "category_count": "event('Product Viewed').unique(property('category')).count()",
    "spend_lately": "event('Order Completed').within({4}).sum(property('revenue'))",
    "average_lately": "event('Order Completed').within({6}).avg(property('revenue'))",
    "views_then": "event('Product Viewed').between({2}, {5}).count()",
    "favourite_lately": "event('Product Viewed').within({5}).mode(property('category'), 1)",
    "categories_lately": "event('Product Viewed').within({4}).unique(property('category'))",
    "last_lately": "event('Product Added').between({1}, {4}).last(property('product'))",
    "views_visit": "event('Product Viewed').expires_after({1}).count()",
    "spend_visit": "event('Order Completed').expires_after({3}).sum(property('revenue'))",
    "above_average": "event('Order Completed').where(property('revenue') > trait('average')).count()",
    "visit_above": "event('Order Completed').where(property('revenue') >= trait('average')).expires_after({3}).count()",
    "plan_copy": "trait('plan')",
}
_AUDIENCES: Final = {
    "buyers": "event('Order Completed').count() >= 1",
    "big": "trait('spend') >= 300 AND trait('buyers') = true",
    "first_timers": "trait('orders') = 1",
    "browsers": "event('Product Viewed').count() >= 2 AND event('Order Completed').count() = 0",
    "pro": "trait('plan') = 'pro'",
    "active": "event('Product Viewed').within({3}).count() >= 2",
    "lapsed": "event('Product Viewed').between({3}, {8}).count() >= 1 AND event('Product Viewed').within({3}).count() = 0",
    "silent": "event('Product Viewed').within({2}).count() = 0",
    "cart": (
        "event('Product Added').where(NOT (event('Order Completed').within(parent: {2}).count() >= 1))"
        ".within({8}).count() >= 1"
    ),
    "same_product": (
        "event('Product Viewed').where(event('Product Added').where(property('product') = property(parent: 'product'))"
        ".within(parent: {4}).count() >= 1).count() >= 1"
    ),
    "funnel": (
        "event('Product Viewed').where(event('Product Added').where(event('Order Completed').within(parent: {4}).count()"
        " >= 1).within(parent: {4}).count() >= 1).within({9}).count() >= 1"
    ),
    "above": "event('Order Completed').where(property('revenue') > trait('average')).within({6}).count() >= 1",
    "matching": "event('Product Viewed').where(property('category') = trait('favourite')).within({5}).count() >= 2",
    "renewed": "trait('renewal').within_last({3})",
    "renewing": "trait('renewal').within_next({3}) OR trait('renewal').after_next({8})",
    "overdue": "trait('renewal').before_last({2})",
    "not_free": "trait('plan').none_of('free') AND trait('plan').omits('pr')",
    "engaged": "trait('active') AND NOT trait('cart') AND trait('views_visit') >= 1",
    "planned": "trait('plan').exists() AND (trait('plan').starts_with('p') OR trait('spend_lately') < 10)",
}
_ALWAYS: Final = ("orders", "spend", "last_product", "buyers", "big", "first_timers", "pro")
_DESTINATIONS: Final[tuple[list[str], ...]] = (
    ["crm"],
    ["ads"],
    ["crm", "ads"],
    [],
)
READS: Final = re.compile(r"trait\('(\w+)'\)")
_SPAN: Final = re.compile(r"\{(\d)\}")


def drawn_definitions(draw: Random, unit_s: int, names: tuple[str, ...] = ()) -> dict[str, list[dict[str, Any]]]:
    """The sections `traits` and `audiences`: some of every kind, with all that they read.

    `unit_s`: the length of the shortest window, in seconds. `names`: keys to take besides those that are always there.
    """
    catalogue = {**_TRAITS, **_AUDIENCES}
    some = draw.sample(sorted(catalogue), draw.randint(6, 12))
    wanted: dict[str, None] = {}
    left = [*_ALWAYS, *names, *some]
    while left:
        key = left.pop(0)
        if key in catalogue and key not in wanted:
            wanted[key] = None
            left += READS.findall(catalogue[key])
    sections: dict[str, list[dict[str, Any]]] = {"traits": [], "audiences": []}
    for key, text in catalogue.items():
        if key in wanted:
            definition = _SPAN.sub(lambda found: f"{int(found[1]) * unit_s} seconds", text)
            section = "traits" if key in _TRAITS else "audiences"
            sections[section].append(
                {
                    "key": key,
                    "definition": definition,
                    "include_anonymous": draw.random() < 0.5,
                    "destinations": list(draw.choice(_DESTINATIONS)),
                }
            )
    return sections
