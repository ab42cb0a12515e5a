"""The status as people read it."""

from __future__ import annotations

from typing import Any

from cdp_stream.cli.status import status_lines


def found(**more: Any) -> dict[str, Any]:
    at_end = {"position": 7, "end": 7, "lag": 0}
    return {
        "space": "shop",
        "topology": {"in_force": "aa", "file": "aa", "file_is_in_force": True},
        "now": "2026-01-01T00:00:00.000Z",
        "profiles_created": 3,
        "profiles_parked": 0,
        "groups": {"shop.identity": {"members": 1}, "shop.profiles": {"members": 0}},
        "sources": [{"topic": "events", "partition": 0, "position": 4, "end": 9, "lag": 5}],
        "identity": {**at_end, "last_entry": {"offset": 6, "entry": "clock", "appended": "2026-01-01T00:00:01.000Z"}},
        "profiles": [
            {"partition": 0, "changes": at_end, "shipments": at_end, "now": "", "parked": 2, "backfill": None}
        ],
        "dead_letters": {"by_reason": {}, "counted": 0, "earlier": False, "last": None},
        **more,
    }


def test_each_thing_is_a_line() -> None:
    assert [
        "space      shop",
        "topology   aa in force",
        "now        2026-01-01T00:00:00.000Z",
        "profiles   3 created, 0 waiting for a merge",
        "group      shop.identity: 1 member",
        "group      shop.profiles: 0 members",
        "source     events/0: 4 of 9, 5 behind",
        "identity   entries: 7, at the end, last a clock at 2026-01-01T00:00:01.000Z",
        "profiles   0: changes 7, at the end; shipments 7, at the end; 2 waiting",
        "dead       none",
    ] == status_lines(found())


def test_a_file_that_is_not_in_force_says_how_to_take_it() -> None:
    lines = status_lines(found(topology={"in_force": "aa", "file": "bb", "file_is_in_force": False}))
    assert "topology   aa in force; the file is bb: take it with `cdp-stream apply`" == lines[1]


def test_a_version_that_is_coming_into_force_says_how_far_it_is() -> None:
    partition = {**found()["profiles"][0], "parked": 0}
    partition["backfill"] = {"from": "aa", "to": "bb", "profiles": 1, "progress": 0.25}
    lines = status_lines(found(profiles=[partition]))
    assert (
        "profiles   0: changes 7, at the end; shipments 7, at the end; backfill for bb at 25%, 1 profile done" in lines
    )


def test_dead_letters_say_how_many_were_counted() -> None:
    letters = {"by_reason": {"not_json": 2, "too_deep": 1}, "counted": 3, "earlier": True, "last": "then"}
    assert (
        "dead       not_json 2, too_deep 1 (of the latest 3); last at then"
        == status_lines(found(dead_letters=letters))[-1]
    )
