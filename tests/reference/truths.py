"""Definitions of the made-up shop and the truth about them: each kind of trait, condition, window and funnel."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from person import (
    ADD,
    DAY,
    HOUR,
    MINUTE,
    ORDER,
    PAGE,
    REFUND,
    SCREEN,
    TRUTHS,
    VIEW,
    Act,
    audience,
    counted,
    decimal,
    distinct,
    instant_of,
    is_above,
    mean,
    most_frequent,
    numbers,
    plain,
    text_of,
    total,
    trait,
    values,
)


def _is_big(act: Act) -> bool:
    return is_above(act.properties.get("total"), 99.995)


def _has_category(act: Act) -> bool:
    return act.properties.get("category") is not None


trait("orders", f"event('{ORDER}').count()", lambda p: len(p.acts_of(ORDER)) or None)
trait("orders_known", f"event('{ORDER}').count()", lambda p: len(p.acts_of(ORDER)) or None, anonymous=False)
trait(
    "big_30d",
    f"event('{ORDER}').where(property('total') >= 100).within(30 days).count()",
    lambda p: counted(p.within(p.acts_of(ORDER, _is_big), 30 * DAY), p.acts_of(ORDER, _is_big)),
)
trait("spend", f"event('{ORDER}').sum(property('total'))", lambda p: total(numbers(p.acts_of(ORDER), "total")))
trait(
    "spend_90d",
    f"event('{ORDER}').within(90 days).sum('total')",
    lambda p: total(numbers(p.within(p.acts_of(ORDER), 90 * DAY), "total")),
)
trait("mean", f"event('{ORDER}').avg('total')", lambda p: mean(numbers(p.acts_of(ORDER), "total")))
trait(
    "least",
    f"event('{ORDER}').between(7 days, 60 days).min('total')",
    lambda p: min(numbers(p.within(p.acts_of(ORDER), 60 * DAY, 7 * DAY), "total"), default=None),
)
trait("most", f"event('{ORDER}').max('total')", lambda p: max(numbers(p.acts_of(ORDER), "total"), default=None))
trait(
    "most_as_text",
    f"event('{ORDER}').max(property('total') as string)",
    lambda p: max(map(text_of, values(p.acts_of(ORDER), "total")), default=None),
)
trait(
    "most_as_number",
    f"event('{ORDER}').max(property('total') as number)",
    lambda p: (
        plain(max(map(decimal, values(p.acts_of(ORDER), "total")))) if values(p.acts_of(ORDER), "total") else None
    ),
)
trait("favourite", f"event('{VIEW}').mode('category')", lambda p: most_frequent(values(p.acts_of(VIEW), "category")))
trait(
    "favourite_20d",
    f"event('{VIEW}').within(20 days).mode(property('category'), 3)",
    lambda p: most_frequent(values(p.within(p.acts_of(VIEW), 20 * DAY), "category"), 3),
)
trait("first", f"event('{VIEW}').first('category')", lambda p: next(iter(values(p.acts_of(VIEW), "category")), None))
trait(
    "last_other",
    f"event('{VIEW}').where(NOT property('category') = 'hats').last('category')",
    lambda p: next(reversed([one for one in values(p.acts_of(VIEW), "category") if one != "hats"]), None),
)
trait(
    "categories", f"event('{VIEW}').unique('category')", lambda p: distinct(values(p.acts_of(VIEW), "category")) or None
)
trait(
    "categories_7d",
    f"event('{VIEW}').within(7 days).unique('category')",
    lambda p: (
        distinct(values(p.within(p.acts_of(VIEW), 7 * DAY), "category")) if p.acts_of(VIEW, _has_category) else None
    ),
)
trait(
    "category_count",
    f"event('{VIEW}').unique('category').count()",
    lambda p: len(distinct(values(p.acts_of(VIEW), "category"))) or None,
)
trait(
    "pieces_45d",
    f"event('{ORDER}').within(45 days).sum('items.$.n')",
    lambda p: total([item["n"] for act in p.within(p.acts_of(ORDER), 45 * DAY) for item in act.properties["items"]]),
)
trait(
    "session_pages",
    f"event('{PAGE}').expires_after(30 minutes).count()",
    lambda p: counted(p.session(p.acts_of(PAGE), 30 * MINUTE), p.acts_of(PAGE)),
)
trait(
    "session_last",
    f"event('{PAGE}').expires_after(2 days).last('page_name')",
    lambda p: next(reversed(values(p.session(p.acts_of(PAGE), 2 * DAY), "page_name")), None),
)
trait(
    "blog",
    f"event('{PAGE}').where(context('page.url').contains('/blog')).count()",
    lambda p: len(p.acts_of(PAGE, lambda act: "/blog" in act.url)) or None,
)
trait(
    "screens",
    f"event('{SCREEN}').unique('screen_name')",
    lambda p: distinct(values(p.acts_of(SCREEN), "screen_name")) or None,
)
trait(
    "above_mean_60d",
    f"event('{ORDER}').where(property('total') > trait('mean')).within(60 days).count()",
    lambda p: counted(
        [act for act in p.within(p.acts_of(ORDER), 60 * DAY) if is_above(act.properties.get("total"), p["mean"])],
        p.acts_of(ORDER),
    ),
    reads="mean",
)
trait(
    "arriving",
    f"event('{ORDER}').where(property('eta').within_next(3 days)).count()",
    lambda p: counted(
        p.acts_of(ORDER, lambda act: p.now <= (instant_of(act.properties.get("eta")) or 0) <= p.now + 3 * DAY),
        p.acts_of(ORDER),
    ),
)
trait(
    "kept_spend",
    f"event('{ORDER}').where(event('{REFUND}').where(property('oid') = property(parent: 'oid'))"
    ".within(parent: 20 days).count() = 0).sum('total')",
    lambda p: total(
        numbers(
            p.acts_of(
                ORDER,
                lambda act: (
                    not p.after(act, REFUND, 20 * DAY, lambda one: one.properties["oid"] == act.properties["oid"])
                ),
            ),
            "total",
        )
    ),
)

audience("buyer", f"event('{ORDER}').count() >= 1", lambda p: bool(p.acts_of(ORDER)))
audience("buyer_too", f"event('{ORDER}').count() >= 1", lambda p: bool(p.acts_of(ORDER)), anonymous=True)
audience("never", f"event('{ORDER}').count() = 0", lambda p: not p.acts_of(ORDER), anonymous=True)
audience(
    "exactly_2",
    f"event('{ORDER}').within(60 days).count() = 2",
    lambda p: len(p.within(p.acts_of(ORDER), 60 * DAY)) == 2,
)
audience(
    "at_most_1",
    f"event('{VIEW}').within(10 days).count() <= 1",
    lambda p: len(p.within(p.acts_of(VIEW), 10 * DAY)) <= 1,
)
audience(
    "lapsed",
    f"event('{PAGE}').between(30 days, 90 days).count() >= 1 AND event('{PAGE}').within(30 days).count() = 0",
    lambda p: bool(p.within(p.acts_of(PAGE), 90 * DAY, 30 * DAY)) and not p.within(p.acts_of(PAGE), 30 * DAY),
)
audience(
    "once_lately",
    f"event('{VIEW}').between(12 hours, 3 days).count() = 1",
    lambda p: len(p.within(p.acts_of(VIEW), 3 * DAY, 12 * HOUR)) == 1,
    anonymous=True,
)
audience(
    "abandoned",
    f"event('{ADD}').where(event('{ORDER}').within(parent: 7 days).count() = 0).within(30 days).count() >= 1",
    lambda p: any(not p.after(act, ORDER, 7 * DAY) for act in p.within(p.acts_of(ADD), 30 * DAY)),
)
audience(
    "quick_twice",
    f"event('{ADD}').where(event('{ORDER}').within(parent: 1 hours).count() >= 1).count() >= 2",
    lambda p: sum(bool(p.after(act, ORDER, HOUR)) for act in p.acts_of(ADD)) >= 2,
)
audience(
    "same_item",
    f"event('{VIEW}').where(event('{ADD}').where(property('sku') = property(parent: 'sku')).within(parent: 2 days)"
    ".count() >= 1).within(60 days).count() >= 1",
    lambda p: any(
        p.after(act, ADD, 2 * DAY, lambda one, act=act: one.properties.get("sku") == act.properties["sku"])
        for act in p.within(p.acts_of(VIEW), 60 * DAY)
        if act.properties.get("sku") is not None
    ),
)
audience(
    "three_steps",
    f"event('{VIEW}').where(event('{ADD}').where(event('{ORDER}').within(parent: 2 days).count() >= 1)"
    ".within(parent: 1 days).count() >= 1).within(90 days).count() >= 1",
    lambda p: any(
        p.after(added, ORDER, 2 * DAY)
        for act in p.within(p.acts_of(VIEW), 90 * DAY)
        for added in p.after(act, ADD, DAY)
    ),
)
audience("gold", "trait('plan') = 'gold'", lambda p: p.custom.get("plan") == "gold")
audience("another_plan", "trait('plan') != 'gold'", lambda p: p.custom.get("plan") not in {None, "gold"})
audience("not_gold", "NOT trait('plan') = 'gold'", lambda p: p.custom.get("plan") != "gold")
audience(
    "engaged",
    "trait('buyer') AND trait('favourite').exists() AND NOT trait('lapsed')",
    lambda p: p["buyer"] and p["favourite"] is not None and not p["lapsed"],
    reads="buyer favourite lapsed",
)
audience(
    "vip",
    "trait('engaged') AND (trait('spend') > 500 OR trait('plan').one_of('gold', 'platinum'))",
    lambda p: p["engaged"] and (is_above(p["spend"], 500) or p.custom.get("plan") in {"gold", "platinum"}),
    reads="engaged buyer favourite lapsed spend",
)
audience(
    "renewing",
    "trait('renewal').within_next(7 days)",
    lambda p: p.now <= (instant_of(p.custom.get("renewal")) or 0) <= p.now + 7 * DAY,
)
audience(
    "overdue",
    "trait('renewal').before_last(7 days) AND trait('plan').exists()",
    lambda p: (instant_of(p.custom.get("renewal")) or p.now) <= p.now - 7 * DAY and p.custom.get("plan") is not None,
)
audience(
    "in_town",
    "trait('address.city').starts_with('O', 'B')",
    lambda p: ((p.custom.get("address") or {}).get("city") or "").startswith(("O", "B")),
)
audience(
    "busy_day",
    f"event('{PAGE}').within(1 days).count() >= 3 OR event('{SCREEN}').within(1 days).count() >= 2",
    lambda p: len(p.within(p.acts_of(PAGE), DAY)) >= 3 or len(p.within(p.acts_of(SCREEN), DAY)) >= 2,
    anonymous=True,
)
audience(
    "devoted",
    f"event('{VIEW}').where(property('category') = trait('favourite')).within(15 days).count() >= 3",
    lambda p: (
        [text_of(one) for one in values(p.within(p.acts_of(VIEW), 15 * DAY), "category")].count(p["favourite"]) >= 3
    ),
    reads="favourite",
)
audience(
    "reached_goal",
    "trait('spend') >= trait('goal')",
    lambda p: (
        p["spend"] is not None and p.custom.get("goal") is not None and not is_above(p.custom["goal"], p["spend"])
    ),
    reads="spend",
)
audience(
    "in_session",
    f"event('{PAGE}').expires_after(1 hours).count() >= 3",
    lambda p: len(p.session(p.acts_of(PAGE), HOUR)) >= 3,
    anonymous=True,
)


def declared(keys: Iterable[str], **more: dict[str, dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """These definitions and what they read, as a topology declares them; `more`: settings by key."""
    wanted = {other for key in keys for other in (key, *TRUTHS[key].reads)}
    sections: dict[str, list[dict[str, Any]]] = {"traits": [], "audiences": []}
    for key, truth in TRUTHS.items():
        if key in wanted:
            sections["audiences" if truth.is_audience else "traits"].append(
                {
                    "key": key,
                    "definition": truth.text,
                    "include_anonymous": truth.include_anonymous,
                    **more.get(key, {}),
                }
            )
    return sections
