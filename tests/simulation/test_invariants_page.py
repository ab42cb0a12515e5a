"""docs/invariants.md lists the invariants as they are in the code."""

from __future__ import annotations

from pathlib import Path

from cdp_stream.testing.simulation.invariants import INVARIANTS


def test_the_page_lists_every_invariant() -> None:
    rows = [line for line in Path("docs/invariants.md").read_text().splitlines() if line.startswith("| ")]
    expected = [f"| {number} | {where} | {text} |" for number, (where, text) in INVARIANTS.items()]
    assert expected == [row for row in rows if row.split(" ")[1].isdigit()]
