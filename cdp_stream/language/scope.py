"""What definitions read while a profile is evaluated, and the trait kinds as they see them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
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

    def read(self, state: Any) -> Any:
        """The value, or None for none."""


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
