"""What is generated from the topology's models is as the models are, and the examples follow it."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from cdp_stream.config.load import load_topology
from cdp_stream.config.schema import SECTIONS, json_schema_text, topology_markdown

ROOT = Path(__file__).parents[2]
TOPOLOGIES = sorted(path.parent for path in ROOT.glob("topologies/*/topology.yaml"))
SCHEMA = ROOT / "topologies/topology.schema.json"
DOCS = ROOT / "docs/topology.md"


def test_the_json_schema_is_fresh() -> None:
    assert json_schema_text() == SCHEMA.read_text("utf-8"), (
        "run: cdp-stream schema --out topologies/topology.schema.json"
    )


def test_the_page_of_all_keys_is_fresh() -> None:
    assert topology_markdown() == DOCS.read_text("utf-8"), "run: cdp-stream schema --docs docs/topology.md"


@pytest.mark.parametrize("model", [model for _, model in SECTIONS], ids=lambda model: model.__name__)
def test_every_key_has_a_description_and_examples_that_are_valid(model: type[BaseModel]) -> None:
    for name, field in model.model_fields.items():
        assert field.description, name
        assert field.examples, name
        for example in field.examples:
            assert [] == complaints(model, name, example)


def complaints(model: type[BaseModel], name: str, example: object) -> list[str]:
    """What the model says of one key alone, whatever else may be missing."""
    try:
        model.model_validate({name: example})
    except ValidationError as error:
        return [found["msg"] for found in error.errors() if found["loc"][:1] == (name,)]
    return []


@pytest.mark.parametrize("folder", TOPOLOGIES, ids=lambda folder: folder.name)
def test_every_topology_names_the_schema_first_and_loads(folder: Path) -> None:
    first = (folder / "topology.yaml").read_text("utf-8").splitlines()[0]
    assert "# yaml-language-server: $schema=../topology.schema.json" == first
    assert load_topology(folder, {}).sources
