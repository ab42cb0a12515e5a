"""Trait kind `count`: how many events. Its state is that number."""

from __future__ import annotations

from cdp_stream.model.time import Instant
from cdp_stream.traits.algebra import OneByOne


class Counter(OneByOne):
    """Counts every matching event, whatever its properties. No value before the first."""

    def zero(self) -> int:
        """No events."""
        return 0

    def add(self, state: int, _value: object, _time: Instant, _message_id: str) -> int:
        """One more."""
        return state + 1

    def merge(self, state: int, other: int) -> int:
        """Both together."""
        return state + other

    def read(self, state: int) -> int | None:
        """The count."""
        return state or None
