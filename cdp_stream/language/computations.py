"""The plan of all traits and audiences of a topology: what to fold for each event, what to evaluate, in which order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from graphlib import TopologicalSorter
from typing import Any, Final, cast

from msgspec import Struct, field

from cdp_stream.config.topology import Audience, Topology, Trait
from cdp_stream.errors import Problem
from cdp_stream.language.conditions import Read, compile_condition, compile_where
from cdp_stream.language.nodes import (
    And,
    Comparison,
    Contains,
    Definition,
    Exists,
    Holds,
    KeyPath,
    Literal,
    Node,
    Not,
    Or,
    Reducer,
    Reduction,
    Scalar,
    TraitRef,
)
from cdp_stream.language.parse import parse_definition
from cdp_stream.language.printer import format_node
from cdp_stream.language.values import lookup
from cdp_stream.model.ids import base62, derive
from cdp_stream.model.profile import CustomTrait

IDENTIFIED_TYPES: Final = frozenset(["user_id", "email", "android.idfa", "ios.idfa"])
"""A profile with an id of one of these types is not anonymous."""

_KEY_DIGITS: Final = 12
"""Base 62; 71 bits tell the aggregations of a topology apart."""

StateReader = Callable[[Reducer, Any], Any]
"""Reducer and stored state to the value, or None for none."""


class Aggregation(Struct, frozen=True):
    """One distinct reduction, shared by all definitions that use it."""

    key: str
    """Key of its state on a profile: the reducer and a hash of its canonical text, such as `sum:3kQ…`."""
    event: str
    matches: Callable[[Any], bool] | None
    """A test of the event's properties; None when every event of that name counts."""
    reducer: Reducer
    path: KeyPath | None


class Scope(Struct, frozen=True):
    """What definitions read while a profile is evaluated. `computed` and `memberships` fill up on the way."""

    custom: Mapping[str, CustomTrait]
    states: Mapping[str, Any]
    computed: dict[str, Any]
    memberships: dict[str, bool]
    read_state: StateReader


class Computation(Struct, frozen=True):
    """A trait or an audience, ready to be evaluated."""

    key: str
    is_audience: bool
    include_anonymous: bool
    value: Callable[[Scope], Any]
    """An audience's is True or False, a trait's any JSON value or None."""


class Computations(Struct, frozen=True):
    """The whole plan. `order` puts everything after what it reads."""

    trait_keys: tuple[str, ...]
    """As declared."""
    audience_keys: tuple[str, ...]
    """As declared."""
    order: tuple[Computation, ...]
    aggregations_by_event: dict[str, tuple[Aggregation, ...]]
    touched_by_event: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Event name to places in `order` that can change with it, also through others."""
    touched_by_custom: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """The same by key of a custom trait."""
    touched_by_identity: tuple[int, ...] = ()
    """The same when an anonymous profile becomes an identified one."""


class _Entry(Struct, frozen=True):
    """A declared trait or audience with its parsed definition."""

    path: str
    declared: Trait | Audience
    body: Node
    reductions: tuple[Reduction, ...]
    reads: tuple[str, ...]
    """Keys of the traits it reads, of whatever class."""

    @property
    def key(self) -> str:
        return self.declared.key

    @property
    def is_audience(self) -> bool:
        return isinstance(self.declared, Audience)


def compile_computations(topology: Topology) -> tuple[Computations, list[Problem]]:
    """The plan, and what is wrong in the definitions; with problems, the plan holds only what is right."""
    entries: list[_Entry] = []
    problems: list[Problem] = []
    declared: list[tuple[str, Trait | Audience]] = [
        *((f"traits[{number}]", trait) for number, trait in enumerate(topology.traits)),
        *((f"audiences[{number}]", audience) for number, audience in enumerate(topology.audiences)),
    ]
    for path, computation in declared:
        entry = _entry(f"{path}.definition", computation)
        if isinstance(entry, Problem):
            problems.append(entry)
        else:
            entries.append(entry)
    circular = _circular(entries)
    problems.extend(_cycle_problem(entry) for entry in entries if entry.key in circular)
    return _plan([entry for entry in entries if entry.key not in circular]), problems


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


def _entry(path: str, declared: Trait | Audience) -> _Entry | Problem:
    definition = parse_definition(declared.definition, path)
    if isinstance(definition, Problem):
        return definition
    body = _body(definition, path, is_audience=isinstance(declared, Audience))
    if isinstance(body, Problem):
        return body
    scalars = tuple(_scalars(body))
    return _Entry(
        path=path,
        declared=declared,
        body=body,
        reductions=tuple(scalar for scalar in scalars if isinstance(scalar, Reduction)),
        reads=tuple(sorted({scalar.path[0] for scalar in scalars if isinstance(scalar, TraitRef)})),
    )


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


def _scalars(node: Node) -> Iterator[Scalar]:
    """The values a definition reads; not those inside `where()`."""
    match node:
        case And(operands) | Or(operands):
            for operand in operands:
                yield from _scalars(operand)
        case Not(operand):
            yield from _scalars(operand)
        case Comparison(left, _, right):
            yield left
            yield right
        case Contains(scalar) | Exists(scalar) | Holds(scalar):
            yield scalar
        case _:
            yield node


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


def _plan(entries: list[_Entry]) -> Computations:
    by_key = {entry.key: entry for entry in entries}
    reads = {entry.key: [key for key in entry.reads if key in by_key] for entry in entries}
    order = [by_key[key] for key in TopologicalSorter(reads).static_order()]
    aggregations = {
        aggregation.key: aggregation for entry in entries for aggregation in map(_aggregation, entry.reductions)
    }
    by_event: dict[str, tuple[Aggregation, ...]] = {}
    for aggregation in aggregations.values():
        by_event[aggregation.event] = (*by_event.get(aggregation.event, ()), aggregation)
    audience_keys = tuple(entry.key for entry in entries if entry.is_audience)
    trait_keys = tuple(entry.key for entry in entries if not entry.is_audience)
    compiler = _Compiler(frozenset(trait_keys), frozenset(audience_keys))
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
        order=tuple(compiler.computation(entry) for entry in order),
        aggregations_by_event=by_event,
        touched_by_event={
            event: touched(entry.key for entry in entries if any(used.event == event for used in entry.reductions))
            for event in by_event
        },
        touched_by_custom={
            key: touched(entry.key for entry in entries if key in entry.reads)
            for key in sorted({key for entry in entries for key in entry.reads if key not in by_key})
        },
        touched_by_identity=touched(entry.key for entry in entries if not entry.declared.include_anonymous),
    )


def _aggregation(reduction: Reduction) -> Aggregation:
    return Aggregation(
        key=aggregation_key(reduction),
        event=reduction.event,
        matches=None if reduction.where is None else compile_where(reduction.where),
        reducer=reduction.reducer,
        path=reduction.path,
    )


def aggregation_key(reduction: Reduction) -> str:
    """The key under which a profile keeps the state of this reduction; the same for the same canonical text."""
    digest = base62(derive("aggregation", format_node(reduction)), _KEY_DIGITS)
    return f"{reduction.reducer}:{digest}"


def reducer_of(key: str) -> Reducer:
    """The reducer that an aggregation key names."""
    return cast("Reducer", key.partition(":")[0])


class _Compiler(Struct, frozen=True):
    """Knows which class a trait key is of: a declared one beats a custom trait of the same key."""

    trait_keys: frozenset[str]
    audience_keys: frozenset[str]

    def computation(self, entry: _Entry) -> Computation:
        body = entry.body
        value = self.scalar(body) if isinstance(body, Scalar) else compile_condition(body, self.operand)
        return Computation(entry.key, entry.is_audience, entry.declared.include_anonymous, value)

    def operand(self, scalar: Scalar) -> Read[Scope]:
        """Inside a condition a count of nothing is 0, so that "did not" can be said; elsewhere it is no value."""
        read = self.scalar(scalar)
        if not isinstance(scalar, Reduction) or scalar.reducer != "count":
            return read
        return lambda scope: read(scope) or 0

    def scalar(self, scalar: Scalar) -> Read[Scope]:
        match scalar:
            case Literal(value):
                return lambda _scope: value
            case Reduction():
                return _reduction_reader(scalar)
            case TraitRef(path):
                return self.trait(path)
            case _:
                raise AssertionError(scalar)  # the parser keeps property() inside where()

    def trait(self, path: KeyPath) -> Read[Scope]:
        key, rest = path[0], path[1:]
        if key in self.audience_keys:
            return lambda scope: lookup(scope.memberships.get(key, False), rest)
        if key in self.trait_keys:
            return lambda scope: lookup(scope.computed.get(key), rest)

        def custom(scope: Scope) -> Any:
            trait = scope.custom.get(key)
            return None if trait is None else lookup(trait.value, rest)

        return custom


def _reduction_reader(reduction: Reduction) -> Read[Scope]:
    key, reducer = aggregation_key(reduction), reduction.reducer

    def read(scope: Scope) -> Any:
        state = scope.states.get(key)
        return None if state is None else scope.read_state(reducer, state)

    return read
