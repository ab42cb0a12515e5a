"""A topology version as the compiled core is told it: computations, aggregations and routes as plain JSON values.

Nothing is decided here. What a definition keeps of events, where a value stands in a row, and what an event can change
comes from the language's own plan; the core is given the results.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, assert_never

import msgspec

from cdp_stream.config.topology import Audience, Trait
from cdp_stream.destinations.combine import Selection
from cdp_stream.destinations.route import Connection, Route
from cdp_stream.destinations.shape import computation_id
from cdp_stream.language.aggregations import PAGE_NAME_KEYS, ROWS, Shape, kind_name, shape_of
from cdp_stream.language.computations import body_of
from cdp_stream.language.nodes import (
    And,
    Between,
    Comparison,
    Condition,
    ContextRef,
    DateTest,
    Exists,
    Holds,
    Literal,
    Membership,
    Node,
    Not,
    Or,
    PropertyRef,
    Reduction,
    Scalar,
    Session,
    SpanTest,
    Test,
    TextTest,
    TraitRef,
    Window,
    Within,
)
from cdp_stream.model.time import Instant
from cdp_stream.pipeline import CompiledTopology

Plain = dict[str, Any]
PlainScalar = Callable[[Scalar], Plain]


def plan_of(topology: CompiledTopology) -> bytes | None:
    """The version for the core; None where it has what only the rooms do: lists."""
    if topology.routes.lists or topology.routes.cadences:
        return None
    plan = _Planner(topology)
    return msgspec.json.encode(plan.plain())


class _Planner:
    """Writes one version down, and gathers its aggregations on the way."""

    def __init__(self, topology: CompiledTopology) -> None:
        self._topology = topology
        self._computations = topology.computations
        self._aggregations: dict[str, Plain] = {}
        self._since: Instant | None = None

    def plain(self) -> Plain:
        """Everything; the order of aggregations is that in which they are first met."""
        computations, declared = self._computations, self._topology.topology
        every: list[Trait | Audience] = [*declared.traits, *declared.audiences]
        bodies = {it.key: body_of(it) for it in every}
        order = []
        for computation in computations.order:
            self._since = self._topology.since.get(computation.key)
            order.append(
                {
                    "key": computation.key,
                    "is_audience": computation.is_audience,
                    "include_anonymous": computation.include_anonymous,
                    "body": self._node(bodies[computation.key]),
                    "aggregations": [aggregation.key for aggregation in computation.aggregations],
                }
            )
        return {
            "space": self._topology.space,
            "retained_events": self._topology.retention.events,
            "trait_keys": computations.trait_keys,
            "audience_keys": computations.audience_keys,
            "order": order,
            "aggregations": list(self._aggregations.values()),
            "by_event": {
                event: [aggregation.key for aggregation in found]
                for event, found in computations.aggregations_by_event.items()
            },
            "touched_by_event": computations.touched_by_event,
            "touched_by_custom": computations.touched_by_custom,
            "touched_by_identity": computations.touched_by_identity,
            "touched_by_time": computations.touched_by_time,
            "audience_routes": [self._route("audience", route) for route in self._topology.routes.audiences],
            "trait_routes": [self._route("trait", route) for route in self._topology.routes.traits],
        }

    def _route(self, computation_class: Any, route: Route) -> Plain:
        return {
            "key": route.key,
            "id": computation_id(self._topology.space, computation_class, route.key),
            "connections": [_connection(connection) for connection in route.connections],
        }

    def _node(self, node: Node) -> Plain:
        """A value or a condition of a profile, at the top of a definition."""
        scalar = partial(self._scalar, None, None)
        return scalar(node) if isinstance(node, Scalar) else _condition(node, scalar)

    def _scalar(self, own: Shape | None, around: Shape | None, scalar: Scalar) -> Plain:
        """`own`: the shape whose candidates are tested, None for the profile; `around`: that of the event around them."""
        match scalar:
            case Literal(value):
                return {"node": "literal", "value": value}
            case TraitRef(path):
                return {"node": "trait", "class": self._class_of(path[0]), "key": path[0], "path": path[1:]}
            case Reduction():
                return self._reduction(scalar, own)
            case PropertyRef(path, parent=True):
                assert around is not None, scalar
                return {"node": "parent_column", "place": _place(around, PropertyRef(path)), "path": path}
            case PropertyRef(path) | ContextRef(path):
                assert own is not None, scalar
                return {"node": "column", "place": _place(own, scalar), "path": path}
            case _:
                assert_never(scalar)

    def _class_of(self, key: str) -> str:
        if key in self._computations.audience_keys:
            return "audience"
        return "computed" if key in self._computations.trait_keys else "custom"

    def _reduction(self, reduction: Reduction, around: Shape | None) -> Plain:
        """`around`: the shape of the candidates inside whose condition it stands."""
        horizon = None if around is None else around.horizon
        shape = shape_of(reduction, nested=around is not None, horizon=horizon, since=self._since)
        if shape.key not in self._aggregations:
            self._aggregations[shape.key] = self._aggregation(reduction, shape)
        return {
            "node": "reduction",
            "state": shape.key,
            "is_rows": shape.kind == ROWS,
            "kind": kind_name(reduction),
            "reducer": reduction.reducer,
            "window": _window(reduction.window),
            "within_parent": reduction.within_parent,
            "reach": shape.horizon,
            "minimum": reduction.minimum,
            "as_json": reduction.value_type in ("number", "array"),
            "counted": reduction.counted,
            "has_value": reduction.path is not None,
            "many": _takes_many(reduction),
            "later": None if shape.later is None else _condition(shape.later, partial(self._scalar, shape, around)),
        }

    def _aggregation(self, reduction: Reduction, shape: Shape) -> Plain:
        return {
            "key": shape.key,
            "kind": kind_name(reduction),
            "is_rows": shape.kind == ROWS,
            "name": shape.kind.partition(".")[0],
            "gap": reduction.window.gap if isinstance(reduction.window, Session) and shape.kind != ROWS else None,
            "of_session": isinstance(reduction.window, Session),
            "horizon": shape.horizon,
            "keeps_ids": shape.kind != ROWS or reduction.reducer in ("first", "last"),
            "since": self._since,
            "excluded": reduction.excluded,
            "arrival": None
            if shape.arrival is None
            else _condition(shape.arrival, partial(_of_event, reduction.event)),
            "columns": [_of_event(reduction.event, column) for column in shape.columns],
            "value": _value(reduction),
        }


def _takes_many(reduction: Reduction) -> bool:
    return reduction.path is not None and "$" in reduction.path and reduction.value_type != "array"


def _condition(condition: Condition, scalar: PlainScalar) -> Plain:
    """A condition, whatever its values are read from."""
    match condition:
        case Not(operand):
            return {"node": "not", "of": [_condition(operand, scalar)]}
        case And(operands) | Or(operands):
            node = "and" if isinstance(condition, And) else "or"
            return {"node": node, "of": [_condition(operand, scalar) for operand in operands]}
        case _:
            return _test(condition, scalar)


def _test(test: Test, scalar: PlainScalar) -> Plain:
    def plain(node: str, *of: Scalar, **more: Any) -> Plain:
        return {"node": node, "scalars": [scalar(one) for one in of], **more}

    found: Plain
    match test:
        case Comparison(left, operator, right):
            found = plain("comparison", left, right, operator=operator)
        case TextTest(left, text_operator, options):
            found = plain("text", left, *options, operator=text_operator)
        case Membership(left, options, negated):
            found = plain("membership", left, *options, negated=negated)
        case DateTest(left, date_operator, instant):
            found = plain("date", left, operator=date_operator, instant=instant)
        case SpanTest(left, span_operator, span):
            found = plain("span", left, operator=span_operator, span=span)
        case Exists(left, negated):
            found = plain("exists", left, negated=negated)
        case Holds(left):
            found = plain("holds", left)
        case _:
            assert_never(test)
    return found


def _of_event(event: str, scalar: Scalar) -> Plain:
    """A value of the event that has just come."""
    match scalar:
        case Literal(value):
            return {"node": "literal", "value": value}
        case PropertyRef(path):
            also = PAGE_NAME_KEYS.get(event) if path == ("name",) else None
            return {"node": "property", "path": path, "also": also}
        case ContextRef(path):
            return {"node": "context", "path": path}
        case _:
            raise AssertionError(scalar)  # what depends on more is tested later


def _value(reduction: Reduction) -> Plain | None:
    """What is folded of an event (`language.aggregations.value_reader`)."""
    if reduction.path is None:
        return None
    return {
        "of": _of_event(reduction.event, PropertyRef(reduction.path)),
        "many": _takes_many(reduction),
        "type": reduction.value_type,
        "reducer": reduction.reducer,
    }


def _window(window: Window | None) -> Plain | None:
    match window:
        case None:
            return None
        case Within(far):
            return {"node": "within", "near": 0, "far": far}
        case Between(near, far):
            return {"node": "between", "near": near, "far": far}
        case Session(gap):
            return {"node": "session", "near": 0, "far": gap}
        case _:
            assert_never(window)


def _place(shape: Shape, column: PropertyRef | ContextRef) -> int:
    """Where a row has a column: behind time and message id."""
    return 2 + shape.columns.index(column)


def _connection(connection: Connection) -> Plain:
    destination = connection.destination
    return {
        "destination": destination.name,
        "send": destination.send,
        "enter_event": destination.enter_event,
        "exit_event": destination.exit_event,
        "compute_event": destination.compute_event,
        "fields": {item.type: item.field for item in destination.id_sync if item.field},
        "entries": _selection(connection.entries),
        "exits": None if connection.exits is None else _selection(connection.exits),
        "enrichment": connection.enrichment,
    }


def _selection(selection: Selection) -> Plain:
    return {"product": selection.combine == "product", "kinds": selection.kinds, "anonymous": selection.anonymous}
