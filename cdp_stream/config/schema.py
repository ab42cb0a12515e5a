"""JSON Schema and documentation of the topology, generated from the models."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from cdp_stream.config.topology import (
    Audience,
    BlockedValue,
    Destination,
    Identifier,
    Identity,
    Source,
    Topology,
    Trait,
)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of `topology.yaml`."""
    schema = Topology.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "cdp-stream topology"
    return schema


def topology_markdown() -> str:
    """Every key as documentation (docs/topology.md)."""
    parts: tuple[tuple[str, type[BaseModel]], ...] = (
        ("Top level", Topology),
        ("`sources[]`", Source),
        ("`identity`", Identity),
        ("`identity.identifiers[]`", Identifier),
        ("`blocked_values[]`", BlockedValue),
        ("`traits[]`", Trait),
        ("`audiences[]`", Audience),
        ("`destinations[]`", Destination),
    )
    lines = [
        "# Topology",
        "",
        "Every key of `topologies/<name>/topology.yaml`. Generated from the models by `make docs`; do not edit.",
        "",
    ]
    for title, model in parts:
        lines += [f"## {title}", "", "| key | default | meaning |", "|---|---|---|"]
        for name, field in model.model_fields.items():
            plain = isinstance(field.default, str | int | bool) or field.default is None
            default = "required" if field.is_required() else (f"`{field.default}`" if plain else "see below")
            if field.default == ():
                default = "empty"
            lines.append(f"| `{name}` | {default} | {field.description} |")
        lines.append("")
    return "\n".join(lines)
