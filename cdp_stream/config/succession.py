"""What a topology version may not change of the one in force: what is fixed for the life of a space."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cdp_stream.config.topology import Topology
from cdp_stream.errors import Problem


def succession_problems(now: Topology, proposed: Topology, retired: Sequence[str] = ()) -> list[Problem]:
    """Why a topology cannot follow the one in force; empty if it can. `retired`: keys that were removed earlier."""
    return [
        *_shape(now, proposed),
        *_kinds_of_destinations(now, proposed),
        *_keys_used_again(now, proposed, retired),
        *_anonymous_let_in(now, proposed),
    ]


def computed_keys(topology: Topology) -> dict[str, str]:
    """Keys of what is computed, and whether each is a trait's or an audience's."""
    return {
        **{trait.key: "a trait" for trait in topology.traits},
        **{audience.key: "an audience" for audience in topology.audiences},
    }


def _shape(now: Topology, proposed: Topology) -> Iterable[Problem]:
    for name in ("space", "partitions"):
        was, wanted = getattr(now, name), getattr(proposed, name)
        if was != wanted:
            yield Problem(
                name,
                f"is {was} for the life of the space and cannot become {wanted}",
                "set it back, or begin a new space",
            )


def _kinds_of_destinations(now: Topology, proposed: Topology) -> Iterable[Problem]:
    kinds = {destination.name: destination.kind for destination in now.destinations}
    for place, destination in enumerate(proposed.destinations):
        was = kinds.get(destination.name, destination.kind)
        if was != destination.kind:
            message = f"the destination {destination.name} is of the kind {was}"
            yield Problem(f"destinations[{place}].kind", message, "give the new one another name")


def _keys_used_again(now: Topology, proposed: Topology, retired: Sequence[str]) -> Iterable[Problem]:
    """A key means one thing for the life of a space ("using-engage-data")."""
    was = computed_keys(now)
    for section, what in (("traits", "a trait"), ("audiences", "an audience")):
        for place, declared in enumerate(getattr(proposed, section)):
            key, path = declared.key, f"{section}[{place}].key"
            if key in retired:
                yield Problem(
                    path, f"the key '{key}' was removed earlier and is never used again", "choose another key"
                )
            elif was.get(key, what) != what:
                message = f"the key '{key}' is that of {was[key]} and is never used for anything else"
                yield Problem(path, message, "choose another key")


def _anonymous_let_in(now: Topology, proposed: Topology) -> Iterable[Problem]:
    """An edit cannot let anonymous profiles into an audience, only keep them out ("engage/audiences")."""
    closed = {audience.key for audience in now.audiences if not audience.include_anonymous}
    for place, audience in enumerate(proposed.audiences):
        if audience.include_anonymous and audience.key in closed:
            yield Problem(
                f"audiences[{place}].include_anonymous",
                f"the audience '{audience.key}' was declared without anonymous profiles, and cannot be opened to them",
                "set it back to false, and declare another audience, with a key of its own, for both",
            )
