"""Which worker gets which partition: evenly, and where the partition's state is already.

Moving a partition costs a restore, so one that is owned stays where it is as far as the shares allow; one without an
owner goes to a worker that has its state on disk, then to whoever has the fewest. Faust's own assignors know nothing of
our state. Every worker of a group must use this one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from faust.assignor.client_assignment import ClientAssignment
from faust.assignor.partition_assignor import PartitionAssignor
from msgspec import Struct

_VERSION: Final = 1


class Holding(Struct, frozen=True):
    """What a worker says of itself when it joins."""

    generation: int = -1
    """Of the group, when `owned` was so: of two that claim to own a partition the later is right."""
    owned: tuple[int, ...] = ()
    stored: tuple[int, ...] = ()
    """Partitions whose state lies on its disk."""


def share_out(partitions: Sequence[int], holdings: Mapping[str, Holding]) -> dict[str, list[int]]:
    """Partitions by member: shares differ by at most one. The order of the members never matters."""
    shares: dict[str, list[int]] = {member: [] for member in sorted(holdings)}
    least, larger = divmod(len(partitions), len(shares))
    left = sorted(partitions)
    rooms = _Rooms(shares, least, larger)
    owners = _owners(holdings)
    for partition in list(left):
        member = owners.get(partition)
        if member is not None and rooms.take(member, partition):
            left.remove(partition)
    for partition in list(left):
        stored = [member for member in shares if partition in holdings[member].stored]
        for member in sorted(stored, key=lambda member: (len(shares[member]), member)):
            if rooms.take(member, partition):
                left.remove(partition)
                break
    for partition in left:
        for member in sorted(shares, key=lambda member: (len(shares[member]), member)):
            if rooms.take(member, partition):
                break
    return {member: sorted(share) for member, share in shares.items()}


@dataclass(slots=True)
class _Rooms:
    """How much each may still take: everybody `least`, and `larger` of them one more."""

    shares: dict[str, list[int]]
    least: int
    larger: int

    def take(self, member: str, partition: int) -> bool:
        share = self.shares[member]
        if len(share) > self.least or (len(share) == self.least and self.larger == 0):
            return False
        if len(share) == self.least:
            self.larger -= 1
        share.append(partition)
        return True


def _owners(holdings: Mapping[str, Holding]) -> dict[int, str]:
    """Who owns each partition now; of two that say so, the one of the later generation."""
    owners: dict[int, str] = {}
    for member in sorted(holdings, key=lambda member: (holdings[member].generation, member)):
        owners.update(dict.fromkeys(holdings[member].owned, member))
    return owners


class StickyAssignor(PartitionAssignor):
    """`share_out` as Faust and the group protocol want it; all topics of a stage have the same partitions."""

    holding: Callable[[], Holding] = Holding
    """Set per app by `assignor_for`."""

    @property
    def name(self) -> str:
        """The protocol's name in the group."""
        return "cdp-stream-sticky"

    @property
    def version(self) -> int:
        """Of what members say of themselves."""
        return _VERSION

    def metadata(self, topics: set[str]) -> ConsumerProtocolMemberMetadata:
        """What this member says when it joins."""
        said = msgspec.json.encode(type(self).holding())
        return ConsumerProtocolMemberMetadata(_VERSION, list(topics), said)

    def assign(
        self, cluster: ClusterMetadata, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        """Everybody's share, decided by the group's leader."""
        holdings = {member: msgspec.json.decode(said.user_data, type=Holding) for member, said in members.items()}
        topics = sorted({topic for said in members.values() for topic in said.subscription})
        shares: dict[str, list[tuple[str, list[int]]]] = {member: [] for member in members}
        for topic in topics:
            there = cluster.partitions_for_topic(topic) or set()
            for member, share in share_out(sorted(there), holdings).items():
                if share:
                    shares[member].append((topic, share))
        return {member: ConsumerProtocolMemberAssignment(_VERSION, share, b"") for member, share in shares.items()}

    def on_assignment(self, assignment: Any) -> None:
        """Remember it for Faust."""
        self._assignment = ClientAssignment(
            actives={topic: list(partitions) for topic, partitions in assignment.assignment}, standbys={}
        )


def assignor_for(holding: Callable[[], Holding]) -> type[StickyAssignor]:
    """An assignor that says `holding()` of this process."""
    return type("StickyAssignor", (StickyAssignor,), {"holding": staticmethod(holding)})
