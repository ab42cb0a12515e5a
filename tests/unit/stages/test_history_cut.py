"""When a history is cut, and from where it is read then."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from random import Random

import pytest

from cdp_stream.model.change import ProfileEvent
from cdp_stream.model.ids import ProfileId
from cdp_stream.pipeline import Retention
from cdp_stream.stages import profile_histories
from cdp_stream.stages.history import HISTORY_MAX, history_max, is_cut_at, merged
from cdp_stream.stages.profile_states import ProfileDraft
from cdp_stream.store.memory import MemoryStore

NOBODY = ProfileId("use_" + "0" * 27)
NO_EVENTS = Retention(0, 0)


class WatchedStore(MemoryStore):
    """Remembers from where it was read."""

    def __init__(self) -> None:
        super().__init__()
        self.starts: list[bytes] = []

    def scan(self, prefix: bytes, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        if prefix == b"h" + NOBODY.encode():
            self.starts.append(max(prefix, start))
        return super().scan(prefix, start)


def event_of(profile_id: ProfileId, step: int, text: str = "") -> ProfileEvent:
    return ProfileEvent(
        index=0,
        record=0,
        profile_id=profile_id,
        collection="users",
        type="track",
        name="Seen",
        properties={"text": text},
        message_id=f"m{step}",
        time=step,
        now=step,
    )


def add(draft: ProfileDraft, step: int) -> None:
    draft.histories.add(NOBODY, step << 24, event_of(NOBODY, step), NO_EVENTS)


def history(store: MemoryStore) -> list[int]:
    return [int.from_bytes(key[-8:], "big") >> 24 for key, _ in store.scan(b"h")]


def test_it_is_cut_every_so_often_and_large_events_bring_it_nearer() -> None:
    places = [step << 24 | record for step in range(2_000) for record in range(20)]
    name, event = b"\x91" + bytes(99), b"\x96" + bytes(99)
    cuts = [number for number, place in enumerate(places) if is_cut_at(place, name, NO_EVENTS)]
    assert 120 <= len(cuts) <= 200, "one in 250"
    assert max(after - before for before, after in pairwise(cuts)) < 3_000
    assert len([place for place in places if is_cut_at(place, b"\x96" + bytes(41_000), NO_EVENTS)]) > 8 * len(cuts)
    retained = Retention(10_000, 1)
    names, events = (len([place for place in places if is_cut_at(place, entry, retained)]) for entry in (name, event))
    assert 4 * events < len(cuts), "one in 2,500"
    assert 3 * events < names < len(cuts), "one in 500"


def test_it_stays_within_its_limit_also_where_the_profile_is_read_anew_each_time() -> None:
    store = MemoryStore()
    longest = 0
    for step in range(4_000):
        draft = ProfileDraft(store)
        add(draft, step)
        store.commit(draft.take_writes())
        longest = max(longest, len(history(store)))
    assert HISTORY_MAX < longest < history_max(0)
    assert history(store)[-HISTORY_MAX:] == list(range(4_000 - HISTORY_MAX, 4_000))


def test_what_was_cut_is_not_passed_over_again(monkeypatch: pytest.MonkeyPatch) -> None:
    # As of a profile beyond those that are remembered.
    monkeypatch.setattr(profile_histories, "_LEFT_MAX", 0)
    store = WatchedStore()
    draft = ProfileDraft(store)
    for step in range(6_000):
        add(draft, step)
        store.commit(draft.take_writes())
        draft.committed()
    kept = history(store)
    assert kept == list(range(kept[0], 6_000))
    assert len(store.starts) > 10
    assert store.starts[0] == b"h" + NOBODY.encode()
    begins = [int.from_bytes(start[-8:], "big") >> 24 for start in store.starts if len(start) > 32]
    assert begins == sorted(begins), "it never goes back"
    assert begins[-1] > 3_000
    assert [seq >> 24 for seq, _ in draft.histories.of(NOBODY)] == kept


def test_what_is_remembered_of_cuts_changes_no_history() -> None:
    """A draft that goes on, and one made anew for each step: the same entries, whoever comes, is merged, or is put in."""
    draw = Random(11)
    people = [ProfileId("use_" + f"{number:027d}") for number in range(7)]
    stores = MemoryStore(), MemoryStore()
    kept = ProfileDraft(stores[0])
    retention = Retention(300, 4_000)
    for step in range(3_000):
        drafts = (kept, ProfileDraft(stores[1]))
        chosen, other = draw.sample(people, 2) if step % 3 else (people[0], people[1])
        what = draw.random()
        size = draw.choice((10, 10, 10, 3_000, 30_000))
        for draft in drafts:
            if what < 0.01:
                for one in (chosen, other):
                    draft.histories.cut(one, retention, step)
                entries = merged([draft.histories.of(chosen), draft.histories.of(other)])
                draft.histories.replace(chosen, entries, retention, step)
                draft.redirect(other, chosen)
            elif what < 0.015:
                draft.histories.cut(chosen, retention, step)
            else:
                event = event_of(chosen, step, "x" * size)
                for record in range(3):
                    draft.histories.add(chosen, step << 24 | record, event, retention)
        for draft, store in zip(drafts, stores, strict=True):
            store.commit(draft.take_writes())
            draft.committed()
        if what < 0.01:
            assert [draft.histories.of(other) for draft in drafts] == [[], []]
    assert list(stores[0].scan(b"h")) == list(stores[1].scan(b"h"))
    assert [kept.histories.of(person) for person in people] == [
        ProfileDraft(stores[0]).histories.of(person) for person in people
    ]


def test_a_history_that_was_cut_is_not_read_again() -> None:
    store = WatchedStore()
    draft = ProfileDraft(store)
    for step in range(3_000):
        add(draft, step)
    store.commit(draft.take_writes())
    draft.histories.cut(NOBODY, NO_EVENTS, 3_000)
    read = len(store.starts)
    for step in range(3_000, 3_100):
        add(draft, step)
        store.commit(draft.take_writes())
    assert [seq >> 24 for seq, _ in draft.histories.of(NOBODY)] == history(store)
    assert read == len(store.starts)
