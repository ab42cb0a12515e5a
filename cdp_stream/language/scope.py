"""What definitions read while a profile is evaluated, and the trait kinds as they see them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

from msgspec import Struct

from cdp_stream.model.profile import CustomTrait
from cdp_stream.model.time import Instant

NEVER: Final = 2**63 - 1
"""An instant after all others."""


class Kind(Protocol):
    """The part of a trait kind that folds values and reads the result."""

    def of(self, events: Iterable[tuple[Any, Instant, str]]) -> Any:
        """The state of all these events: value, time and message id of each."""

    def merge(self, state: Any, other: Any) -> Any:
        """The state of the events of both."""

    def read(self, state: Any) -> Any:
        """The value, or None for none."""


class Notes(Protocol):
    """Takes down what the answer about a candidate depends on (`verdicts.py`)."""

    def wait(self, key: str, events: int) -> None:
        """It may be another one when this state has so many more events."""

    def wait_for(self, key: str, value: Any) -> None:
        """It may be another one when this state has one more event with this value."""

    def fold(
        self, key: str, places: tuple[int, int], take: Callable[[Any, Sequence[Any]], Any], value: Any = None
    ) -> Any:
        """What `take` makes of the state's events at these places; where a value is given, of those with it."""


KindOf = Callable[[str], Kind]
"""A kind's name, which every aggregation key begins with, to the kind."""


class Scope(Struct):
    """One evaluation of a profile. `computed` and `memberships` fill up on the way; `due` sinks."""

    custom: Mapping[str, CustomTrait]
    states: Mapping[str, Any]
    computed: dict[str, Any]
    memberships: dict[str, bool]
    kind_of: KindOf
    now: Instant
    due: Instant = NEVER
    """The earliest instant at which the computation in hand may come to another result by time alone."""
    profile_id: str = ""
    """Whose; without it, nothing is kept for the next evaluation."""
    notes: Notes | None = None
    """Where tests of candidates that are kept take down what they depend on."""

    def lower(self, instant: Instant) -> None:
        """A result may be another one from this instant on."""
        self.due = min(self.due, instant)


class Occurrence:
    """One event among a profile's candidates: `[time, message id, columns …]`, and the one around it in a funnel."""

    __slots__ = ("parent", "row", "scope")

    def __init__(self, row: list[Any], parent: Occurrence | None, scope: Scope) -> None:
        self.row = row
        self.parent = parent
        self.scope = scope
