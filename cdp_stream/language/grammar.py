"""Definitions, step 1 of 4: the shape of the text. Names are checked later, so that errors can call them by name."""

from __future__ import annotations

from typing import Final

from lark import Lark

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
