"""How fast a receiver is sent to, by a clock that the test moves."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cdp_stream.stream.webhook_pace import Pace


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_without_a_rate_every_turn_is_now():
    pace = Pace(None, Clock())
    assert [pace.reserve() for _ in range(5)] == [0.0] * 5


def test_turns_are_evenly_spaced_and_time_not_used_is_not_saved_up():
    clock = Clock()
    pace = Pace(4, clock)
    assert [pace.reserve() for _ in range(4)] == [0.0, 0.25, 0.5, 0.75]
    clock.now += 60
    assert [pace.reserve() for _ in range(3)] == [0.0, 0.25, 0.5]


def test_a_share_of_the_partitions_is_a_share_of_the_rate():
    pace = Pace(4, Clock())
    pace.share = 0.25
    assert [pace.reserve() for _ in range(3)] == [0.0, 1.0, 2.0]


def test_a_pause_holds_every_turn_and_the_spacing_goes_on_after_it():
    clock = Clock()
    pace = Pace(2, clock)
    pace.hold(10)
    assert pace.is_held()
    assert [pace.reserve() for _ in range(3)] == [10.0, 10.5, 11.0]
    pace.hold(5)
    assert pace.reserve() == 11.5
    clock.now += 10
    assert not pace.is_held()


@given(st.integers(1, 50), st.lists(st.floats(0, 3), max_size=60))
def test_no_second_ever_has_more_turns_than_the_rate(rate: int, pauses: list[float]):
    clock = Clock()
    pace = Pace(rate, clock)
    turns = []
    for pause in pauses:
        turns.append(clock.now + pace.reserve())
        clock.now += pause
    for first, later in zip(turns, turns[rate:], strict=False):
        assert later - first >= 1 - 1e-6
