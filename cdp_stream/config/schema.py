"""What the user may write in a file: its JSON Schema and its page in the docs, both made from the models."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_jsonable_python

from cdp_stream.config.destination import Destination, SyncedId
from cdp_stream.config.fields import format_duration
from cdp_stream.config.form import Form
from cdp_stream.config.topology import (
    SUGGESTED_BLOCKED_VALUES,
    Audience,
    BlockedValue,
    Identifier,
    Identity,
    Retain,
    Source,
    Topology,
    Trait,
)


@dataclass(frozen=True, slots=True)
class Page:
    """A kind of file: what stands at the top of its page in the docs, and the models of its parts."""

    title: str
    introduction: str
    sections: tuple[tuple[str, type[BaseModel]], ...]
    """Headings and models; the first is that of the file."""

    def json_schema(self) -> dict[str, Any]:
        """Give the JSON Schema of the file, as plain JSON values."""
        schema = self.sections[0][1].model_json_schema(mode="validation")
        return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": self.title}

    def json_schema_text(self) -> str:
        """Give the JSON Schema as it stands beside the topologies."""
        return json.dumps(self.json_schema(), indent=2, ensure_ascii=False, sort_keys=True) + "\n"

    def markdown(self) -> str:
        """Give the page in the docs: every key with its type, default, meaning and an example."""
        definitions = self.json_schema()["$defs"]
        return "\n".join([self.introduction, *(_section(*section, definitions) for section in self.sections)])


TOPOLOGY_PAGE: Final = Page(
    "cdp-stream topology",
    """\
# Topology

A topology is a folder with a `topology.yaml`: the whole declared setup of a space. `cdp-stream validate` checks it.
This page is made from the models by `cdp-stream schema --docs docs/topology.md`.

- Durations are a number and a unit: `30d`, `12h`, `15m`, `10s`.
- `${NAME}` and `${NAME:-default}` in a text are filled from the environment. A variable that is not set and has no
  default is an error; an empty one takes the default. Values filled in are never shown.
- Unknown keys are errors, and so are keys given twice.
""",
    (
        ("The file", Topology),
        ("`sources[]`", Source),
        ("`identity`", Identity),
        ("`identity.identifiers[]`", Identifier),
        ("`blocked_values[]`", BlockedValue),
        ("`traits[]`", Trait),
        ("`audiences[]`", Audience),
        ("`where`: definitions in YAML", Form),
        ("`retain`", Retain),
        ("`destinations[]`", Destination),
        ("`destinations[].id_sync[]`", SyncedId),
    ),
)


def _section(title: str, model: type[BaseModel], definitions: dict[str, Any]) -> str:
    schema = model.model_json_schema(mode="validation")
    properties = schema.get("properties") or definitions[model.__name__]["properties"]
    lines = [
        f"## {title}",
        "",
        *([model.__doc__, ""] if model.__doc__ else []),
        "| key | type | default | meaning | example |",
        "|---|---|---|---|---|",
    ]
    for name, field in model.model_fields.items():
        key = field.alias or name
        cells = (
            f"`{key}`",
            _type(properties[key], definitions),
            _default(field),
            field.description or "",
            f"`{_json((field.examples or [''])[0])}`",
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, ""])


def _type(schema: dict[str, Any], definitions: dict[str, Any]) -> str:
    if "$ref" in schema:
        return "mapping" if schema["$ref"].split("/")[-1] in definitions else "value"
    if "anyOf" in schema or "oneOf" in schema:
        choices = schema.get("anyOf") or schema["oneOf"]
        kinds = [_type(choice, definitions) for choice in choices if choice.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "enum" in schema:
        return " or ".join(f"`{_plain(value)}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{_plain(schema['const'])}`"
    if schema.get("type") == "array":
        items = _type(schema["items"], definitions)
        return f"list of {items}" if items.startswith("`") else f"list of {items}s"
    names = {
        "string": "text",
        "integer": "number",
        "number": "number",
        "boolean": "`true` or `false`",
        "object": "mapping",
    }
    return names.get(schema.get("type", ""), "any value")


def _default(field: FieldInfo) -> str:
    default = field.default
    if field.is_required():
        text = "required"
    elif default is PydanticUndefined:
        text = "all defaults" if field.annotation in (Identity, Retain) else "see meaning"
    elif default is None or default in ((), {}):
        text = "none"
    elif isinstance(default, BaseModel):
        text = "see meaning"
    elif default is SUGGESTED_BLOCKED_VALUES:
        text = "`suggested`"
    elif isinstance(default, tuple) and isinstance(default[0], Identifier):
        text = ", ".join(f"`{identifier.type}`" for identifier in default)
    elif field in (Identity.model_fields["dedupe_horizon"], Retain.model_fields["duration"]):
        text = f"`{format_duration(default)}`"
    else:
        text = f"`{_plain(default)}`"
    return text


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else _json(value)


def _json(value: Any) -> str:
    return json.dumps(to_jsonable_python(value), ensure_ascii=False)
