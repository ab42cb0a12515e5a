"""What the profile stage is told of an event that has been resolved: the changes that travel between the two stages."""

from __future__ import annotations

from typing import Any

import msgspec

from cdp_stream.model.change import SOURCE_KEY, Absorbed, Absorbs, NewExternalId, ProfileEvent
from cdp_stream.model.event import Event
from cdp_stream.model.graph import IdentityOutcome, Resolution
from cdp_stream.model.time import Instant
from cdp_stream.pipeline import CompiledTopology


def context_of(event: Event, source: str, topology: CompiledTopology) -> dict[str, Any] | None:
    """What of the context the profile stage is told: the parts that definitions read or the history keeps, and, where
    definitions ask for it, the name of the event's source. None for nothing.
    """
    context = {key: event.context[key] for key in topology.context_keys if key in event.context}
    if SOURCE_KEY in topology.context_keys:
        context[SOURCE_KEY] = source
    return context or None


def changes_of(
    event: Event,
    outcome: IdentityOutcome,
    index: int,
    record: int,
    now: Instant,
    context: dict[str, Any] | None = None,
) -> list[ProfileEvent | Absorbed | Absorbs]:
    """What the profile stage must be told of an event: mergers first, then the event itself, users before accounts.

    `index`: of the first change, in the log entry whose `record`-th record the event is. `context`: by `context_of`.
    """
    changes: list[ProfileEvent | Absorbed | Absorbs] = []
    traits = event.traits or None
    if outcome.user is not None:
        _mergers(changes, outcome.user, event, index, record, now)
        of_user = traits if event.type == "identify" else None
        told = _told(event, outcome.user, index + len(changes), record, now, of_user)
        changes.append(msgspec.structs.replace(told, context=context) if context else told)
    if outcome.account is not None:
        _mergers(changes, outcome.account, event, index, record, now)
        changes.append(_told(event, outcome.account, index + len(changes), record, now, traits))
    return changes


def _mergers(
    changes: list[ProfileEvent | Absorbed | Absorbs],
    resolution: Resolution,
    event: Event,
    index: int,
    record: int,
    now: Instant,
) -> None:
    if not resolution.absorbed:
        return
    survivor = resolution.profile.id
    about: dict[str, Any] = {"message_id": event.message_id, "time": event.time, "record": record, "now": now}
    for absorbed in resolution.absorbed:
        changes.append(Absorbed(profile_id=absorbed, into=survivor, index=index + len(changes), **about))
    changes.append(Absorbs(profile_id=survivor, absorbed=resolution.absorbed, index=index + len(changes), **about))


def _told(
    event: Event, resolution: Resolution, index: int, record: int, now: Instant, traits: dict[str, Any] | None
) -> ProfileEvent:
    profile = resolution.profile
    return ProfileEvent(
        index=index,
        record=record,
        now=now,
        profile_id=profile.id,
        collection=profile.collection,
        type=event.type,
        message_id=event.message_id,
        time=event.time,
        name=event.name,
        properties=event.properties or None,
        traits=traits,
        created=profile.created if resolution.created else None,
        external_ids=tuple([NewExternalId(m.type, m.value, m.mapped_at) for m in resolution.mapped])
        if resolution.mapped
        else (),
    )
