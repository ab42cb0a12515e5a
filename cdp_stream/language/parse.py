"""Definitions, step 3 of 4: text to a checked definition, or the problem with its line, column and nearest right name."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final, NoReturn, cast

from lark import Token, Tree
from lark.exceptions import UnexpectedInput
from msgspec import Struct
from msgspec.structs import replace

from cdp_stream.errors import Problem
from cdp_stream.language.arguments import (
    Refused,
    arguments_of,
    date_argument,
    key_path,
    named_argument,
    no_argument,
    number_of,
    one_text,
    refuse_name,
    span_of,
    unquoted,
)
from cdp_stream.language.events import FILTERS, REDUCERS, Vector, filtered, reduced
from cdp_stream.language.grammar import PARSER, syntax_problem
from cdp_stream.language.nodes import (
    And,
    Comparison,
    Condition,
    ContextRef,
    DateOperator,
    DateTest,
    Definition,
    Exists,
    Holds,
    Literal,
    Membership,
    Node,
    Not,
    Operator,
    Or,
    PropertyRef,
    Reduction,
    Scalar,
    SpanOperator,
    SpanTest,
    TextOperator,
    TextTest,
    TraitRef,
    tests_of,
    wheres_of,
)
from cdp_stream.language.printer import format_node

PRIMARY_EXPRESSIONS_MAX: Final = 50
"""Comparisons in one definition, those inside `where()` counted."""
NESTING_MAX: Final = 100
DEFINITION_LENGTH_MAX: Final = 10_000
"""Characters."""
_TOO_MANY: Final = (
    f"the definition has {{}} primary expressions; at most {PRIMARY_EXPRESSIONS_MAX} are allowed, up to here"
)
_SPLIT: Final = "move a part of it to an audience or trait of its own, and refer to that: trait('its_key')"

COMPARATORS: Final[dict[str, Operator]] = {
    "equals": "=",
    "differs": "!=",
    "less_than": "<",
    "at_most": "<=",
    "greater_than": ">",
    "at_least": ">=",
}
TEXT_TESTS: Final[tuple[TextOperator, ...]] = ("contains", "omits", "starts_with", "ends_with")
DATE_TESTS: Final[tuple[DateOperator, ...]] = ("before_date", "after_date")
SPAN_TESTS: Final[tuple[SpanOperator, ...]] = ("within_last", "within_next", "before_last", "after_next")
_TESTS: Final = (*COMPARATORS, *TEXT_TESTS, "one_of", "none_of", *DATE_TESTS, *SPAN_TESTS, "exists", "absent")
_OPERATORS: Final = tuple(COMPARATORS.values())
_FUNCTIONS: Final = ("event", "trait", "property", "context")
_SUPPORTED: Final = (*_FUNCTIONS, *FILTERS, *REDUCERS, *_TESTS)
UNSUPPORTED: Final = frozenset(["entity"])
"""Names of the documented language that are recognised and refused."""


class _Place(Struct, frozen=True):
    tests: list[Tree[Token]]
    """Those read so far, of the whole definition."""
    level: int = 0
    """How many `where()` stand around."""
    depth: int = 0


@lru_cache(maxsize=4_096)
def parse_definition(text: str, path: str) -> Definition | Problem:
    """The definition that `text` says, or what is wrong with it. `path` names its place in the topology.

    Remembered: each partition of a space compiles the same topology, and so does each of a topology's tests.
    """
    if not text.strip():
        return Problem(path, "the definition is empty")
    if len(text) > DEFINITION_LENGTH_MAX:
        return Problem(path, f"the definition has {len(text)} characters; at most {DEFINITION_LENGTH_MAX} are allowed")
    try:
        return Definition(_read(text))
    except UnexpectedInput as error:
        return syntax_problem(error, text, path)
    except Refused as refused:
        return Problem(path, str(refused), refused.suggestion)


def _read(text: str) -> Node:
    """The node that a text says. Raises UnexpectedInput and Refused."""
    tree, tests = PARSER.parse(text), list[Tree[Token]]()
    body = _build(tree, _Place(tests))
    count = primary_expressions(body)
    if count > PRIMARY_EXPRESSIONS_MAX:
        places = [tree, *tests] if isinstance(body, Scalar) else tests
        places.sort(key=lambda place: place.meta.start_pos)
        raise Refused(places[PRIMARY_EXPRESSIONS_MAX], _TOO_MANY.format(count), _SPLIT)
    return body


def definition_of(body: Node, path: str, places: Iterable[str]) -> Definition | Problem:
    """What was not read from a text as a definition, held to the same limits.

    `places`: paths of its primary expressions, in order.
    """
    length = len(format_node(body))
    if length > DEFINITION_LENGTH_MAX:
        return Problem(path, f"as a text this has {length} characters; at most {DEFINITION_LENGTH_MAX} are allowed")
    count = primary_expressions(body)
    if count > PRIMARY_EXPRESSIONS_MAX:
        return Problem(list(places)[PRIMARY_EXPRESSIONS_MAX], _TOO_MANY.format(count), _SPLIT)
    return Definition(body)


def primary_expressions(node: Node) -> int:
    """How many comparisons the node holds, those inside `where()` counted; a value standing alone is one."""
    own = 1 if isinstance(node, Scalar) else len(tests_of(node))
    return own + sum(len(tests_of(where)) for where in wheres_of(node))


def _build(node: Any, place: _Place) -> Node:
    """A tree of the grammar as a node. Raises Refused."""
    if place.depth >= NESTING_MAX:
        raise Refused(node, f"the definition is nested more than {NESTING_MAX} deep")
    inner = replace(place, depth=place.depth + 1)
    match node.data:
        case "disjunction":
            return Or(tuple(_flat(Or, (_condition(child, inner) for child in node.children))))
        case "conjunction":
            return And(tuple(_flat(And, (_condition(child, inner) for child in node.children))))
        case "negated":
            return Not(_condition(node.children[0], inner))
        case "quantified":
            word = node.children[0]
            raise Refused(word, f"{word.upper()} stands in definitions of accounts only", "leave it out for users")
        case "comparison":
            left, operator, right = node.children
            if operator not in _OPERATORS:
                raise Refused(operator, f"unknown comparison {str(operator)!r}", _nearest_operator(operator))
            place.tests.append(node)
            return Comparison(_scalar(left, inner), operator.value, _scalar(right, inner))
        case _:
            return _chain(node, inner)


def _flat(kind: type[And | Or], operands: Iterable[Condition]) -> Iterable[Condition]:
    for operand in operands:
        if isinstance(operand, kind):
            yield from operand.operands
        else:
            yield operand


def _condition(node: Any, place: _Place) -> Condition:
    built = _build(node, place)
    if isinstance(built, TraitRef | PropertyRef | ContextRef):
        place.tests.append(node)
        return Holds(built)
    if isinstance(built, Literal | Reduction):
        raise Refused(node, "this is a value; a condition is expected here", "compare it, such as `… >= 1`")
    return built


def _scalar(node: Any, place: _Place) -> Scalar:
    built = _build(node, place)
    if isinstance(built, Scalar):
        return built
    raise Refused(node, "this is a condition; a value is expected here", "a number, a text, trait('k') …")


def _chain(node: Any, place: _Place) -> Node:
    """A primary and the methods called on it, from left to right."""
    methods = []
    while node.data == "method":
        methods.append(node)
        node = node.children[0]
    value = _primary(node, place)
    for method in reversed(methods):
        name, arguments = method.children[1], arguments_of(method.children[2:])
        value = _method(value, name, arguments, place)
        if not isinstance(value, Scalar | Vector):
            place.tests.append(method)
    if isinstance(value, Vector):
        raise Refused(node, f"event({value.event!r}) alone is no value", "end it with a reducer, such as .count()")
    return value


def _primary(node: Any, place: _Place) -> Node | Vector:
    match node.data:
        case "number":
            return Literal(number_of(node.children[0]))
        case "string":
            return Literal(unquoted(node.children[0]))
        case "word":
            return _word(node.children[0])
        case "call":
            return _call(node.children[0], arguments_of(node.children[1:]), place)
        case "array" | "duration" | "named" | "typed":
            raise Refused(node, "this cannot stand here; a value is expected")
        case _:
            return _build(node, place)


def _word(word: Token) -> Literal:
    match word.lower():
        case "true":
            return Literal(value=True)
        case "false":
            return Literal(value=False)
        case "null":
            raise Refused(word, "null cannot be compared with", "use .exists() or NOT ….exists()")
        case _:
            hint = f"write {str(word)!r} in quotes, or {word}(…)"
            raise Refused(word, f"unexpected word {str(word)!r}", hint)


def _call(name: Token, arguments: list[Any], place: _Place) -> Scalar | Vector:
    if name not in _FUNCTIONS:
        _refuse(name, _FUNCTIONS)
    if name == "event":
        return Vector(one_text(name, arguments))
    if name == "trait":
        return TraitRef(key_path(name, one_text(name, arguments)))
    if not place.level:
        raise Refused(name, f"{name}() has a meaning only inside where() or a reducer")
    if name == "context":
        return ContextRef(key_path(name, one_text(name, arguments)))
    parent = named_argument(arguments, "parent")
    if parent is None:
        return PropertyRef(key_path(name, one_text(name, arguments)))
    if place.level == 1:
        raise Refused(name, "property(parent: …) has a meaning only in a where() inside another where()")
    return PropertyRef(key_path(name, one_text(name, [parent])), parent=True)


def _method(value: Node | Vector, name: Token, arguments: list[Any], place: _Place) -> Node | Vector:
    if isinstance(value, Vector):
        return _of_events(value, name, arguments, place)
    if name == "count" and isinstance(value, Reduction) and value.reducer == "unique" and not value.counted:
        no_argument(name, arguments)
        return _counted(value)
    if name in REDUCERS or name in FILTERS:
        raise Refused(name, f"{name}() applies to event('…')")
    if name not in _TESTS:
        _refuse(name, _TESTS)
    if not isinstance(value, Scalar):
        raise Refused(name, f"{name}() applies to a value, and this is a condition", "join conditions with AND, OR")
    return _tested(value, name, arguments, place)


def _counted(unique: Reduction) -> Reduction:
    return replace(unique, counted=True)


def _of_events(vector: Vector, name: Token, arguments: list[Any], place: _Place) -> Node | Vector:
    if name == "where":
        if len(arguments) != 1:
            raise Refused(name, f"where() takes one condition, not {len(arguments)}", "join them with AND")
        condition = _condition(arguments[0], replace(place, level=place.level + 1))
        return replace(vector, where=(*vector.where, *_flat(And, [condition])))
    if name in FILTERS:
        return filtered(vector, name, arguments, inside_where=place.level > 0)
    if name in REDUCERS:
        return reduced(vector, name, arguments)
    if name not in _TESTS:
        _refuse(name, (*FILTERS, *REDUCERS))
    raise Refused(name, f"{name}() needs a value", f"reduce the events first, such as .count().{name}(…)")


def _tested(value: Scalar, name: Token, arguments: list[Any], place: _Place) -> Condition:
    if name in ("exists", "absent"):
        no_argument(name, arguments)
        return Exists(value, negated=name == "absent")
    if name in ("one_of", "none_of"):
        return Membership(value, _options(name, arguments, place), negated=name == "none_of")
    if name in TEXT_TESTS:
        return TextTest(value, cast("TextOperator", str(name)), _options(name, arguments, place))
    if len(arguments) != 1:
        raise Refused(name, f"{name}() takes one value, not {len(arguments)}")
    if name in DATE_TESTS:
        return DateTest(value, cast("DateOperator", str(name)), date_argument(name, arguments))
    if name in SPAN_TESTS:
        return SpanTest(value, cast("SpanOperator", str(name)), span_of(name, arguments[0]))
    return Comparison(value, COMPARATORS[name], _scalar(arguments[0], place))


def _options(name: Token, arguments: list[Any], place: _Place) -> tuple[Scalar, ...]:
    """The values of `contains('a', 'b')` or `one_of(['a', 'b'])`; texts where texts are looked into."""
    if len(arguments) == 1 and arguments[0].data == "array":
        arguments = arguments_of(arguments[0].children)
    if not arguments:
        raise Refused(name, f"{name}() takes one value or more", f"{name}('…', '…')")
    options = tuple(_scalar(argument, place) for argument in arguments)
    for option, argument in zip(options, arguments, strict=True):
        if name in TEXT_TESTS and isinstance(option, Literal) and not isinstance(option.value, str):
            raise Refused(argument, f"{name}() takes texts in quotes", f"{name}('…', '…')")
        if isinstance(option, Reduction):
            raise Refused(argument, f"{name}() takes constants, trait() and property()")
    return options


def _refuse(name: Token, allowed: tuple[str, ...]) -> NoReturn:
    refuse_name(name, allowed, _SUPPORTED, UNSUPPORTED)


def _nearest_operator(operator: str) -> str:
    known = {"==": "use =", "<>": "use !=", "=<": "use <=", "=>": "use >=", "&&": "use AND", "||": "use OR"}
    return known.get(operator, f"known are {' '.join(_OPERATORS)}")
