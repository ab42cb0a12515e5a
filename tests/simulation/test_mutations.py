"""Faults that are put into the code on purpose are caught, each by the invariant that is named for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from mutations import MUTATIONS, Mutation

from cdp_stream.stages.native import NATIVE
from cdp_stream.testing.simulation.run import simulate

SEARCHED = 200


@pytest.mark.timeout(900)
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_fault_in_the_code_is_caught(mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    if mutation.of_core and NATIVE is None:
        pytest.skip("the core was not built: no Rust")
    for seed in (mutation.seed, *range(SEARCHED)):
        with monkeypatch.context() as patch:
            mutation.put_in(patch)
            found = {violation.invariant for violation in simulate(mutation.plan(seed)).violations}
        if mutation.invariant in found:
            assert [] == simulate(mutation.plan(seed)).violations, "caught, but it fails without the fault as well"
            return
    pytest.fail(f"no seed below {SEARCHED} catches it")


def test_the_page_lists_every_fault() -> None:
    page = Path("docs/invariants.md").read_text()
    table = page[page.index("| fault |") :].splitlines()[2:]
    expected = [f"| {one.name} | {one.says} | {one.seed} | {one.invariant} |" for one in MUTATIONS]
    assert expected == [row for row in table if row.startswith("| ")]
