"""Step 5a: the external ids of a profile become identifier combinations, one outgoing message each."""

from __future__ import annotations

from itertools import product
from typing import Final

from cdp_stream.config.topology import Destination
from cdp_stream.model.profile import Combination, ProfileState

MOBILE_TYPES: Final = ("android.idfa", "ios.idfa")
"""Advertising ids, the only device identifiers that destinations can match on."""


def combinations(profile: ProfileState, destination: Destination, include_anonymous: bool) -> tuple[Combination, ...]:
    """Whom the destination is told about: each combination once, in the order of the profile's external ids.

    `product`: one for every choice of a user id, an email and (with `send_mobile_ids`) an advertising id; a kind of
    which the profile has none is left out. `per_identifier`: one for each of these ids. With `include_anonymous`, one
    more for each anonymous id, alone. Other identifier types are not sent. The documentation contradicts itself
    ("using-engage-data": one call per identifier, one event per email; "faqs": all user ids); `product` is the reading
    in which every pair of ids is heard of together.
    """
    user_ids = _of_types(profile, ("user_id",))
    emails = _of_types(profile, ("email",))
    mobiles = _of_types(profile, MOBILE_TYPES) if destination.send_mobile_ids else ()
    found: list[Combination]
    if destination.combine == "product":
        present = [kind for kind in (user_ids, emails, mobiles) if kind]
        found = list(product(*present)) if present else []
    else:
        found = [(pair,) for kind in (user_ids, emails, mobiles) for pair in kind]
    if include_anonymous:
        found.extend((pair,) for pair in _of_types(profile, ("anonymous_id",)))
    return tuple(found)


def _of_types(profile: ProfileState, types: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    # A dict keeps the order and drops an id that a merge brought in twice.
    return tuple(dict.fromkeys((known.type, known.id) for known in profile.external_ids if known.type in types))
