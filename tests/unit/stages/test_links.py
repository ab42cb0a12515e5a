"""Links between users and accounts in the identity stage's state: any number of them, and each costs the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cdp_stream.model.graph import GraphProfile, IdentityOutcome
from cdp_stream.model.ids import ACCOUNTS, USERS, ProfileId
from cdp_stream.stages.graph import GraphDraft
from cdp_stream.store.memory import MemoryStore
from cdp_stream.store.rocks import RocksStore

ACME = ProfileId("use_acme")


@pytest.fixture(params=["memory", "rocks"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    if request.param == "memory":
        yield MemoryStore()
    else:
        rocks = RocksStore(tmp_path / "state")
        yield rocks
        rocks.close()


def put(draft: GraphDraft, *profiles: GraphProfile, **changes: Any) -> None:
    draft.apply(IdentityOutcome(profiles=profiles, **changes))


def user(number: int) -> ProfileId:
    return ProfileId(f"use_{number:04}")


def commit(draft: GraphDraft, store: Any) -> dict[bytes, bytes | None]:
    writes = draft.take_writes(0, 0, 1)
    store.commit(writes)
    draft.committed()
    return writes


def test_a_link_costs_the_same_whoever_is_linked_already(store: Any) -> None:
    draft, sizes = GraphDraft(store), []
    put(draft, GraphProfile(ACME, ACCOUNTS, 0, 0, ()))
    for number in range(500):
        put(draft, GraphProfile(user(number), USERS, number + 1, 0, ()), linked=((user(number), ACME),))
        writes = commit(draft, store)
        sizes.append(sum(len(key) + len(value or b"") for key, value in writes.items()))
    assert 500 == len(draft.links(ACME))
    assert 7 == len(draft.links(ACME, 7))
    assert (ACME,) == draft.links(user(3))
    assert sizes[-1] <= sizes[1] + 8


def test_links_are_seen_before_and_after_the_commit_in_their_order(store: Any) -> None:
    draft = GraphDraft(store)
    put(draft, GraphProfile(ACME, ACCOUNTS, 0, 0, ()), linked=((user(2), ACME), (user(1), ACME)))
    assert (user(2), user(1)) == draft.links(ACME)
    assert draft.is_linked(user(1), ACME)
    handed_over = draft.take_writes(0, 0, 1)
    put(draft, linked=((user(3), ACME),), unlinked=((user(2), ACME),))
    assert (user(1), user(3)) == draft.links(ACME)
    assert not draft.is_linked(user(2), ACME)
    store.commit(handed_over)
    draft.committed()
    assert (user(1), user(3)) == draft.links(ACME)
    commit(draft, store)
    reader = GraphDraft(store)
    assert (user(1), user(3)) == reader.links(ACME)
    assert () == reader.links(user(2))
    assert 3 == draft.links_count


def test_links_of_an_older_format_are_read_and_lead_to_the_survivor(store: Any) -> None:
    draft = GraphDraft(store)
    put(draft, GraphProfile(ACME, ACCOUNTS, 0, 0, (), old_links=(user(1), user(2))))
    put(draft, GraphProfile(user(1), USERS, 1, 0, (), old_links=(ACME,)))
    put(draft, redirects=((user(2), user(1)),), linked=((user(4), ACME),))
    commit(draft, store)
    assert (user(1), user(4)) == draft.links(ACME)
    assert draft.is_linked(user(1), ACME)
    assert draft.is_linked(ACME, user(1))
