"""Step 2c: limits. Which of the event's identifiers must stay out, so that no profile holds too many of a type?

As long as the profile that would result breaks a limit, the lowest-ranked identifier is left out and the search begins
again with the rest (public page "identity-resolution-onboarding").
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from msgspec import Struct

from cdp_stream.identity.rules import IdentityRules
from cdp_stream.model.graph import GraphProfile
from cdp_stream.model.ids import ExternalId, ProfileId
from cdp_stream.model.time import Instant

LIMIT_EXCEEDED: Final = "Identifier value limit exceeded"
TIME_LIMIT_EXCEEDED: Final = "Identifier value time limit exceeded"

Owners = dict[ExternalId, ProfileId | None]
"""Who holds each identifier of the event now; None: nobody."""


class Demoted(Struct, frozen=True):
    """An identifier that was left out, and the documented name of the reason."""

    external_id: ExternalId
    violation: str


def demote(
    ids: Sequence[ExternalId],
    owners: Owners,
    profiles: dict[ProfileId, GraphProfile],
    time: Instant,
    rules: IdentityRules,
    ranks: dict[str, int],
) -> tuple[list[ExternalId], list[Demoted]]:
    """The identifiers that stay, in extraction order, and those that do not, in order of leaving.

    `profiles`: every profile in `owners`. `time`: the event's, on which periods slide; a mapping counts if it was made
    later than `time` less the period, so one made by an event of a later time counts as well.
    """
    kept, demoted = list(ids), []
    for _ in range(len(ids) - 1):
        matched = [profiles[owner] for owner in dict.fromkeys(owners[i] for i in kept) if owner is not None]
        new = [external_id for external_id in kept if owners[external_id] is None]
        broken = _broken(matched, new, time, rules)
        if not broken:
            break
        lowest = _lowest(_candidates(kept, owners, broken, ranks) if rules.minimal else kept, ranks)
        kept.remove(lowest)
        timed = any(rules.limit(type_).period is not None for type_ in broken)
        demoted.append(Demoted(lowest, TIME_LIMIT_EXCEEDED if timed else LIMIT_EXCEEDED))
    return kept, demoted


def _broken(
    matched: Sequence[GraphProfile], new: Sequence[ExternalId], time: Instant, rules: IdentityRules
) -> frozenset[str]:
    """Types of which the resulting profile would hold more than the limit, and more than any matched one does now:
    a profile that is over a limit already, because rules were tightened, still resolves.
    """
    if not new and len(matched) < 2:
        return frozenset()
    # Of types of which nothing comes, a profile alone holds no more than it does now.
    types = None if len(matched) > 1 else {external_id.type for external_id in new}
    held = [_counts(profile, types, time, rules) for profile in matched]
    total: dict[str, int] = {}
    for counts in held:
        for type_, count in counts.items():
            total[type_] = total.get(type_, 0) + count
    for external_id in new:
        total[external_id.type] = total.get(external_id.type, 0) + 1
    return frozenset(
        type_
        for type_, count in total.items()
        if count > rules.limit(type_).count and count > max((counts.get(type_, 0) for counts in held), default=0)
    )


def _counts(
    profile: GraphProfile, types: Collection[str] | None, time: Instant, rules: IdentityRules
) -> dict[str, int]:
    """How many values of each type, or of these, count on the profile at that time. The edge of the period is out."""
    counts: dict[str, int] = {}
    for mapping in profile.mappings:
        if types is not None and mapping.type not in types:
            continue
        period = rules.limit(mapping.type).period
        if period is None or mapping.mapped_at > time - period:
            counts[mapping.type] = counts.get(mapping.type, 0) + 1
    return counts


def _candidates(
    kept: Sequence[ExternalId], owners: Owners, broken: frozenset[str], ranks: dict[str, int]
) -> list[ExternalId]:
    """Those that can cause the conflict: new values of a broken type, and ids of other profiles than that of the
    event's most trusted id, which itself always stays.
    """
    best = min(kept, key=lambda external_id: ranks[external_id.type])
    home = owners[best]
    return [
        external_id
        for external_id in kept
        if external_id != best
        and (external_id.type in broken if owners[external_id] is None else owners[external_id] != home)
    ]


def _lowest(ids: Sequence[ExternalId], ranks: dict[str, int]) -> ExternalId:
    """The least trusted; inside one type the last extracted."""
    return max(reversed(ids), key=lambda external_id: ranks[external_id.type])
