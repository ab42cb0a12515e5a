"""What is generated from the topology's models is as the models are, and the examples follow it."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from cdp_stream.config.cases_page import TESTS_PAGE
from cdp_stream.config.load import load_topology
from cdp_stream.config.schema import TOPOLOGY_PAGE, Page

ROOT = Path(__file__).parents[2]
TOPOLOGIES = sorted(path.parent for path in ROOT.glob("topologies/*/topology.yaml"))
TESTS = sorted(ROOT.glob("topologies/*/tests/*.yaml"))
PAGES = {"topology": TOPOLOGY_PAGE, "tests": TESTS_PAGE}
DOCS = {"topology": "docs/topology.md", "tests": "docs/config-tests.md"}


@pytest.mark.parametrize("what", PAGES)
def test_the_json_schema_is_fresh(what: str) -> None:
    fresh = (ROOT / f"topologies/{what}.schema.json").read_text("utf-8")
    assert PAGES[what].json_schema_text() == fresh, "run: make schema"


@pytest.mark.parametrize("what", PAGES)
def test_the_page_of_all_keys_is_fresh(what: str) -> None:
    assert PAGES[what].markdown() == (ROOT / DOCS[what]).read_text("utf-8"), "run: make schema"


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_every_key_has_a_description_and_examples_that_are_valid(page: Page) -> None:
    for _, model in page.sections:
        for name, field in model.model_fields.items():
            assert field.description, name
            assert field.examples, name
            for example in field.examples:
                assert [] == complaints(model, field.alias or name, example)


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


@pytest.mark.parametrize("file", TESTS, ids=lambda file: f"{file.parent.parent.name}/{file.name}")
def test_every_file_of_tests_names_the_schema_first(file: Path) -> None:
    first = file.read_text("utf-8").splitlines()[0]
    assert "# yaml-language-server: $schema=../../tests.schema.json" == first
