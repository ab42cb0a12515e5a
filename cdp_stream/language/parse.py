"""Definitions, step 3 of 4: text to a checked definition, or the problem with its line, column and nearest right name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any, Final, NoReturn, cast

from lark import Token, Tree
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken
from msgspec import Struct

from cdp_stream.errors import Problem
from cdp_stream.language.grammar import PARSER
from cdp_stream.language.nodes import (
    And,
    Comparison,
    Condition,
    Contains,
    Definition,
    Exists,
    Holds,
    KeyPath,
    Literal,
    Node,
    Not,
    Operator,
    Or,
    PropertyRef,
    Reducer,
    Reduction,
    Scalar,
    TraitRef,
)
from cdp_stream.language.values import NUMBER_TEXT_MAX, measure

PRIMARY_EXPRESSIONS_MAX: Final = 50
"""Comparisons in one definition, those inside `where()` counted."""
NESTING_MAX: Final = 100
DEFINITION_LENGTH_MAX: Final = 10_000
"""Characters."""

REDUCERS: Final[tuple[Reducer, ...]] = ("count", "sum", "avg", "min", "max", "first", "last")
_COMPARATORS: Final[dict[str, Operator]] = {
    "equals": "=",
    "differs": "!=",
    "less_than": "<",
    "at_most": "<=",
    "greater_than": ">",
    "at_least": ">=",
}
_TESTS: Final = (*_COMPARATORS, "contains", "exists")
_OPERATORS: Final = tuple(_COMPARATORS.values())
_FUNCTIONS: Final = ("event", "trait", "property")
_SUPPORTED: Final = (*_FUNCTIONS, "where", *REDUCERS, *_TESTS)

NOT_YET: Final = frozenset(
    [
        *("ANY", "ALL", "entity", "context", "sources", "within", "between", "expires_after", "mode", "unique"),
        *("one_of", "none_of", "omits", "starts_with", "ends_with", "absent", "before_date", "after_date"),
        *("within_last", "within_next", "before_last", "after_next"),
    ]
)
"""Names of the documented language that are recognised and refused."""

_TERMINALS: Final = {
    "STRING": "a value",
    "NAME": "a name",
    "LPAR": "'('",
    "RPAR": "')'",
    "COMMA": "','",
    "DOT": "'.'",
    "OPERATOR": "a comparison",
    "_AND": "AND",
    "_OR": "OR",
    "$END": "the end",
}
_ESCAPED: Final = re.compile(r"""\\(['"\\])""")
_SEPARATOR: Final = re.compile(r"(?<!\\)\.")
_LITERAL_DOT: Final = re.compile(r"\\+\.")


class _Refused(Exception):
    def __init__(self, at: Any, message: str, suggestion: str | None = None) -> None:
        at = at.meta if isinstance(at, Tree) else at
        super().__init__(f"line {at.line}, column {at.column}: {message}")
        self.suggestion = suggestion


class _Vector(Struct, frozen=True):
    """`event('X').where(...)` that still waits for its reducer."""

    event: str
    where: tuple[Condition, ...] = ()


class _Place(Struct, frozen=True):
    in_where: bool = False
    depth: int = 0


def parse_definition(text: str, path: str) -> Definition | Problem:
    """The definition that `text` says, or what is wrong with it. `path` names its place in the topology."""
    if not text.strip():
        return Problem(path, "the definition is empty")
    if len(text) > DEFINITION_LENGTH_MAX:
        return Problem(path, f"the definition has {len(text)} characters; at most {DEFINITION_LENGTH_MAX} are allowed")
    try:
        body = _build(PARSER.parse(text), _Place())
    except UnexpectedInput as error:
        return _syntax_problem(error, text, path)
    except _Refused as refused:
        return Problem(path, str(refused), refused.suggestion)
    count = primary_expressions(body)
    if count > PRIMARY_EXPRESSIONS_MAX:
        message = f"the definition has {count} primary expressions; at most {PRIMARY_EXPRESSIONS_MAX} are allowed"
        return Problem(path, message, "split it into audiences that refer to one another")
    return Definition(body)


def primary_expressions(node: Node) -> int:
    """How many comparisons the node holds, those inside `where()` counted; a value standing alone is one."""
    match node:
        case And(operands) | Or(operands):
            return sum(primary_expressions(operand) for operand in operands)
        case Not(operand):
            return primary_expressions(operand)
        case Comparison(left, _, right):
            return 1 + _inside_where(left) + _inside_where(right)
        case Contains(scalar) | Exists(scalar):
            return 1 + _inside_where(scalar)
        case Holds():
            return 1
        case _:
            return 1 + _inside_where(node)


def _inside_where(scalar: Scalar) -> int:
    return primary_expressions(scalar.where) if isinstance(scalar, Reduction) and scalar.where is not None else 0


def _syntax_problem(error: UnexpectedInput, text: str, path: str) -> Problem:
    place = f"line {error.line}, column {error.column}"
    if isinstance(error, UnexpectedCharacters):
        character = text[error.pos_in_stream or 0]
        if character in "'\"":
            return Problem(path, f"{place}: this text in quotes does not end", f"close it with {character}")
        return Problem(path, f"{place}: unexpected {character!r}")
    assert isinstance(error, UnexpectedToken), error
    accepted = error.accepts or error.expected
    expected = sorted(_TERMINALS[name] for name in accepted if name in _TERMINALS)
    suggestion = f"expected {' or '.join(expected)}"
    if error.token.type == "$END":
        ends = text.rstrip()
        last_line = ends.rpartition("\n")[2]
        place = f"line {ends.count(chr(10)) + 1}, column {len(last_line) + 1}"
        return Problem(path, f"{place}: the definition ends too early", suggestion)
    return Problem(path, f"{place}: unexpected {str(error.token)!r}", suggestion)


def _build(node: Any, place: _Place) -> Node:
    """A tree of the grammar as a node. Raises _Refused."""
    if place.depth >= NESTING_MAX:
        raise _Refused(node, f"the definition is nested more than {NESTING_MAX} deep")
    inner = _Place(place.in_where, place.depth + 1)
    match node.data:
        case "disjunction":
            return Or(tuple(_flat(Or, (_condition(child, inner) for child in node.children))))
        case "conjunction":
            return And(tuple(_flat(And, (_condition(child, inner) for child in node.children))))
        case "negated":
            return Not(_condition(node.children[0], inner))
        case "quantified":
            word = node.children[0]
            raise _Refused(word, f"{word.upper()} is not supported yet", "it is for account audiences")
        case "comparison":
            left, operator, right = node.children
            if operator not in _OPERATORS:
                raise _Refused(operator, f"unknown comparison {str(operator)!r}", _nearest_operator(operator))
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
    if isinstance(built, TraitRef | PropertyRef):
        return Holds(built)
    if isinstance(built, Literal | Reduction):
        raise _Refused(node, "this is a value; a condition is expected here", "compare it, such as `… >= 1`")
    return built


def _scalar(node: Any, place: _Place) -> Scalar:
    built = _build(node, place)
    if isinstance(built, Scalar):
        return built
    raise _Refused(node, "this is a condition; a value is expected here", "a number, a text, trait('k') …")


def _chain(node: Any, place: _Place) -> Node:
    """A primary and the methods called on it, from left to right."""
    methods = []
    while node.data == "method":
        methods.append(node)
        node = node.children[0]
    value = _primary(node, place)
    for method in reversed(methods):
        name, arguments = method.children[1], _arguments(method.children[2:])
        value = _method(value, name, arguments, place)
    if isinstance(value, _Vector):
        raise _Refused(node, f"event({value.event!r}) alone is no value", "end it with a reducer, such as .count()")
    return value


def _arguments(rest: list[Any]) -> list[Any]:
    return list(rest[0].children) if rest else []


def _primary(node: Any, place: _Place) -> Node | _Vector:
    match node.data:
        case "number":
            return Literal(_number(node.children[0]))
        case "string":
            return Literal(_unquoted(node.children[0]))
        case "word":
            return _word(node.children[0])
        case "call":
            return _call(node.children[0], _arguments(node.children[1:]), place)
        case "array" | "duration" | "named" | "typed":
            raise _Refused(node, "this cannot stand here; a value is expected")
        case _:
            return _build(node, place)


def _word(word: Token) -> Literal:
    match word.lower():
        case "true":
            return Literal(value=True)
        case "false":
            return Literal(value=False)
        case "null":
            raise _Refused(word, "null cannot be compared with", "use .exists() or NOT ….exists()")
        case _:
            hint = f"write {str(word)!r} in quotes, or {word}(…)"
            raise _Refused(word, f"unexpected word {str(word)!r}", hint)


def _call(name: Token, arguments: list[Any], place: _Place) -> Scalar | _Vector:
    if name not in _FUNCTIONS:
        _refuse_name(name, (*_FUNCTIONS,))
    if place.in_where and name != "property":
        raise _Refused(name, f"{name}() inside where() is not supported yet")
    if name == "event":
        return _Vector(_one_text(name, arguments))
    if name == "trait":
        return TraitRef(_key_path(name, _one_text(name, arguments)))
    if not place.in_where:
        raise _Refused(name, "property() has a meaning only inside where() or a reducer")
    return PropertyRef(_key_path(name, _one_text(name, arguments)))


def _method(value: Node | _Vector, name: Token, arguments: list[Any], place: _Place) -> Node | _Vector:
    if isinstance(value, _Vector):
        return _of_events(value, name, arguments, place)
    if name in REDUCERS or name == "where":
        raise _Refused(name, f"{name}() applies to event('…')")
    if name not in _TESTS:
        _refuse_name(name, _TESTS)
    if not isinstance(value, Scalar):
        raise _Refused(name, f"{name}() applies to a value, and this is a condition", "join conditions with AND, OR")
    return _tested(value, name, arguments, place)


def _of_events(vector: _Vector, name: Token, arguments: list[Any], place: _Place) -> Node | _Vector:
    if name == "where":
        return _filtered(vector, name, arguments, place)
    if name in REDUCERS:
        return _reduced(vector, name, arguments)
    if name not in _TESTS:
        _refuse_name(name, ("where", *REDUCERS))
    raise _Refused(name, f"{name}() needs a value", f"reduce the events first, such as .count().{name}(…)")


def _tested(value: Scalar, name: Token, arguments: list[Any], place: _Place) -> Condition:
    if name == "exists":
        if arguments:
            raise _Refused(name, "exists() takes no argument")
        return Exists(value)
    if name == "contains":
        return Contains(value, _texts(name, arguments))
    if len(arguments) != 1:
        raise _Refused(name, f"{name}() takes one value, not {len(arguments)}")
    return Comparison(value, _COMPARATORS[name], _scalar(arguments[0], place))


def _filtered(vector: _Vector, name: Token, arguments: list[Any], place: _Place) -> _Vector:
    if len(arguments) != 1:
        raise _Refused(name, f"where() takes one condition, not {len(arguments)}", "join them with AND")
    condition = _condition(arguments[0], _Place(in_where=True, depth=place.depth))
    return _Vector(vector.event, (*vector.where, *_flat(And, [condition])))


def _reduced(vector: _Vector, name: Token, arguments: list[Any]) -> Reduction:
    where = None if not vector.where else vector.where[0] if len(vector.where) == 1 else And(vector.where)
    reducer = cast("Reducer", str(name))
    if reducer == "count":
        if arguments:
            raise _Refused(name, "count() takes no argument", "filter with where() before it")
        return Reduction(vector.event, where, reducer, None)
    if len(arguments) != 1:
        raise _Refused(name, f"{name}() takes one property, not {len(arguments)}", f"{name}(property('p'))")
    argument = arguments[0]
    if argument.data == "typed":
        raise _Refused(argument, f"{name}(… as {argument.children[1]}) is not supported yet")
    if argument.data == "call" and argument.children[0] == "property":
        name, arguments = argument.children[0], _arguments(argument.children[1:])
    return Reduction(vector.event, where, reducer, _key_path(name, _one_text(name, arguments)))


def _one_text(name: Token, arguments: list[Any]) -> str:
    for argument in arguments:
        if argument.data == "named":
            raise _Refused(argument, f"{name}({argument.children[0]}: …) is not supported yet")
    if len(arguments) != 1 or arguments[0].data != "string":
        raise _Refused(name, f"{name}() takes one text in quotes", f"{name}('…')")
    text = _unquoted(arguments[0].children[0])
    if not text:
        raise _Refused(name, f"{name}('') names nothing")
    return text


def _texts(name: Token, arguments: list[Any]) -> tuple[str, ...]:
    if not arguments or any(argument.data != "string" for argument in arguments):
        raise _Refused(name, f"{name}() takes texts in quotes", f"{name}('…', '…')")
    return tuple(_unquoted(argument.children[0]) for argument in arguments)


def _key_path(at: Token, text: str) -> KeyPath:
    path = tuple(_LITERAL_DOT.sub(".", key) for key in _SEPARATOR.split(text))
    if "$" in path:
        raise _Refused(at, "'$' (each element of an array) is not supported yet")
    if "" in path:
        raise _Refused(at, f"{text!r} has an empty key between its dots", "a dot inside a key is written \\.")
    return path


def _number(token: Token) -> int | float:
    plain = str(token) if len(token) <= NUMBER_TEXT_MAX else "inf"
    number = measure(int(plain) if plain.lstrip("-").isdecimal() else float(plain))
    if number is None:
        raise _Refused(token, f"{token} is too long or too large a number")
    return number


def _unquoted(token: Token) -> str:
    return _ESCAPED.sub(r"\1", token[1:-1])


def _refuse_name(name: Token, allowed: tuple[str, ...]) -> NoReturn:
    if name in NOT_YET:
        raise _Refused(name, f"{name}() is not supported yet")
    if name in _SUPPORTED:
        raise _Refused(name, f"{name}() cannot stand here", f"here are known: {', '.join(allowed)}")
    close = difflib.get_close_matches(name.lower(), [*allowed, *sorted(NOT_YET)], n=1)
    hint = f"did you mean {close[0]}()?" if close else f"here are known: {', '.join(allowed)}"
    raise _Refused(name, f"unknown name {str(name)!r}", hint)


def _nearest_operator(operator: str) -> str:
    known = {"==": "use =", "<>": "use !=", "=<": "use <=", "=>": "use >=", "&&": "use AND", "||": "use OR"}
    return known.get(operator, f"known are {' '.join(_OPERATORS)}")
