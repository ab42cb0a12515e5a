"""A merge reaches two partitions: the absorbed profile's whole state is shipped, and the survivor's takes it in."""

from __future__ import annotations

from typing import Final

from cdp_stream.model.change import Absorbed, Absorbs
from cdp_stream.pipeline import absorb_profiles, leave_profile
from cdp_stream.stages.history import cut, merged
from cdp_stream.stages.profile_shapes import Cargo, Parked, Shipment, cause_of, decode_cargo, encode_shipment
from cdp_stream.stages.profile_work import PartitionWork
from cdp_stream.stages.records import SHIPMENTS, OutputRecord, partition_of

PIECE_BYTES_MAX: Final = 512 * 1024
"""How much of an absorbed profile's state one shipment record carries."""


def ship(work: PartitionWork, parked: Parked, change: Absorbed) -> None:
    """Tell the exits of a profile that is absorbed, and send its state and history to the survivor's partition."""
    profile = work.states.get(change.profile_id)
    assert profile is not None, change.profile_id
    cause = cause_of("absorbed", parked, change.time, change.message_id)
    place = f"{parked.offset}/{change.index}"
    sent = work.emit(place, leave_profile(profile, change.into, cause))
    retention = work.topology(parked.topology_version).retention
    history, let_go = cut(work.states.histories.of(change.profile_id), retention, change.now)
    work.let_go(let_go)
    cargo = encode_shipment(Cargo(profile, history))
    pieces = [cargo[start : start + PIECE_BYTES_MAX] for start in range(0, len(cargo), PIECE_BYTES_MAX)]
    partition = partition_of(change.into, work.partitions)
    for number, data in enumerate(pieces):
        value = encode_shipment(Shipment(change.profile_id, change.into, number, len(pieces), data))
        src = f"profiles/{work.partition}/{place}/{sent + number}"
        work.send(OutputRecord(SHIPMENTS, partition, change.into.encode(), value, src))
    work.states.redirect(change.profile_id, change.into)


def absorb(work: PartitionWork, parked: Parked, change: Absorbs) -> bool:
    """Take in what has been shipped; False as long as some of it is on its way."""
    if not all(work.states.has_arrived(absorbed) for absorbed in change.absorbed):
        return False
    cargoes = [decode_cargo(work.states.take_pieces(absorbed)) for absorbed in change.absorbed]
    survivor = work.states.get(change.profile_id)
    assert survivor is not None, change.profile_id
    cause = cause_of("merge", parked, change.time, change.message_id)
    states = [cargo.profile for cargo in cargoes]
    topology = work.topology(parked.topology_version)
    update = absorb_profiles(survivor, states, topology, cause)
    work.states.put(update.profile)
    history = merged([work.states.histories.of(change.profile_id), *(cargo.history for cargo in cargoes)])
    work.let_go(work.states.histories.replace(change.profile_id, history, topology.retention, change.now))
    work.emit(f"{parked.offset}/{change.index}", update)
    work.tally["merged",] += len(cargoes)
    return True
