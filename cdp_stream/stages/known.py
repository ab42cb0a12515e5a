"""The compiled short cut for plain events, where it could be built; None elsewhere.

The walk in Python is the reference: the short cut equals it byte for byte, or leaves the event to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from cdp_stream.identity.rules import IdentityRules
    from cdp_stream.model.event import RawRecord
    from cdp_stream.model.time import Duration, Instant
    from cdp_stream.stages.graph import GraphDraft
    from cdp_stream.stages.records import OutputRecord

INTERFACE: Final = 2
"""Goes up with every change to what the compiled module is given or gives."""
LEFT: Final = 0
TAKEN: Final = 1
"""What `take` did; 2: passed over a duplicate."""


class ShortCut(Protocol):
    """What the identity stage needs of it."""

    def begin(self, step: int, version: str, changes: Mapping[int, list[Any]], outputs: list[OutputRecord]) -> None:
        """A step begins: its changes by partition and its ledger rows go into these."""

    def take(self, record: RawRecord, now: Instant, index: int, number: int) -> int:
        """Take the event in `record`, the step's `number`-th, if it is plain."""

    def take_tally(self) -> dict[tuple[str, ...], int]:
        """What was counted since the last call."""


MakeShortCut = Callable[["IdentityRules", "GraphDraft", "Duration", int], ShortCut]
"""From rules, the graph, the dedupe horizon and the number of partitions."""


def _compiled() -> MakeShortCut | None:
    try:
        from cdp_stream.stages import _known
    except ImportError:
        return None
    # A module that was built from older sources, and not again since, is as good as none.
    return _known.KnownEvents if getattr(_known, "INTERFACE", 0) == INTERFACE else None


COMPILED: Final = _compiled()
