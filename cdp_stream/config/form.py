"""What the user wrote, the YAML form of a definition: one kind of mapping, in which conditions and values are nested.

Its keys are those of the text language. What they mean together is checked where it is read (`language/forms.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    PlainSerializer,
    PlainValidator,
    StrictBool,
    StrictInt,
    Tag,
    field_validator,
)
from pydantic_core import PydanticCustomError

from cdp_stream.config.explain import TAG_MARK
from cdp_stream.config.fields import DURATION_MS_MAX, ITEMS_MAX, Part, Text, format_duration
from cdp_stream.model.time import parse_duration

_FORM_TAG: Final = TAG_MARK + "form"
_CONSTANT_TAG: Final = TAG_MARK + "constant"
_ONE_TAG: Final = TAG_MARK + "one"
_SEVERAL_TAG: Final = TAG_MARK + "several"
_SPAN_HINT: Final = "should be a number with a unit: 30d, 12h, 15m or 10s"


def _read_span(value: Any) -> Any:
    if not isinstance(value, str) or value.endswith("ms"):
        raise PydanticCustomError("duration", _SPAN_HINT)
    try:
        return parse_duration(value)
    except ValueError:
        raise PydanticCustomError("duration", _SPAN_HINT) from None


def _read_date(value: Any) -> Any:
    """YAML reads an unquoted timestamp as a date of its own."""
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.isoformat()
    if isinstance(value, date):
        raise PydanticCustomError("date", "should be a full timestamp with time and Z: 2025-01-31T00:00:00Z")
    return value


Span = Annotated[
    int,
    BeforeValidator(_read_span, json_schema_input_type=Annotated[str, Field(pattern=r"^\d{1,9}(s|m|h|d)$")]),
    Field(ge=0, le=DURATION_MS_MAX),
    PlainSerializer(format_duration, return_type=str),
]
"""Written `7d`, held in milliseconds; none at all is allowed."""


def _read_constant(value: Any) -> Any:
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, date):
        raise PydanticCustomError("date", "is a date to YAML: put it in quotes")
    raise PydanticCustomError("constant", "should be a number, a text, true or false")


Constant = Annotated[
    Any, PlainValidator(_read_constant, json_schema_input_type=Annotated[bool | int | float | str, Field()])
]
Date = Annotated[Text, BeforeValidator(_read_date)]


def _constant_or_form(value: Any) -> str:
    return _FORM_TAG if isinstance(value, Mapping | Form) else _CONSTANT_TAG


def _one_or_several(value: Any) -> str:
    return _SEVERAL_TAG if isinstance(value, list | tuple) else _ONE_TAG


Operand = Annotated[
    Annotated[Constant, Tag(_CONSTANT_TAG)] | Annotated["Form", Tag(_FORM_TAG)], Discriminator(_constant_or_form)
]
_Operands = Annotated[tuple[Operand, ...], Field(min_length=1, max_length=ITEMS_MAX)]
Operands = Annotated[
    Annotated[Operand, Tag(_ONE_TAG)] | Annotated[_Operands, Tag(_SEVERAL_TAG)], Discriminator(_one_or_several)
]
Forms = Annotated[tuple["Form", ...], Field(min_length=1, max_length=ITEMS_MAX)]
FormOrForms = Annotated[
    Annotated["Form", Tag(_ONE_TAG)] | Annotated[Forms, Tag(_SEVERAL_TAG)], Discriminator(_one_or_several)
]


def _compared(symbol: str) -> Any:
    return Field(
        default=None,
        description=f"The value `{symbol}` this: a constant, or another value.",
        examples=[5, {"trait": "goal"}],
    )


class Form(Part):
    """A condition or a value, written in YAML."""

    all: Forms | None = Field(
        default=None, description="Every one of these conditions holds.", examples=[[{"trait": "vip"}]]
    )
    any: Forms | None = Field(default=None, description="One of these conditions holds.", examples=[[{"trait": "vip"}]])
    not_: Form | None = Field(
        default=None, alias="not", description="This condition does not hold.", examples=[{"trait": "vip"}]
    )
    trait: Text | None = Field(
        default=None, description="The value of a trait, or the membership of an audience.", examples=["plan"]
    )
    property_: Text | None = Field(
        default=None,
        alias="property",
        description="A property of the event; only inside the `where` of an event.",
        examples=["cart.total"],
    )
    parent: Text | None = Field(
        default=None,
        description="A property of the event around, in a funnel: inside the `where` of an event inside another one.",
        examples=["sku"],
    )
    context: Text | None = Field(
        default=None,
        description="A part of the event's context; only inside the `where` of an event.",
        examples=["page.url"],
    )
    value: Constant | None = Field(default=None, description="A constant, where the left side is one.", examples=[500])
    event: Text | None = Field(
        default=None,
        description="The events of this name; with no reducer beside it, how many.",
        examples=["Order Completed"],
    )
    where: FormOrForms | None = Field(
        default=None,
        description="Only the events that meet this condition, or every one of these.",
        examples=[{"property": "total", "at_least": 200}],
    )
    exclude_sources: Annotated[tuple[Text, ...], Field(min_length=1)] | None = Field(
        default=None, description="Not the events of the sources of these names.", examples=[["web"]]
    )
    within: Span | None = Field(default=None, description="Only the events of this long before now.", examples=["30d"])
    between: Annotated[tuple[Span, ...], Field(min_length=2, max_length=2)] | None = Field(
        default=None, description="Only the events between these two ages.", examples=[["30d", "90d"]]
    )
    expires_after: Span | None = Field(
        default=None, description="Only the latest session, with this gap.", examples=["30m"]
    )
    within_parent: Span | None = Field(
        default=None, description="Only the events of this long after the event around, in a funnel.", examples=["7d"]
    )
    sum: Text | None = Field(default=None, description="Sum of this property.", examples=["revenue"])
    avg: Text | None = Field(default=None, description="Mean of this property.", examples=["revenue"])
    min: Text | None = Field(default=None, description="Least value of this property.", examples=["revenue"])
    max: Text | None = Field(default=None, description="Greatest value of this property.", examples=["revenue"])
    first: Text | None = Field(default=None, description="Earliest value of this property.", examples=["product"])
    last: Text | None = Field(default=None, description="Latest value of this property.", examples=["product"])
    mode: Text | None = Field(default=None, description="Most frequent value of this property.", examples=["category"])
    unique: Text | None = Field(default=None, description="Distinct values of this property.", examples=["category"])
    unique_count: Text | None = Field(
        default=None, description="How many distinct values this property has.", examples=["category"]
    )
    as_: Literal["string", "number", "array"] | None = Field(
        default=None, alias="as", description="How `min`, `max` and `mode` take their values.", examples=["string"]
    )
    minimum: StrictInt | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="How often `mode` must have seen a value; 2 unless set.",
        examples=[3],
    )
    equals: Operand | None = _compared("=")
    differs: Operand | None = _compared("!=")
    less_than: Operand | None = _compared("<")
    at_most: Operand | None = _compared("<=")
    greater_than: Operand | None = _compared(">")
    at_least: Operand | None = _compared(">=")
    contains: Operands | None = Field(default=None, description="One of these texts is part of it.", examples=["gold"])
    omits: Operands | None = Field(default=None, description="None of these texts is part of it.", examples=["gold"])
    starts_with: Operands | None = Field(default=None, description="It begins with one of these.", examples=["gold"])
    ends_with: Operands | None = Field(default=None, description="It ends with one of these.", examples=["gold"])
    one_of: Operands | None = Field(default=None, description="It equals one of these.", examples=[["gold", "silver"]])
    none_of: Operands | None = Field(
        default=None, description="It equals none of these.", examples=[["gold", "silver"]]
    )
    before_date: Date | None = Field(
        default=None, description="A date before this instant.", examples=["2025-01-31T00:00:00Z"]
    )
    after_date: Date | None = Field(
        default=None, description="A date after this instant.", examples=["2025-01-31T00:00:00Z"]
    )
    within_last: Span | None = Field(default=None, description="A date of this long ago until now.", examples=["7d"])
    within_next: Span | None = Field(default=None, description="A date from now until in this long.", examples=["7d"])
    before_last: Span | None = Field(default=None, description="A date of this long ago or earlier.", examples=["7d"])
    after_next: Span | None = Field(default=None, description="A date in this long or later.", examples=["7d"])
    exists: StrictBool | None = Field(
        default=None, description="There is a value; `false`: there is none.", examples=[True]
    )

    @field_validator("*", mode="before")
    @classmethod
    def _nothing_is_no_value(cls, value: Any) -> Any:
        """A key without a value would be read as if it were not there, and say less than it seems to."""
        if value is None:
            raise PydanticCustomError("nothing", "says nothing; leave the key out, or test with 'exists'")
        return value

    def __repr_args__(self) -> Any:
        """What was written."""
        yield from given_in(self).items()


Form.model_rebuild()


def given_in(form: Form) -> dict[str, Any]:
    """The keys that were written, by their names in the file, in the order of the model."""
    fields = type(form).model_fields
    values = {field.alias or name: getattr(form, name) for name, field in fields.items()}
    return {key: value for key, value in values.items() if value is not None}
