"""The topology: what the user declares. Models of every key, checks across keys, canonical form and version."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Annotated, Any, Final, Literal, Self

import orjson
import re2
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from cdp_stream.errors import Problem, TopologyError
from cdp_stream.model.time import DAY_MS, parse_duration

BUILT_IN_TYPES: Final = (
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
"""Identifier types that are read without being declared, in their default order of priority."""

SUGGESTED_BLOCKED: Final = ({"pattern": "^[0-]*$"}, {"exact": "-1"}, {"exact": "null"}, {"exact": "anonymous"})
"""The documented suggestion: zeroes and dashes only, -1, null, anonymous."""

Period = Literal["ever", "annually", "monthly", "weekly", "daily"]
_KEY = re.compile(r"[a-z0-9_]{1,100}\Z")
_TYPE = re.compile(r"[a-z0-9][a-z0-9_.]{0,63}\Z")
_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,200}\Z")


def _duration_ms(value: Any) -> Any:
    return parse_duration(value) if isinstance(value, str) else value


DurationMs = Annotated[int, BeforeValidator(_duration_ms), Field(ge=0, json_schema_extra={"type": "string"})]
"""A duration: `7d`, `12h`, `15m`, `10s` in the file, milliseconds in the model."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Source(_Model):
    """A topic that raw events come from."""

    name: str = Field(description="Name of the source within the space.", examples=["web"], min_length=1)
    topic: str = Field(description="Kafka topic of raw events; any partitions, any key.", examples=["shop.events"])
    enabled: bool = Field(default=True, description="False: the topic is not read.")
    identity: bool = Field(
        default=True,
        description="False: its events never map or merge identifiers; they attach to whom their ids name.",
    )
    write_key: str | None = Field(
        default=None, description="Key of the HTTP intake for this source.", examples=["${WEB_WRITE_KEY}"], repr=False
    )

    @field_validator("topic")
    @classmethod
    def _topic_name(cls, value: str) -> str:
        return _topic(value)


class BlockedValue(_Model):
    """A value that is never promoted to an identifier: one of `exact` and `pattern`."""

    exact: str | None = Field(default=None, description="The value itself.", examples=["anonymous"])
    pattern: str | None = Field(
        default=None, description="A regular expression (RE2, linear time).", examples=["^test-"]
    )

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.exact is None) == (self.pattern is None):
            raise ValueError("give exactly one of `exact` and `pattern`")
        if self.pattern is not None:
            try:
                re2.compile(self.pattern)
            except re2.error as error:
                raise ValueError(f"not a regular expression of RE2: {error}") from error
        return self


class Identifier(_Model):
    """An identifier type with its limit; the place in the list is its priority."""

    type: str = Field(description="Built-in or custom identifier type.", examples=["user_id", "loyalty_id"])
    limit: int | None = Field(
        default=None, ge=1, description="Values a profile may hold; default 1 for user_id, else 5."
    )
    period: Period = Field(default="ever", description="The sliding period in which the limit counts.")
    keys: tuple[str, ...] = Field(
        default=(), description="Custom types: trait and property keys; default the type itself, in both casings."
    )
    blocked_values: tuple[BlockedValue, ...] = Field(
        default=(), description="Values of this type that are never promoted."
    )
    enabled: bool = Field(default=True, description="False: the type is not an identifier in this space.")

    @field_validator("type")
    @classmethod
    def _type_name(cls, value: str) -> str:
        if not _TYPE.match(value):
            raise ValueError(f"{value!r} is not a type name: lower case letters, digits, _ and . only, at most 64")
        return value

    @property
    def limit_count(self) -> int:
        """The limit, with the default filled in."""
        if self.limit is not None:
            return self.limit
        return 1 if self.type == "user_id" else 5


class Identity(_Model):
    """Rules of the identity graph."""

    identifiers: tuple[Identifier, ...] = Field(default=(), description="In order of priority, the most trusted first.")
    blocked_values: Literal["suggested", "none"] | tuple[BlockedValue, ...] = Field(
        default="suggested", description="For all types: the suggested list, none, or a list of your own."
    )
    demotion: Literal["lowest_priority", "minimal"] = Field(
        default="lowest_priority", description="Which identifier yields when a limit would break."
    )
    merges_max: int = Field(default=100, ge=0, description="Merges a profile may have taken part in.")
    mappings_max: int = Field(default=1000, ge=1, description="External ids a profile may hold.")
    dedupe_horizon: DurationMs = Field(
        default=7 * DAY_MS, description="How long a message id is remembered, in stream time.", examples=["7d"]
    )
    email_from_properties: bool = Field(
        default=True, description="Read `properties.email` of track, page and screen calls as an email."
    )

    @model_validator(mode="after")
    def _types_once(self) -> Self:
        names = [identifier.type for identifier in self.identifiers]
        double = next((name for name in names if names.count(name) > 1), None)
        if double is not None:
            raise ValueError(f"identifiers: {double!r} is listed twice")
        return self


class Trait(_Model):
    """A computed trait."""

    key: str = Field(description="Key on the profile; never reused.", examples=["total_spend"])
    name: str | None = Field(default=None, description="Name for people.")
    definition: str = Field(
        description="Scalar expression of the query language.",
        examples=["event('Order Completed').sum(property('revenue'))"],
    )
    include_anonymous: bool = Field(default=True, description="Also for profiles that have anonymous ids only.")
    destinations: tuple[str, ...] = Field(default=(), description="Destinations that are told of changes.")

    @field_validator("key")
    @classmethod
    def _key_name(cls, value: str) -> str:
        return _snake_case(value)


class Audience(_Model):
    """An audience."""

    key: str = Field(description="Key on the profile; never reused.", examples=["big_spenders"])
    name: str | None = Field(default=None, description="Name for people.")
    definition: str = Field(
        description="Boolean expression of the query language.", examples=["trait('total_spend') >= 500"]
    )
    include_anonymous: bool = Field(default=False, description="Also for profiles that have anonymous ids only.")
    historical: bool | str = Field(default=True, description="Whether events before its creation count.")
    destinations: tuple[str, ...] = Field(default=(), description="Destinations that are told of entries and exits.")

    @field_validator("key")
    @classmethod
    def _key_name(cls, value: str) -> str:
        return _snake_case(value)

    @field_validator("historical")
    @classmethod
    def _historical(cls, value: bool | str) -> bool | str:
        return _not_yet(value, True, "historical: false or a duration")


class Destination(_Model):
    """A topic that is told of audiences and traits."""

    name: str = Field(description="Name of the destination within the space.", examples=["crm"], min_length=1)
    kind: Literal["event", "list"] = Field(default="event", description="`event`: a message per change.")
    topic: str = Field(description="Kafka topic of the messages.", examples=["shop.dest.crm"])
    send: tuple[Literal["identify", "track", "group"], ...] = Field(
        default=("identify", "track"), description="Calls to send per change."
    )
    enter_event: str = Field(default="Audience Entered", description="Event name of an entry.", min_length=1)
    exit_event: str = Field(default="Audience Exited", description="Event name of an exit.", min_length=1)
    compute_event: str = Field(default="Trait Computed", description="Event name of a changed trait.", min_length=1)
    send_mobile_ids: bool = Field(default=False, description="Add device ids to the messages.")
    combine: Literal["product", "per_identifier"] = Field(
        default="product", description="One message per (user_id, email) pair, or per identifier."
    )
    id_sync: Any = Field(default=None, description="Which identifiers to send (not supported yet).")
    enrich: Any = Field(default=None, description="Traits to add to messages (not supported yet).")
    rate_per_second: Any = Field(default=None, description="Cap on messages per second (not supported yet).")
    sync_every: Any = Field(default=None, description="Cadence of list destinations (not supported yet).")

    @field_validator("topic")
    @classmethod
    def _topic_name(cls, value: str) -> str:
        return _topic(value)

    @field_validator("kind")
    @classmethod
    def _kind(cls, value: str) -> str:
        return str(_not_yet(value, "event", "kind: list"))

    @field_validator("id_sync", "enrich", "rate_per_second", "sync_every")
    @classmethod
    def _later(cls, value: Any, info: Any) -> Any:
        return _not_yet(value, None, str(info.field_name))


class Topology(_Model):
    """A space's whole declared setup."""

    space: str = Field(
        description="Name of the space; part of topic names, ids and consumer groups.",
        examples=["ecommerce-dev"],
        pattern=r"^[a-z0-9][a-z0-9-]{0,62}$",
    )
    sources: tuple[Source, ...] = Field(description="Where raw events come from.", min_length=1)
    identity: Identity = Field(Identity(), description="Rules of the identity graph.")  # type: ignore[call-arg]
    traits: tuple[Trait, ...] = Field(default=(), description="Computed traits.")
    audiences: tuple[Audience, ...] = Field(default=(), description="Audiences.")
    destinations: tuple[Destination, ...] = Field(default=(), description="Topics that are told of changes.")
    partitions: int = Field(
        default=8, ge=1, le=1024, description="Partitions of the profile stage; fixed for the space's life."
    )

    @classmethod
    def from_canonical(cls, plain: Mapping[str, Any]) -> Topology:
        """The topology of a canonical form."""
        return cls.model_validate(plain)


def canonical(topology: Topology) -> dict[str, Any]:
    """The topology as plain JSON values, without secrets: a write key becomes a placeholder."""
    plain = topology.model_dump(mode="json")
    for source in plain["sources"]:
        if source["write_key"] is not None:
            source["write_key"] = "***"
    return plain


def topology_version(topology: Topology) -> str:
    """16 hex digits: a hash of the canonical form."""
    return sha256(orjson.dumps(canonical(topology), option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def parse_topology(data: Mapping[str, Any], file: str = "topology") -> Topology:
    """Check plain values. Raises TopologyError with every problem found, each with its path."""
    try:
        topology = Topology.model_validate(data)
    except ValidationError as error:
        raise TopologyError(file, [_problem(dict(found), data) for found in error.errors()]) from None
    problems = _cross_checks(topology)
    if problems:
        raise TopologyError(file, problems)
    return topology


def _cross_checks(topology: Topology) -> list[Problem]:
    problems: list[Problem] = []
    _once(problems, "sources", "name", [source.name for source in topology.sources])
    _once(problems, "sources", "topic", [source.topic for source in topology.sources])
    _once(problems, "destinations", "name", [destination.name for destination in topology.destinations])
    _once(problems, "destinations", "topic", [destination.topic for destination in topology.destinations])
    _once(problems, "traits", "key", [trait.key for trait in topology.traits])
    trait_keys = [trait.key for trait in topology.traits]
    audience_keys = [audience.key for audience in topology.audiences]
    _once(problems, "audiences", "key", audience_keys)
    for number, key in enumerate(audience_keys):
        if key in trait_keys:
            problems.append(Problem(f"audiences[{number}].key", f"{key!r} is the key of a trait already"))
    sources = {source.topic for source in topology.sources}
    for number, destination in enumerate(topology.destinations):
        if destination.topic in sources:
            message = f"{destination.topic!r} is a source's topic; our own output must not be read as events"
            problems.append(Problem(f"destinations[{number}].topic", message))
    names = [destination.name for destination in topology.destinations]
    for where, listed in (("traits", topology.traits), ("audiences", topology.audiences)):
        for number, item in enumerate(listed):
            for place, name in enumerate(item.destinations):
                if name not in names:
                    path = f"{where}[{number}].destinations[{place}]"
                    problems.append(Problem(path, f"there is no destination {name!r}", _nearest(name, names)))
    return problems


def _once(problems: list[Problem], where: str, field: str, values: list[str]) -> None:
    for number, value in enumerate(values):
        if value in values[:number]:
            problems.append(Problem(f"{where}[{number}].{field}", f"{value!r} is used twice"))


def _problem(found: dict[str, Any], data: Mapping[str, Any]) -> Problem:
    location: tuple[Any, ...] = found["loc"]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
    kind = found["type"]
    if kind == "extra_forbidden":
        parent = path.rpartition(".")[0]
        return Problem(
            path,
            f"unknown key {location[-1]!r}",
            _nearest(str(location[-1]), _keys_at(location[:-1]))
            or (f"remove it from {parent}" if parent else "remove it"),
        )
    message = str(found["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
    value = _value_at(data, location)
    if kind == "missing":
        return Problem(path, "is required")
    if kind in (
        "literal_error",
        "string_pattern_mismatch",
        "int_parsing",
        "greater_than_equal",
        "less_than_equal",
        "string_type",
        "bool_parsing",
        "bool_type",
        "int_type",
        "tuple_type",
        "model_type",
    ):
        allowed = re.findall(r"'([^']+)'", message) if kind == "literal_error" else []
        shown = "***" if location and location[-1] == "write_key" else repr(value)[:80]
        return Problem(path, f"{shown} is not allowed here; it should be {message}", _nearest(str(value), allowed))
    return Problem(path, message)


def _value_at(data: Any, location: tuple[Any, ...]) -> Any:
    for part in location:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return data
    return data


def _keys_at(location: tuple[Any, ...]) -> list[str]:
    """The known keys of the model at a place."""
    models: dict[str, type[BaseModel]] = {
        "sources": Source,
        "identity": Identity,
        "identifiers": Identifier,
        "blocked_values": BlockedValue,
        "traits": Trait,
        "audiences": Audience,
        "destinations": Destination,
    }
    names = [part for part in location if isinstance(part, str) and part in models]
    model = models[names[-1]] if names else Topology
    return list(model.model_fields)


def _nearest(name: str, known: list[str]) -> str | None:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else None


def _not_yet(value: Any, fine: Any, what: str) -> Any:
    if value != fine:
        raise ValueError(f"{what} is not supported yet")
    return value


def _topic(value: str) -> str:
    if not _TOPIC.match(value):
        raise ValueError(f"{value!r} is not a topic name: letters, digits, '.', '_' and '-' only")
    return value


def _snake_case(value: str) -> str:
    if not _KEY.match(value):
        raise ValueError(f"{value!r} is not a key: lower case letters, digits and _ only")
    return value
