"""Files of config tests: what is wrong in one is named with its path and the nearest right value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cdp_stream.config.case_plan import find_case_files, load_cases, parse_cases
from cdp_stream.config.topology import Topology, parse_topology
from cdp_stream.errors import TopologyError
from cdp_stream.model.time import format_instant


@pytest.fixture
def topology() -> Topology:
    return parse_topology(
        {
            "space": "shop",
            "sources": [{"name": "web", "topic": "shop.events"}],
            "audiences": [{"key": "vips", "definition": "trait('orders') >= 2", "destinations": ["crm"]}],
            "traits": [{"key": "orders", "definition": "event('Order Completed').count()"}],
            "destinations": [{"name": "crm", "topic": "shop.crm"}],
        }
    )


def problems(case: dict[str, Any], topology: Topology) -> list[str]:
    try:
        parse_cases({"tests": [{"name": "a test", **case}]}, topology)
    except TopologyError as error:
        return [str(problem) for problem in error.problems]
    return []


EVENT = {"type": "track", "event": "Order Completed", "userId": "u1"}


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ({"gven": []}, "tests[0].gven: unknown key 'gven'; did you mean 'given'?"),
        ({"expect": {"profils": {}}}, "tests[0].expect.profils: unknown key 'profils'; did you mean 'profiles'?"),
        (
            {"expect": {"profiles": {"user_id:u1": {"trait": {}}}}},
            "tests[0].expect.profiles.user_id:u1.trait: unknown key 'trait'; did you mean 'traits'?",
        ),
        (
            {"expect": {"profiles": {"u1": {}}}},
            "tests[0].expect.profiles.u1: 'u1' should be an identifier: user_id:u1, email:ana@example.org",
        ),
        (
            {"expect": {"profiles": {"users_id:u1": None}}},
            "tests[0].expect.profiles.users_id:u1: no identifier type 'users_id' in the topology; "
            "did you mean 'user_id'?",
        ),
        (
            {"expect": {"profiles": {"user_id:u1": {"audiences": ["vip"]}}}},
            "tests[0].expect.profiles.user_id:u1.audiences.vip: no audience 'vip' in the topology; did you mean 'vips'?",
        ),
        (
            {"expect": {"profiles": {"user_id:u1": {"audiences": {"vips": "yes"}}}}},
            "tests[0].expect.profiles.user_id:u1.audiences: a mapping should be a list of keys, or a mapping of keys to "
            "true or false",
        ),
        (
            {"expect": {"audience_changes": [{"change": "enter"}]}},
            "tests[0].expect.audience_changes[0].change: 'enter' should be 'entered' or 'exited'; "
            "did you mean 'entered'?",
        ),
        (
            {"then": [{"expect": {"audience_changes": {"lacks": [{"audience_key": "vip"}]}}}]},
            "tests[0].then[0].expect.audience_changes.lacks[0].audience_key: no audience 'vip' in the topology; "
            "did you mean 'vips'?",
        ),
        (
            {"expect": {"destinations": {"crn": []}}},
            "tests[0].expect.destinations.crn: no destination 'crn' in the topology; did you mean 'crm'?",
        ),
        (
            {"expect": {"destinations": {"crm": [{"userID": "u1"}]}}},
            "tests[0].expect.destinations.crm[0].userID: unknown key 'userID'; did you mean 'userId'?",
        ),
        (
            {"given": [{**EVENT, "source": "wed"}]},
            "tests[0].given[0].source: no source 'wed' in the topology; did you mean 'web'?",
        ),
        (
            {"given": [{**EVENT, "at": "30d"}]},
            "tests[0].given[0].at: '30d' should be an instant, or a time that passes: +30d, +12h, +15m",
        ),
        (
            {"given": [{**EVENT, "at": "+1d"}], "at": "2026-01-01T12:00:00Z"},
            "tests[0].at: '2026-01-01T12:00:00Z' is earlier than 2026-01-02T00:00:00.000Z, where the clock stands by "
            "then; a late event keeps its own 'timestamp' and arrives later",
        ),
        (
            {"given": [{"raw": "x", "userId": "u1"}]},
            "tests[0].given[0].userId: an event beside 'raw'; leave one of them out",
        ),
    ],
)
def test_a_problem_names_its_path_the_wrong_value_and_the_nearest_right_one(
    case: dict[str, Any], said: str, topology: Topology
) -> None:
    assert [said] == problems(case, topology)


def test_events_arrive_at_their_own_time_or_with_the_one_before(topology: Topology) -> None:
    given = [
        EVENT,
        {**EVENT, "at": "+1h"},
        {**EVENT, "timestamp": "2026-01-03T00:00:00Z"},
        {**EVENT, "timestamp": "2026-01-02T00:00:00Z"},
    ]
    (case,) = parse_cases({"tests": [{"name": "t", "given": given, "at": "+1d", "then": [{}]}]}, topology)
    first, second = case.steps
    assert [format_instant(event.arrives)[:16] for event in first.events] == [
        "2026-01-01T00:00",
        "2026-01-01T01:00",
        "2026-01-03T00:00",
        "2026-01-03T00:00",
    ]
    assert [format_instant(step.at)[:16] for step in (first, second)] == ["2026-01-04T00:00", "2026-01-04T00:00"]


def test_dates_in_a_file_stay_the_text_that_an_event_holds(tmp_path: Path, topology: Topology) -> None:
    file = tmp_path / "dates.yaml"
    file.write_text("tests: [{name: t, given: [{type: identify, userId: u1, traits: {born: 2001-02-03}}]}]")
    (case,) = load_cases(file, topology)
    assert b'"born":"2001-02-03"' in case.steps[0].events[0].value


def test_the_files_of_tests_are_those_of_the_folder_by_name(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    for name in ("b.yaml", "a.yaml", "notes.md"):
        (tmp_path / "tests" / name).touch()
    found = [file.name for file in find_case_files(tmp_path)]
    assert ["a.yaml", "b.yaml"] == found
    assert find_case_files(tmp_path / "topology.yaml") == find_case_files(tmp_path)
