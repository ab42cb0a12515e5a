"""`cdp-stream validate` and `cdp-stream schema`, through the program's own entry point."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from cdp_stream.cli.main import main
from cdp_stream.config.schema import TOPOLOGY_PAGE

SMALL = "space: shop\nsources: [{name: web, topic: shop.events}]\n"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["cdp-stream", *arguments])
    try:
        main()
    except SystemExit as leave:
        return int(leave.code or 0)
    return 0


def written(folder: Path, text: str) -> str:
    (folder / "topology.yaml").write_text(text)
    return str(folder)


def test_a_valid_topology_is_one_line_and_exit_code_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "validate", written(tmp_path, SMALL)) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.partition(", version ")[0] for line in said] == [f"{tmp_path / 'topology.yaml'}: valid"]
    assert said[0].endswith(": 1 sources, 0 traits, 0 audiences, 0 destinations")


def test_each_problem_is_a_line_and_the_exit_code_is_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "validate", written(tmp_path, SMALL + "adiences: []\npartitions: 0\n")) == 3
    file = tmp_path / "topology.yaml"
    assert capsys.readouterr().out.splitlines() == [
        f"{file}: adiences: unknown key 'adiences'; did you mean 'audiences'?",
        f"{file}: partitions: 0 should be greater than or equal to 1",
    ]


def test_a_definition_that_does_not_parse_is_a_problem_of_the_topology(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = SMALL + "audiences: [{key: a, definition: 'trait('}]\n"
    assert run(monkeypatch, "validate", written(tmp_path, text)) == 3
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'topology.yaml'}: audiences[0].definition: ")


@pytest.mark.parametrize(("text", "code", "valid"), [(SMALL, 0, True), ("space: X\n", 3, False)])
def test_a_program_may_read_the_verdict_as_json(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    text: str,
    code: int,
    valid: bool,
) -> None:
    assert run(monkeypatch, "validate", "--json", written(tmp_path, text)) == code
    assert json.loads(capsys.readouterr().out)["valid"] == valid


def test_the_schema_is_printed_or_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "schema") == 0
    assert json.loads(capsys.readouterr().out) == TOPOLOGY_PAGE.json_schema()
    out, docs = tmp_path / "schema.json", tmp_path / "topology.md"
    assert run(monkeypatch, "schema", "--out", str(out), "--docs", str(docs)) == 0
    assert (json.loads(out.read_text("utf-8")), docs.read_text("utf-8")) == (
        TOPOLOGY_PAGE.json_schema(),
        TOPOLOGY_PAGE.markdown(),
    )
    assert capsys.readouterr().out == ""
