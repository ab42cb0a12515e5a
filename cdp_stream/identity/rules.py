"""Step 2a: the identity rules of a topology, compiled: ranks, limits, periods, blocked values, locations."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import re2
from msgspec import Struct

from cdp_stream.model.ids import ExternalId
from cdp_stream.model.time import DAY_MS, Duration

BUILT_IN_TYPES: Final = (
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
"""Types after user_id and email, in alphabetical order."""
_PERIOD_MS: Final[dict[str, Duration | None]] = {
    "ever": None,
    "annually": 365 * DAY_MS,
    "monthly": 30 * DAY_MS,
    "weekly": 7 * DAY_MS,
    "daily": DAY_MS,
}
_SUGGESTED: Final = (("pattern", "^[0-]*$"), ("exact", "-1"), ("exact", "null"), ("exact", "anonymous"))
LIMIT_DEFAULT: Final = 5


class Limit(Struct, frozen=True):
    """How many values of a type a profile may hold, and in which sliding period (None: ever)."""

    count: int
    period: Duration | None


class CustomType(Struct, frozen=True):
    """A declared custom identifier type and the trait / property keys it is read from."""

    type: str
    keys: tuple[str, ...]


class Blocked(Struct, frozen=True):
    """Values that are never promoted: exact ones, and patterns matched anywhere in the value."""

    exact: frozenset[str]
    patterns: tuple[Any, ...]

    def matches(self, value: str) -> bool:
        """Is the value blocked?"""
        return value in self.exact or any(pattern.search(value) for pattern in self.patterns)


class IdentityRules(Struct, frozen=True):
    """Everything resolution needs to know of the topology."""

    space: str
    explicit: tuple[str, ...]
    disabled: frozenset[str]
    limits: dict[str, Limit]
    blocked: Blocked
    blocked_of: dict[str, Blocked]
    custom: tuple[CustomType, ...]
    minimal: bool
    merges_max: int
    mappings_max: int
    email_from_properties: bool

    def limit(self, type_: str) -> Limit:
        """The limit of a type; types that are not declared have the default."""
        return self.limits.get(type_) or _DEFAULT_LIMIT

    def is_blocked(self, external_id: ExternalId) -> bool:
        """Is the value blocked for all types, or for its own?"""
        if self.blocked.matches(external_id.value):
            return True
        own = self.blocked_of.get(external_id.type)
        return own is not None and own.matches(external_id.value)

    def ranks(self, registered: tuple[str, ...]) -> dict[str, int]:
        """Rank by type, 1 the most trusted: declared types in their order, then the rest alphabetically."""
        return _ranks(self.explicit, self.disabled, registered)


_DEFAULT_LIMIT: Final = Limit(LIMIT_DEFAULT, None)


@lru_cache(maxsize=256)
def _ranks(explicit: tuple[str, ...], disabled: frozenset[str], registered: tuple[str, ...]) -> dict[str, int]:
    head = explicit
    if not explicit:
        head = tuple(type_ for type_ in ("user_id", "email") if type_ not in disabled)
    rest = sorted({"user_id", "email", *BUILT_IN_TYPES, *registered} - set(head) - disabled)
    return {type_: rank for rank, type_ in enumerate((*head, *rest), 1)}


def compile_rules(space: str, identity: Any) -> IdentityRules:
    """The rules of a topology's `identity` section."""
    enabled = [identifier for identifier in identity.identifiers if identifier.enabled]
    limits = {"user_id": Limit(1, None)}
    custom = []
    for identifier in enabled:
        default = 1 if identifier.type == "user_id" else LIMIT_DEFAULT
        count = identifier.limit if identifier.limit is not None else default
        limits[identifier.type] = Limit(count, _PERIOD_MS[identifier.period])
        if identifier.type not in ("user_id", "email", *BUILT_IN_TYPES):
            custom.append(CustomType(identifier.type, tuple(identifier.keys) or _casings(identifier.type)))
    return IdentityRules(
        space=space,
        explicit=tuple(identifier.type for identifier in enabled),
        disabled=frozenset(identifier.type for identifier in identity.identifiers if not identifier.enabled),
        limits=limits,
        blocked=_blocked(identity.blocked_values),
        blocked_of={i.type: _blocked(i.blocked_values) for i in enabled if i.blocked_values},
        custom=tuple(custom),
        minimal=identity.demotion == "minimal",
        merges_max=identity.merges_max,
        mappings_max=identity.mappings_max,
        email_from_properties=identity.email_from_properties,
    )


def _casings(type_: str) -> tuple[str, ...]:
    """`app_id` and `appId`."""
    first, *rest = type_.split("_")
    camel = first + "".join(part[:1].upper() + part[1:] for part in rest)
    return (type_,) if camel == type_ else (type_, camel)


def _blocked(values: Any) -> Blocked:
    if values == "none":
        return Blocked(frozenset(), ())
    pairs = (
        _SUGGESTED
        if values == "suggested"
        else [("exact", value.exact) if value.exact is not None else ("pattern", value.pattern) for value in values]
    )
    return Blocked(
        frozenset(value for kind, value in pairs if kind == "exact"),
        tuple(re2.compile(value) for kind, value in pairs if kind == "pattern"),
    )
