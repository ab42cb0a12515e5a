"""What a trait kind is: a mergeable state. Folding halves and merging them equals folding the whole, in any order."""

from __future__ import annotations

from typing import Any, Protocol

from cdp_stream.model.time import Instant


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

    def merge(self, state: Any, other: Any) -> Any:
        """The state of both multisets of events together."""

    def read(self, state: Any) -> Any:
        """The trait's value, or None for none."""
