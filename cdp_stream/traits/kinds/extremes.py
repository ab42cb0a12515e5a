"""Trait kinds `min` and `max`: the least and the greatest number, or text. Their state is that number or text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cdp_stream.language.values import measure, text_of
from cdp_stream.model.time import Instant
from cdp_stream.traits.algebra import Happening

Number = int | float


class Min:
    """The least number; anything else is skipped."""

    def zero(self) -> Number | None:
        """No numbers."""
        return None

    def add(self, state: Number | None, value: Any, _time: Instant, _message_id: str) -> Number | None:
        """One more number."""
        return self.merge(state, measure(value))

    def of(self, events: Iterable[Happening]) -> Number | None:
        """The least of all."""
        return min((number for value, _, _ in events if (number := measure(value)) is not None), default=None)

    def merge(self, state: Number | None, other: Number | None) -> Number | None:
        """Both together."""
        if state is None or other is None:
            return other if state is None else state
        return min(state, other)

    def read(self, state: Number | None) -> Number | None:
        """The number."""
        return state


class Max:
    """The greatest number; anything else is skipped."""

    def zero(self) -> Number | None:
        """No numbers."""
        return None

    def add(self, state: Number | None, value: Any, _time: Instant, _message_id: str) -> Number | None:
        """One more number."""
        return self.merge(state, measure(value))

    def of(self, events: Iterable[Happening]) -> Number | None:
        """The greatest of all."""
        return max((number for value, _, _ in events if (number := measure(value)) is not None), default=None)

    def merge(self, state: Number | None, other: Number | None) -> Number | None:
        """Both together."""
        if state is None or other is None:
            return other if state is None else state
        return max(state, other)

    def read(self, state: Number | None) -> Number | None:
        """The number."""
        return state


class MinText:
    """The text that comes first."""

    def zero(self) -> str | None:
        """No texts."""
        return None

    def add(self, state: str | None, value: Any, _time: Instant, _message_id: str) -> str | None:
        """One more text."""
        return state if value is None else self.merge(state, text_of(value))

    def of(self, events: Iterable[Happening]) -> str | None:
        """The first of all."""
        return min((text_of(value) for value, _, _ in events if value is not None), default=None)

    def merge(self, state: str | None, other: str | None) -> str | None:
        """Both together."""
        if state is None or other is None:
            return other if state is None else state
        return min(state, other)

    def read(self, state: str | None) -> str | None:
        """The text."""
        return state


class MaxText:
    """The text that comes last."""

    def zero(self) -> str | None:
        """No texts."""
        return None

    def add(self, state: str | None, value: Any, _time: Instant, _message_id: str) -> str | None:
        """One more text."""
        return state if value is None else self.merge(state, text_of(value))

    def of(self, events: Iterable[Happening]) -> str | None:
        """The last of all."""
        return max((text_of(value) for value, _, _ in events if value is not None), default=None)

    def merge(self, state: str | None, other: str | None) -> str | None:
        """Both together."""
        if state is None or other is None:
            return other if state is None else state
        return max(state, other)

    def read(self, state: str | None) -> str | None:
        """The text."""
        return state
