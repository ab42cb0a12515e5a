"""Which form a stage's state has, and which engine decided it. Both are numbers in the barrier.

The *state format* says how keys and values are written. A state of an older format is taken over where this version
knows how, and refused otherwise, with the way on; a newer one is always refused. The *decision version* goes up when the
engine decides differently from before. That is no matter for state that is stored; but a step whose outputs were sent
and not stored is decided once more after a crash, and must come out the same. So with such outputs in the log another
decision version does not start.
"""

from __future__ import annotations

from typing import Final, Protocol, TypeVar

import msgspec

from cdp_stream.errors import StateError

STATE_FORMAT: Final = 3
"""0 had no numbers in its barriers. 0 and 1 held topology versions without the instants from which audiences count, and
histories of message ids without events; before 3 profiles listed their links. All are read as they are, and written in
the present form from then on.
"""
STATE_FORMAT_OLDEST: Final = 0
"""The oldest format that this version takes over."""
DECISION_VERSION: Final = 4


class Stamped(Protocol):
    """What of a barrier this module reads and writes."""

    state_format: int
    decided_by: int


Barrier = TypeVar("Barrier", bound=Stamped)


class _Stamp(msgspec.Struct):
    """The part of every barrier, of any format, that says how to read the rest."""

    state_format: int = 0


def decode_barrier(raw: bytes | None, kind: type[Barrier]) -> Barrier:
    """The barrier in these bytes, or a new one. Raises StateError when this version cannot read the state."""
    if raw is None:
        fresh = kind()
        stamp(fresh)
        return fresh
    try:
        require_readable(msgspec.msgpack.decode(raw, type=_Stamp).state_format)
        return msgspec.msgpack.decode(raw, type=kind)
    except msgspec.DecodeError as error:
        raise StateError(
            f"the state's barrier cannot be read: {error}; was the folder or the changelog damaged?"
        ) from None


def require_readable(found: int) -> None:
    """Raise StateError for a format that this version does not know, or no longer."""
    if found > STATE_FORMAT:
        raise StateError(
            f"the state has format {found}, written by a later version of cdp-stream; this one reads formats "
            f"{STATE_FORMAT_OLDEST} to {STATE_FORMAT}. Start the later version again; nothing has been changed"
        )
    if found < STATE_FORMAT_OLDEST:
        raise StateError(
            f"the state has format {found}; this version of cdp-stream reads formats {STATE_FORMAT_OLDEST} to "
            f"{STATE_FORMAT}. Start a version between the two once, until it is ready, then this one; or begin a new "
            "space over the same sources. Nothing has been changed"
        )


def stamp(barrier: Stamped) -> None:
    """Say in the barrier who writes it."""
    barrier.state_format = STATE_FORMAT
    barrier.decided_by = DECISION_VERSION


def require_same_decisions(decided_by: int, in_flight: int, owner: str) -> None:
    """Raise StateError when outputs that were sent and not stored came from an engine that decides differently."""
    if in_flight and decided_by != DECISION_VERSION:
        raise StateError(
            f"{owner}: {in_flight} outputs were sent and not stored by a version of cdp-stream with decision version "
            f"{decided_by}; this one has {DECISION_VERSION} and might decide the step otherwise. Start the former "
            "version until it is ready, stop it, then start this one"
        )
