"""What the user wrote, wrongly: validation errors told as problems, with the nearest right value."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, Final, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from cdp_stream.config.fields import BUILT_IN_IDENTIFIER_TYPES, Filled
from cdp_stream.errors import Problem

SHOWN_CHARACTERS_MAX: Final = 80
TAG_MARK: Final = "="
"""Begins the name of a choice among models that errors name as a step, though the file has none there."""
_SECRET_KEYS: Final = frozenset({"write_key"})
_EXPECTED: Final = {
    "string_type": "text",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
}
_SHAPES: Final = {
    "space": "a name of lower-case letters, digits and '-', at most 63",
    "name": "a name of letters, digits, '_', '.' and '-', at most 63",
    "destinations": "the name of a destination",
    "topic": "a topic name of letters, digits, '.', '_' and '-', at most 249",
    "key": "a key in snake_case, at most 100 characters",
}


def path_text(location: Iterable[int | str]) -> str:
    """`audiences[2].destinations[0]` for ("audiences", 2, "destinations", 0)."""
    text = ""
    for step in location:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{step}" if text else step
    return text


def shown(value: Any) -> str:
    """A value as a problem may show it: short, and not what the environment filled in."""
    if isinstance(value, Filled):
        return value.written
    if value is None:
        return "an empty value"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS_MAX else text[:SHOWN_CHARACTERS_MAX] + "…"


def nearest(value: Any, known: Sequence[str]) -> str | None:
    """`did you mean 'x'?` for the known value that is most like this one, or None if none is."""
    if not isinstance(value, str) or isinstance(value, Filled):
        return None
    matches = get_close_matches(value.lower(), known, n=1, cutoff=0.6)
    return f"did you mean '{matches[0]}'?" if matches else None


def explain(error: ValidationError, root: type[BaseModel]) -> list[Problem]:
    """The problems of a validation error; `root` is the model that the data was validated against."""
    return [_problem(details, root) for details in error.errors(include_url=False) if not _follows(details)]


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Problems by path, `traits[2]` before `traits[10]`."""

    def place(problem: Problem) -> tuple[list[tuple[int, str]], str]:
        steps = re.findall(r"\d+|\D+", problem.path)
        return [(int(step), "") if step.isdigit() else (-1, step) for step in steps], problem.message

    return sorted(problems, key=place)


def _follows(details: ErrorDetails) -> bool:
    """Whether an error is only the consequence of another one that is reported anyway."""
    if details["type"] == "too_short":
        # Long enough as it was written: its items are wrong, and reported themselves.
        return len(details["input"]) >= int(details["ctx"]["min_length"])
    return details["type"] == "default_factory_not_called"


def _problem(details: ErrorDetails, root: type[BaseModel]) -> Problem:
    location = tuple([step for step in details["loc"] if not str(step).startswith(TAG_MARK)])
    if location[-1:] == ("[key]",):
        location = location[:-1]  # of a mapping's key that is wrong itself
    path = path_text(location)
    kind = details["type"]
    last = location[-1] if location else ""
    value = details["input"]
    if kind == "extra_forbidden":
        return Problem(path, f"unknown key '{last}'", nearest(str(last), known_keys(root, location[:-1])))
    if kind == "missing":
        return Problem(path, f"'{last}' is missing")
    if kind == "invalid_key":
        return Problem(path, f"the key {shown(last)} should be text")
    text = "the value" if any(step in _SECRET_KEYS for step in location) else shown(value)
    name = next((step for step in reversed(location) if isinstance(step, str)), "")
    return Problem(path, f"{text} {_complaint(details, name)}", _suggestion(details, name))


def _complaint(details: ErrorDetails, name: str) -> str:
    context = details.get("ctx", {})
    match details["type"]:
        case kind if kind in _EXPECTED:
            complaint = f"should be {_EXPECTED[kind]}"
        case "string_pattern_mismatch":
            complaint = f"should be {_SHAPES[name]}"
        case "literal_error":
            complaint = f"should be {context['expected']}"
        case "too_short" if context["min_length"] > 1 and details["input"]:
            complaint = f"should have at least {context['min_length']} items"
        case "string_too_short" | "too_short":
            complaint = "should not be empty"
        case "string_too_long":
            complaint = f"should have at most {context['max_length']} characters"
        case "too_long":
            complaint = f"should have at most {context['max_length']} items"
        case "pattern" if isinstance(details["input"], Filled):
            complaint = "is not a linear-time regular expression (RE2)"  # the reason would quote the value
        case _:
            complaint = details["msg"].removeprefix("Input ")
    return complaint


def _suggestion(details: ErrorDetails, name: str) -> str | None:
    value = details["input"]
    match details["type"]:
        case "literal_error":
            return nearest(value, details["ctx"]["expected"].replace(" or ", ", ").replace("'", "").split(", "))
        case "identifier_type":
            return nearest(value, BUILT_IN_IDENTIFIER_TYPES) or _in_snake_case(value)
        case "blocked_values":
            return nearest(value, ("suggested", "none"))
        case "string_pattern_mismatch" if name == "key":
            return _in_snake_case(value)
        case "string_type" if isinstance(value, int | float):
            return f"put it in quotes: '{shown(value)}'"
        case _:
            return None


def _in_snake_case(value: Any) -> str | None:
    if not isinstance(value, str) or isinstance(value, Filled):
        return None
    words = "".join(c.lower() if c.isascii() and c.isalnum() else " " for c in value).split()
    return f"did you mean '{'_'.join(words)}'?" if words else None


def known_keys(root: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """The keys that the model at this place knows."""
    annotation: Any = root
    for step in location:
        if isinstance(step, str):
            annotation = _held_by(annotation, step)
    model = _model_within(annotation)
    return [] if model is None else [field.alias or name for name, field in model.model_fields.items()]


def _held_by(annotation: Any, key: str) -> Any:
    """What a key holds in the model or the mapping of `annotation`; None if it knows no such key."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = {field.alias or name: field for name, field in annotation.model_fields.items()}
        return fields[key].annotation if key in fields else None
    arguments = get_args(annotation)
    if get_origin(annotation) is dict:
        return arguments[1]
    return next((held for inner in arguments if (held := _held_by(inner, key)) is not None), None)


def _model_within(annotation: Any) -> type[BaseModel] | None:
    """The model in `tuple[Model, ...]`, `Annotated[…]` or `Model`, if there is one."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    arguments = get_args(annotation)
    if get_origin(annotation) is Annotated:
        arguments = arguments[:1]
    return next((model for inner in arguments if (model := _model_within(inner)) is not None), None)
