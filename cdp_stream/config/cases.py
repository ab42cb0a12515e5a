"""What the user wrote in `tests/*.yaml`: events that are given, instants, and what is expected by then."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Generic, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from cdp_stream.config.fields import ITEMS_MAX, Count, Part, Text
from cdp_stream.model.time import parse_duration, parse_instant

START: Final = "2026-01-01T00:00:00Z"
"""Where the clock of a test stands before its first event, unless its file says otherwise."""

Record = TypeVar("Record", bound=Part)


def _check_moment(value: str) -> str:
    try:
        if value.startswith("+"):
            parse_duration(value[1:])
        else:
            parse_instant(value)
    except ValueError:
        raise PydanticCustomError("moment", "should be an instant, or a time that passes: +30d, +12h, +15m") from None
    return value


def _check_instant(value: str) -> str:
    try:
        parse_instant(value)
    except ValueError:
        raise PydanticCustomError("instant", "should be an instant, such as 2026-01-01T10:00:00Z") from None
    return value


def _check_profile_name(value: str) -> str:
    type_, colon, id_ = value.partition(":")
    if not (type_ and colon and id_):
        raise PydanticCustomError("profile_name", "should be an identifier: user_id:u1, email:ana@example.org")
    return value


def _list_is_all(given: Any) -> Any:
    return {"all": given} if isinstance(given, list | tuple) else given


def _check_audiences(given: Any) -> Any:
    """A list of keys, or a mapping of keys to `true` and `false`."""
    if isinstance(given, list | tuple) and all(isinstance(key, str) for key in given):
        return tuple(given)
    if isinstance(given, Mapping) and all(
        isinstance(key, str) and isinstance(value, bool) for key, value in given.items()
    ):
        return dict(given)
    raise PydanticCustomError("audiences", "should be a list of keys, or a mapping of keys to true or false")


Moment = Annotated[Text, AfterValidator(_check_moment)]
"""An instant, or `+30d`: that long after the instant before."""
InstantText = Annotated[Text, AfterValidator(_check_instant)]
ProfileName = Annotated[Text, AfterValidator(_check_profile_name)]
"""`type:value` of any identifier of a profile."""
ExpectedAudiences = Annotated[
    Any, BeforeValidator(_check_audiences, json_schema_input_type=tuple[str, ...] | dict[str, bool])
]


class Given(Part):
    """An event, as it stands in its source topic, with up to two keys of the test beside its own."""

    model_config = ConfigDict(extra="allow")

    at: Moment | None = Field(
        default=None,
        description="When it arrives. Unless set: at its own `receivedAt`, else its `timestamp`, else with the event "
        "before it. An event without a `timestamp` happens when it arrives; one that is older than the clock is late.",
        examples=["+30m"],
    )
    source: Text | None = Field(
        default=None, description="Name of the source it comes from; the first one, unless set.", examples=["crm"]
    )
    raw: Text | None = Field(
        default=None,
        description="The record's value as it stands, instead of an event: for input that cannot be used.",
        examples=["{not json"],
    )

    def event(self) -> dict[str, Any]:
        """The event's own keys."""
        return dict(self.model_extra or {})


class ExpectedProfile(Part):
    """What a profile should be. What is not named is not looked at."""

    same_as: tuple[ProfileName, ...] = Field(
        default=(),
        max_length=ITEMS_MAX,
        description="Other identifiers that should lead to this very profile.",
        examples=[["anonymous_id:a1"]],
    )
    external_ids: dict[Text, tuple[Text, ...]] = Field(
        default={},
        description="Identifier types, and all values of each that the profile should have, in any order.",
        examples=[{"email": ["ana@example.org"], "user_id": []}],
    )
    traits: dict[Text, Any] = Field(
        default={},
        description="Keys of custom and computed traits, and their values; `null` for none.",
        examples=[{"total_spend": 600, "plan": None}],
    )
    audiences: ExpectedAudiences | None = Field(
        default=None,
        description="All audiences that it should be in, in any order; or a mapping of some to `true` or `false`.",
        examples=[["big_spenders"], {"vips": False}],
    )
    links: tuple[ProfileName, ...] | None = Field(
        default=None,
        max_length=ITEMS_MAX,
        description="All accounts of a user, or users of an account, in any order.",
        examples=[["group_id:acme"]],
    )


class ExpectedTraitChange(Part):
    """A record of the trait changes. What is not named is not looked at."""

    profile: ProfileName | None = Field(
        default=None,
        description="Whose; also of a profile that it has absorbed since.",
        examples=["user_id:u1"],
    )
    trait_key: Text | None = Field(default=None, description="Key of the trait.", examples=["total_spend"])
    trait_class: Literal["custom", "computed"] | None = Field(
        default=None, alias="class", description="Which class of trait.", examples=["computed"]
    )
    value: Any = Field(default=None, description="Its value; `null` for none any more.", examples=[600])
    previous: Any = Field(default=None, description="Its value before; `null` for none.", examples=[350.5])
    time: InstantText | None = Field(
        default=None,
        description="Time of the event, or the instant at which time alone did it.",
        examples=["2026-01-01T10:00:00Z"],
    )
    message_id: Text | None = Field(default=None, description="Message id of the event.", examples=["m-1"])


class ExpectedAudienceChange(Part):
    """A record of the audience changes. What is not named is not looked at."""

    profile: ProfileName | None = Field(
        default=None,
        description="Whose; also of a profile that it has absorbed since.",
        examples=["user_id:u1"],
    )
    audience_key: Text | None = Field(default=None, description="Key of the audience.", examples=["big_spenders"])
    change: Literal["entered", "exited"] | None = Field(default=None, description="What happened.", examples=["exited"])
    cause: Literal["event", "time", "merge", "absorbed", "topology"] | None = Field(
        default=None, description="Why it happened.", examples=["time"]
    )
    time: InstantText | None = Field(
        default=None,
        description="Time of the event, or the instant at which time alone did it.",
        examples=["2026-01-31T10:00:00Z"],
    )
    message_id: Text | None = Field(default=None, description="Message id of the event.", examples=["m-1"])
    external_ids: dict[Text, tuple[Text, ...]] | None = Field(
        default=None, description="The identifiers that the record names.", examples=[{"user_id": ["u1"]}]
    )


class ExpectedMessage(Part):
    """A message to a destination, or a record of a list. Of a mapping inside it, what is not named is not looked at."""

    type: Literal["identify", "track", "group", "audience"] | None = Field(
        default=None, description="The call; `audience` is a record of a list.", examples=["track"]
    )
    event: Text | None = Field(default=None, description="Name of the track event.", examples=["Audience Entered"])
    user_id: Text | None = Field(default=None, alias="userId", description="User id.", examples=["u1"])
    anonymous_id: Text | None = Field(
        default=None, alias="anonymousId", description="Anonymous id; `null` for none.", examples=["a1"]
    )
    group_id: Text | None = Field(default=None, alias="groupId", description="Account.", examples=["acme"])
    timestamp: InstantText | None = Field(
        default=None, description="When it came true.", examples=["2026-01-01T10:00:00Z"]
    )
    traits: dict[Text, Any] | None = Field(
        default=None, description="Traits of an identify.", examples=[{"big_spenders": True}]
    )
    properties: dict[Text, Any] | None = Field(
        default=None, description="Properties of a track.", examples=[{"audience_key": "big_spenders"}]
    )
    context: dict[Text, Any] | None = Field(
        default=None, description="The context.", examples=[{"traits": {"email": "ana@example.org"}}]
    )
    integrations: dict[Text, Any] | None = Field(
        default=None, description="The integrations.", examples=[{"crm": True}]
    )
    name: Text | None = Field(default=None, description="Of a list: its name.", examples=["Big spenders"])
    sync: Literal["whole", "changes"] | None = Field(
        default=None, description="Of a list: the whole list, or what has changed.", examples=["whole"]
    )
    add: Annotated[tuple[dict[Text, Any], ...], Field(max_length=ITEMS_MAX)] | None = Field(
        default=None, description="Of a list: who is added, all of them, in any order.", examples=[[{"userId": "u1"}]]
    )
    remove: Annotated[tuple[dict[Text, Any], ...], Field(max_length=ITEMS_MAX)] | None = Field(
        default=None, description="Of a list: who is removed, all of them, in any order.", examples=[[]]
    )


class ExpectedDeadLetter(Part):
    """A record that could not be used. What is not named is not looked at."""

    reason: Text | None = Field(default=None, description="The reason.", examples=["no_identifiers"])
    field: Text | None = Field(default=None, description="The field at fault.", examples=["event"])


class Records(Part, Generic[Record]):
    """Records since the step before: a list is all of them; or a mapping says what is among them, and what is not."""

    all: tuple[Record, ...] | None = Field(
        default=None,
        max_length=ITEMS_MAX,
        description="Every record, each profile's in their order; different profiles' in any. The short form is the "
        "list alone.",
        examples=[[]],
    )
    contains: tuple[Record, ...] = Field(
        default=(),
        max_length=ITEMS_MAX,
        description="Records that are there, each profile's in this order, perhaps with others between them.",
        examples=[[]],
    )
    lacks: tuple[Record, ...] = Field(
        default=(), max_length=ITEMS_MAX, description="Records that are not there.", examples=[[]]
    )


def _records(item: Any) -> Any:
    return Annotated[
        Records[item],
        BeforeValidator(_list_is_all, json_schema_input_type=tuple[item, ...] | Records[item]),
    ]


class Expected(Part):
    """What holds by then. What is not named is not looked at, save for dead letters."""

    profiles: dict[ProfileName, ExpectedProfile | None] = Field(
        default={},
        description="Profiles, each by any of its identifiers; `null` for one that should not be there.",
        examples=[{"user_id:u1": {"traits": {"total_spend": 600}}, "email:bo@example.org": None}],
    )
    users_count: Count | None = Field(default=None, ge=0, description="How many user profiles there are.", examples=[1])
    accounts_count: Count | None = Field(
        default=None, ge=0, description="How many account profiles there are.", examples=[0]
    )
    trait_changes: _records(ExpectedTraitChange) | None = Field(  # type: ignore[valid-type]
        default=None,
        description="Changes of traits since the step before.",
        examples=[[{"profile": "user_id:u1", "trait_key": "total_spend", "value": 600}]],
    )
    audience_changes: _records(ExpectedAudienceChange) | None = Field(  # type: ignore[valid-type]
        default=None,
        description="Entries and exits since the step before.",
        examples=[[{"profile": "user_id:u1", "audience_key": "big_spenders", "change": "entered"}]],
    )
    destinations: dict[Text, _records(ExpectedMessage)] = Field(  # type: ignore[valid-type]
        default={},
        description="Destinations, and what each was told since the step before.",
        examples=[{"crm": {"contains": [{"type": "track", "event": "Audience Entered", "userId": "u1"}]}, "ads": []}],
    )
    dead_letters: _records(ExpectedDeadLetter) = Field(  # type: ignore[valid-type]
        default=Records[ExpectedDeadLetter](all=()),
        description="Records since the step before that could not be used; unless set, there should be none.",
        examples=[[{"reason": "no_identifiers"}]],
    )


class Step(Part):
    """A step of a test: events arrive, time passes, and then something is expected."""

    given: tuple[Given, ...] = Field(
        default=(),
        max_length=ITEMS_MAX,
        description="Events, in the order in which they arrive.",
        examples=[[{"type": "track", "event": "Order Completed", "userId": "u1", "properties": {"revenue": 600}}]],
    )
    at: Moment | None = Field(
        default=None,
        description="The instant to look at: the clock is moved to it, and whatever is due by then happens. Unless set, "
        "the arrival of the last event.",
        examples=["+30d"],
    )
    expect: Expected = Field(default=Expected(), description="What should hold then.", examples=[{"users_count": 1}])


class Case(Step):
    """A test: a first step, and perhaps others that follow it."""

    name: Text = Field(description="What it shows, as a sentence.", examples=["An order of 600 makes a big spender"])
    then: tuple[Step, ...] = Field(
        default=(),
        max_length=ITEMS_MAX,
        description="Further steps, one after the other.",
        examples=[[{"at": "+30d", "expect": {"audience_changes": []}}]],
    )

    @property
    def steps(self) -> tuple[Step, ...]:
        """Every step, in order."""
        return (self, *self.then)


class CaseFile(Part):
    """A file of tests. Each test begins with an empty space."""

    start: InstantText = Field(
        default=START, description="Where the clock stands at the beginning of each test.", examples=[START]
    )
    tests: Annotated[tuple[Case, ...], Field(min_length=1, max_length=ITEMS_MAX)] = Field(
        description="The tests.",
        examples=[[{"name": "A stranger has no profile", "expect": {"profiles": {"user_id:u1": None}}}]],
    )


def path_as_written(data: Any, path: str) -> str:
    """A problem's path as the user wrote it: without `.all`, where the short form was used."""
    kept: list[str] = []
    for step in path.replace("[", ".[").split("."):
        if step == "all" and isinstance(data, list):
            continue
        if isinstance(data, Mapping):
            data = data.get(step)
        elif isinstance(data, list) and step.startswith("["):
            data = data[int(step[1:-1])]
        kept.append(step)
    return ".".join(kept).replace(".[", "[")
