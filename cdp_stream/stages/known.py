"""The compiled short cut for events that change nothing in the graph, where it could be built; None elsewhere.

The walk in Python is the reference: the short cut equals it byte for byte, or leaves the event to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from cdp_stream.identity.rules import IdentityRules
    from cdp_stream.model.ids import ExternalId, ProfileId
    from cdp_stream.model.time import Duration, Instant

LEFT: Final = 0
TAKEN: Final = 1
"""What `take` did; 2: passed over a duplicate."""


class ShortCut(Protocol):
    """What the identity stage needs of it."""

    def take(
        self, raw: bytes, timestamp: Instant, now: Instant, index: int, record: int, changes: Mapping[int, list[Any]]
    ) -> int:
        """Take the event in `raw` if it is known: its change is appended to its partition's list in `changes`."""

    def take_tally(self) -> dict[tuple[str, ...], int]:
        """Events taken and duplicates passed over since the last call."""


MakeShortCut = Callable[
    ["IdentityRules", "dict[ExternalId, ProfileId]", Callable[[str, "Instant", "Duration"], bool], "Duration", int],
    ShortCut,
]
"""From rules, the cached owners of users' ids, `first_seen`, the dedupe horizon and the number of partitions."""


def _compiled() -> MakeShortCut | None:
    try:
        from cdp_stream.stages._known import KnownEvents
    except ImportError:
        return None
    return KnownEvents


COMPILED: Final = _compiled()
