"""`cdp-stream test`, through the program's own entry point; the example of the docs is run, too."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from cdp_stream.cli.main import main

ROOT = Path(__file__).parents[3]
SHOP = """
space: shop
sources: [{name: web, topic: shop.events}]
traits: [{key: orders, definition: "event('Order Completed').count()"}]
audiences: [{key: buyers, definition: "trait('orders') >= 2", destinations: [crm]}]
destinations: [{name: crm, topic: shop.crm, send: [track]}]
"""
TESTS = """
tests:
  - name: One order is not enough
    given: [{type: track, event: Order Completed, userId: u1}]
    expect: {profiles: {user_id:u1: {audiences: []}}}
  - name: Three orders
    given: [{type: track, event: Order Completed, userId: u1}]
    expect: {users_count: 1}
    then:
      - given: [{at: +1h, type: track, event: Order Completed, userId: u1}]
        expect:
          profiles: {user_id:u1: {traits: {orders: 3}}, user_id:u2: {}}
          destinations: {crm: []}
"""


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["cdp-stream", "test", *arguments])
    try:
        main()
    except SystemExit as leave:
        return int(leave.code or 0)
    return 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tests").mkdir()
    (tmp_path / "topology.yaml").write_text(SHOP)
    (tmp_path / "tests" / "orders.yaml").write_text(TESTS)
    return tmp_path


def test_a_failing_test_shows_what_was_expected_beside_what_there_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, str(folder)) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[:-1] == [
        str(folder / "tests" / "orders.yaml"),
        "  ok    One order is not enough",
        "  FAIL  Three orders",
        "        tests[1].then[0], at 2026-01-01T01:00:00.000Z",
        "        expect.profiles.user_id:u1.traits.orders",
        "          - 3",
        "          + 2",
        "        expect.profiles.user_id:u2",
        "          - a profile",
        "          + none",
        "        expect.destinations.crm",
        '          + {"type":"track","event":"Audience Entered","userId":"u1","timestamp":"2026-01-01T01:00:00.000Z",'
        '"properties":{"audience_key":"buyers","buyers":true}}',
    ]
    assert said[-1].startswith("2 tests, 1 failed, ")


def test_a_program_may_read_the_outcome_as_json(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, str(folder), "--json", "--only", "THREE") == 1
    outcome = json.loads(capsys.readouterr().out)
    (test,) = outcome["tests"]
    assert (test["name"], test["holds"], test["step"]) == ("Three orders", False, "tests[1].then[0]")
    assert test["differences"][0] == {
        "path": "expect.profiles.user_id:u1.traits.orders",
        "expected": ["3"],
        "actual": ["2"],
    }


def test_every_test_holds_and_the_exit_code_is_0(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, str(folder), "--only", "not enough") == 0


def test_no_test_is_wrong_usage(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, str(folder), "--only", "nothing") == 2
    (folder / "tests" / "orders.yaml").unlink()
    assert run(monkeypatch, str(folder)) == 2
    assert "docs/config-tests.md" in capsys.readouterr().err


def test_the_problems_of_every_file_are_told_and_the_exit_code_is_3(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        (folder / "tests" / f"{name}.yaml").write_text("tests: [{name: t, gven: []}]")
    assert run(monkeypatch, str(folder)) == 3
    said = capsys.readouterr().err.splitlines()
    assert [
        f"{folder / 'tests' / name}.yaml: tests[0].gven: unknown key 'gven'; did you mean 'given'?" for name in "ab"
    ] == said


def test_an_invalid_topology_is_exit_code_3(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "topology.yaml").write_text(SHOP.replace("trait('orders') >= 2", "trait("))
    assert run(monkeypatch, str(folder)) == 3


def test_the_example_of_the_docs_holds_and_its_failure_looks_as_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs/config-tests.md").read_text("utf-8")
    found = re.search(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert found is not None
    example = tmp_path / "example.yaml"
    example.write_text(found.group(1))
    assert run(monkeypatch, str(ROOT / "topologies/ecommerce"), str(example)) == 0
    capsys.readouterr()
    example.write_text(found.group(1).replace("T12:00", "T13:00"))
    assert run(monkeypatch, str(ROOT / "topologies/ecommerce"), str(example)) == 1
    shown = re.search(r"```\n(  FAIL.*?)```", page, re.DOTALL)
    assert shown is not None
    assert shown.group(1).rstrip().splitlines() == capsys.readouterr().out.splitlines()[1:-1]
