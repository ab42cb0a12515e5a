"""The limits of a history: what is retained does not depend on when it is cut, nor on where its parts were."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdp_stream.model.change import ProfileEvent
from cdp_stream.model.ids import ProfileId, share_before
from cdp_stream.pipeline import Retention
from cdp_stream.stages import history
from cdp_stream.stages.history import Cut, Entries, cut, cut_further, history_entry, merged, message_ids, retained
from cdp_stream.stages.profile_shapes import ProfileBarrier

retentions = st.builds(Retention, st.sampled_from([0, 1, 3, 10, 2_000]), st.sampled_from([1, 5, 100]))
arrivals = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(["View", "View", None]), st.integers(0, 60), st.integers(0, 1)),
    max_size=25,
)


def event(now: int, name: str | None, size: int, message_id: str) -> ProfileEvent:
    return ProfileEvent(
        index=0, record=0, now=now, profile_id=ProfileId("p"), collection="users", type="track", message_id=message_id,
        time=now, name=name, properties={"text": "x" * size},
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "HISTORY_MAX", 6)
    monkeypatch.setattr(history, "RETAINED_BYTES_MAX", 300)


@given(retentions, arrivals, st.lists(st.integers(0, 24), max_size=6), st.integers(0, 80))
def test_what_is_retained_does_not_depend_on_cuts_or_mergers(
    retention: Retention, given_arrivals: list[Any], cuts: list[int], later: int
) -> None:
    whole: Entries = []
    parts: list[Entries] = [[], []]
    now = 0
    for place, (pause, name, size, owner) in enumerate(given_arrivals):
        now += pause
        raw = history_entry(event(now, name, size, f"m{place}"), retention)
        whole.append((place, raw))
        parts[owner].append((place, raw))
        if place in cuts:
            parts[owner] = cut(parts[owner], retention, now)[0]
    shipped = [cut(part, retention, now)[0] for part in parts]
    united = cut(merged(shipped), retention, now)[0]
    now += later
    assert retained(whole, retention, now) == retained(united, retention, now)
    assert message_ids(whole) == message_ids(united)


@given(retentions, retentions, arrivals, st.lists(st.integers(0, 24), max_size=8))
def test_a_cut_that_goes_on_from_the_last_is_one_of_the_whole(
    first: Retention, then: Retention, given_arrivals: list[Any], cuts: list[int]
) -> None:
    done: Cut[int] = Cut([], [], 0, 0, 0, 0)
    whole: Entries = []
    now, size = 0, 0
    for place, (pause, name, length, owner) in enumerate(given_arrivals):
        now += pause
        # Another version of the topology comes into force, and may retain more.
        retention = then if owner else first
        entry = (place, history_entry(event(now, name, length, f"m{place}"), retention))
        whole.append(entry)
        done.entries.append(entry)
        size += len(entry[1])
        if place in cuts:
            before = list(done.entries)
            done = cut_further(done.entries, done.settled, size, retention, now)
            whole, let_go = cut(whole, retention, now)
            assert (done.entries, done.let_go) == (whole, let_go)
            assert done.gone == len(before) - len(whole)
            assert done.changed == [
                new for new, old in zip(done.entries, before[done.gone :], strict=True) if new != old
            ]
            size = done.size
            assert size == sum(len(raw) for _, raw in whole)


@given(retentions, arrivals)
def test_no_limit_is_passed(retention: Retention, given_arrivals: list[Any]) -> None:
    entries: Entries = []
    now = 0
    for place, (pause, name, size, _) in enumerate(given_arrivals):
        now += pause
        entries.append((place, history_entry(event(now, name, size, f"m{place}"), retention)))
    past = retained(entries, retention, now)
    assert len(past) <= retention.events
    assert all(one.name is not None and one.now > now - retention.duration for one in past)
    kept, let_go = cut(entries, retention, now)
    assert sum(len(raw) for _, raw in kept if b"xxxx" in raw) <= 300
    assert let_go <= len(entries)
    assert cut(kept, retention, now) == (kept, 0)


def test_progress_is_the_place_of_the_last_profile() -> None:
    assert share_before("") == 0
    assert share_before("use_V" + "0" * 26) == pytest.approx(0.5, abs=0.01)
    assert ProfileBarrier().progress == 1
    assert ProfileBarrier(reconsidered_from="v", reconsidered="use_" + "z" * 27).progress == pytest.approx(1)
