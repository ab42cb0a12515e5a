"""Trait kind `session.<gap>.<kind>`: bursts of events, each with the state of the kind inside."""

from __future__ import annotations

from typing import Any, Final

from cdp_stream.model.time import Duration, Instant
from cdp_stream.traits.algebra import OneByOne, TraitKind

SESSIONS_MAX: Final = 64
"""How many sessions are kept of one profile and trait, the latest; an event that comes late may still join two."""

Burst = list[Any]
"""`[time of the first event, time of the last, state of the kind inside]`."""


class Sessions(OneByOne):
    """Events less than `gap` apart belong to one session, in whatever order they arrive."""

    size_max = SESSIONS_MAX

    def __init__(self, gap: Duration, inner: TraitKind) -> None:
        """`inner`: what each session's events are folded with."""
        self.gap = gap
        self.inner = inner

    def zero(self) -> list[Burst]:
        """No sessions."""
        return []

    def add(self, state: list[Burst], value: Any, time: Instant, message_id: str) -> list[Burst]:
        """One more event; it prolongs a session also when the kind inside has no use for its value."""
        return self.merge(state, [[time, time, self.inner.add(self.inner.zero(), value, time, message_id)]])

    def merge(self, state: list[Burst], other: list[Burst]) -> list[Burst]:
        """Both together: sessions that touch become one."""
        joined: list[Burst] = []
        for start, end, inside in sorted([*state, *other], key=lambda burst: (burst[0], burst[1])):
            last = joined[-1] if joined else None
            if last is not None and start - last[1] < self.gap:
                joined[-1] = [last[0], max(last[1], end), self.inner.merge(last[2], inside)]
            else:
                joined.append([start, end, inside])
        return joined[-SESSIONS_MAX:]

    def read(self, state: list[Burst]) -> Any:
        """The value of the latest session, as if it had not expired."""
        return self.inner.read(state[-1][2]) if state else None

    def size(self, state: list[Burst]) -> int:
        """How many sessions are kept."""
        return len(state)
