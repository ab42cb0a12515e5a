"""What the user wrote, smallest parts: the kinds of values that topology fields are made of, and how they are read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Self

import re2
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PlainSerializer,
    PlainValidator,
    PrivateAttr,
    SecretStr,
    StrictBool,
    StrictInt,
    model_validator,
)
from pydantic_core import PydanticCustomError

from cdp_stream.model.time import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, parse_duration

NAME_CHARACTERS_MAX: Final = 63
KEY_CHARACTERS_MAX: Final = 100
TEXT_CHARACTERS_MAX: Final = 20_000
ITEMS_MAX: Final = 1_000
"""How many sources, identifiers, traits, audiences or destinations one topology may have."""
RATE_MAX: Final = 100_000
DURATION_MS_MAX: Final = 36_500 * DAY_MS

BUILT_IN_IDENTIFIER_TYPES: Final = (
    "user_id",
    "email",
    "android.id",
    "android.idfa",
    "android.push_token",
    "anonymous_id",
    "braze_id",
    "cross_domain_id",
    "ga_client_id",
    "group_id",
    "ios.id",
    "ios.idfa",
    "ios.push_token",
)
"""In order of their documented default priority: user_id, email, then the others alphabetically."""

_SNAKE_CASE: Final = re.compile(r"[a-z][a-z0-9_]{0,99}\Z")
_DURATION_UNITS: Final = (("d", DAY_MS), ("h", HOUR_MS), ("m", MINUTE_MS), ("s", SECOND_MS), ("ms", 1))


class Filled(str):
    """A text that was filled from the environment: shown as it was written, so that its value appears nowhere."""

    __slots__ = ("written",)
    written: str

    def __new__(cls, value: str, written: str) -> Self:
        """`value` is used, `written` (`${NAME}`) is shown."""
        filled = super().__new__(cls, value)
        filled.written = written
        return filled

    def __repr__(self) -> str:
        """The text as it was written."""
        return self.written


class Part(BaseModel):
    """A frozen part of a topology that refuses unknown keys and does not show what the environment filled in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    _written: dict[str, Any] = PrivateAttr(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _remember_filled(cls, given: Any, read: ModelWrapValidatorHandler[Self]) -> Self:
        part = read(given)
        if isinstance(given, Mapping):
            filled = {name: value for name, value in given.items() if _has_filled(value)}
            part._written = filled  # noqa: SLF001 - its own class
        return part

    def written(self, field: str) -> str | None:
        """How a field filled from the environment was written (`${NAME}`), or None for any other field."""
        value = self._written.get(field)
        return value.written if isinstance(value, Filled) else None

    def __repr_args__(self) -> Any:
        """The fields, the filled ones as they were written; also where one is the default of another."""
        filled = {str(value): value for value in self._written.values() if isinstance(value, Filled)}
        for name in type(self).model_fields:
            value = self._written.get(name, getattr(self, name))
            yield name, filled.get(value, value) if type(value) is str else value


def _has_filled(value: Any) -> bool:
    return isinstance(value, Filled) or (isinstance(value, list | tuple) and any(map(_has_filled, value)))


def format_duration(duration: int) -> str:
    """Milliseconds in the largest unit that divides them: 604800000 is `7d`."""
    return next(f"{duration // length}{unit}" for unit, length in _DURATION_UNITS if duration % length == 0)


def _read_duration(value: Any) -> Any:
    if not isinstance(value, str):
        raise PydanticCustomError("duration", "should be a number with a unit: 30d, 12h, 15m or 10s")
    try:
        return parse_duration(value)
    except ValueError:
        raise PydanticCustomError("duration", "should be a number with a unit: 30d, 12h, 15m or 10s") from None


def _read_filled_number(value: Any) -> Any:
    """A variable is text; where a number is due, digits will do."""
    return int(value) if isinstance(value, Filled) and value.isascii() and value.isdigit() else value


def _read_filled_switch(value: Any) -> Any:
    return {"true": True, "false": False}.get(value, value) if isinstance(value, Filled) else value


def _check_pattern(pattern: str) -> str:
    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0] if error.args else "unknown reason"
        text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise PydanticCustomError(
            "pattern", "is not a linear-time regular expression (RE2): {reason}", {"reason": text}
        ) from None
    return pattern


def _check_identifier_type(value: str) -> str:
    if value in BUILT_IN_IDENTIFIER_TYPES or _SNAKE_CASE.match(value):
        return value
    raise PydanticCustomError("identifier_type", "should be a built-in identifier type or a name in snake_case")


def _read_exact(value: Any) -> Any:
    """`exact: -1` is a number to YAML and a text to an event."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Count = Annotated[StrictInt, BeforeValidator(_read_filled_number)]
Rate = Annotated[
    float, BeforeValidator(_read_filled_number), Field(gt=0, le=RATE_MAX, strict=True, allow_inf_nan=False)
]
"""How many a second."""
Switch = Annotated[StrictBool, BeforeValidator(_read_filled_switch)]
DurationText = Annotated[
    int,
    BeforeValidator(_read_duration, json_schema_input_type=Annotated[str, Field(pattern=r"^\d{1,9}(ms|s|m|h|d)$")]),
    Field(gt=0, le=DURATION_MS_MAX),
    PlainSerializer(format_duration, return_type=str),
]
"""Written `7d`, held in milliseconds."""


def _read_historical(value: Any) -> Any:
    if isinstance(value, Filled) and value in ("true", "false"):
        return value == "true"
    if isinstance(value, bool):
        return value
    duration = _read_duration(value) if isinstance(value, str) else None
    if duration is None or not 0 < duration <= DURATION_MS_MAX:
        raise PydanticCustomError("historical", "should be true, false, or how far back: 30d, 12h")
    return duration


Historical = Annotated[
    Any,
    PlainValidator(
        _read_historical, json_schema_input_type=bool | Annotated[str, Field(pattern=r"^\d{1,9}(ms|s|m|h|d)$")]
    ),
    PlainSerializer(lambda given: given if isinstance(given, bool) else format_duration(given)),
]
"""True, False, or a duration: written `90d`, held in milliseconds."""
SpaceName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]
TopicName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,248}$")]
Key = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,100}$")]
Text = Annotated[str, Field(min_length=1, max_length=TEXT_CHARACTERS_MAX)]
Label = Annotated[str, Field(min_length=1, max_length=200)]
Pattern = Annotated[str, Field(min_length=1, max_length=1_000), AfterValidator(_check_pattern)]
Exact = Annotated[str, BeforeValidator(_read_exact, json_schema_input_type=str | int), Field(max_length=1_000)]
IdentifierType = Annotated[str, AfterValidator(_check_identifier_type)]
Secret = Annotated[SecretStr, Field(min_length=1, max_length=1_000)]
