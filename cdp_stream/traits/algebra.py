"""What a trait kind is: a mergeable state. Folding halves and merging them equals folding the whole, in any order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from cdp_stream.model.time import Instant

Happening = tuple[Any, Instant, str]
"""A property's value, event time and message id."""


class TraitKind(Protocol):
    """States are plain JSON values and canonical: equal multisets of events have equal states. Never changed in place.

    `merge` is associative and commutative, and `zero` is its neutral element.
    """

    def zero(self) -> Any:
        """The state of no events; never stored."""

    def add(self, state: Any, value: Any, time: Instant, message_id: str) -> Any:
        """The state with one more event: the property's value (None: missing), event time, message id.

        An event that the kind skips gives back `state` itself.
        """

    def of(self, events: Iterable[Happening]) -> Any:
        """The state of all these events; what adding them one after the other to `zero` would give."""

    def merge(self, state: Any, other: Any) -> Any:
        """The state of both multisets of events together."""

    def read(self, state: Any) -> Any:
        """The trait's value, or None for none."""


class OneByOne:
    """`of` for kinds that have no quicker way than adding."""

    def of(self: TraitKind, events: Iterable[Happening]) -> Any:
        """The state of all these events."""
        state = self.zero()
        for value, time, message_id in events:
            state = self.add(state, value, time, message_id)
        return state
