"""The table of trait kinds, by name. An aggregation key begins with the name of its kind."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from cdp_stream.language.aggregations import ROWS, SESSION
from cdp_stream.traits.algebra import TraitKind
from cdp_stream.traits.kinds.counter import Counter
from cdp_stream.traits.kinds.ends import First, Last
from cdp_stream.traits.kinds.extremes import Max, MaxText, Min, MinText
from cdp_stream.traits.kinds.rows import Candidates
from cdp_stream.traits.kinds.sessions import Sessions
from cdp_stream.traits.kinds.totals import Average, Sum
from cdp_stream.traits.kinds.values import Mode, Unique

KINDS: Final[Mapping[str, TraitKind]] = {
    "count": Counter(),
    "sum": Sum(),
    "avg": Average(),
    "min": Min(),
    "max": Max(),
    "min_text": MinText(),
    "max_text": MaxText(),
    "first": First(),
    "last": Last(),
    "mode": Mode(),
    "unique": Unique(),
    ROWS: Candidates(),
}
"""Name to kind; sessions of a kind are made of it by `kind_of`."""

BOUNDED: Final = (Candidates, Mode, Sessions, Unique)
"""Kinds whose states grow with what they hold, up to their `size_max`."""


@lru_cache(maxsize=4_096)
def kind_of(name: str) -> TraitKind:
    """The kind of this name, such as `sum`, or `session.3600000.sum` for sessions that a gap of an hour parts."""
    if not name.startswith(f"{SESSION}."):
        return KINDS[name]
    _, gap, inner = name.split(".")
    return Sessions(int(gap), KINDS[inner])
