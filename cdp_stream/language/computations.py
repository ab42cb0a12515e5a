"""The plan of all traits and audiences of a topology: what to fold for each event, what to evaluate, in which order."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from graphlib import TopologicalSorter
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct, field

from cdp_stream.config.topology import Audience, Topology, Trait
from cdp_stream.errors import Problem
from cdp_stream.language.aggregations import Aggregation
from cdp_stream.language.conditions import compile_condition
from cdp_stream.language.forms import read_form
from cdp_stream.language.nodes import (
    Definition,
    Holds,
    Node,
    Scalar,
    TraitRef,
    context_keys_of,
    reductions_of,
    trait_keys_of,
)
from cdp_stream.language.parse import parse_definition
from cdp_stream.language.printer import format_definition
from cdp_stream.language.readers import Compiler
from cdp_stream.language.scope import Scope
from cdp_stream.model.time import Instant

IDENTIFIED_TYPES: Final = frozenset(["user_id", "email", "android.idfa", "ios.idfa"])
"""A profile with an id of one of these types is not anonymous."""


_Declared = TypeVar("_Declared", Trait, Audience)


class Computation(Struct, frozen=True):
    """A trait or an audience, ready to be evaluated."""

    key: str
    is_audience: bool
    include_anonymous: bool
    value: Callable[[Scope], Any]
    """An audience's is True or False, a trait's any JSON value or None."""
    aggregations: tuple[Aggregation, ...]
    """What it reads of the profile's states."""


class Computations(Struct, frozen=True):
    """The whole plan. `order` puts everything after what it reads."""

    trait_keys: tuple[str, ...]
    """As declared."""
    audience_keys: tuple[str, ...]
    """As declared."""
    order: tuple[Computation, ...]
    aggregations_by_event: dict[str, tuple[Aggregation, ...]]
    aggregation_keys: frozenset[str] = frozenset()
    """All that is kept of a profile's events, by the key of its state."""
    touched_by_event: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Event name to places in `order` that can change with it, also through others."""
    touched_by_custom: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """The same by key of a custom trait."""
    touched_by_identity: tuple[int, ...] = ()
    """The same when an anonymous profile becomes an identified one."""
    context_keys: tuple[str, ...] = ()
    """Keys of an event's context that are read somewhere."""
    touched_by_time: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """The same by key of a computation that has come to a due time."""


class _Entry(Struct, frozen=True):
    """A declared trait or audience with its parsed definition."""

    path: str
    declared: Trait | Audience
    body: Node
    reads: tuple[str, ...]
    """Keys of the traits it reads, of whatever class."""

    @property
    def key(self) -> str:
        return self.declared.key

    @property
    def is_audience(self) -> bool:
        return isinstance(self.declared, Audience)


def compile_computations(
    topology: Topology, since: Mapping[str, Instant] | None = None
) -> tuple[Computations, list[Problem]]:
    """The plan, and what is wrong in the definitions; with problems, the plan holds only what is right.

    `since`: from which event time on the events of an audience count, by its key; all of them where it is not named.
    """
    entries: list[_Entry] = []
    problems: list[Problem] = []
    declared: list[tuple[str, Trait | Audience]] = [
        *((f"traits[{number}]", trait) for number, trait in enumerate(topology.traits)),
        *((f"audiences[{number}]", audience) for number, audience in enumerate(topology.audiences)),
    ]
    sources = [source.name for source in topology.sources]
    for path, computation in declared:
        entry = _entry(f"{path}.{'definition' if computation.where is None else 'where'}", computation)
        if isinstance(entry, Problem):
            problems.append(entry)
        else:
            entries.append(entry)
            problems.extend(_unknown_sources(entry, sources))
    circular = _circular(entries)
    problems.extend(_cycle_problem(entry) for entry in entries if entry.key in circular)
    return _plan([entry for entry in entries if entry.key not in circular], since or {}), problems


def affected(
    computations: Computations, event_name: str | None, custom_keys: Iterable[str], new_types: Iterable[str]
) -> tuple[Computation, ...]:
    """What can have changed, in order of evaluation: by an event's name, custom traits, types of new external ids."""
    places: set[int] = set()
    if event_name is not None:
        places.update(computations.touched_by_event.get(event_name, ()))
    for key in custom_keys:
        places.update(computations.touched_by_custom.get(key, ()))
    if not IDENTIFIED_TYPES.isdisjoint(new_types):
        places.update(computations.touched_by_identity)
    return tuple(computations.order[place] for place in sorted(places))


def backfilled(before: Computations, after: Computations) -> Computations:
    """Of the later plan, what must be computed anew from past events: aggregations that were not kept so far."""
    kept = before.aggregation_keys
    missing = {
        event: tuple(aggregation for aggregation in aggregations if aggregation.key not in kept)
        for event, aggregations in after.aggregations_by_event.items()
    }
    return msgspec.structs.replace(after, aggregations_by_event={event: new for event, new in missing.items() if new})


def due_at(computations: Computations, due: Iterable[str]) -> tuple[Computation, ...]:
    """What can have changed when these computations have come to a due time, in order of evaluation."""
    places: set[int] = set()
    for key in due:
        places.update(computations.touched_by_time.get(key, ()))
    return tuple(computations.order[place] for place in sorted(places))


def _entry(path: str, declared: Trait | Audience) -> _Entry | Problem:
    definition = definition_in(declared, path)
    if isinstance(definition, Problem):
        return definition
    body = _body(definition, path, is_audience=isinstance(declared, Audience))
    if isinstance(body, Problem):
        return body
    return _Entry(path=path, declared=declared, body=body, reads=tuple(sorted(trait_keys_of(body))))


def definition_in(declared: Trait | Audience, path: str) -> Definition | Problem:
    """What a trait or audience says, from whichever form it is written in."""
    if declared.where is not None:
        return read_form(declared.where, path)
    assert declared.definition is not None, path  # a topology has one of both
    return parse_definition(declared.definition, path)


def spelled(topology: Topology) -> Topology:
    """The same topology with every definition as its canonical text; those that are wrong stay as they are.

    So neither the layout of a text nor the form makes another version.
    """

    def spelled_out(declared: _Declared) -> _Declared:
        definition = definition_in(declared, "")
        if isinstance(definition, Problem):
            return declared
        return declared.model_copy(update={"definition": format_definition(definition), "where": None})

    traits, audiences = map(spelled_out, topology.traits), map(spelled_out, topology.audiences)
    return topology.model_copy(update={"traits": tuple(traits), "audiences": tuple(audiences)})


def body_of(declared: Trait | Audience) -> Node:
    """What a trait or audience of a topology that was compiled computes."""
    definition = definition_in(declared, "")
    assert not isinstance(definition, Problem), definition
    body = _body(definition, "", is_audience=isinstance(declared, Audience))
    assert not isinstance(body, Problem), body
    return body


def _body(definition: Definition, path: str, *, is_audience: bool) -> Node | Problem:
    body = definition.body
    is_value = isinstance(body, Scalar)
    if is_audience and isinstance(body, TraitRef):
        return Holds(body)
    if is_audience and is_value:
        return Problem(path, "an audience needs a condition, and this is a value", "compare it, such as `… >= 1`")
    if not is_audience and not is_value:
        return Problem(path, "a trait needs a value, and this is a condition", "make it an audience")
    return body


def _unknown_sources(entry: _Entry, sources: list[str]) -> list[Problem]:
    named = {name for reduction in reductions_of(entry.body) for name in reduction.excluded}
    return [
        Problem(
            entry.path,
            f"sources(exclude: …) names {name!r}, which is no source of this topology",
            _nearest(name, sources),
        )
        for name in sorted(named - set(sources))
    ]


def _nearest(name: str, sources: list[str]) -> str:
    close = difflib.get_close_matches(name, sources, n=1)
    return f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(sources)}"


def _circular(entries: list[_Entry]) -> frozenset[str]:
    """Keys that reach themselves through what they read."""
    reads = {entry.key: entry.reads for entry in entries}
    return frozenset(entry.key for entry in entries if entry.key in _reached(reads, entry.key))


def _reached(edges: Mapping[str, Iterable[str]], start: str) -> set[str]:
    """Every key that `start` leads to over one edge or more."""
    found: set[str] = set()
    ahead = list(edges.get(start, ()))
    while ahead:
        key = ahead.pop()
        if key not in found:
            found.add(key)
            ahead.extend(edges.get(key, ()))
    return found


def _cycle_problem(entry: _Entry) -> Problem:
    what = "audience" if entry.is_audience else "trait"
    return Problem(entry.path, f"The {what} would create a cycle by referencing another {what}")


def _plan(entries: list[_Entry], since: Mapping[str, Instant]) -> Computations:
    by_key = {entry.key: entry for entry in entries}
    reads = {entry.key: [key for key in entry.reads if key in by_key] for entry in entries}
    order = [by_key[key] for key in TopologicalSorter(reads).static_order()]
    audience_keys = tuple(entry.key for entry in entries if entry.is_audience)
    trait_keys = tuple(entry.key for entry in entries if not entry.is_audience)
    computations = {
        entry.key: _computation(entry, trait_keys, audience_keys, since.get(entry.key)) for entry in entries
    }
    aggregations = {it.key: it for entry in entries for it in computations[entry.key].aggregations}
    by_event: dict[str, tuple[Aggregation, ...]] = {}
    for aggregation in aggregations.values():
        by_event[aggregation.event] = (*by_event.get(aggregation.event, ()), aggregation)
    readers: dict[str, list[str]] = {}
    for entry in entries:
        for key in reads[entry.key]:
            readers.setdefault(key, []).append(entry.key)
    places = {entry.key: place for place, entry in enumerate(order)}

    def touched(direct: Iterable[str]) -> tuple[int, ...]:
        keys = set(direct)
        return tuple(sorted(places[key] for key in keys.union(*(_reached(readers, key) for key in keys))))

    return Computations(
        trait_keys=trait_keys,
        audience_keys=audience_keys,
        order=tuple(computations[entry.key] for entry in order),
        aggregations_by_event=by_event,
        aggregation_keys=frozenset(aggregations),
        touched_by_event={
            event: touched(
                key for key, it in computations.items() if any(used.event == event for used in it.aggregations)
            )
            for event in by_event
        },
        touched_by_custom={
            key: touched(entry.key for entry in entries if key in entry.reads)
            for key in sorted({key for entry in entries for key in entry.reads if key not in by_key})
        },
        touched_by_identity=touched(entry.key for entry in entries if not entry.declared.include_anonymous),
        context_keys=tuple(sorted({key for entry in entries for key in context_keys_of(entry.body)})),
        touched_by_time={key: touched([key]) for key in by_key},
    )


def _computation(
    entry: _Entry, trait_keys: Iterable[str], audience_keys: Iterable[str], since: Instant | None
) -> Computation:
    compiler = Compiler(frozenset(trait_keys), frozenset(audience_keys), since)
    body = entry.body
    value: Callable[[Scope], Any]
    if isinstance(body, Scalar):
        value = compiler.value(body)
    else:
        value = compile_condition(body, compiler.operand, lambda scope: scope)
    return Computation(
        key=entry.key,
        is_audience=entry.is_audience,
        include_anonymous=entry.declared.include_anonymous,
        value=value,
        aggregations=tuple(compiler.found.values()),
    )
