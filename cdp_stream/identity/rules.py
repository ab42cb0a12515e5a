"""Step 2a: the identity rules of a topology, compiled: ranks, limits, periods, blocked values, keys to look under."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import re2
from msgspec import Struct

from cdp_stream.config.fields import BUILT_IN_IDENTIFIER_TYPES
from cdp_stream.config.topology import BlockedValue, Identity
from cdp_stream.model.ids import ExternalId
from cdp_stream.model.time import DAY_MS, Duration

LIMIT_DEFAULT: Final = 5
_ZEROES_AND_DASHES: Final = "^[0-]*$"
_PERIOD_MS: Final[dict[str, Duration | None]] = {
    "ever": None,
    "annually": 365 * DAY_MS,
    "monthly": 30 * DAY_MS,
    "weekly": 7 * DAY_MS,
    "daily": DAY_MS,
}
_SNAKE: Final = re.compile(r"[a-z0-9]+(_[a-z0-9]+)+\Z")
_CAMEL: Final = re.compile(r"[a-z][a-z0-9]*([A-Z][a-z0-9]+)+\Z")

Keys = tuple[tuple[str, str], ...]
"""Keys of an object and the identifier type that each of them holds."""


class Limit(Struct, frozen=True):
    """How many values of a type a profile may hold, and in which sliding period (None: ever)."""

    count: int
    period: Duration | None


class Blocked(Struct, frozen=True):
    """Values that are never promoted: exact ones, and patterns found anywhere in the value."""

    exact: frozenset[str] = frozenset()
    zeroes_and_dashes: bool = False
    """The suggested pattern, which every space has: asked without the cost of a regular expression."""
    patterns: tuple[Any, ...] = ()
    """The other patterns, compiled one by one: a compiled set of them would miss a value when it runs out of memory."""

    def matches(self, value: str) -> bool:
        """Is the value blocked?"""
        if value in self.exact or (self.zeroes_and_dashes and not value.strip("0-")):
            return True
        return any(pattern.search(value) for pattern in self.patterns) if self.patterns else False


_DEFAULT_LIMIT: Final = Limit(LIMIT_DEFAULT, None)


class IdentityRules(Struct, frozen=True):
    """Everything resolution needs to know of the topology."""

    space: str
    explicit: tuple[str, ...]
    disabled: frozenset[str]
    limits: dict[str, Limit]
    blocked: Blocked
    """For types without blocked values of their own."""
    blocked_of: dict[str, Blocked]
    """By type: its own and everybody's."""
    trait_keys: Keys
    property_keys: Keys
    context_keys: Keys
    """Of `context.traits`, which may also hold the cross-domain id."""
    custom_keys: Keys
    """Of the topology's own types: what stands there no other room has looked at."""
    minimal: bool
    merges_max: int
    mappings_max: int

    def limit(self, type_: str) -> Limit:
        """The limit of a type; types that are not declared have the default."""
        return self.limits.get(type_, _DEFAULT_LIMIT)

    def is_blocked(self, external_id: ExternalId) -> bool:
        """Is the value blocked for all types, or for its own?"""
        return self.blocked_of.get(external_id[0], self.blocked).matches(external_id[1])

    def ranks(self, registered: tuple[str, ...]) -> dict[str, int]:
        """Rank by type, 1 the most trusted: declared types in their order, then the rest alphabetically.

        `registered`: types that `externalIds` brought in. Types that are switched off have no rank.
        """
        return _ranks(self.explicit, self.disabled, registered)


@lru_cache(maxsize=256)
def _ranks(explicit: tuple[str, ...], disabled: frozenset[str], registered: tuple[str, ...]) -> dict[str, int]:
    head = explicit or tuple(type_ for type_ in ("user_id", "email") if type_ not in disabled)
    rest = sorted({*BUILT_IN_IDENTIFIER_TYPES, *registered} - set(head) - disabled)
    return {type_: rank for rank, type_ in enumerate((*head, *rest), 1)}


def compile_rules(space: str, identity: Identity) -> IdentityRules:
    """The rules of a topology's `identity` section. What a rule means: public page "identity-resolution-settings"."""
    enabled = [identifier for identifier in identity.identifiers if identifier.enabled]
    own = [identifier for identifier in enabled if identifier.type not in BUILT_IN_IDENTIFIER_TYPES]
    custom = tuple(
        dict.fromkeys(
            (key, type_.type) for type_ in own for name in type_.keys or (type_.type,) for key in _cases(name)
        )
    )
    email = (("email", "email"),)
    cross_domain = (("crossDomainId", "cross_domain_id"), ("cross_domain_id", "cross_domain_id"))
    return IdentityRules(
        space=space,
        explicit=tuple(identifier.type for identifier in enabled),
        disabled=frozenset(identifier.type for identifier in identity.identifiers if not identifier.enabled),
        limits={"user_id": Limit(1, None)} | {i.type: Limit(i.limit, _PERIOD_MS[i.period]) for i in enabled},
        blocked=_blocked(identity.blocked_values),
        blocked_of={
            i.type: _blocked((*identity.blocked_values, *i.blocked_values)) for i in enabled if i.blocked_values
        },
        trait_keys=email + custom,
        property_keys=email + custom if identity.email_from_properties else custom,
        context_keys=email + custom + cross_domain,
        custom_keys=custom,
        minimal=identity.demotion == "minimal",
        merges_max=identity.merges_max,
        mappings_max=identity.mappings_max,
    )


def _cases(key: str) -> tuple[str, ...]:
    """`app_id` and `appId`, whichever of them is given; a key in neither case stands for itself."""
    if _SNAKE.match(key):
        first, *rest = key.split("_")
        return key, first + "".join(part[0].upper() + part[1:] for part in rest)
    if _CAMEL.match(key):
        return key, re.sub("[A-Z]", lambda letter: "_" + letter.group().lower(), key)
    return (key,)


def _blocked(values: Sequence[BlockedValue]) -> Blocked:
    patterns = [value.pattern for value in values if value.pattern is not None]
    others = [pattern for pattern in patterns if pattern != _ZEROES_AND_DASHES]
    return Blocked(
        exact=frozenset(value.exact for value in values if value.exact is not None),
        zeroes_and_dashes=len(others) < len(patterns),
        patterns=tuple(re2.compile(pattern) for pattern in others),
    )
