"""What stands between the brackets of a definition's functions: texts, key paths, numbers, lengths of time."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any, Final, NoReturn

from lark import Token, Tree

from cdp_stream.language.nodes import KeyPath
from cdp_stream.language.values import NUMBER_TEXT_MAX, date_of, measure
from cdp_stream.model.time import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, Duration, Instant

SPAN_MAX: Final = 36_500 * DAY_MS

_UNITS: Final = {
    "second": SECOND_MS,
    "minute": MINUTE_MS,
    "hour": HOUR_MS,
    "day": DAY_MS,
}
_ESCAPED: Final = re.compile(r"""\\(['"\\])""")
_SEPARATOR: Final = re.compile(r"(?<!\\)\.")
_LITERAL_DOT: Final = re.compile(r"\\+\.")


class Refused(Exception):
    """A definition that is not accepted: the place, the message and, where there is one, what would be right."""

    def __init__(self, at: Any, message: str, suggestion: str | None = None) -> None:
        """`at`: the token or tree that is wrong; None in the YAML form, which has paths instead of lines."""
        at = at.meta if isinstance(at, Tree) else at
        super().__init__(message if at is None else f"line {at.line}, column {at.column}: {message}")
        self.suggestion = suggestion


def refuse_name(
    name: Token, allowed: tuple[str, ...], elsewhere: Iterable[str], unsupported: Iterable[str]
) -> NoReturn:
    """Say that a name cannot stand here: unknown, of another place, or known and not supported."""
    if name in unsupported:
        raise Refused(name, f"{name}() is not supported")
    if name in elsewhere:
        raise Refused(name, f"{name}() cannot stand here", f"here are known: {', '.join(allowed)}")
    close = difflib.get_close_matches(name.lower(), [*allowed, *elsewhere], n=1)
    hint = f"did you mean {close[0]}()?" if close else f"here are known: {', '.join(allowed)}"
    raise Refused(name, f"unknown name {str(name)!r}", hint)


def no_argument(name: Token, arguments: list[Any], hint: str | None = None) -> None:
    """Refuse arguments where there are none to give."""
    if arguments:
        raise Refused(name, f"{name}() takes no argument", hint)


def one_text(name: Token, arguments: list[Any]) -> str:
    """The one text in quotes that a function takes."""
    if len(arguments) != 1 or arguments[0].data != "string":
        at = arguments[0] if arguments and arguments[0].data == "named" else name
        raise Refused(at, f"{name}() takes one text in quotes", f"{name}('…')")
    text = unquoted(arguments[0].children[0])
    if not text:
        raise Refused(name, f"{name}('') names nothing")
    return text


def named_argument(arguments: list[Any], name: str) -> Any:
    """The value of the single argument `name: …`, or None when the arguments are not that."""
    if len(arguments) != 1 or arguments[0].data != "named" or arguments[0].children[0] != name:
        return None
    return arguments[0].children[1]


def span_of(name: Token, argument: Any) -> Duration:
    """`7 days` in milliseconds."""
    if argument.data != "duration":
        raise Refused(argument, f"{name}() takes a number and a unit", f"{name}(7 days)")
    amount, unit = argument.children
    length = _UNITS.get(str(unit).removesuffix("s"))
    if length is None:
        close = difflib.get_close_matches(unit.lower(), [f"{known}s" for known in _UNITS], n=1)
        hint = f"did you mean {close[0]}?" if close else "units are: seconds, minutes, hours, days"
        raise Refused(unit, f"unknown unit {str(unit)!r}", hint)
    if not amount.isdecimal():
        raise Refused(amount, f"{amount} is not a whole number of {unit}")
    span = int(amount) * length if len(amount) <= NUMBER_TEXT_MAX else SPAN_MAX + 1
    if span > SPAN_MAX:
        raise Refused(amount, f"{amount} {unit} is too long", f"at most {SPAN_MAX // DAY_MS} days")
    return span


def positive_span(name: Token, argument: Any) -> Duration:
    """The same, and not zero."""
    span = span_of(name, argument)
    if span == 0:
        raise Refused(argument, f"{name}() takes a length of time above zero")
    return span


def date_argument(name: Token, arguments: list[Any]) -> Instant:
    """A full ISO-8601 timestamp in quotes, with its offset."""
    text = one_text(name, arguments)
    instant = date_of(text)
    if instant is None:
        missing = date_of(text + "Z") is not None
        hint = f"end it with Z: '{text}Z'" if missing else "such as '2025-01-31T00:00:00Z'"
        raise Refused(arguments[0], f"{text!r} is not a full ISO-8601 timestamp", hint)
    return instant


def key_path(at: Any, text: str) -> KeyPath:
    """`page.url` as keys; a dot after backslashes belongs to its key."""
    path = tuple(_LITERAL_DOT.sub(".", key) for key in _SEPARATOR.split(text))
    if "" in path:
        raise Refused(at, f"{text!r} has an empty key between its dots", "a dot inside a key is written \\.")
    if path[0] == "$":
        raise Refused(at, "'$' stands for the elements of an array, and comes after its key", "such as 'items.$.name'")
    return path


def number_of(token: Token) -> int | float:
    """A number as written."""
    plain = str(token) if len(token) <= NUMBER_TEXT_MAX else "inf"
    number = measure(int(plain) if plain.lstrip("-").isdecimal() else float(plain))
    if number is None:
        raise Refused(token, f"{token} is too long or too large a number")
    return number


def unquoted(token: Token) -> str:
    """A text without its quotes and escapes."""
    return _ESCAPED.sub(r"\1", token[1:-1])


def arguments_of(rest: list[Any]) -> list[Any]:
    """What stands between a call's parentheses; `rest`: what the tree has after its name."""
    return list(rest[0].children) if rest else []
