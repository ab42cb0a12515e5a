"""A topology version that comes into force late ends where it would have ended had it been there from the start."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from test_computation_laws import EXAMPLES, HOUR, KEYS, START, People, declared_of, play, streams, told_by_profile

from cdp_stream.testing import TopologyDriver

choices = st.lists(st.sampled_from(KEYS), min_size=0, max_size=4)
histories = st.sampled_from([True, False, "1h", "5h"])


def of_keys(driver: TopologyDriver, keys: set[str]) -> list[dict[str, Any]]:
    """Every profile, of what is computed only these."""
    profiles = []
    for profile in driver.profiles():
        traits = {key: value for key, value in profile["traits"].items() if key in keys}
        audiences = [key for key in profile["audiences"] if key in keys]
        profiles.append({**profile, "traits": traits, "audiences": audiences})
    return profiles


@settings(deadline=None, max_examples=EXAMPLES)
@given(choices, choices.filter(bool), streams, st.integers(0, 14), st.sampled_from([(1, 100), (3, 1), (4, 3)]))
def test_a_late_version_ends_as_if_it_had_been_there_from_the_start(
    first: list[str], then: list[str], stream: Any, place: int, shape: tuple[int, int]
) -> None:
    partitions, step_size = shape
    (early, _), (late, declared) = declared_of(first), declared_of(then)
    # A key stays what it was.
    late["traits"] = [{**one, **known(early, one)} for one in late["traits"]]
    late["audiences"] = [{**one, **known(early, one)} for one in late["audiences"]]
    driver = TopologyDriver(early, partitions=partitions, step_size=step_size)
    whole = TopologyDriver(late, partitions=1)
    for number, now in enumerate(play(stream, driver, People())):
        driver.advance_to(now)
        if number == place:
            driver.reconfigure(late)
    if place >= len(stream):
        driver.reconfigure(late)
    for now in play(stream, whole, People()):
        whole.advance_to(now)
    keys = {one.key for one in declared}
    assert of_keys(whole, keys) == of_keys(driver, keys)
    for one in (driver, whole):
        one.advance_to(START + 100 * HOUR)
    assert of_keys(whole, keys) == of_keys(driver, keys)


def known(topology: dict[str, Any], one: dict[str, Any]) -> dict[str, Any]:
    return next((was for was in [*topology["traits"], *topology["audiences"]] if was["key"] == one["key"]), {})


@settings(deadline=None, max_examples=EXAMPLES)
@given(
    choices,
    st.lists(st.tuples(st.sampled_from(KEYS), histories), min_size=1, max_size=4),
    streams,
    st.integers(0, 14),
    st.lists(st.tuples(st.integers(1, 6), st.sampled_from([1, 2, 5, 100])), min_size=2, max_size=2),
)
def test_what_a_late_version_tells_does_not_depend_on_partitions_or_steps(
    first: list[str], then: list[tuple[str, Any]], stream: Any, place: int, ways: Any
) -> None:
    (early, _), (late, _) = declared_of(first), declared_of([*first, *(key for key, _ in then)])
    for audience in late["audiences"]:
        audience["historical"] = dict(then).get(audience["key"], True)
    told = []
    for partitions, step_size in ways:
        driver = TopologyDriver(early, partitions=partitions, step_size=step_size)
        for number, now in enumerate(play(stream, driver, People())):
            if number == place:
                driver.advance_to(now)
                driver.reconfigure(late)
        driver.advance_to(START + 100 * HOUR)
        told.append((told_by_profile(driver), driver.profiles()))
    assert told[0] == told[1]
