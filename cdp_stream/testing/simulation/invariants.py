"""The invariants, by number: what always holds of a space's topics and state, or else something is broken."""

from __future__ import annotations

import traceback
from typing import Final

from msgspec import Struct

INVARIANTS: Final[dict[int, tuple[str, str]]] = {
    1: ("run", "Everything that was sent is decided and stored in the end; nobody waits for ever."),
    2: ("run", "No owner stops unless it is killed, fenced by a later one, or left without an answer."),
    3: ("log", "Each source record is in exactly one slice that counts, in the order of its partition."),
    4: ("log", "Once a claim has its epoch, no partition takes a batch of an older owner."),
    5: ("outputs", "Every `src` stands at most once in its topic."),
    6: ("outputs", "The rows of one key in a topic stand in the order of the identity log (`seq`)."),
    7: ("outputs", "Entered and exited alternate per profile and audience, and begin with entered."),
    8: ("outputs", "Entered and exited, or added and removed, alternate per destination, audience and combination."),
    9: ("outputs", "A trait change names as `previous` the value that the one before it told."),
    10: ("state", "No position of a barrier moves backwards: input, sources, outputs, `now`."),
    11: ("state", "A store holds what its changelog holds, after every commit."),
    12: ("state", "No stored position of an output lies beyond that output's end."),
    13: ("graph", "An external id stands on one profile at most, and there once."),
    14: ("graph", "Owners and profiles agree: each mapping has its owner row, each owner row its mapping."),
    15: ("graph", "No profile holds more values of a type than a limit for ever allows, under any version there was."),
    16: ("graph", "No profile has more merges or mappings than the caps allow, under any version there was."),
    17: ("graph", "Profiles ever created are those that live and those that were absorbed; numbers are unique."),
    18: ("graph", "A redirect leads to a living profile, which lists the absorbed one; the two lists agree."),
    19: ("graph", "Links are mutual, between living profiles of different collections."),
    20: ("graph", "A dedupe mark is listed in the index by which it will expire, and lies not after `now`."),
    21: ("state", "The topology in force, and every version a waiting change needs, is in the state."),
    22: ("profiles", "A profile's state lies in the partition of its id, and an absorbed profile has none."),
    23: ("profiles", "A queue of parked changes is whole and begins with a merger that waits for a shipment."),
    24: ("profiles", "Pieces of shipments are whole or still arriving, and leave when they are taken in."),
    25: ("profiles", "The history of a profile is that of a living one, and within its limit."),
    26: (
        "profiles",
        "A destination holds open combinations only of an audience's members; a list until its next sync.",
    ),
    27: ("stages", "At rest, both stages know the same profiles with the same external ids."),
    28: ("stages", "At rest, nothing is parked and no piece of a shipment is left."),
    29: ("stages", "At rest, the profile stage has done exactly what the identity stage has sent."),
    30: ("end", "The ledger alone gives the graph: profiles, identifiers, mergers."),
    31: (
        "end",
        "Traits and memberships equal a run in which each event had been keyed to the survivor from the start.",
    ),
    32: ("end", "Profiles and every output equal the recomputation from the identity log and the sources."),
    33: ("end", "The same with another number of partitions and with slices cut elsewhere (digest)."),
    34: ("end", "Memberships in the state are those that audience-changes told last."),
    35: ("profiles", "The index of due times holds each profile that does not wait at its earliest instant, once."),
    36: ("outputs", "A shipment stands in its topic only after all that its profile told at that change."),
    37: ("outputs", "A list begins with a whole sync; syncs come in order, each in parts from 1 to the last."),
    38: ("profiles", "Nothing is kept for a sync of a list that is told."),
    39: (
        "end",
        "The list of a declared audience, as told and with what is kept for its next sync, is what the profiles say.",
    ),
}
"""Number: where it is looked at, and what holds."""

_SHOWN_MAX: Final = 20


class Violation(Struct, frozen=True):
    """Something that must not be: which invariant, where, and what was found."""

    invariant: int
    where: str
    found: str

    def __str__(self) -> str:
        """`invariant 5 (…): ledger/0: …`."""
        return f"invariant {self.invariant} ({INVARIANTS[self.invariant][1]}): {self.where}: {self.found}"


class Violations:
    """Collects them; a run ends soon after the first."""

    def __init__(self) -> None:
        self.found: list[Violation] = []
        self.count = 0

    def add(self, invariant: int, where: str, found: str, error: BaseException | None = None) -> None:
        """One more; beyond a screenful they are only counted."""
        self.count += 1
        if error is not None:
            found += "\n" + "".join(traceback.format_exception(error))
        if len(self.found) < _SHOWN_MAX:
            self.found.append(Violation(invariant, where, found))
