"""`cdp-stream check-state` on a state that is right, and on states that were tampered with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from cdp_stream.cli.check_state import check_state
from cdp_stream.cli.replay import replay
from cdp_stream.model.graph import GraphProfile
from cdp_stream.model.profile import ProfileState
from cdp_stream.stages.identity import BARRIER_KEY
from cdp_stream.stages.records import partition_of
from cdp_stream.store.rocks import RocksStore
from cdp_stream.testing.simulation.state_checks import graph_of, identity_barrier, states_of

PARTITIONS = 3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    state = tmp_path / "state"
    result = CliRunner().invoke(
        replay, ["topologies/ecommerce", "--state", str(state), "--partitions", str(PARTITIONS), "--json"]
    )
    assert 0 == result.exit_code, result.output
    return state


def check(folder: Path) -> tuple[int, dict[str, object], set[int]]:
    result = CliRunner().invoke(check_state, [str(folder), "--json"])
    answer = msgspec.json.decode(result.stdout)
    return result.exit_code, answer["counts"], {found["invariant"] for found in answer["violations"]}


def test_a_sound_state_is_counted(folder: Path) -> None:
    code, counts, found = check(folder)
    assert (0, set()) == (code, found)
    assert counts["users"] + counts["accounts"] == counts["profile states"] > 100
    assert counts["external ids"] > counts["users"]
    assert counts["due times"] > 10


def test_a_part_of_the_state_is_checked_as_far_as_it_goes(folder: Path) -> None:
    (folder / "profiles-1").rename(folder / "elsewhere")
    assert (0, set()) == check(folder)[::2]


def test_a_folder_without_a_state_is_refused(tmp_path: Path) -> None:
    assert "no state here" in str(CliRunner().invoke(check_state, [str(tmp_path)]).exception)


def _mapped(store: RocksStore) -> list[GraphProfile]:
    return [profile for profile in graph_of(store).values() if profile.mappings and profile.collection == "users"]


def _put(store: RocksStore, profile: GraphProfile | ProfileState) -> None:
    store.commit({b"p" + profile.id.encode(): msgspec.msgpack.encode(profile)})


def _two_owners(store: RocksStore) -> None:
    first, second = _mapped(store)[:2]
    _put(store, msgspec.structs.replace(second, mappings=second.mappings + first.mappings))


def _owner_gone(store: RocksStore) -> None:
    store.commit({next(iter(store.scan(b"ou")))[0]: None})


def _many_user_ids(store: RocksStore) -> None:
    profile = next(one for one in _mapped(store) if any(mapping.type == "user_id" for mapping in one.mappings))
    mapping = next(mapping for mapping in profile.mappings if mapping.type == "user_id")
    more = msgspec.structs.replace(mapping, value="another")
    _put(store, msgspec.structs.replace(profile, mappings=(*profile.mappings, more)))
    store.commit({b"ouuser_id\0another": profile.id.encode()})


def _many_merges(store: RocksStore) -> None:
    _put(store, msgspec.structs.replace(_mapped(store)[0], merges=101))


def _count_wrong(store: RocksStore) -> None:
    barrier = identity_barrier(store)
    barrier.profiles_count += 1
    store.commit({BARRIER_KEY: msgspec.msgpack.encode(barrier)})


def _redirect_to_nobody(store: RocksStore) -> None:
    store.commit({next(iter(store.scan(b"r")))[0]: b"use_nobody"})


def _one_sided_link(store: RocksStore) -> None:
    store.commit({next(iter(store.scan(b"l")))[0]: None})


def _mark_without_index(store: RocksStore) -> None:
    store.commit({b"m" + b"\x01" * 16: (0).to_bytes(8, "big")})


def _version_gone(store: RocksStore) -> None:
    store.commit({next(iter(store.scan(b"t")))[0]: None})


@pytest.mark.parametrize(
    ("tamper", "invariant"),
    [
        (_two_owners, 13),
        (_owner_gone, 14),
        (_many_user_ids, 15),
        (_many_merges, 16),
        (_count_wrong, 17),
        (_redirect_to_nobody, 18),
        (_one_sided_link, 19),
        (_mark_without_index, 20),
        (_version_gone, 21),
    ],
)
def test_a_graph_that_was_tampered_with_is_found_out(
    folder: Path, tamper: Callable[[RocksStore], None], invariant: int
) -> None:
    store = RocksStore(folder / "identity-0")
    tamper(store)
    store.close()
    code, _, found = check(folder)
    assert (1, True) == (code, invariant in found), found


def _moved(store: RocksStore) -> None:
    state = next(iter(states_of(store).values()))
    names = (f"use_{number:027d}" for number in range(99))
    elsewhere = next(name for name in names if partition_of(name, PARTITIONS) != 0)
    _put(store, msgspec.structs.replace(state, id=elsewhere))


def _queue_without_end(store: RocksStore) -> None:
    store.commit({b"wuse_" + b"0" * 27: msgspec.msgpack.encode((0, 2))})


def _lone_piece(store: RocksStore) -> None:
    store.commit({b"suse_" + b"0" * 27 + (5).to_bytes(4, "big"): (2).to_bytes(4, "big")})


def _history_of_nobody(store: RocksStore) -> None:
    store.commit({b"huse_" + b"0" * 27 + bytes(8): b"m"})


def _open_for_no_member(store: RocksStore) -> None:
    state = next(state for state in states_of(store).values() if state.open)
    _put(store, msgspec.structs.replace(state, memberships={}))


def _state_gone(store: RocksStore) -> None:
    state = next(iter(states_of(store).values()))
    store.commit({b"p" + state.id.encode(): None})


def _due_time_gone(store: RocksStore) -> None:
    store.commit({next(iter(store.scan(b"d")))[0]: None})


def _due_time_of_nobody(store: RocksStore) -> None:
    store.commit({b"d" + (1_767_312_000_000).to_bytes(8, "big") + b"use_" + b"0" * 27: b""})


@pytest.mark.parametrize(
    ("tamper", "invariant"),
    [
        (_moved, 22),
        (_queue_without_end, 23),
        (_lone_piece, 24),
        (_history_of_nobody, 25),
        (_open_for_no_member, 26),
        (_state_gone, 27),
        (_due_time_gone, 35),
        (_due_time_of_nobody, 35),
    ],
)
def test_a_partition_that_was_tampered_with_is_found_out(
    folder: Path, tamper: Callable[[RocksStore], None], invariant: int
) -> None:
    store = RocksStore(folder / "profiles-0")
    tamper(store)
    store.close()
    code, _, found = check(folder)
    assert (1, True) == (code, invariant in found), found
