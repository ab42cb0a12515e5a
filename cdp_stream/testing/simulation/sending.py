"""What comes from outside while a run goes on: source records, new topology versions, forged slices, clock jumps."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING

from aiokafka.structs import TopicPartition

from cdp_stream.model.time import Instant
from cdp_stream.stages.entries import Control, ResyncEntry, encode_entry
from cdp_stream.stages.orders import first_topology
from cdp_stream.stream.log import BatchRecord
from cdp_stream.testing.simulation.traffic import SourceRecord, traffic

if TYPE_CHECKING:
    from cdp_stream.testing.simulation.run import Simulation

_JUMPS_MS = (0, 0, 3_600_000, 86_400_000, 30_000, -5_000)
_COMPACTED_SHARE = 0.05


async def send_traffic(run: Simulation, start: Instant) -> None:
    """Send every record at its time; between two of them, whatever the plan has in store."""
    draw, faults = run.plan.draw("sending"), run.plan.faults
    resyncs = run.plan.draw("resyncs")
    changes_at = sorted(draw.random() for _ in run.versions[1:])
    for record in traffic(run.plan, start):
        await asyncio.sleep(max(0.0, record.at * run.plan.traffic_s - run.elapsed_s()))
        if run.violations.found:
            return
        while changes_at and changes_at[0] <= record.at:
            changes_at.pop(0)
            _new_version(run, by_control=draw.random() < 0.5)
        if draw.random() < faults.clock_jumps:
            run.clock_jump = draw.choice(_JUMPS_MS)
        if resyncs.random() < faults.resyncs:
            _resync(run, resyncs)
        if draw.random() < faults.forged_slices:
            _forge_slice(run, draw.random())
        if faults.compactions and draw.random() < _COMPACTED_SHARE:
            run.broker.compact()
        aborted = draw.randint(1, 3) if draw.random() < run.plan.transactions else 0
        _send(run, record, aborted, draw.random())
    for _ in changes_at:
        _new_version(run, by_control=False)


def _send(run: Simulation, record: SourceRecord, aborted: int, open_s: float) -> None:
    """One record; before it perhaps some of a transaction that is given up, and around it one that stays open."""
    where = TopicPartition(record.topic, record.partition)
    batch: list[BatchRecord] = [(record.key, record.value, None)]
    if aborted:
        run.broker.append_aborted(where, batch * aborted)
        if run.broker.partitions[where].open_from is None:
            run.broker.open_transaction(where)
            asyncio.get_running_loop().call_later(open_s, run.broker.end_transaction, where)
    run.broker.append(where, batch, max(0, run.world_clock() + record.timestamp_offset_ms))


def _new_version(run: Simulation, *, by_control: bool) -> None:
    """The next version: by a control from outside, sent twice, or by a rolling restart with `--apply`."""
    run.file += 1
    before, after = run.versions[run.file - 1], run.versions[run.file]
    if by_control:
        form = first_topology(after, 0).topology
        entry = Control(run.world_clock(), "apply", f"control-{run.file}", before.version, form)
        for _ in range(2):
            run.broker.append(TopicPartition(run.names.identity_log, 0), [(None, encode_entry(entry), None)])
    else:
        run.apply = True
        for life in list(run.lives.values()):
            life.process.die()


def _resync(run: Simulation, draw: Random) -> None:
    """Somebody wants a destination to be told again; one time in a few it is not to be had, and refused."""
    audience = draw.choice(("buyers", "browsers", "first_timers", "pro", "nobody"))
    entry = ResyncEntry(run.world_clock(), f"resync-{draw.random()}", audience, draw.choice(("ads", "list")))
    run.broker.append(TopicPartition(run.names.identity_log, 0), [(None, encode_entry(entry), None)])


def _forge_slice(run: Simulation, which: float) -> None:
    """Somebody appends an old slice once more: it follows nothing, and must be skipped."""
    log = run.broker.partitions[TopicPartition(run.names.identity_log, 0)]
    slices = [stored.value for stored in log.stored if stored.value and b'"entry":"slice"' in stored.value]
    if slices:
        run.broker.append(log.where, [(None, slices[int(which * len(slices))], None)])
