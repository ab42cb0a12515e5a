"""Values as they come in JSON, made canonical."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

_KINDS: Final = {dict: "an object", list: "an array", str: "a text", bool: "a boolean", type(None): "null"}


def kind_of(value: Any) -> str:
    """What a JSON value is, in words."""
    return _KINDS.get(type(value), "a number")


def canonical_id(value: Any) -> str | None:
    """An id as text: numbers become canonical decimal text; None and "" are no id.

    Raises TypeError for booleans, objects and arrays, which cannot be ids.
    """
    if type(value) is str:
        return value or None
    if value is None:
        return None
    if type(value) is int:
        return str(value)
    if type(value) is float:
        if value.is_integer():
            return str(int(value))
        # repr gives the fewest digits that still mean this number; Decimal writes them without an exponent.
        return format(Decimal(repr(value)), "f")
    raise TypeError(type(value).__name__)
