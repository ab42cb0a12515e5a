"""Step 5a: the external ids of a profile become identifier combinations, one outgoing message each."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, islice, product
from typing import Final, Literal

from msgspec import Struct

from cdp_stream.config.destination import MOBILE_TYPES, Destination, Strategy
from cdp_stream.model.profile import Combination, KnownId, ProfileState

COMBINATIONS_MAX: Final = 1_000
"""How many combinations of one profile a destination is told about; the first ones, if the ids form more."""

_ANONYMOUS: Final = "anonymous_id"
_DEFAULT_KINDS: Final[tuple[tuple[str, ...], ...]] = (("user_id",), ("email",))

Choice = tuple[str, Strategy]
"""An identifier type and which of the profile's values are taken."""


class Selection(Struct, frozen=True, cache_hash=True):
    """Which ids of a profile are combined, and how."""

    combine: Literal["product", "per_identifier"]
    kinds: tuple[tuple[Choice, ...], ...]
    """A combination has one id of each kind; a kind is one type, or types that stand for one another."""
    anonymous: Strategy | None
    """Which anonymous ids are told about, each alone; None for none."""


def entry_selection(destination: Destination, *, include_anonymous: bool) -> Selection:
    """Who is told of an entry or of a trait's value.

    By default user ids, emails and, with `send_mobile_ids`, advertising ids, and with `include_anonymous` anonymous
    ids; with `id_sync` exactly the types named there. Other types are sent only if named.
    """
    if not destination.id_sync:
        return exit_selection(destination, include_anonymous=include_anonymous)
    chosen = {item.type: item.strategy for item in destination.id_sync}
    kinds = [tuple((type_, chosen[type_]) for type_ in kind if type_ in chosen) for kind in _kinds(destination)]
    anonymous = chosen.get(_ANONYMOUS) if include_anonymous else None
    return Selection(destination.combine, tuple(kind for kind in kinds if kind), anonymous)


def exit_selection(destination: Destination, *, include_anonymous: bool) -> Selection:
    """Who is told of an exit, beside those who were told of the entry: strategies of `id_sync` do not hold, so that
    nobody lingers in the destination ("trait-activation/id-sync").
    """
    everything: Strategy = "all"
    kinds = tuple(tuple((type_, everything) for type_ in kind) for kind in _kinds(destination))
    return Selection(destination.combine, kinds, "all" if include_anonymous else None)


def _kinds(destination: Destination) -> list[tuple[str, ...]]:
    """All types that the destination may hear of: the default ones first, then those that only `id_sync` brings."""
    kinds = list(_DEFAULT_KINDS)
    if destination.send_mobile_ids:
        kinds.append(MOBILE_TYPES)
    usual = {_ANONYMOUS, *(type_ for kind in kinds for type_ in kind)}
    return kinds + [(item.type,) for item in destination.id_sync if item.type not in usual]


def combinations(profile: ProfileState, selection: Selection) -> tuple[Combination, ...]:
    """Whom the destination is told about: each combination once, in the order of the profile's external ids.

    `product`: one for every choice of an id of each kind; a kind of which the profile has none is left out.
    `per_identifier`: one for each id, kind by kind. Anonymous ids come last, each alone. The documentation contradicts
    itself ("using-engage-data": one call per identifier, one event per email; "faqs": all user ids); `product` is the
    reading in which every pair of ids is heard of together.
    """
    kinds = [ids for kind in selection.kinds if (ids := _of_kind(profile.external_ids, kind))]
    found: Iterable[Combination]
    if selection.combine == "product":
        found = product(*kinds) if kinds else ()
    else:
        found = ((pair,) for kind in kinds for pair in kind)
    alone: tuple[tuple[str, str], ...] = ()
    if selection.anonymous is not None:
        alone = _of_kind(profile.external_ids, ((_ANONYMOUS, selection.anonymous),))
    return tuple(islice(chain(found, ((pair,) for pair in alone)), COMBINATIONS_MAX))


def _of_kind(known: tuple[KnownId, ...], kind: tuple[Choice, ...]) -> tuple[tuple[str, str], ...]:
    """The ids of these types that are taken, in the profile's order."""
    strategies = dict(kind)
    ids: dict[tuple[str, str], int] = {}
    for one in known:
        # An id that a merge brought in twice keeps its first place.
        if one.type in strategies:
            ids.setdefault((one.type, one.id), one.first_seen)
    for type_, strategy in kind:
        if strategy != "all":
            others = [pair for pair in ids if pair[0] == type_]
            # By the time it was added; of equal times, the profile's own order decides.
            others.sort(key=ids.__getitem__)
            for pair in others[:-1] if strategy == "last" else others[1:]:
                del ids[pair]
    return tuple(ids)
