"""Time passes in a partition: due times fire at their own instants, and the homes of lists hear which syncs are behind.

A due time fires before the next change of its profile, or when a clock passes it, whichever comes first in the log. What
it tells does not depend on which of them it was.
"""

from __future__ import annotations

import msgspec

from cdp_stream.model.ids import ProfileId
from cdp_stream.model.profile import Cause, ProfileState
from cdp_stream.model.time import Instant
from cdp_stream.pipeline import CompiledTopology, fire_due
from cdp_stream.stages.lists import passed_record
from cdp_stream.stages.profile_shapes import Parked, decode_parked
from cdp_stream.stages.profile_work import PartitionWork
from cdp_stream.stages.records import seq_text


def pass_time(work: PartitionWork, parked: Parked) -> bool:
    """Fire everything that is due, by instant, then profile id; False when the step is full before."""
    now = work.barrier.now
    topology = work.topology(work.barrier.topology_version or parked.topology_version)
    while (due := work.states.next_due(now)) is not None:
        if work.is_full():
            return False
        if not work.fire_in_core(*due, parked, topology.version):
            _fire(work, *due, topology, parked)
    work.states.due_passed(now)
    if work.states.parked_count():
        work.states.keep_clock(parked.offset, parked.change.index, msgspec.msgpack.encode(parked))
    work.barrier.passed = now
    report_passed(work)
    return True


def age(work: PartitionWork, profile_id: ProfileId, parked: Parked) -> bool:
    """Fire what is due of one profile at or before the change; False when the step is full before."""
    profile = work.states.get(profile_id)
    while profile is not None and (due := profile.due) is not None and due <= parked.change.now:
        if work.is_full():
            return False
        profile = _fire(work, due, profile_id, work.topology(parked.topology_version), parked)
    return True


def _fire(
    work: PartitionWork, instant: Instant, profile_id: ProfileId, topology: CompiledTopology, by: Parked
) -> ProfileState:
    """Fire one profile's due time. `by`: the change that it fires before, or the clock."""
    profile = work.states.get(profile_id)
    assert profile is not None, profile_id
    seq = seq_text(by.step, by.change.record)
    cause = Cause(kind="time", time=instant, now=by.change.now, message_id="", seq=seq)
    update = fire_due(profile, instant, topology, cause)
    assert update.profile.due is None or update.profile.due > instant, (profile_id, instant)
    work.states.put(update.profile)
    work.emit(f"due/{instant}/{profile_id}", update)
    work.tally["due",] += 1
    work.units += 1
    return update.profile


def report_passed(work: PartitionWork) -> None:
    """Tell the homes of lists which syncs are behind everything here: nothing more comes for them."""
    barrier = work.barrier
    wanted = [(barrier.reported.get(name, -1) // every + 1) * every for name, every in barrier.cadences.items()]
    if not wanted or barrier.passed < min(wanted):
        return
    until = _behind_everything(work, min(wanted))
    for name, every in sorted(barrier.cadences.items()):
        sync = until // every * every
        if sync > barrier.reported.get(name, -1):
            barrier.reported[name] = sync
            work.send(passed_record(name, work.partition, sync, work.partitions))


def _behind_everything(work: PartitionWork, wanted: Instant) -> Instant:
    """Up to when nothing that was due is left, also not of a profile that waits; before `wanted`, some such instant."""
    until = work.barrier.passed
    for profile_id in work.states.parked_ids():
        held_back = work.held_back.get(profile_id)
        if held_back is None:
            held_back = work.held_back[profile_id] = _held_back(work, profile_id)
        until = min(until, held_back)
        if until < wanted:
            # Clocks and shipments come all the time, and over a backlog thousands wait.
            return until
    due = work.states.next_due(work.barrier.now)
    return until if due is None else min(until, due[0] - 1)


def _held_back(work: PartitionWork, profile_id: ProfileId) -> Instant:
    """Up to when nothing that was due is left of a profile that waits."""
    until = decode_parked(next(work.states.parked(profile_id))).change.now
    profile = work.states.get(profile_id)
    return until if profile is None or profile.due is None else min(until, profile.due - 1)
