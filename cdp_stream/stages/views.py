"""A profile as people and programs see it: what the graph knows and what the profile stage knows, in one dict."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cdp_stream.model.graph import GraphProfile
from cdp_stream.model.ids import ProfileId
from cdp_stream.model.profile import ProfileState
from cdp_stream.model.time import format_instant


def profile_view(
    graph: GraphProfile, state: ProfileState | None, message_ids: Iterable[str], links: Iterable[ProfileId]
) -> dict[str, Any]:
    """The public form of a profile; `state` is None while the profile stage has not heard of it yet."""
    traits: dict[str, Any] = {}
    audiences: list[str] = []
    if state is not None:
        traits = {key: trait.value for key, trait in state.custom.items() if trait.value is not None}
        traits.update({key: value for key, value in state.computed.items() if value is not None})
        audiences = sorted(key for key, member in state.memberships.items() if member)
    return {
        "id": graph.id,
        "collection": graph.collection,
        "created": format_instant(graph.created),
        "external_ids": [
            {"type": mapping.type, "id": mapping.value, "first_seen": format_instant(mapping.mapped_at)}
            for mapping in graph.mappings
        ],
        "traits": dict(sorted(traits.items())),
        "audiences": audiences,
        "absorbed": list(graph.absorbed),
        "message_ids": list(message_ids),
        "links": list(links),
    }
