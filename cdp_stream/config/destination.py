"""What the user wrote about destinations: which messages they get, about whom, and how fast."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SerializerFunctionWrapHandler, model_serializer
from pydantic_core import PydanticCustomError

from cdp_stream.config.fields import (
    ITEMS_MAX,
    DurationText,
    IdentifierType,
    Label,
    Name,
    Part,
    Rate,
    Switch,
    TopicName,
)
from cdp_stream.model.time import HOUR_MS, SECOND_MS, Duration

Call = Literal["identify", "track", "group"]
Strategy = Literal["last", "first", "all"]

MOBILE_TYPES: Final = ("android.idfa", "ios.idfa")
"""Advertising ids, the only device identifiers that destinations can match on."""
_UNUSED_IF_EMPTY: Final = frozenset({"id_sync", "enrich"})
EVENTS_ONLY: Final = ("send", "enter_event", "exit_event", "compute_event")
"""Keys that a list has no use for."""
SYNC_EVERY_MIN: Final = SECOND_MS
"""Syncs at shorter intervals would be changes as they come: that is what event destinations are for."""
SYNC_ALL_MAX: Final = 3
"""How many identifiers of one destination may have the strategy `all` ("trait-activation/id-sync")."""


class SyncedId(Part):
    """An identifier type chosen for a destination ("trait-activation/id-sync")."""

    type: IdentifierType = Field(description="The identifier type.", examples=["phone"])
    strategy: Strategy = Field(
        default="last",
        description="Which of the profile's values go: the one added `last`, the one added `first`, or `all`.",
        examples=["all"],
    )
    field: Label | None = Field(
        default=None,
        description="Field that the value rides in, in `traits` of an identify and `context.traits` of a track. "
        "Unless set, it is the type; a user id, an anonymous id and an advertising id then have their usual places "
        "only.",
        examples=["mobile_number"],
    )


def _read_id_sync(given: Any) -> Any:
    if given is None:
        return ()
    if isinstance(given, Mapping):
        return tuple({"type": type_, "strategy": strategy} for type_, strategy in given.items())
    return given


def _long_enough(sync_every: Duration) -> Duration:
    if sync_every < SYNC_EVERY_MIN:
        raise PydanticCustomError("duration", "should be a second at least: '1s', '15m', '6h'")
    return sync_every


class Destination(Part):
    """A Kafka topic that is told of audiences and, if it is of the kind `event`, of computed traits."""

    name: Name = Field(description="Name of the destination, unique in the topology.", examples=["crm"])
    kind: Literal["event", "list"] = Field(
        default="event",
        description="`event`: messages for every change. `list`: each audience is a list, with one record a sync; the "
        "whole list first, then additions and removals.",
        examples=["list"],
    )
    topic: TopicName = Field(description="Kafka topic that gets the messages.", examples=["ecommerce.dest.crm"])
    send: Annotated[tuple[Call, ...], Field(min_length=1)] = Field(
        default=("identify", "track"),
        description="Calls that are made for a change. `group` tells of accounts: it is refused as long as no audience "
        "or trait of the topology is about accounts.",
        examples=[["track"]],
    )
    enter_event: Label = Field(
        default="Audience Entered", description="Name of the track event for an entry.", examples=["Audience Entered"]
    )
    exit_event: Label = Field(
        default="Audience Exited", description="Name of the track event for an exit.", examples=["Audience Exited"]
    )
    compute_event: Label = Field(
        default="Trait Computed", description="Name of the track event for a trait.", examples=["Trait Computed"]
    )
    send_mobile_ids: Switch = Field(
        default=False, description="Whether advertising ids of the profile's mobile devices go along.", examples=[True]
    )
    combine: Literal["product", "per_identifier"] = Field(
        default="product",
        description="One message for each pair of user id and email, or one for each identifier.",
        examples=["per_identifier"],
    )
    id_sync: Annotated[
        tuple[SyncedId, ...],
        Field(max_length=ITEMS_MAX),
        BeforeValidator(
            _read_id_sync, json_schema_input_type=tuple[SyncedId, ...] | dict[IdentifierType, Strategy] | None
        ),
    ] = Field(
        default=(),
        description="The identifiers that are sent, instead of user ids and emails: a list, or a mapping of types to "
        "strategies. At most three with the strategy `all`. Exits go to every combination all the same.",
        examples=[[{"type": "user_id", "strategy": "first"}, {"type": "phone", "strategy": "all"}], {"email": "last"}],
    )
    enrich: Annotated[
        tuple[Label, ...],
        Field(max_length=ITEMS_MAX),
        BeforeValidator(lambda given: () if given is None else given, json_schema_input_type=tuple[Label, ...] | None),
    ] = Field(
        default=(),
        description="Keys of traits whose present values ride along, in `traits` of an identify and `properties` of a "
        "track.",
        examples=[["first_name", "plan"]],
    )
    sync_every: Annotated[DurationText, AfterValidator(_long_enough)] | None = Field(
        default_factory=lambda read: HOUR_MS if read.get("kind") == "list" else None,
        description="For lists: how often they are synced, at the multiples of this duration since 1970, UTC. One hour, "
        "unless set.",
        examples=["6h"],
    )
    rate_per_second: Rate | None = Field(
        default=None,
        description="How many requests a second its webhook gets at most, over all connectors together. The topic itself "
        "is written without delay.",
        examples=[100],
    )

    @model_serializer(mode="wrap")
    def _leave_out_unused(self, spell_out: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What is not chosen is not spelled out: the version of a topology that does not use these keys stays."""
        form: dict[str, Any] = spell_out(self)
        if self.kind == "list":
            form = {key: value for key, value in form.items() if key not in EVENTS_ONLY}
        return {key: value for key, value in form.items() if value or key not in _UNUSED_IF_EMPTY}
