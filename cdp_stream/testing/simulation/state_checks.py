"""What must hold of the state of both stages, read from their stores; also behind `cdp-stream check-state`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import msgspec

from cdp_stream.config.topology import Topology
from cdp_stream.identity.rules import compile_rules
from cdp_stream.model.change import Absorbs
from cdp_stream.model.graph import GraphProfile
from cdp_stream.model.ids import ACCOUNTS, USERS
from cdp_stream.model.ports import Store
from cdp_stream.model.profile import ProfileState
from cdp_stream.stages.graph import GraphDraft
from cdp_stream.stages.history import history_max
from cdp_stream.stages.identity import BARRIER_KEY, IdentityBarrier
from cdp_stream.stages.profile_shapes import Parked, ProfileBarrier
from cdp_stream.stages.profile_states import QueueEnds
from cdp_stream.stages.records import partition_of
from cdp_stream.stages.state_format import decode_barrier
from cdp_stream.stages.versions import stored_version
from cdp_stream.testing.simulation.invariants import Violations
from cdp_stream.testing.simulation.list_checks import check_kept

_ID_LENGTH = 31
"""`use_` and 27 digits."""
_MARK_BYTES = 16
_INSTANT_BYTES = 8
_OWNER_ROWS = {b"ou": USERS, b"oa": ACCOUNTS}


@lru_cache(maxsize=64)
def _version(raw: bytes) -> Topology:
    return Topology.from_canonical(stored_version(raw).topology)


def versions_of(store: Store) -> dict[str, Topology]:
    """Every topology version in a store."""
    return {key[1:].decode(): _version(raw) for key, raw in store.scan(b"t")}


def graph_of(store: Store) -> dict[str, GraphProfile]:
    """Every living profile of the identity stage, by id."""
    profiles = (msgspec.msgpack.decode(raw, type=GraphProfile) for _, raw in store.scan(b"p"))
    return {profile.id: profile for profile in profiles}


def states_of(store: Store) -> dict[str, ProfileState]:
    """Every profile of a partition of the profile stage, by id."""
    states = (msgspec.msgpack.decode(raw, type=ProfileState) for _, raw in store.scan(b"p"))
    return {state.id: state for state in states}


def identity_barrier(store: Store) -> IdentityBarrier:
    """Where the identity stage stands."""
    return decode_barrier(store.get(BARRIER_KEY), IdentityBarrier)


def profile_barrier(store: Store) -> ProfileBarrier:
    """Where a partition of the profile stage stands."""
    return decode_barrier(store.get(BARRIER_KEY), ProfileBarrier)


def check_graph(store: Store, violations: Violations) -> Counter[str]:
    """Invariants 13 to 21 on the state of the identity stage. Returns how many of each thing there are."""
    barrier = identity_barrier(store)
    profiles = graph_of(store)
    versions = versions_of(store)
    if barrier.topology_version is not None and barrier.topology_version not in versions:
        violations.add(21, "identity-0", f"version {barrier.topology_version} in force is not in the state")
    counts: Counter[str] = Counter(profile.collection for profile in profiles.values())
    _check_owners(store, profiles, violations, counts)
    _check_limits(profiles, list(versions.values()), violations)
    _check_redirects(store, profiles, barrier, violations, counts)
    _check_links(store, profiles, violations)
    _check_marks(store, barrier, violations, counts)
    return counts


def _check_owners(
    store: Store, profiles: dict[str, GraphProfile], violations: Violations, counts: Counter[str]
) -> None:
    held: dict[bytes, str] = {}
    for profile in profiles.values():
        prefix = b"ou" if profile.collection == USERS else b"oa"
        for mapping in profile.mappings:
            key = b"%s%s\0%s" % (prefix, mapping.type.encode(), mapping.value.encode())
            if key in held:
                violations.add(13, key.decode(), f"stands on {held[key]} and on {profile.id}")
            held[key] = profile.id
    for prefix in _OWNER_ROWS:
        for key, raw in store.scan(prefix):
            counts["external ids"] += 1
            holder = held.pop(key, None)
            if holder != raw.decode():
                violations.add(14, key.decode(), f"the owner row says {raw.decode()}, the profiles say {holder}")
    for key, holder in held.items():
        violations.add(14, key.decode(), f"stands on {holder} and has no owner row")


def _check_limits(profiles: dict[str, GraphProfile], versions: Sequence[Topology], violations: Violations) -> None:
    rules = [compile_rules(version.space, version.identity) for version in versions]
    if not rules:
        return
    merges_max = max(rule.merges_max for rule in rules)
    mappings_max = max(rule.mappings_max for rule in rules)
    for profile in profiles.values():
        if profile.merges > merges_max:
            violations.add(16, profile.id, f"{profile.merges} merges, at most {merges_max}")
        if len(profile.mappings) > mappings_max:
            violations.add(16, profile.id, f"{len(profile.mappings)} mappings, at most {mappings_max}")
        for type_, count in Counter(mapping.type for mapping in profile.mappings).items():
            limits = [rule.limit(type_) for rule in rules]
            if all(limit.period is None for limit in limits):
                most = max(limit.count for limit in limits)
                if count > most:
                    violations.add(15, profile.id, f"{count} values of {type_}, at most {most}")


def _check_redirects(
    store: Store,
    profiles: dict[str, GraphProfile],
    barrier: IdentityBarrier,
    violations: Violations,
    counts: Counter[str],
) -> None:
    absorbed: dict[str, str] = {gone: profile.id for profile in profiles.values() for gone in profile.absorbed}
    redirects = {key[1:].decode(): raw.decode() for key, raw in store.scan(b"r")}
    counts["absorbed"] = len(redirects)
    for gone, into in redirects.items():
        if into not in profiles:
            violations.add(18, gone, f"leads to {into}, which does not live")
        elif absorbed.get(gone) != into:
            violations.add(18, gone, f"leads to {into}, which does not list it")
        if gone in profiles:
            violations.add(18, gone, "lives, and was absorbed")
    for gone in absorbed.keys() - redirects.keys():
        violations.add(18, gone, f"{absorbed[gone]} lists it, and there is no redirect")
    if len(profiles) + len(redirects) != barrier.profiles_count:
        found = f"{len(profiles)} live, {len(redirects)} were absorbed, {barrier.profiles_count} were created"
        violations.add(17, "identity-0", found)
    numbers = Counter(profile.number for profile in profiles.values())
    for number, count in numbers.items():
        if count > 1 or not 0 <= number < barrier.profiles_count:
            violations.add(17, str(number), f"is the number of {count} of {barrier.profiles_count} profiles")


def _check_links(store: Store, profiles: dict[str, GraphProfile], violations: Violations) -> None:
    graph = GraphDraft(store)
    every = {profile.id: graph.links(profile.id) for profile in profiles.values()}
    for key, _ in store.scan(b"l"):
        if key[1 : key.index(b"\0")].decode() not in profiles:
            violations.add(19, key[1 : key.index(b"\0")].decode(), "does not live, and has a link")
    for profile_id, links in every.items():
        for link in links:
            other = profiles.get(link)
            if other is None or profile_id not in every[link] or other.collection == profiles[profile_id].collection:
                violations.add(19, profile_id, f"its link to {link} is not mutual")


def _check_marks(store: Store, barrier: IdentityBarrier, violations: Violations, counts: Counter[str]) -> None:
    listed: set[bytes] = set()
    for _, marks in store.scan(b"x"):
        listed.update(marks[start : start + _MARK_BYTES] for start in range(0, len(marks), _MARK_BYTES))
    for key, raw in store.scan(b"m"):
        counts["message ids"] += 1
        at = int.from_bytes(raw, "big")
        if key[1:] not in listed:
            violations.add(20, key[1:].hex(), "is in no index, and would never expire")
        if at > barrier.now:
            violations.add(20, key[1:].hex(), f"was set at {at}, after now ({barrier.now})")


def check_partition(store: Store, partition: int, partitions: int, violations: Violations) -> Counter[str]:
    """Invariants 21 to 26, 35 and 38 on one partition of the profile stage. Returns how many of each thing there are."""
    states = states_of(store)
    counts = Counter({"profile states": len(states)})
    redirects = {key[1:].decode() for key, _ in store.scan(b"r")}
    version = versions_of(store).get(profile_barrier(store).topology_version or "")
    told = set() if version is None else {(name, one.key) for one in version.audiences for name in one.destinations}
    place = f"profiles-{partition}"
    for profile_id, state in states.items():
        if partition_of(profile_id, partitions) != partition:
            violations.add(22, profile_id, f"lies in {place}")
        if profile_id in redirects:
            violations.add(22, profile_id, "has a state, and was absorbed")
        for destination, audiences in state.open.items():
            for key, combinations in audiences.items():
                expected = state.memberships.get(key, False) or destination in state.syncs
                if combinations and (destination, key) in told and not expected:
                    violations.add(26, profile_id, f"{destination} holds {key} open, of which it is no member")
    _check_history(store, states, violations)
    _check_due_times(store, states, violations, counts)
    check_kept(store, violations)
    arrived = _check_pieces(store, violations, counts)
    _check_queues(store, arrived, place, violations, counts)
    return counts


def _check_history(store: Store, states: dict[str, ProfileState], violations: Violations) -> None:
    histories = Counter(key[1 : 1 + _ID_LENGTH].decode() for key, _ in store.scan(b"h"))
    limit = history_max(max((version.retain.events for version in versions_of(store).values()), default=0))
    for profile_id, count in histories.items():
        if profile_id not in states:
            violations.add(25, profile_id, f"{count} message ids of a profile that has no state")
        if count > limit:
            violations.add(25, profile_id, f"{count} message ids, at most {limit}")


def _check_due_times(
    store: Store, states: dict[str, ProfileState], violations: Violations, counts: Counter[str]
) -> None:
    parked = {key[1:].decode() for key, _ in store.scan(b"w")}
    expected = {(state.due, profile_id) for profile_id, state in states.items() if profile_id not in parked}
    expected = {(due, profile_id) for due, profile_id in expected if due is not None}
    held = {
        (int.from_bytes(key[1 : 1 + _INSTANT_BYTES], "big"), key[1 + _INSTANT_BYTES :].decode())
        for key, _ in store.scan(b"d")
    }
    counts["due times"] += len(held)
    for due, profile_id in sorted(held ^ expected):
        where = "index" if (due, profile_id) in held else "profile"
        violations.add(35, profile_id, f"is due at {due} by its {where} alone")


def _check_pieces(store: Store, violations: Violations, counts: Counter[str]) -> set[str]:
    """Pieces of each shipment; returns the absorbed profiles that have arrived whole."""
    pieces: dict[str, dict[int, int]] = {}
    for key, raw in store.scan(b"s"):
        counts["pieces of shipments"] += 1
        number = int.from_bytes(key[1 + _ID_LENGTH :], "big")
        pieces.setdefault(key[1 : 1 + _ID_LENGTH].decode(), {})[number] = int.from_bytes(raw[:4], "big")
    arrived = set()
    for absorbed, numbers in pieces.items():
        if len(set(numbers.values())) != 1 or max(numbers) >= next(iter(numbers.values())):
            violations.add(24, absorbed, f"pieces {sorted(numbers)} of {sorted(set(numbers.values()))}")
        elif len(numbers) == next(iter(numbers.values())):
            arrived.add(absorbed)
    return arrived


def _check_queues(store: Store, arrived: set[str], place: str, violations: Violations, counts: Counter[str]) -> None:
    queued: dict[str, dict[int, Parked]] = {}
    for key, raw in store.scan(b"q"):
        counts["parked changes"] += 1
        parked = msgspec.msgpack.decode(raw, type=Parked)
        queued.setdefault(key[1 : 1 + _ID_LENGTH].decode(), {})[int.from_bytes(key[1 + _ID_LENGTH :], "big")] = parked
    versions = {key[1:].decode() for key, _ in store.scan(b"t")}
    for key, raw in store.scan(b"w"):
        profile_id = key[1:].decode()
        ends = msgspec.msgpack.decode(raw, type=QueueEnds)
        queue = queued.pop(profile_id, {})
        if sorted(queue) != list(range(ends.first, ends.next)):
            violations.add(23, profile_id, f"the queue from {ends.first} to {ends.next} holds {sorted(queue)}")
            continue
        for parked in queue.values():
            if parked.topology_version not in versions:
                violations.add(21, profile_id, f"a parked change needs version {parked.topology_version}")
        head = queue[ends.first].change
        if not isinstance(head, Absorbs):
            violations.add(23, profile_id, f"the queue begins with {type(head).__name__}, which waits for nothing")
        elif arrived.issuperset(head.absorbed):
            violations.add(23, profile_id, "all that the queue waits for has arrived")
    for profile_id, queue in queued.items():
        violations.add(23, profile_id, f"{len(queue)} parked changes of a profile that has no queue in {place}")


def check_both(identity: Store, partitions: Sequence[Store], violations: Violations) -> bool:
    """Invariants 27 to 29, if the stages are at rest. Returns whether they are."""
    barrier = identity_barrier(identity)
    barriers = [profile_barrier(store) for store in partitions]
    behind = [
        f"profiles-{number} stands at {stands.last_offset}, was sent {sent}"
        for number, (stands, sent) in enumerate(zip(barriers, barrier.previous, strict=False))
        if stands.last_offset != sent
    ]
    waiting = sum(1 for store in partitions for prefix in (b"w", b"s") for _ in store.scan(prefix))
    if behind or waiting:
        return False
    profiles = graph_of(identity)
    states: dict[str, ProfileState] = {}
    for store in partitions:
        states |= states_of(store)
    for profile_id, profile in profiles.items():
        state = states.pop(profile_id, None)
        in_graph = {(mapping.type, mapping.value) for mapping in profile.mappings}
        in_state = set() if state is None else {(known.type, known.id) for known in state.external_ids}
        if state is None:
            violations.add(27, profile_id, "the profile stage does not know it")
        elif in_graph != in_state:
            violations.add(27, profile_id, f"external ids of one stage alone: {sorted(in_graph ^ in_state)}")
    for profile_id in states:
        violations.add(27, profile_id, "the identity stage does not know it")
    return True


def require_rest(identity: Store, partitions: Sequence[Store], violations: Violations) -> None:
    """At the end of a run nothing may be under way."""
    barrier = identity_barrier(identity)
    for number, store in enumerate(partitions):
        stands = profile_barrier(store).last_offset
        if stands != barrier.previous[number]:
            violations.add(29, f"profiles-{number}", f"stands at {stands}, was sent {barrier.previous[number]}")
        left = [key for prefix in (b"w", b"q", b"s", b"c") for key, _ in store.scan(prefix)]
        if left:
            violations.add(28, f"profiles-{number}", f"{len(left)} keys wait, the first is {left[0]!r}")
