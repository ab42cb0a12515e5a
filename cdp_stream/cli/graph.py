"""A profile's part of the identity graph, drawn and exported with networkx."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any, Final

import networkx as nx
import orjson

from cdp_stream.errors import UsageError

_SIZE: Final = 900
_MARGIN: Final = 110
_COLOURS: Final = {"profile": "#2563eb", "external id": "#059669", "absorbed": "#9ca3af", "link": "#d97706"}


def profile_graph(found: dict[str, Any]) -> nx.Graph:
    """The profile, its external ids, the profiles it absorbed and those it is linked with, as a graph."""
    graph = nx.Graph()
    center = found["id"]
    graph.add_node(center, kind="profile", label=center)
    for known in found["external_ids"]:
        name = f"{known['type']}:{known['id']}"
        graph.add_node(name, kind="external id", label=name)
        graph.add_edge(center, name, kind="mapped", since=known["first_seen"])
    for kind, relation in (("absorbed", "absorbed"), ("links", "linked")):
        for other in found[kind]:
            graph.add_node(other, kind="absorbed" if kind == "absorbed" else "link", label=other)
            graph.add_edge(center, other, kind=relation, since="")
    return graph


def write_graph(found: dict[str, Any], path: Path) -> None:
    """Write the graph in the format of the file's ending. Raises UsageError for another one."""
    graph = profile_graph(found)
    match path.suffix:
        case ".svg":
            path.write_text(_svg(graph), encoding="utf-8")
        case ".graphml":
            nx.write_graphml(graph, path)
        case ".json":
            path.write_bytes(orjson.dumps(nx.node_link_data(graph, edges="edges"), option=orjson.OPT_INDENT_2))
        case _:
            raise UsageError(f"{path}: the ending decides the format; use .svg, .graphml or .json")


def _svg(graph: nx.Graph) -> str:
    """A radial drawing: the profile in the middle, what belongs to it around it."""
    places = nx.shell_layout(
        graph,
        [
            [node for node, data in graph.nodes(data=True) if data["kind"] == "profile"],
            [node for node, data in graph.nodes(data=True) if data["kind"] != "profile"],
        ],
    )
    half = _SIZE / 2
    spot = {node: (half + x * (half - _MARGIN), half + y * (half - _MARGIN)) for node, (x, y) in places.items()}
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_SIZE} {_SIZE}" font-family="sans-serif" font-size="12">',
        f'<rect width="{_SIZE}" height="{_SIZE}" fill="white"/>',
    ]
    for one, other, data in graph.edges(data=True):
        (x1, y1), (x2, y2) = spot[one], spot[other]
        title = f"{data['kind']} {data['since']}".strip()
        lines.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#cbd5e1" stroke-width="2">'
            f"<title>{escape(title)}</title></line>"
        )
    for node, data in graph.nodes(data=True):
        x, y = spot[node]
        lines.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="9" fill="{_COLOURS[data["kind"]]}"/>')
        lines.append(f'<text x="{x:.1f}" y="{y - 14:.1f}" text-anchor="middle">{escape(data["label"])}</text>')
    return "\n".join([*lines, "</svg>", ""])
