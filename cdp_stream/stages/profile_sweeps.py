"""What goes through all profiles of a partition, step by step: a new topology version, and a resync."""

from __future__ import annotations

from collections.abc import Callable
from math import gcd
from typing import Final

import msgspec

from cdp_stream.config.topology import Topology
from cdp_stream.destinations.lists import list_cadences, next_sync
from cdp_stream.model.change import Resync, TopologyApplied
from cdp_stream.model.ids import USERS, ProfileId
from cdp_stream.model.profile import PastEvent
from cdp_stream.pipeline import compile_topology, past_matters, reconsider, resync
from cdp_stream.stages.history import retained
from cdp_stream.stages.profile_shapes import Parked, cause_of
from cdp_stream.stages.profile_time import pass_time
from cdp_stream.stages.profile_work import PartitionWork

_PAST_EVENTS_A_UNIT: Final = 4
"""How many past events, folded anew, count as much as one due time."""


def put_in_force(work: PartitionWork, parked: Parked, change: TopologyApplied) -> bool:
    """A new version: what was due before it fires under the old one, then every profile is looked at anew.

    False when the step is full before. Profiles that wait have it wait with the rest.
    """
    barrier = work.barrier
    # Not by the version: one that is in force already may be put in force again.
    if not barrier.reconsidered_from:
        if barrier.topology_version is not None and not pass_time(work, parked):
            return False
        compiled = compile_topology(Topology.from_canonical(change.topology), since=change.since)
        work.keep_topology(compiled)
        before = barrier.topology_version or change.version
        for profile_id in work.states.parked_ids():
            work.park(profile_id, msgspec.structs.replace(parked, topology_version=before))
        barrier.topology_version = change.version
        barrier.reconsidered_from = before
        for name, every in compiled.routes.cadences.items():
            barrier.cadences[name] = gcd(every, barrier.cadences.get(name, 0))
        work.lists.replan(list_cadences(compiled.routes), change.now)
    before = barrier.reconsidered_from or change.version
    under_the_former = msgspec.structs.replace(parked, topology_version=before)

    def look(profile_id: ProfileId) -> None:
        # Profiles that wait have it in their queue already.
        if not work.states.is_parked(profile_id):
            reconsider_one(work, profile_id, under_the_former, change)

    if not _sweep(work, look):
        return False
    barrier.reconsidered_from = ""
    return True


def reconsider_one(work: PartitionWork, profile_id: ProfileId, parked: Parked, change: TopologyApplied) -> None:
    """Look at one profile anew, with its past where the version computes what the one before it did not."""
    profile = work.states.get(profile_id)
    if profile is None:
        # It was absorbed itself while this waited, and its survivor is looked at in its own place.
        return
    before, after = work.topology(parked.topology_version), work.topology(change.version)
    past: list[PastEvent] = []
    if before.retention != after.retention:
        # What has not been cut yet is not to come to light under limits that are wider.
        work.let_go(work.states.histories.cut(profile_id, before.retention, change.now))
    if past_matters(before, after) and profile.collection == USERS:
        # What was kept is what the version before said.
        past = retained(work.states.histories.of(profile_id), before.retention, change.now)
    cause = cause_of("topology", parked, change.now, change.version)
    update = reconsider(profile, before, after, cause, past)
    work.states.put(update.profile)
    work.emit(f"{parked.offset}/{change.index}/{profile_id}", update)
    work.units += 1 + len(past) // _PAST_EVENTS_A_UNIT
    work.tally["backfill", "profiles"] += 1
    work.tally["backfill", "events"] += len(past)


def resync_all(work: PartitionWork, parked: Parked, change: Resync) -> bool:
    """Tell a destination of every member again, after what was due before; False when the step is full before."""
    if not pass_time(work, parked):
        return False
    every = work.topology(parked.topology_version).routes.cadences.get(change.destination)
    if every is not None:
        work.lists.tell_again(change.destination, change.audience_key, next_sync(change.now, every))

    def tell(profile_id: ProfileId) -> None:
        if work.states.is_parked(profile_id):
            work.park(profile_id, parked)
        else:
            resync_one(work, profile_id, parked, change)

    return _sweep(work, tell)


def resync_one(work: PartitionWork, profile_id: ProfileId, parked: Parked, change: Resync) -> None:
    """Tell the destination again of one profile."""
    profile = work.states.get(profile_id)
    if profile is None:
        # Absorbed, too: its survivor is told of in its own place.
        return
    cause = cause_of("resync", parked, change.now, change.message_id)
    what = (change.audience_key, change.destination)
    update = resync(profile, what, work.topology(parked.topology_version), cause)
    work.states.put(update.profile)
    work.emit(f"{parked.offset}/{change.index}/{profile_id}", update)
    work.units += 1


def _sweep(work: PartitionWork, visit: Callable[[ProfileId], None]) -> bool:
    """Visit every profile by id, from where the step before ended; False when this step is full before the last."""
    barrier = work.barrier
    for profile_id in work.states.ids_after(barrier.reconsidered):
        if work.is_full():
            return False
        visit(profile_id)
        barrier.reconsidered = profile_id
        barrier.reconsidered_count += 1
    barrier.reconsidered = ""
    barrier.reconsidered_count = 0
    return True
