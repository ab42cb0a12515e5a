"""Trait kinds `first` and `last`: the value of the earliest and of the latest event, by event time, not by arrival."""

from __future__ import annotations

from typing import Any

from cdp_stream.language.values import canonical
from cdp_stream.model.time import Instant
from cdp_stream.traits.algebra import OneByOne

End = list[Any]
"""`[event time, message id, value]`. A message id breaks a tie of times, the value's text one of ids."""


class First(OneByOne):
    """The value of the earliest event that has one; a late event can still become it."""

    def zero(self) -> End | None:
        """No values."""
        return None

    def add(self, state: End | None, value: Any, time: Instant, message_id: str) -> End | None:
        """One more event."""
        return state if value is None else self.merge(state, [time, message_id, value])

    def merge(self, state: End | None, other: End | None) -> End | None:
        """The earlier of both."""
        if state is None or other is None:
            return other if state is None else state
        return other if _precedes(other, state) else state

    def read(self, state: End | None) -> Any:
        """The value."""
        return None if state is None else state[2]


class Last(OneByOne):
    """The value of the latest event that has one; a late event cannot replace it."""

    def zero(self) -> End | None:
        """No values."""
        return None

    def add(self, state: End | None, value: Any, time: Instant, message_id: str) -> End | None:
        """One more event."""
        return state if value is None else self.merge(state, [time, message_id, value])

    def merge(self, state: End | None, other: End | None) -> End | None:
        """The later of both."""
        if state is None or other is None:
            return other if state is None else state
        return other if _precedes(state, other) else state

    def read(self, state: End | None) -> Any:
        """The value."""
        return None if state is None else state[2]


def _precedes(one: End, other: End) -> bool:
    if one[0] != other[0]:
        return bool(one[0] < other[0])
    if one[1] != other[1]:
        return bool(one[1] < other[1])
    return canonical(one[2]) < canonical(other[2])
