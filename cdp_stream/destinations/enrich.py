"""Step 5b: chosen traits of the profile ride along ("trait-activation/trait-enrichment")."""

from __future__ import annotations

from typing import Any, Literal

from cdp_stream.config.destination import Destination
from cdp_stream.config.topology import Topology
from cdp_stream.model.profile import ProfileState

Enrichment = tuple[tuple[str, Literal["audience", "computed", "custom"]], ...]
"""Trait keys, each with the class that it is read of."""


def compile_enrichment(destination: Destination, topology: Topology) -> Enrichment:
    """Which class each chosen key is read of: as in definitions, a declared one beats a custom trait of that key."""
    computed = {trait.key for trait in topology.traits}
    audiences = {audience.key for audience in topology.audiences}
    return tuple(
        (key, "computed" if key in computed else "audience" if key in audiences else "custom")
        for key in destination.enrich
    )


def enrichment_of(profile: ProfileState, enrichment: Enrichment) -> dict[str, Any]:
    """The chosen traits' present values, in the order of choice. A trait without a value is left out."""
    values: dict[str, Any] = {}
    for key, trait_class in enrichment:
        value: Any
        if trait_class == "computed":
            value = profile.computed.get(key)
        elif trait_class == "audience":
            value = profile.memberships.get(key, False)
        else:
            custom = profile.custom.get(key)
            value = None if custom is None else custom.value
        if value is not None:
            values[key] = value
    return values
