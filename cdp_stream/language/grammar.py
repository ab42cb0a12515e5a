"""Definitions, step 1 of 4: the shape of the text. Names are checked later, so that errors can call them by name."""

from __future__ import annotations

from typing import Final

from lark import Lark
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from cdp_stream.errors import Problem

_GRAMMAR: Final = r"""
?start: disjunction
?disjunction: conjunction (_OR conjunction)*
?conjunction: negation (_AND negation)*
?negation: _NOT negation                       -> negated
         | QUANTIFIER negation                 -> quantified
         | comparison
?comparison: operand [OPERATOR operand]
?operand: primary
        | operand "." NAME "(" [arguments] ")" -> method
?primary: NAME "(" [arguments] ")"             -> call
        | NAME                                 -> word
        | NUMBER                               -> number
        | STRING                               -> string
        | "[" [arguments] "]"                  -> array
        | "(" disjunction ")"
arguments: _argument ("," _argument)*
_argument: disjunction | typed | duration | named
typed: disjunction _AS NAME
duration: NUMBER NAME
named: NAME ":" _argument

_AND.2: /and\b/i
_OR.2: /or\b/i
_NOT.2: /not\b/i
_AS.2: /as\b/i
QUANTIFIER.2: /(any|all)\b/i
NAME: /[A-Za-z_][A-Za-z0-9_]*/
NUMBER: /-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?/
STRING: /'(\\.|[^'\\])*'|"(\\.|[^"\\])*"/s
OPERATOR: /[=<>!&|]+/

%ignore /\s+/
"""

PARSER: Final = Lark(_GRAMMAR, parser="lalr", propagate_positions=True, maybe_placeholders=False)
"""Text to `lark.Tree`, without recursion: deep nesting is measured by the one who walks the tree."""

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


def syntax_problem(error: UnexpectedInput, text: str, path: str) -> Problem:
    """What is wrong with the shape of a text, with its line and column. `path` names its place in the topology."""
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
