"""Trait kind `rows`: the events themselves, as few values of each as a definition needs, in order of time.

Windows, funnels, and conditions on traits or on now are read from them; see `language/aggregations.py`.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from heapq import merge as merge_sorted
from operator import itemgetter
from typing import Any, Final

from cdp_stream.language.values import canonical
from cdp_stream.model.time import Instant
from cdp_stream.traits.algebra import OneByOne

ROWS_MAX: Final = 10_000
"""How many candidate events are kept of one profile and reduction: the latest by event time."""

Row = list[Any]
"""`[event time, message id or "", values …]`."""
Rows = list[Any]
"""`[earliest event time ever seen, rows]`."""


class Candidates(OneByOne):
    """Keeps the latest events; `prune` drops those that have become too old to matter."""

    size_max = ROWS_MAX

    def zero(self) -> Rows | None:
        """No events."""
        return None

    def add(self, state: Rows | None, value: list[Any] | None, time: Instant, message_id: str) -> Rows | None:
        """One more event with these values; None: the reduction has no use for it."""
        if value is None:
            return state
        row = [time, message_id, *value]
        if state is None:
            return [time, [row]]
        seen, rows = state
        rows = list(rows)
        if not rows or rows[-1][0] < time:
            rows.append(row)
        else:
            insort(rows, row, key=_order)
        return [min(seen, time), rows[-ROWS_MAX:]]

    def merge(self, state: Rows | None, other: Rows | None) -> Rows | None:
        """Both together."""
        if state is None or other is None:
            return other if state is None else state
        rows = list(merge_sorted(state[1], other[1], key=_order))
        return [min(state[0], other[0]), rows[-ROWS_MAX:]]

    def read(self, state: Rows | None) -> list[Row] | None:
        """The events in order."""
        return state[1] or None if state is not None else None

    def prune(self, state: Rows, before: Instant) -> Rows:
        """Without events of this instant and earlier; the same state when there are none."""
        start = bisect_right(state[1], before, key=itemgetter(0))
        return [state[0], state[1][start:]] if start else state

    def size(self, state: Rows | None) -> int:
        """How many events are kept."""
        return 0 if state is None else len(state[1])


def _order(row: Row) -> tuple[Instant, str, bytes]:
    return row[0], row[1], canonical(row[2:])
