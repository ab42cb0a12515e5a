"""Dedupe marks come and go in the compiled core as in the reference, whatever is set again, restarted or left uncommitted."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from random import Random
from typing import Any

import pytest
from counting_store import CountingStore
from hypothesis import given
from hypothesis import strategies as st

from cdp_stream.model.time import DAY_MS, HOUR_MS
from cdp_stream.stages.known import MARK_BYTES_MAX, OWNER_BYTES_MAX, PROFILE_BYTES_MAX
from cdp_stream.stages.native import NATIVE
from cdp_stream.stages.pending import GraphBytes, PendingGraph

pytestmark = pytest.mark.skipif(NATIVE is None, reason="the core was not built: no Rust")
START = 1_767_225_600_000


class Graph:
    """A graph and its store; steps are committed some steps later, as over a backlog."""

    def __init__(self, *, compiled: bool) -> None:
        self._compiled = compiled
        self.store = CountingStore()
        self._uncommitted: deque[Mapping[bytes, bytes | None]] = deque()
        self.start()

    def start(self) -> None:
        """What was not committed is lost with the process; it is taken again from the log, so the tests commit before."""
        self.commit(0)
        self._graph: GraphBytes
        if self._compiled:
            assert NATIVE is not None
            bounds = (OWNER_BYTES_MAX, PROFILE_BYTES_MAX, MARK_BYTES_MAX)
            self._graph = NATIVE.IdentityGraph(self.store, 0, 0, bounds)
        else:
            self._graph = PendingGraph(self.store, 0, 0)

    def step(self, number: int, times: Iterable[tuple[int, str]], now: int, horizon: int) -> tuple[list[bool], Any]:
        seen = [self._graph.first_seen(message_id, at, horizon) for at, message_id in times]
        writes = self._graph.take_writes(number, now, horizon)
        self._uncommitted.append(writes)
        return seen, writes

    def read_back(self) -> None:
        """Between two steps, as a worker does that has nothing to decide."""
        self._graph.read_back()

    def commit(self, left: int) -> None:
        while len(self._uncommitted) > left:
            self.store.commit(self._uncommitted.popleft())
            self._graph.committed()


ADVANCES = st.sampled_from([0, 0, 60_000, HOUR_MS, 2 * HOUR_MS, DAY_MS, 8 * DAY_MS])
STEPS = st.lists(
    st.tuples(
        st.lists(st.tuples(ADVANCES, st.sampled_from("abcdef")), max_size=6),
        ADVANCES,
        st.sampled_from([HOUR_MS, HOUR_MS, 7 * DAY_MS]),
        st.integers(0, 3),
        st.booleans(),
    ),
    max_size=40,
)


@given(STEPS)
def test_marks_are_those_of_the_reference(steps: list[Any]) -> None:
    graphs = [Graph(compiled=True), Graph(compiled=False)]
    now = START
    for number, (events, advance, horizon, left, again) in enumerate(steps):
        times = []
        for further, message_id in events:
            now += further
            times.append((now, message_id))
        now += advance
        one, other = (graph.step(number, times, now, horizon) for graph in graphs)
        assert one == other
        for graph in graphs:
            graph.commit(left)
            if again:
                graph.start()
            if left:
                graph.read_back()


@pytest.mark.parametrize("seed", range(2))
def test_marks_of_several_filters_are_those_of_the_reference(seed: int) -> None:
    random, graphs = Random(seed), [Graph(compiled=True), Graph(compiled=False)]
    now, count, first = START, 0, 0
    for number in range(400):
        times = []
        for _ in range(700):
            now += random.randrange(600)
            # One in ten comes again, most of them when their marks have just expired or are about to.
            again = random.random() < 0.1 and count > 30_000
            at = count - random.randrange(19_000, 24_000) if again else count
            count += not again
            times.append((now, f"m-{at}"))
        one, other = (graph.step(number, times, now, HOUR_MS * 2) for graph in graphs)
        assert one == other
        first += sum(one[0])
        for graph in graphs:
            graph.commit(random.randrange(3))
            if number % 97 == 50:
                graph.start()
    assert first > count, "some were set again"
    assert sum(1 for _ in graphs[0].store.scan(b"m")) < 2.5 * 25_000, "the others have gone"


def test_what_has_expired_goes_without_a_question() -> None:
    graph = Graph(compiled=True)
    for number in range(20):
        times = [(START, f"m-{number}-{at}") for at in range(500)]
        graph.step(number, times, START, HOUR_MS)
        graph.commit(0)
    before = graph.store.asked
    for number in range(20, 25):
        _, writes = graph.step(number, [], START + DAY_MS, HOUR_MS)
        assert len(writes) == 4 * 501
        graph.commit(0)
    # A filter takes one in some hundreds for one that was there before.
    assert graph.store.asked - before < 500


def test_marks_that_were_read_back_between_steps_are_not_asked_for() -> None:
    graph = Graph(compiled=True)
    for number in range(200):
        graph.step(number, [(START, f"m-{number}-{at}") for at in range(500)], START, HOUR_MS)
    graph.start()
    # What is on its way to the store when it is read is known as well.
    graph.step(200, [(START, "m-200-0")], START, HOUR_MS)
    graph.read_back()
    graph.read_back()
    before = graph.store.asked
    seen, _ = graph.step(201, [(START, f"m-201-{at}") for at in range(500)] + [(START, "m-200-0")], START, HOUR_MS)
    assert seen == [True] * 500 + [False]
    assert graph.store.asked - before < 20
    assert graph.step(202, [(START, "m-7-7")], START, HOUR_MS)[0] == [False]


def test_a_mark_that_is_set_again_while_its_first_still_waits_to_go_stays() -> None:
    graphs = [Graph(compiled=True), Graph(compiled=False)]
    later = START + 8 * DAY_MS
    # More than one filter holds, then silence, then one of the last comes again.
    steps = [(START, [(START, f"m-{number}-{at}") for at in range(700)]) for number in range(130)]
    steps += [(later, []), (later, [(later, "m-100-7")]), *[(later, [])] * 35, (later, [(later, "m-100-7")])]
    for number, (now, times) in enumerate(steps):
        one, other = (graph.step(number, times, now, DAY_MS) for graph in graphs)
        assert one == other
        for graph in graphs:
            graph.commit(0)
    assert one[0] == [False]
