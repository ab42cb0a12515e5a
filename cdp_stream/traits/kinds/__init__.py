"""The table of trait kinds, by the reducer's name in the definition language."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from cdp_stream.language.nodes import Reducer
from cdp_stream.traits.algebra import TraitKind
from cdp_stream.traits.kinds.counter import Counter
from cdp_stream.traits.kinds.ends import First, Last
from cdp_stream.traits.kinds.extremes import Max, Min
from cdp_stream.traits.kinds.totals import Average, Sum

KINDS: Final[Mapping[Reducer, TraitKind]] = {
    "count": Counter(),
    "sum": Sum(),
    "avg": Average(),
    "min": Min(),
    "max": Max(),
    "first": First(),
    "last": Last(),
}
"""Reducer to kind."""
