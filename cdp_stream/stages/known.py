"""The compiled walk of the identity stage, where it could be built; None elsewhere.

The walk in Python is the reference: the compiled one equals it byte for byte, or leaves the event to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from cdp_stream.model.ports import Store
from cdp_stream.model.time import Duration, Instant
from cdp_stream.stages.native import NATIVE
from cdp_stream.stages.pending import GraphBytes

if TYPE_CHECKING:
    from cdp_stream.identity.rules import IdentityRules
    from cdp_stream.model.event import RawRecord
    from cdp_stream.stages.records import OutputRecord

OWNER_BYTES_MAX: Final = 1280 * 1024 * 1024
"""How much memory remembered owners may take: 32 bytes an external id, and a sixth more where there is room to grow."""
PROFILE_BYTES_MAX: Final = 64 * 1024 * 1024
"""The same for profiles, which are asked for only where something comes to them."""
MARK_BYTES_MAX: Final = 128 * 1024 * 1024
"""The same for the filters that tell which message ids were surely not seen: 13 bits each."""


class SliceWalk(Protocol):
    """Takes slices of records under one topology's rules into one graph."""

    @property
    def now(self) -> Instant:
        """Stream time up to the record that `advance` has named, this one included."""

    @property
    def index(self) -> int:
        """The index of the step's next change."""

    def begin(
        self,
        step: int,
        version: str,
        records: Sequence[RawRecord],
        times: tuple[Instant, Instant],
        given: tuple[Mapping[int, list[Any]], list[OutputRecord]],
    ) -> None:
        """A slice begins. `times`: stream time so far, and the append time of the entry. `given`: where its changes go, by
        partition, and its ledger rows.
        """

    def advance(self, index: int) -> int:
        """Go on; `index`: of the next change. The number of the record that is left to the walk in Python, which counts as
        done then; the number of records when none is.
        """

    def take_tally(self) -> Iterable[tuple[tuple[str, ...], int]]:
        """What was counted since the last call, and how often."""


class Core(NamedTuple):
    """What the compiled module makes."""

    graph: Callable[[Store, int, int], GraphBytes]
    """From a store, and how many profiles and links were ever made."""
    walk: Callable[[Any, IdentityRules, Sequence[str], Duration, int], SliceWalk]
    """From such a graph, rules, the keys of the context that are told, the dedupe horizon and the number of partitions."""


def core_of(
    module: Any, bytes_max: tuple[int, int, int] = (OWNER_BYTES_MAX, PROFILE_BYTES_MAX, MARK_BYTES_MAX)
) -> Core:
    """The compiled module's core, with these bounds of memory for owners, profiles and marks."""

    def graph(store: Store, profiles_count: int, links_count: int) -> GraphBytes:
        made: GraphBytes = module.IdentityGraph(store, profiles_count, links_count, bytes_max)
        return made

    return Core(graph, module.SliceWalk)


COMPILED: Final = None if NATIVE is None else core_of(NATIVE)
