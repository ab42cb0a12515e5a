"""Faults put into the code on purpose. Each is one patch, the seed whose run catches it, and the invariant that says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import pytest
from aiokafka.structs import TopicPartition

import cdp_stream.stream.owner
from cdp_stream.config.topology import Topology, canonical
from cdp_stream.language.values import measure
from cdp_stream.model.change import Absorbs
from cdp_stream.model.event import RawRecord
from cdp_stream.pipeline import absorb_profiles
from cdp_stream.stages import profile_merges, profile_time, profile_work, profiles
from cdp_stream.stages.entries import decode_entry
from cdp_stream.stages.graph import GraphDraft
from cdp_stream.stages.identity import BARRIER_KEY, IdentityStage
from cdp_stream.stages.lists import Lists, ListsPassed
from cdp_stream.stages.profile_states import ProfileDraft
from cdp_stream.stages.profile_work import PartitionWork
from cdp_stream.stages.profiles import ProfileStage
from cdp_stream.stages.records import SHIPMENTS, OutputRecord
from cdp_stream.stream.identity import IdentityOwner
from cdp_stream.stream.inputs import Inbox, Inputs
from cdp_stream.stream.log import NOT_TOLD
from cdp_stream.stream.owner import Owner
from cdp_stream.stream.profiles import ProfileOwner
from cdp_stream.stream.step import StepWriter
from cdp_stream.testing.simulation import client
from cdp_stream.testing.simulation.plan import Plan, plan_of
from cdp_stream.traits.kinds.totals import Sum

Patch = pytest.MonkeyPatch
EVENTS = 100
_VERSIONS = 6
"""How many versions come one after the other in a hurried plan, if it has more than one."""
LATE_S = 2.0
"""How long shipments are let lie at the start of an owner, in simulated seconds."""


@dataclass(frozen=True)
class Mutation:
    """One fault: what it does, how it is put in, and which seed finds it."""

    name: str
    says: str
    put_in: Callable[[Patch], None]
    seed: int
    invariant: int
    """The one that is expected to say so; others may, too."""
    of_core: bool = False
    """It is in what the compiled core and the rooms hand to one another."""
    hurried: bool = False
    """Needs many mergers, versions and deaths in a row, which ordinary plans seldom have."""

    def plan(self, seed: int) -> Plan:
        """The run in which it is looked for."""
        plan = plan_of(seed, EVENTS)
        if not self.hurried:
            return plan
        faults = replace(
            plan.faults, lives=100, actions_mean=45, slow_partitions=0.5, zombies=0, graceful=0, passed_over=0
        )
        sizes = {"people": 6, "links": 0.3, "step_events": 12, "step_bytes": 2_000_000, "traffic_s": 3.0}
        hurried = plan_of(seed, 150, store="memory")
        versions = tuple(_all_told(version) for version in hurried.versions * 4)[:_VERSIONS]
        return replace(hurried, faults=faults, versions=versions, source_partitions=2, chains=0.05, **sizes)


def _all_told(topology: Topology) -> Topology:
    """Every audience takes everybody and tells everyone; one that a second order ends is among them."""
    told = {"include_anonymous": True, "destinations": ["crm", "ads"]}
    form = canonical(topology)
    return Topology.from_canonical({**form, "audiences": [{**one, **told} for one in form["audiences"]]})


def _reading_begins_late(patch: Patch) -> None:
    _read_from(patch, 1)


def _read_from(patch: Patch, ahead: int) -> None:
    follow = Inputs.follow

    def from_there(self: Inputs, where: TopicPartition, start: int) -> Inbox:
        return follow(self, where, max(0, start + ahead))

    patch.setattr(Inputs, "follow", from_there)


def _own_clock_for_the_log_s(patch: Patch) -> None:
    append = StepWriter.append

    async def by_own_clock(self: StepWriter, where: TopicPartition, value: bytes) -> Any:
        taken = await append(self, where, value)
        clock = getattr(decode_entry(value), "clock", NOT_TOLD)
        return replace(taken, appended_ms=clock if taken.appended_ms != NOT_TOLD else NOT_TOLD)

    patch.setattr(StepWriter, "append", by_own_clock)


def _gap_of_entries_not_read(patch: Patch) -> None:
    read = IdentityOwner._do_present_entries

    async def only_whole(self: IdentityOwner, before: int | None = None) -> None:
        if before is None:
            await read(self)

    patch.setattr(IdentityOwner, "_do_present_entries", only_whole)


def _waits_lose_clocks(patch: Patch) -> None:
    _let_shipments_be_late(patch)
    patch.setattr(ProfileDraft, "keep_clock", lambda self, offset, index, raw: None)


def _let_shipments_be_late(patch: Patch) -> None:
    """No fault: an owner takes its first shipments in when it has been at work for a while, so that clocks pass before."""
    take = ProfileOwner._take_shipments

    async def late(self: ProfileOwner, inbox: Inbox) -> None:
        await asyncio.sleep(LATE_S)
        await take(self, inbox)

    patch.setattr(ProfileOwner, "_take_shipments", late)


def _by_the_rooms_alone(patch: Patch) -> None:
    """No fault: the compiled core, which would do without the code that the fault is in, is not asked."""
    patch.setattr(profile_work, "NATIVE", None)


def _due_at_the_clock(patch: Patch) -> None:
    _by_the_rooms_alone(patch)
    fire = profile_time.fire_due

    def at_the_clock(profile: Any, instant: int, topology: Any, cause: Any) -> Any:
        return fire(profile, max(instant, cause.now), topology, cause)

    patch.setattr(profile_time, "fire_due", at_the_clock)


def _played_under_the_newest(patch: Patch) -> None:
    _by_the_rooms_alone(patch)
    topology = PartitionWork.topology

    def newest(self: PartitionWork, version: str) -> Any:
        return topology(self, self.barrier.topology_version or version)

    patch.setattr(PartitionWork, "topology", newest)


def _claim_once(patch: Patch) -> None:
    async def claim(log: Any, transactional_id: str, outputs: Any, is_ours: Any) -> tuple[Any, int]:
        producer_id, epoch = await log.mark(transactional_id, outputs)
        return await log.writer(producer_id, epoch), producer_id

    patch.setattr(cdp_stream.stream.owner, "claim", claim)


def _claim_without_epochs(patch: Patch) -> None:
    async def claim(log: Any, transactional_id: str, outputs: Any, is_ours: Any) -> tuple[Any, int]:
        await log.mark(transactional_id, outputs)
        producer_id, epoch = await log.initialise(transactional_id)
        return await log.writer(producer_id, epoch), producer_id

    patch.setattr(cdp_stream.stream.owner, "claim", claim)


def _claim_without_markers(patch: Patch) -> None:
    async def claim(log: Any, transactional_id: str, outputs: Any, is_ours: Any) -> tuple[Any, int]:
        producer_id, epoch = await log.initialise(transactional_id)
        return await log.writer(producer_id, epoch), producer_id

    patch.setattr(cdp_stream.stream.owner, "claim", claim)


def _changelog_first(patch: Patch) -> None:
    send, store = ProfileOwner._finish, Owner.store_step

    async def finish(self: ProfileOwner, step: Any, began: float) -> None:
        if step is None:
            return
        await store(self._owner, step.writes, self.stage.barrier, self.stage.encoded_barrier())
        step.writes = {}
        await send(self, step, began)

    patch.setattr(ProfileOwner, "_finish", finish)


def _store_first(patch: Patch) -> None:
    async def store_step(self: Owner, writes: Any, barrier: Any, encoded: bytes) -> None:
        changes = {**writes, BARRIER_KEY: encoded}
        self.store.commit(changes)
        barrier.changelog = await self.writer.changelog(changes)

    patch.setattr(Owner, "store_step", store_step)


def _no_changelog_of_deletions(patch: Patch) -> None:
    changelog = StepWriter.changelog

    async def without(self: StepWriter, changes: Any) -> int:
        return await changelog(self, {key: value for key, value in changes.items() if value is not None})

    patch.setattr(StepWriter, "changelog", without)


def _send_again(patch: Patch) -> None:
    send = StepWriter.send

    async def forgetful(self: StepWriter, records: Any, positions: Any) -> list[int]:
        self._sent.clear()
        return await send(self, records, positions)

    patch.setattr(StepWriter, "send", forgetful)


def _positions_run_ahead(patch: Patch) -> None:
    _let_shipments_be_late(patch)
    send = StepWriter.send

    async def ahead(self: StepWriter, records: Any, positions: Any) -> list[int]:
        offsets = await send(self, records, positions)
        for record, offset in zip(records, offsets, strict=True):
            topic = positions.setdefault(self._names.of_role(record.topic), {})
            topic[record.partition] = max(offset + 1, topic.get(record.partition, 0))
        return offsets

    patch.setattr(StepWriter, "send", ahead)


def _src_by_message(patch: Patch) -> None:
    finish = PartitionWork.finish

    def numbered(self: PartitionWork, *, done: bool) -> Any:
        step = finish(self, done=done)
        step.outputs = [
            msgspec.structs.replace(record, src="/".join([*record.src.split("/")[:3], "0", str(number)]))
            if "/due/" not in record.src
            else record
            for number, record in enumerate(step.outputs)
        ]
        return step

    patch.setattr(PartitionWork, "finish", numbered)


def _merge_too_early(patch: Patch) -> None:
    absorb, arrived = profiles.absorb, ProfileDraft.has_arrived

    def impatient(work: PartitionWork, parked: Any, change: Absorbs) -> bool:
        here = tuple(absorbed for absorbed in change.absorbed if arrived(work.states, absorbed))
        return absorb(work, parked, msgspec.structs.replace(change, absorbed=here))

    patch.setattr(profiles, "absorb", impatient)


def _overtake_the_queue(patch: Patch) -> None:
    patch.setattr(ProfileDraft, "park", lambda self, profile_id, raw: None)


def _queue_never_plays(patch: Patch) -> None:
    patch.setattr(ProfileStage, "_play", lambda self, profile_id: None)


def _now_per_step(patch: Patch) -> None:
    decide = IdentityStage.decide

    def at_the_end(self: IdentityStage, offset: int, append_time: int, entry: Any, records: Any) -> Any:
        latest = max((record.timestamp for record in records), default=0)
        timed: list[RawRecord] = [msgspec.structs.replace(record, timestamp=latest) for record in records]
        return decide(self, offset, append_time, entry, timed)

    patch.setattr(IdentityStage, "decide", at_the_end)


def _sync_at_the_first_word(patch: Patch) -> None:
    pass_by = Lists.pass_by

    def everybody(self: Lists, passed: ListsPassed) -> None:
        for number in range(self._partitions):
            pass_by(self, msgspec.structs.replace(passed, partition=number))

    patch.setattr(Lists, "pass_by", everybody)


def _float_sum(patch: Patch) -> None:
    _by_the_rooms_alone(patch)
    patch.setattr(Sum, "add", lambda self, state, value, *_: (state or 0.0) + (measure(value) or 0.0))
    patch.setattr(Sum, "merge", lambda self, state, other: (state or 0.0) + (other or 0.0))
    patch.setattr(Sum, "read", lambda self, state: state)


def _mark_not_written(patch: Patch) -> None:
    take = GraphDraft.take_writes

    def without(self: GraphDraft, *arguments: Any) -> Any:
        return {key: value for key, value in take(self, *arguments).items() if not key.startswith(b"m")}

    patch.setattr(GraphDraft, "take_writes", without)


def _mark_not_indexed(patch: Patch) -> None:
    take = GraphDraft.take_writes

    def without(self: GraphDraft, *arguments: Any) -> Any:
        return {
            key: value for key, value in take(self, *arguments).items() if not key.startswith(b"x") or value is None
        }

    patch.setattr(GraphDraft, "take_writes", without)


def _trim_before_commit(patch: Patch) -> None:
    _by_the_rooms_alone(patch)
    take = ProfileDraft.take_writes

    def trimmed(self: ProfileDraft) -> Any:
        self._cache.clear()
        self._touched.clear()
        return take(self)

    patch.setattr(ProfileDraft, "take_writes", trimmed)


def _redirect_forgotten(patch: Patch) -> None:
    # The compiled walk writes redirects itself: the mutation is one of the walk in Python.
    patch.setattr(IdentityStage.__init__, "__defaults__", (None, ""))
    apply = GraphDraft.apply

    def without(self: GraphDraft, outcome: Any) -> None:
        apply(self, msgspec.structs.replace(outcome, redirects=outcome.redirects[:1]))

    patch.setattr(GraphDraft, "apply", without)


def _survivor_keeps_its_own(patch: Patch) -> None:
    def shallow(survivor: Any, absorbed: Any, topology: Any, cause: Any) -> Any:
        plain = [msgspec.structs.replace(other, states={}) for other in absorbed]
        return absorb_profiles(survivor, plain, topology, cause)

    patch.setattr(profile_merges, "absorb_profiles", shallow)


def _read_again_is_done_again(patch: Patch) -> None:
    _read_from(patch, -1)
    decide = ProfileStage.decide

    seen: dict[ProfileStage, Any] = {}

    def again(self: ProfileStage, messages: Any) -> Any:
        if seen.get(self) is not messages:
            seen[self] = messages
            for offset, raw in messages:
                if offset < self.barrier.next_offset:
                    message = profiles.decode_changes(raw)
                    self.barrier.next_offset, self.barrier.last_offset = offset, message.previous
                    return decide(self, [(offset, raw)])
        return decide(self, messages)

    patch.setattr(ProfileStage, "decide", again)


def _shipments_first(patch: Patch) -> None:
    finish = ProfileOwner._finish

    async def shipped(self: ProfileOwner, step: Any, began: float) -> None:
        if step is not None:
            shipments: list[OutputRecord] = [record for record in step.outputs if record.topic == SHIPMENTS]
            await self._owner.send(shipments, self.stage.barrier.outputs)
            step.outputs = [record for record in step.outputs if record.topic != SHIPMENTS]
        await finish(self, step, began)

    patch.setattr(ProfileOwner, "_finish", shipped)


def _void_slices_count(patch: Patch) -> None:
    import cdp_stream.stages.identity as stage

    patch.setattr(stage.Work, "_follows", lambda self, entry: True)


def _restore_skips_the_end(patch: Patch) -> None:
    read = client.SimulatedConsumer.end_offsets

    async def short(self: Any, partitions: Any) -> Any:
        ends = dict(await read(self, partitions))
        # The very last place is the marker of the claim itself.
        return {where: max(0, end - 2) if "changelog" in where.topic else end for where, end in ends.items()}

    patch.setattr(client.SimulatedConsumer, "end_offsets", short)


def _kept_by_both(patch: Patch) -> None:
    lend = ProfileDraft.lend

    def keeping(self: ProfileDraft, profile_id: Any, *refused: Any) -> Any:
        kept = self._cache.get(profile_id)
        loan = lend(self, profile_id, *refused)
        if kept is not None and not refused:
            self._cache[profile_id] = kept
        return loan

    patch.setattr(ProfileDraft, "lend", keeping)


def _moves_forgotten(patch: Patch) -> None:
    _without_writes_of_the_core(patch, b"d")


def _without_writes_of_the_core(patch: Patch, prefix: bytes) -> None:
    take = ProfileDraft.take_writes

    def without(self: ProfileDraft) -> Any:
        written: dict[bytes, bytes | None] = {}
        if self._core is not None and (earliest := self._core.take_writes(written)) is not None:
            self._due.may_begin(earliest)
        return take(self) | {key: value for key, value in written.items() if not key.startswith(prefix)}

    patch.setattr(ProfileDraft, "take_writes", without)


def _touched_not_written(patch: Patch) -> None:
    _without_writes_of_the_core(patch, b"p")


def _history_dropped(patch: Patch) -> None:
    _without_writes_of_the_core(patch, b"h")


MUTATIONS = (
    Mutation(
        "messages read too late",
        "The profile owner begins to read one message behind where its state stands.",
        _reading_begins_late,
        2,
        2,
    ),
    Mutation(
        "entries' gap not read",
        "The identity owner does not read what stands before an entry that it has appended, or that the agent tells of.",
        _gap_of_entries_not_read,
        0,
        1,
    ),
    Mutation(
        "own clock for the log's",
        "An entry that the owner takes as it appends it has the time of its own clock, not of the log.",
        _own_clock_for_the_log_s,
        3,
        32,
    ),
    Mutation(
        "clocks not kept",
        "After a wait what clocks would have fired meanwhile waits for the next one.",
        _waits_lose_clocks,
        17,
        32,
    ),
    Mutation(
        "due at the clock", "What is due fires as of the clock, not at its own instant.", _due_at_the_clock, 2, 33
    ),
    Mutation(
        "newest version",
        "What has waited is played under the version in force, not its own.",
        _played_under_the_newest,
        80,
        32,
        hurried=True,
    ),
    Mutation("claim once", "The claim is used without its second initialisation.", _claim_once, 8, 4),
    Mutation("claim overtaken", "Nobody looks whether another claim came in between.", _claim_without_epochs, 11, 4),
    Mutation("claim without markers", "The claim leaves no marker in the outputs.", _claim_without_markers, 1, 4),
    Mutation("changelog first", "The changelog goes before the outputs are acknowledged.", _changelog_first, 0, 10),
    Mutation("store first", "The store is written before the changelog.", _store_first, 0, 11),
    Mutation("deletions left out", "The changelog lacks what a step deletes.", _no_changelog_of_deletions, 0, 11),
    Mutation("sent again", "Outputs that the log holds are sent again.", _send_again, 2, 5),
    Mutation(
        "positions run ahead",
        "Stored positions pass outputs of steps that are not stored.",
        _positions_run_ahead,
        17,
        5,
        hurried=True,
    ),
    Mutation("src by message", "`src` is numbered by message, not by change.", _src_by_message, 4, 5),
    Mutation(
        "merge too early", "A survivor is evaluated before all shipped states have arrived.", _merge_too_early, 1, 28
    ),
    Mutation("queue lost", "A change that must wait is dropped.", _overtake_the_queue, 1, 28),
    Mutation("queue never plays", "An arriving shipment does not wake its survivor.", _queue_never_plays, 1, 23),
    Mutation("now per step", "`now` is that of the whole step, not of the record.", _now_per_step, 1, 33),
    Mutation("float sum", "Sums are floats.", _float_sum, 48, 31),
    Mutation("mark not written", "The dedupe mark of a message is not written.", _mark_not_written, 0, 33),
    Mutation("mark not indexed", "A dedupe mark is in no index and never expires.", _mark_not_indexed, 0, 20),
    Mutation(
        "trimmed before commit",
        "The cache is trimmed before the commit that it is needed for.",
        _trim_before_commit,
        0,
        25,
    ),
    Mutation(
        "redirects forgotten",
        "Profiles absorbed earlier keep pointing at the one absorbed now.",
        _redirect_forgotten,
        4,
        18,
    ),
    Mutation(
        "states not merged", "The absorbed profile's trait states are left behind.", _survivor_keeps_its_own, 1, 31
    ),
    Mutation("read again, done again", "A message that is read again is done again.", _read_again_is_done_again, 2, 5),
    Mutation("shipments first", "A shipment leaves before the other outputs of its step.", _shipments_first, 1, 36),
    Mutation(
        "sync at the first word", "A sync is told when one partition has passed it.", _sync_at_the_first_word, 4, 38
    ),
    Mutation(
        "kept by both",
        "A profile that the core has been lent stays with the rooms, too.",
        _kept_by_both,
        1,
        32,
        of_core=True,
    ),
    Mutation(
        "moves forgotten",
        "A due time that the core has moved stays in its old place.",
        _moves_forgotten,
        0,
        35,
        of_core=True,
    ),
    Mutation(
        "touched not written", "What the core has changed is not written.", _touched_not_written, 0, 25, of_core=True
    ),
    Mutation(
        "history dropped", "Events that the core has done are in no history.", _history_dropped, 2, 31, of_core=True
    ),
    Mutation("void slices count", "A slice that does not follow is taken.", _void_slices_count, 1, 10),
    Mutation("restore too short", "A restore stops before the changelog's last record.", _restore_skips_the_end, 1, 10),
)
