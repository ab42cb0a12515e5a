"""A six-month clickstream whose truth is known: at every instant the product says what counting anew says."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "reference"))
from clickstream import Town, arrivals
from person import DAY, END, HOUR, MONTHS, START, TRUTHS, instant_of, iso
from truths import declared

from cdp_stream.testing import TopologyDriver

IDENTIFIERS = [{"type": kind, "limit": 1000} for kind in ("user_id", "email", "anonymous_id")]
SPACE: dict[str, Any] = {
    "space": "shop",
    "sources": [{"name": "web", "topic": "web"}],
    "identity": {"identifiers": IDENTIFIERS},
    "retain": {"context": ["page"]},
}
LOOKBACK = {False: 0, "10d": 10 * DAY, "36h": 36 * HOUR}


def differences(driver: TopologyDriver, town: Town, now: int, keys: list[str], since: dict[str, int]) -> list[Any]:
    """Where the product says something else than the truth; `since`: from when on events of an audience count."""
    found = []
    for names in town.everyone():
        person, profile = town.person(names, now), driver.profile(min(names))
        assert profile is not None
        for key in keys:
            seen = person.since(since[key]) if key in since else person
            eligible = person.known or TRUTHS[key].include_anonymous
            truth = TRUTHS[key].of(seen) if key in since and eligible else person[key]
            said = key in profile["audiences"] if TRUTHS[key].is_audience else profile["traits"].get(key)
            if json.dumps(truth) != json.dumps(said):
                found.append((iso(now), min(names), key, truth, said))
    return found


def require_alternation(rows: list[dict[str, Any]]) -> None:
    """Entered and exited take turns for each profile and audience."""
    last: dict[tuple[str, str], str] = {}
    for row in rows:
        place = (row["profile_id"], row["audience_key"])
        assert last.get(place, "exited") != row["change"], row
        last[place] = row["change"]


@pytest.mark.parametrize(("seed", "partitions", "step_size"), [(1, 1, 1000), (2, 3, 100), (3, 8, 7)])
def test_at_any_instant_everything_is_as_counting_anew_says(seed: int, partitions: int, step_size: int) -> None:
    random = Random(seed)
    driver = TopologyDriver({**SPACE, **declared(TRUTHS)}, partitions=partitions, step_size=step_size)
    town = Town()
    instants = [*sorted(START + random.randrange(MONTHS) for _ in range(8)), END]
    for arrival in arrivals(random, people=20, events=1000):
        while instants[0] < arrival.received:
            now = instants.pop(0)
            driver.advance_to(iso(now))
            assert [] == differences(driver, town, now, list(TRUTHS), {})
        driver.put(arrival.event, received_at=iso(arrival.received))
        town.take(arrival)
    for now in instants:
        driver.advance_to(iso(now))
        assert [] == differences(driver, town, now, list(TRUTHS), {})
    require_alternation(driver.take("audience_changes"))
    assert [] == driver.take("dead_letters")
    driver.close()


@pytest.mark.parametrize("seed", [11, 12])
def test_what_changes_by_time_changes_at_its_very_millisecond(seed: int) -> None:
    driver = TopologyDriver({**SPACE, **declared(TRUTHS)}, partitions=2)
    town = Town()
    owners: dict[str, set[str]] = {}
    checked = 0

    def check() -> int:
        """Every change that time alone has made: a millisecond before, the truth was the other one."""
        count = 0
        for row in [*driver.take("audience_changes"), *driver.take("trait_changes")]:
            at = instant_of(row["time"])
            assert at is not None
            key = row.get("audience_key") or row["trait_key"]
            before, then = (town.person(owners[row["profile_id"]], now)[key] for now in (at - 1, at))
            entered = row.get("change") == "entered"
            told = (not entered, entered) if "change" in row else (row["previous"], row["value"])
            assert json.dumps([before, then]) == json.dumps(told), row
            count += 1
        return count

    for arrival in arrivals(Random(seed), people=6, events=300):
        driver.advance_to(iso(arrival.received))
        checked += check()
        driver.put(arrival.event, received_at=iso(arrival.received))
        town.take(arrival)
        profile = driver.profile(arrival.names[0])
        assert profile is not None
        owners[profile["id"]] = town.same[arrival.names[0]]
        driver.take("audience_changes"), driver.take("trait_changes")
    driver.advance_to(iso(END))
    assert checked + check() > 100
    driver.close()


@pytest.mark.parametrize("seed", [21, 22, 23])
def test_a_version_that_comes_late_knows_the_past_that_it_asks_for(seed: int) -> None:
    random = Random(seed)
    first = declared(random.sample(list(TRUTHS), 8))
    had = {one["key"] for one in first["audiences"]}
    wanted = random.sample(list(TRUTHS), 30)
    histories = {
        key: random.choice([False, "10d", "36h"]) for key in wanted if TRUTHS[key].is_audience and key not in had
    }
    histories = {key: history for key, history in histories.items() if not _is_read(key, wanted)}
    then = declared(
        [*wanted, *(one["key"] for section in first.values() for one in section)],
        **{key: {"historical": history} for key, history in histories.items()},
    )
    keys = [one["key"] for section in then.values() for one in section]
    driver = TopologyDriver({**SPACE, **first}, partitions=3, step_size=50)
    town = Town()
    late = START + random.randrange(40 * DAY, 140 * DAY)
    instants = [late, *sorted(late + random.randrange(MONTHS) for _ in range(5)), END]
    since = {key: late - LOOKBACK[history] for key, history in histories.items()}

    def look(now: int) -> None:
        driver.advance_to(iso(now))
        if now == late:
            driver.reconfigure({**SPACE, **then})
        assert [] == differences(driver, town, now, keys, since)

    for arrival in arrivals(random, people=15, events=700):
        while instants[0] < arrival.received:
            look(instants.pop(0))
        driver.put(arrival.event, received_at=iso(arrival.received))
        town.take(arrival)
    for now in instants:
        look(now)
    rows = driver.take("audience_changes")
    require_alternation(rows)
    assert any(row.get("backfill") for row in rows)
    driver.close()


def _is_read(key: str, keys: list[str]) -> bool:
    """Does another definition read it? Then what it says depends on where it is read from."""
    return any(key in TRUTHS[other].reads for other in keys)
