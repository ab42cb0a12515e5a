"""`fmt` writes definitions canonically, and leaves everything else in a file as it is."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "language"))
from definitions import definitions

from cdp_stream.cli.main import main
from cdp_stream.config.rewrite import rewrite_definitions
from cdp_stream.language.nodes import Definition
from cdp_stream.language.parse import parse_definition
from cdp_stream.language.printer import format_definition

ROOT = Path(__file__).parents[3]
BEFORE = """\
# yaml-language-server: $schema=../topology.schema.json
space:   shop   # as it is
sources: [{name: web,  topic: web}]

traits:
  - key: orders   # how many
    definition: event("Order").count( )   # counted
    name: 'Orders'
  - {key: spend, definition: 'event("Order").sum("total")', name: "Spend"} # in braces
  - key: variable
    definition: "event('Order').where(property('total')>=${MIN}).count()"
  - key: folded
    definition: >-   # a comment at the header
      event('Order')
        .count()

    # a comment below
    name: Folded
  - key: fine
    definition: event('Order').count()

audiences:
  - key: long
    definition: event('A').count() >= 1 and event('Some quite long name').where(property('the.property') = 'a  b AND c').count() >= 1
  - key: in_yaml
    where: {event:  Order, at_least: 1}   # left alone
"""
AFTER = """\
# yaml-language-server: $schema=../topology.schema.json
space:   shop   # as it is
sources: [{name: web,  topic: web}]

traits:
  - key: orders   # how many
    definition: "event('Order').count()"   # counted
    name: 'Orders'
  - {key: spend, definition: "event('Order').sum(property('total'))", name: "Spend"} # in braces
  - key: variable
    definition: "event('Order').where(property('total')>=${MIN}).count()"
  - key: folded
    definition: "event('Order').count()" # a comment at the header

    # a comment below
    name: Folded
  - key: fine
    definition: event('Order').count()

audiences:
  - key: long
    definition: >-
      event('A').count() >= 1
      AND event('Some quite long name').where(property('the.property') = 'a  b AND c').count() >= 1
  - key: in_yaml
    where: {event:  Order, at_least: 1}   # left alone
"""


def run(*arguments: str, monkeypatch: pytest.MonkeyPatch, stdin: str = "") -> int:
    monkeypatch.setattr(sys, "argv", ["cdp-stream", "fmt", *arguments])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
    try:
        main()
    except SystemExit as leave:
        return int(leave.code or 0)
    return 0


def spell(path: str, text: str) -> str:
    definition = parse_definition(text, path)
    assert isinstance(definition, Definition), definition
    return format_definition(definition)


def test_a_file_is_written_anew_in_its_definitions_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "topology.yaml"
    file.write_text(BEFORE, "utf-8")
    assert run(str(tmp_path), "--check", monkeypatch=monkeypatch) == 1
    assert capsys.readouterr().out == f"would change {file}\n"
    assert file.read_text("utf-8") == BEFORE
    assert run(str(tmp_path), monkeypatch=monkeypatch) == 0
    assert capsys.readouterr().out == f"changed {file}\n"
    assert file.read_text("utf-8") == AFTER
    assert run(str(file), "--check", monkeypatch=monkeypatch) == 0
    assert capsys.readouterr().out == ""


def test_a_definition_that_is_wrong_leaves_its_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in (("a", BEFORE.replace("count( )", "cuont()")), ("b", BEFORE)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "topology.yaml").write_text(text, "utf-8")
    assert run(str(tmp_path), monkeypatch=monkeypatch) == 3
    said = capsys.readouterr()
    assert "traits[0].definition: line 1, column 16: unknown name 'cuont'; did you mean count()?" in said.err
    assert said.out == f"changed {tmp_path / 'b' / 'topology.yaml'}\n"
    assert "cuont()" in (tmp_path / "a" / "topology.yaml").read_text("utf-8")


@pytest.mark.parametrize(
    ("given_text", "to", "printed"),
    [
        ("event('X').count()>=2 and not (trait('a'))\n", "text", "event('X').count() >= 2 AND NOT trait('a')\n"),
        ("event('X').count()>=2", "yaml", "event: X\nat_least: 2\n"),
        ("{event: X, at_least: 2}", "text", "event('X').count() >= 2\n"),
    ],
)
def test_one_definition_comes_by_standard_input(
    given_text: str, to: str, printed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--stdin", "--to", to, monkeypatch=monkeypatch, stdin=given_text) == 0
    assert capsys.readouterr().out == printed


@pytest.mark.parametrize("text", ["event('X'", "{event: X, at_leat: 1}", "{trait: a, within: 1d}"])
def test_a_wrong_definition_on_standard_input_is_said_so(
    text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--stdin", monkeypatch=monkeypatch, stdin=text) == 3
    assert capsys.readouterr().err.startswith("standard input: ")


def test_files_or_standard_input(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert run(monkeypatch=monkeypatch) == 2
    assert run(str(tmp_path), monkeypatch=monkeypatch) == 2


@pytest.mark.parametrize("folder", sorted(ROOT.glob("topologies/*/topology.yaml")), ids=lambda file: file.parent.name)
def test_the_examples_are_formatted(folder: Path) -> None:
    text = folder.read_text("utf-8")
    assert text == rewrite_definitions(text, spell)


styles = st.sampled_from(["'", '"', ">", "|", None])


@given(st.lists(st.tuples(definitions, styles, st.booleans()), min_size=1, max_size=3))
def test_whatever_a_file_holds_only_the_spelling_of_definitions_changes(listed: list[Any]) -> None:
    entries = []
    for definition, style, in_flow in listed:
        text = format_definition(definition).replace("${", "$")
        entry = yaml.dump(
            {"key": "k", "definition": text}, default_style=style, default_flow_style=in_flow, allow_unicode=True
        )
        entries.append("  - " + entry.replace("\n", "\n    ").rstrip(" "))
    before = "# first\ntraits:\n" + "".join(entries) + "audiences: []  # last\n"
    data = yaml.safe_load(before)
    after = rewrite_definitions(before, spell)
    expected = [spell("", entry["definition"]) for entry in data["traits"]]
    assert [spell("", entry["definition"]) for entry in yaml.safe_load(after)["traits"]] == expected
    assert after.startswith("# first\n")
    assert after.endswith("audiences: []  # last\n")
    assert rewrite_definitions(after, spell) == after
    assert json.dumps(expected)
