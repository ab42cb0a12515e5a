"""What the user wrote: the typed topology, its canonical form and its version. Pure: no files, no environment."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Annotated, Any, Final, Literal, Self

import orjson
from pydantic import BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from cdp_stream.config.destination import Destination
from cdp_stream.config.explain import explain, in_order
from cdp_stream.config.fields import (
    ITEMS_MAX,
    Count,
    DurationText,
    Exact,
    Historical,
    IdentifierType,
    Key,
    Label,
    Name,
    Part,
    Pattern,
    Secret,
    SpaceName,
    Switch,
    Text,
    TopicName,
)
from cdp_stream.config.form import Form
from cdp_stream.config.relations import find_contradictions
from cdp_stream.errors import TopologyError
from cdp_stream.model.time import DAY_MS

Period = Literal["ever", "annually", "monthly", "weekly", "daily"]
_HIDDEN: Final = "***"


class Source(Part):
    """A Kafka topic with raw events."""

    name: Name = Field(description="Name of the source, unique in the topology.", examples=["web"])
    topic: TopicName = Field(description="Kafka topic that holds its events.", examples=["ecommerce.events"])
    enabled: Switch = Field(default=True, description="Whether its events are read.", examples=[False])
    identity: Switch = Field(
        default=True,
        description="Whether its events map and merge identifiers. `false`: they only attach to the profile that "
        "already holds their identifiers.",
        examples=[False],
    )
    write_key: Secret | None = Field(
        default=None,
        description="Key with which senders reach this source over HTTP. Never shown.",
        examples=["${WEB_WRITE_KEY}"],
    )


class BlockedValue(Part):
    """A value that never becomes an external id: either `exact` or `pattern`."""

    exact: Exact | None = Field(default=None, description="The value itself.", examples=["anonymous"])
    pattern: Pattern | None = Field(
        default=None,
        description="A linear-time regular expression (RE2), found anywhere in the value.",
        examples=["^[0-]*$"],
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.exact is None) == (self.pattern is None):
            raise PydanticCustomError("blocked_value", "needs one of 'exact' and 'pattern'")
        return self


SUGGESTED_BLOCKED_VALUES: Final = (
    BlockedValue(pattern="^[0-]*$"),
    BlockedValue(exact="-1"),
    BlockedValue(exact="null"),
    BlockedValue(exact="anonymous"),
)
"""The documented suggestions: only zeroes and dashes, `-1`, `null`, `anonymous`."""

_NAMED_BLOCKED_VALUES: Final[dict[str, tuple[BlockedValue, ...]]] = {"suggested": SUGGESTED_BLOCKED_VALUES, "none": ()}


def _read_blocked_values(given: Any) -> Any:
    if not isinstance(given, str):
        return given
    if given not in _NAMED_BLOCKED_VALUES:
        raise PydanticCustomError("blocked_values", "should be 'suggested', 'none' or a list")
    return _NAMED_BLOCKED_VALUES[given]


BlockedValues = Annotated[
    tuple[BlockedValue, ...],
    Field(max_length=ITEMS_MAX),
    BeforeValidator(
        _read_blocked_values, json_schema_input_type=Literal["suggested", "none"] | tuple[BlockedValue, ...]
    ),
]
"""Written `suggested`, `none` or a list; held as the list."""


class Identifier(Part):
    """An identifier type and its rules; its place in the list is its priority."""

    type: IdentifierType = Field(
        description="A built-in type or the name of your own, in snake_case.", examples=["loyalty_id"]
    )
    enabled: Switch = Field(default=True, description="`false` takes a built-in type out.", examples=[False])
    limit: Count = Field(
        default_factory=lambda read: 1 if read.get("type") == "user_id" else 5,
        ge=1,
        le=1_000_000,
        description="How many values of this type a profile may accept in the period. "
        "1 for `user_id`, else 5, unless set.",
        examples=[5],
    )
    period: Period = Field(
        default="ever", description="The sliding period that the limit counts in.", examples=["annually"]
    )
    keys: tuple[Label, ...] = Field(
        default=(),
        max_length=ITEMS_MAX,
        description="Trait and property keys that hold it, for types of your own. The type itself in snake_case and "
        "in camelCase, unless set. An event with something else than text or a number there is a dead letter.",
        examples=[["loyalty_id", "loyaltyId"]],
    )
    blocked_values: BlockedValues = Field(
        default=(),
        description="Values of this type that never become external ids, in addition to those of all types.",
        examples=[[{"exact": "test@example.org"}]],
    )


_DEFAULT_IDENTIFIERS: Final = (
    Identifier(type="user_id"),
    Identifier(type="email"),
)


class Identity(Part):
    """Rules of identity resolution."""

    identifiers: Annotated[tuple[Identifier, ...], Field(max_length=ITEMS_MAX)] = Field(
        default=_DEFAULT_IDENTIFIERS,
        description="Identifier types in order of priority. Built-in types that are not listed stay on with their "
        "defaults, after the listed ones, alphabetically.",
        examples=[[{"type": "user_id", "limit": 1}, {"type": "email", "limit": 5, "period": "annually"}]],
    )
    blocked_values: BlockedValues = Field(
        default=SUGGESTED_BLOCKED_VALUES,
        description="Values that never become external ids, of any type: `suggested` (only zeroes and dashes, `-1`, "
        "`null`, `anonymous`), `none`, or a list.",
        examples=[[{"exact": "unknown"}, {"pattern": "^test"}]],
    )
    demotion: Literal["lowest_priority", "minimal"] = Field(
        default="lowest_priority",
        description="Which external id is left out when a limit would be exceeded: the lowest-ranked one on the "
        "event, or the lowest-ranked one that can cause the conflict.",
        examples=["minimal"],
    )
    merges_max: Count = Field(
        default=100, ge=0, le=1_000_000, description="Merges that a profile may have in its life.", examples=[100]
    )
    mappings_max: Count = Field(
        default=1000, ge=1, le=1_000_000, description="External ids that a profile may hold.", examples=[1000]
    )
    dedupe_horizon: DurationText = Field(
        default=7 * DAY_MS, description="How long a message id is remembered, in stream time.", examples=["7d"]
    )
    email_from_properties: Switch = Field(
        default=True, description="Whether `properties.email` of an event is an `email` identifier.", examples=[False]
    )

    @model_validator(mode="before")
    @classmethod
    def _no_list_is_the_default(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and given.get("identifiers") in ([], ()):
            return {key: value for key, value in given.items() if key != "identifiers"}
        return given


class Trait(Part):
    """A computed trait."""

    key: Key = Field(description="Key of the trait on the profile.", examples=["total_spend"])
    name: Label = Field(
        default_factory=lambda read: read.get("key", ""),
        description="Name for people; the key, unless set.",
        examples=["Total spend"],
    )
    definition: Text | None = Field(
        default=None,
        description="What is computed, in the definition language. Required, unless `where` says it.",
        examples=["event('Order Completed').sum(property('revenue'))"],
    )
    where: Form | None = Field(
        default=None,
        description="What is computed, in the YAML form of the definition language, instead of `definition`.",
        examples=[{"event": "Order Completed", "sum": "revenue"}],
    )
    include_anonymous: Switch = Field(
        default=True, description="Whether profiles with anonymous ids only have it, too.", examples=[False]
    )
    destinations: tuple[Name, ...] = Field(
        default=(),
        max_length=ITEMS_MAX,
        description="Names of the destinations that are told of it.",
        examples=[["crm"]],
    )


class Audience(Part):
    """A group of profiles, by a rule."""

    key: Key = Field(description="Key of the audience on the profile.", examples=["big_spenders"])
    name: Label = Field(
        default_factory=lambda read: read.get("key", ""),
        description="Name for people; the key, unless set.",
        examples=["Big spenders"],
    )
    definition: Text | None = Field(
        default=None,
        description="Who is a member, in the definition language. Required, unless `where` says it.",
        examples=["trait('total_spend') >= 500"],
    )
    where: Form | None = Field(
        default=None,
        description="Who is a member, in the YAML form of the definition language, instead of `definition`.",
        examples=[{"trait": "total_spend", "at_least": 500}],
    )
    include_anonymous: Switch = Field(
        default=False,
        description="Whether profiles with anonymous ids only may be members. A later version may switch it off, but "
        "not on: declare another audience, with a key of its own.",
        examples=[True],
    )
    historical: Historical = Field(
        default=True,
        description="Whether events count that happened before the audience was declared or edited: all that are "
        "retained (`true`), none (`false`), or those of this long before. Traits count as they are in any case.",
        examples=[False, "90d"],
    )
    destinations: tuple[Name, ...] = Field(
        default=(),
        max_length=ITEMS_MAX,
        description="Names of the destinations that are told of it.",
        examples=[["crm"]],
    )


class Retain(Part):
    """Which of a profile's events are kept for traits and audiences that are declared later (backfill.md)."""

    duration: DurationText = Field(
        default=1_095 * DAY_MS, description="How long an event is kept after it came, in stream time.", examples=["90d"]
    )
    events: Count = Field(
        default=10_000,
        ge=0,
        le=100_000,
        description="How many events of a profile are kept, of whatever type; 0 keeps none.",
        examples=[1000],
    )
    context: tuple[Label, ...] = Field(
        default=(),
        max_length=20,
        description="Parts of the context that are kept, too, beside those that definitions in force read.",
        examples=[["page", "campaign"]],
    )


_Items = Field(max_length=ITEMS_MAX)


class Topology(Part):
    """The whole declared setup of a space."""

    space: SpaceName = Field(
        description="Name of the space; part of the names of topics, ids and consumer groups.",
        examples=["ecommerce-dev"],
    )
    sources: Annotated[tuple[Source, ...], Field(min_length=1, max_length=ITEMS_MAX)] = Field(
        description="Topics with raw events.", examples=[[{"name": "web", "topic": "ecommerce.events"}]]
    )
    identity: Identity = Field(
        default_factory=lambda: Identity.model_validate({}),
        description="Rules of identity resolution.",
        examples=[{"demotion": "minimal"}],
    )
    traits: Annotated[tuple[Trait, ...], _Items] = Field(
        default=(),
        description="Computed traits.",
        examples=[[{"key": "orders", "definition": "event('Order Completed').count()"}]],
    )
    audiences: Annotated[tuple[Audience, ...], _Items] = Field(
        default=(),
        description="Audiences.",
        examples=[[{"key": "buyers", "definition": "trait('orders') >= 1"}]],
    )
    destinations: Annotated[tuple[Destination, ...], _Items] = Field(
        default=(), description="Topics that are told.", examples=[[{"name": "crm", "topic": "ecommerce.dest.crm"}]]
    )
    retain: Retain = Field(
        default_factory=lambda: Retain.model_validate({}),
        description="Which events are kept for traits and audiences that are declared later.",
        examples=[{"duration": "90d", "events": 1000}],
    )
    partitions: Count = Field(
        default=8,
        ge=1,
        le=1_024,
        description="Partitions of the profile stage; fixed for the life of a space.",
        examples=[8],
    )

    @classmethod
    def from_canonical(cls, form: Mapping[str, Any]) -> Topology:
        """Read a canonical form back. Raises TopologyError if it is none."""
        return parse_topology(form, "canonical form")


def parse_topology(data: Mapping[str, Any], file: str = "topology") -> Topology:
    """Read plain values (of YAML or JSON) as a topology.

    Raises TopologyError with every problem, each with its path, the wrong value and, where there is one, the nearest
    right one. `file` is what the problems are reported under.
    """
    problems = find_contradictions(data)
    topology = None
    try:
        topology = Topology.model_validate(data)
    except ValidationError as error:
        problems += explain(error, Topology)
    if topology is None or problems:
        raise TopologyError(file, in_order(problems))
    return topology


def canonical(topology: Topology) -> dict[str, Any]:
    """Spell out the topology as plain JSON values: defaults and variables filled in, secrets as placeholders."""
    form = topology.model_dump(mode="json", exclude_none=True, by_alias=True)
    for source, entry in zip(topology.sources, form["sources"], strict=True):
        if source.write_key is not None:
            entry["write_key"] = _placeholder(source, source.write_key)
    return form


def topology_version(topology: Topology) -> str:
    """Name this topology by 16 hex digits, equal for topologies that differ in secrets or in layout only."""
    return sha256(orjson.dumps(canonical(topology), option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def _placeholder(source: Source, write_key: SecretStr) -> str:
    written = source.written("write_key")
    if written is not None:
        return written
    value = write_key.get_secret_value()
    # A canonical form that was read back holds the placeholder itself.
    return value if value.startswith("${") and value.endswith("}") else _HIDDEN
