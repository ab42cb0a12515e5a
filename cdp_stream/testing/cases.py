"""Runs the config tests of a topology: each in an empty space of its own, on `TopologyDriver`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final

from cdp_stream.config.case_plan import PlannedCase, PlannedStep
from cdp_stream.config.cases import ExpectedProfile
from cdp_stream.config.topology import Topology
from cdp_stream.model.ids import ACCOUNTS, USERS, Collection
from cdp_stream.model.time import Instant, format_instant
from cdp_stream.testing.differences import Difference, Row, Topic, value_difference
from cdp_stream.testing.driver import TopologyDriver

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SHOWN: Final = {
    "trait_changes": ("trait_key", "class", "value", "previous", "time"),
    "audience_changes": ("audience_key", "change", "cause", "time"),
    "dead_letters": ("reason", "field", "detail"),
}
_SHOWN_OF_MESSAGES: Final = (
    *("type", "event", "userId", "anonymousId", "groupId", "timestamp", "traits", "properties"),
    *("name", "sync", "add", "remove"),
)


@dataclass(frozen=True, slots=True)
class FailedStep:
    """A step that did not end as expected."""

    path: str
    at: str
    differences: tuple[Difference, ...]


def run_case(case: PlannedCase, topology: Topology) -> FailedStep | None:
    """Run a test to its end, or to the first step that does not end as expected; None if all do."""
    # The records of a topic are compared profile by profile, so the number of partitions cannot be seen.
    driver = TopologyDriver(topology, partitions=1)
    try:
        driver.advance_to(_moment(case.start))
        for step in case.steps:
            differences = _run_step(driver, step, topology)
            if differences:
                return FailedStep(step.path, format_instant(step.at), tuple(differences))
    finally:
        driver.close()
    return None


def _run_step(driver: TopologyDriver, step: PlannedStep, topology: Topology) -> list[Difference]:
    for event in step.events:
        driver.put(event.value, _moment(event.arrives), event.source)
    driver.advance_to(_moment(step.at))
    expect = step.expect
    found: list[Difference] = []
    for name, profile in expect.profiles.items():
        found += _profile(f"expect.profiles.{name}", driver, name, profile)
    counts: dict[Collection, int | None] = {USERS: expect.users_count, ACCOUNTS: expect.accounts_count}
    for collection, count in counts.items():
        if count is not None:
            found += value_difference(f"expect.{collection}_count", count, len(driver.profiles(collection)))
    profile_of = cache(lambda name: (driver.profile(name) or {}).get("id"))
    for section in ("trait_changes", "audience_changes", "dead_letters"):
        topic = _topic(driver, section, profile_of)
        expected = getattr(expect, section)
        if expected is not None:
            found += topic.differences(f"expect.{section}", expected)
    for destination in topology.destinations:
        rows = driver.take(f"destinations/{destination.name}")
        if destination.name in expect.destinations:
            topic = Topic(rows, _addressee, profile_of, _message)
            path = f"expect.destinations.{destination.name}"
            found += topic.differences(path, expect.destinations[destination.name])
    return found


def _topic(driver: TopologyDriver, section: str, profile_of: Callable[[str], str | None]) -> Topic:
    def shown(row: Row) -> Row:
        kept = {key: row[key] for key in _SHOWN[section] if key in row}
        return kept if section == "dead_letters" else {"profile": _name_of(driver, row["profile_id"]), **kept}

    return Topic(driver.take(section), lambda row: row.get("profile_id"), profile_of, shown)


def _profile(path: str, driver: TopologyDriver, name: str, expected: ExpectedProfile | None) -> list[Difference]:
    actual = driver.profile(name)
    if expected is None:
        there = None if actual is None else {"audiences": actual["audiences"], "traits": actual["traits"]}
        return value_difference(path, None, there)
    if actual is None:
        return [Difference(path, (("-", "a profile"), ("+", "none")))]
    return [
        *_identity(path, driver, actual, expected),
        *_values(path, actual, expected),
        *_links(f"{path}.links", driver, actual, expected),
    ]


def _identity(path: str, driver: TopologyDriver, actual: Row, expected: ExpectedProfile) -> list[Difference]:
    found: list[Difference] = []
    for other in expected.same_as:
        second = driver.profile(other)
        if second is None or second["id"] != actual["id"]:
            leads_to = "no profile" if second is None else "another profile"
            found.append(Difference(f"{path}.same_as", (("-", f"{other} leads to it"), ("+", f"{other}: {leads_to}"))))
    for type_, values in expected.external_ids.items():
        ids = sorted(item["id"] for item in actual["external_ids"] if item["type"] == type_)
        found += value_difference(f"{path}.external_ids.{type_}", sorted(values), ids)
    return found


def _values(path: str, actual: Row, expected: ExpectedProfile) -> list[Difference]:
    found: list[Difference] = []
    for key, value in expected.traits.items():
        found += value_difference(f"{path}.traits.{key}", value, actual["traits"].get(key))
    if isinstance(expected.audiences, dict):
        for key, member in expected.audiences.items():
            found += value_difference(f"{path}.audiences.{key}", member, key in actual["audiences"])
    elif expected.audiences is not None:
        found += value_difference(f"{path}.audiences", sorted(expected.audiences), actual["audiences"])
    return found


def _links(path: str, driver: TopologyDriver, actual: Row, expected: ExpectedProfile) -> list[Difference]:
    if expected.links is None:
        return []
    wanted = sorted((driver.profile(other) or {}).get("id", other) for other in expected.links)
    if wanted == sorted(actual["links"]):
        return []
    links = sorted(_name_of(driver, other) for other in actual["links"])
    return value_difference(path, sorted(expected.links), links)


def _name_of(driver: TopologyDriver, profile_id: str) -> str:
    """The first identifier of a profile, or its id when it has none."""
    profile = driver.profile(profile_id)
    ids = [] if profile is None else profile["external_ids"]
    return f"{ids[0]['type']}:{ids[0]['id']}" if ids else profile_id


def _addressee(row: Row) -> tuple[Any, ...]:
    return (row.get("userId"), row.get("anonymousId"), row.get("groupId"), row.get("name"))


def _message(row: Row) -> Row:
    shown: Row = {key: row[key] for key in _SHOWN_OF_MESSAGES if key in row}
    context = {key: value for key, value in row.get("context", {}).items() if key != "personas"}
    return {**shown, "context": context} if context else shown


def _moment(instant: Instant) -> datetime:
    return _EPOCH + timedelta(milliseconds=instant)
