"""What the user wrote in `tests/*.yaml`, from disk: typed, held against the topology, every instant worked out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
from pydantic import ValidationError

from cdp_stream.config.cases import Case, CaseFile, Expected, Given, Step, path_as_written
from cdp_stream.config.explain import explain, in_order, nearest, path_text, shown
from cdp_stream.config.fields import BUILT_IN_IDENTIFIER_TYPES
from cdp_stream.config.load import Loader, read_yaml
from cdp_stream.config.topology import Topology
from cdp_stream.errors import Problem, TopologyError
from cdp_stream.model.time import Instant, format_instant, parse_duration, parse_instant

CASES_FOLDER: Final = "tests"
FILES_MAX: Final = 1_000
_HINTS: Final = ("name a file of tests", "tests")


@dataclass(frozen=True, slots=True)
class PlannedEvent:
    """A source record to put: its value, when it arrives, from which source (None: the first)."""

    value: bytes
    arrives: Instant
    source: str | None


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """A step with its instants worked out."""

    path: str
    """Where it stands in its file: `tests[2].then[0]`."""
    events: tuple[PlannedEvent, ...]
    at: Instant
    expect: Expected


@dataclass(frozen=True, slots=True)
class PlannedCase:
    """A test that is ready to run."""

    file: str
    name: str
    start: Instant
    steps: tuple[PlannedStep, ...]


class _Loader(Loader):
    """YAML in which dates stay the text that an event would hold."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - the name and the form are PyYAML's
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in Loader.yaml_implicit_resolvers.items()
    }


def find_case_files(topology: Path) -> list[Path]:
    """The files of tests in a topology's folder, by name. Raises TopologyError if there are too many."""
    folder = (topology if topology.is_dir() else topology.parent) / CASES_FOLDER
    files = sorted(folder.glob("*.yaml"))
    if len(files) > FILES_MAX:
        raise TopologyError(str(folder), [Problem("", f"holds {len(files)} files of tests; at most {FILES_MAX}")])
    return files


def load_cases(file: Path, topology: Topology) -> list[PlannedCase]:
    """The tests of a file. Raises TopologyError with every problem: its path, the wrong value, the nearest right one."""
    data = read_yaml(file, _Loader, _HINTS)
    return parse_cases(data, topology, str(file))


def parse_cases(data: Mapping[Any, Any], topology: Topology, file: str = "tests") -> list[PlannedCase]:
    """The tests in plain values of YAML. Raises TopologyError as `load_cases` does."""
    try:
        read = CaseFile.model_validate(data)
    except ValidationError as error:
        problems = [
            Problem(path_as_written(data, problem.path), problem.message, problem.suggestion)
            for problem in explain(error, CaseFile)
        ]
        raise TopologyError(file, in_order(problems)) from None
    problems = []
    planned = []
    for place, case in enumerate(read.tests):
        path = path_text(("tests", place))
        problems += [
            Problem(path_as_written(data, problem.path), problem.message, problem.suggestion)
            for step_path, step in _steps(path, case)
            for problem in _strangers(step_path, step, topology)
        ]
        planned.append(_plan(file, path, case, parse_instant(read.start), problems))
    if problems:
        raise TopologyError(file, in_order(problems))
    return planned


def _steps(path: str, case: Case) -> Iterator[tuple[str, Step]]:
    yield path, case
    for place, step in enumerate(case.then):
        yield f"{path}.then[{place}]", step


def _plan(file: str, path: str, case: Case, start: Instant, problems: list[Problem]) -> PlannedCase:
    clock = start
    steps = []
    for step_path, step in _steps(path, case):
        events = []
        for place, given in enumerate(step.given):
            place_path = f"{step_path}.given[{place}]"
            clock = _moment(f"{place_path}.at", given.at, clock, problems) if given.at else max(clock, _own(given))
            events.append(PlannedEvent(_value(place_path, given, problems), clock, given.source))
        if step.at is not None:
            clock = _moment(f"{step_path}.at", step.at, clock, problems)
        steps.append(PlannedStep(step_path, tuple(events), clock, step.expect))
    return PlannedCase(file, case.name, start, tuple(steps))


def _moment(path: str, moment: str, clock: Instant, problems: list[Problem]) -> Instant:
    if moment.startswith("+"):
        return clock + parse_duration(moment[1:])
    instant = parse_instant(moment)
    if instant < clock:
        problem = f"{shown(moment)} is earlier than {format_instant(clock)}, where the clock stands by then"
        problems.append(Problem(path, problem, "a late event keeps its own 'timestamp' and arrives later"))
        return clock
    return instant


def _own(given: Given) -> Instant:
    """When an event says that it arrived or happened; 0 when it does not say, or says it wrongly."""
    event = given.event()
    for name in ("receivedAt", "timestamp", "originalTimestamp"):
        value = event.get(name)
        if isinstance(value, str):
            try:
                return parse_instant(value)
            except ValueError:
                continue
    return 0


def _value(path: str, given: Given, problems: list[Problem]) -> bytes:
    event = given.event()
    if given.raw is not None:
        problems += [Problem(f"{path}.{key}", "an event beside 'raw'", "leave one of them out") for key in event]
        return given.raw.encode()
    try:
        return orjson.dumps(event)
    except TypeError as error:
        problems.append(Problem(path, f"cannot be written as JSON: {error}"))
        return b""


def _strangers(path: str, step: Step, topology: Topology) -> list[Problem]:
    """Names of the step that the topology does not know."""
    sources = [source.name for source in topology.sources]
    destinations = [destination.name for destination in topology.destinations]
    audiences = [audience.key for audience in topology.audiences]
    types = sorted({*BUILT_IN_IDENTIFIER_TYPES, *(item.type for item in topology.identity.identifiers)})
    found = [
        _unknown("source", f"{path}.given[{place}].source", given.source, sources)
        for place, given in enumerate(step.given)
        if given.source is not None
    ]
    expect = step.expect
    path = f"{path}.expect"
    found += [
        _unknown("destination", f"{path}.destinations.{name}", name, destinations) for name in expect.destinations
    ]
    for name, profile in expect.profiles.items():
        place = f"{path}.profiles.{name}"
        named = [(place, name)]
        if profile is not None:
            named += [(f"{place}.same_as[{at}]", other) for at, other in enumerate(profile.same_as)]
            named += [(f"{place}.links[{at}]", other) for at, other in enumerate(profile.links or ())]
            named += [(f"{place}.external_ids.{type_}", f"{type_}:") for type_ in profile.external_ids]
            found += [
                _unknown("audience", f"{place}.audiences.{key}", key, audiences) for key in profile.audiences or ()
            ]
        found += [_unknown("identifier type", at, other.partition(":")[0], types) for at, other in named]
    for section in ("trait_changes", "audience_changes"):
        for at, item in _listed(f"{path}.{section}", getattr(expect, section)):
            if item.profile is not None:
                found.append(_unknown("identifier type", f"{at}.profile", item.profile.partition(":")[0], types))
            if section == "audience_changes" and item.audience_key is not None:
                found.append(_unknown("audience", f"{at}.audience_key", item.audience_key, audiences))
    return [problem for problem in found if problem is not None]


def _listed(path: str, records: Any) -> Iterator[tuple[str, Any]]:
    for name in () if records is None else ("all", "contains", "lacks"):
        for place, item in enumerate(getattr(records, name) or ()):
            yield f"{path}.{name}[{place}]", item


def _unknown(what: str, path: str, name: str, known: list[str]) -> Problem | None:
    if name in known:
        return None
    there = f"there are: {', '.join(known)}" if known else "the topology has none"
    return Problem(path, f"no {what} {shown(name)} in the topology", nearest(name, known) or there)
