"""Trait kinds over distinct values: `mode` counts each of them, `unique` lists them."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

import orjson

from cdp_stream.language.values import canonical, measure, text_of
from cdp_stream.model.time import Instant
from cdp_stream.traits.algebra import Happening

VALUES_MAX: Final = 10_000
"""How many distinct values are kept of one profile and trait: the first ones in the order of their text, so that
neither arrival nor merging decides which."""


class Mode:
    """How often each text was seen; which one is the most frequent is asked by the definition."""

    size_max = VALUES_MAX

    def zero(self) -> dict[str, int]:
        """No values."""
        return {}

    def add(self, state: dict[str, int], value: Any, _time: Instant, _message_id: str) -> dict[str, int]:
        """One more value, as a text."""
        return state if value is None else self.merge(state, {value if type(value) is str else text_of(value): 1})

    def of(self, events: Iterable[Happening]) -> dict[str, int]:
        """All values, counted."""
        return self.merge(
            {}, Counter(value if type(value) is str else text_of(value) for value, _, _ in events if value is not None)
        )

    def merge(self, state: dict[str, int], other: dict[str, int]) -> dict[str, int]:
        """Both together."""
        merged = dict(state)
        for text, count in other.items():
            merged[text] = merged.get(text, 0) + count
        if len(merged) > VALUES_MAX:
            merged = {text: merged[text] for text in sorted(merged)[:VALUES_MAX]}
        return merged

    def read(self, state: dict[str, int]) -> dict[str, int] | None:
        """Text to count."""
        return state or None

    def size(self, state: dict[str, int]) -> int:
        """How many values are kept."""
        return len(state)


class Unique:
    """Distinct values as sorted JSON texts; 1 and 1.0 are one value, 1 and `"1"` are two."""

    size_max = VALUES_MAX

    def zero(self) -> list[str]:
        """No values."""
        return []

    def add(self, state: list[str], value: Any, _time: Instant, _message_id: str) -> list[str]:
        """One more value."""
        if value is None:
            return state
        text = _as_json(value)
        place = bisect_left(state, text)
        if place < len(state) and state[place] == text:
            return state
        return [*state[:place], text, *state[place:]][:VALUES_MAX]

    def of(self, events: Iterable[Happening]) -> list[str]:
        """All values, each once."""
        texts, others = set(), set()
        for value, _, _ in events:
            if type(value) is str:
                texts.add(value)
            elif value is not None:
                others.add(_as_json(value))
        return sorted(others.union(map(_as_json, texts)))[:VALUES_MAX]

    def merge(self, state: list[str], other: list[str]) -> list[str]:
        """Both together."""
        return sorted({*state, *other})[:VALUES_MAX]

    def read(self, state: list[str]) -> list[Any] | None:
        """The values, alphabetically by their text."""
        return sorted(map(orjson.loads, state), key=text_of) or None

    def size(self, state: list[str]) -> int:
        """How many values are kept."""
        return len(state)


def _as_json(value: Any) -> str:
    number = measure(value)
    return canonical(value if number is None else number).decode()
