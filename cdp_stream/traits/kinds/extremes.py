"""Trait kinds `min` and `max`: the least and the greatest number, or text. Their state is that number or text."""

from __future__ import annotations

from typing import Any

from cdp_stream.language.values import measure, text_of
from cdp_stream.model.time import Instant

Number = int | float


class Min:
    """The least number; anything else is skipped."""

    def zero(self) -> Number | None:
        """No numbers."""
        return None

    def add(self, state: Number | None, value: Any, _time: Instant, _message_id: str) -> Number | None:
        """One more number."""
        return self.merge(state, measure(value))

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

    def merge(self, state: str | None, other: str | None) -> str | None:
        """Both together."""
        if state is None or other is None:
            return other if state is None else state
        return max(state, other)

    def read(self, state: str | None) -> str | None:
        """The text."""
        return state
