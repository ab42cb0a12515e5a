"""A short form of the simulation; the long one is `cdp-stream simulate --seeds 1-1000`."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner

from cdp_stream.cli.simulate import simulate_command
from cdp_stream.testing.simulation import run
from cdp_stream.testing.simulation.plan import plan_of
from cdp_stream.testing.simulation.run import Simulation, simulate

EVENTS = 100


@pytest.mark.parametrize("seed", range(60))
def test_every_invariant_holds(seed: int) -> None:
    report = simulate(plan_of(seed, EVENTS))
    again = f"cdp-stream simulate --seed {seed} --events {EVENTS}"
    assert [] == [str(violation) for violation in report.violations], again


@pytest.mark.parametrize(
    ("seed", "once"),
    [
        (386, "a step was stored after another one whose send had failed"),
        (794, "the same, with a queue"),
        (839, "a profile that was absorbed while it waited was to be looked at under a new topology version"),
    ],
)
def test_what_once_failed_holds(seed: int, once: str) -> None:
    assert [] == simulate(plan_of(seed, 150)).violations, once


def test_the_same_seed_runs_the_same_way() -> None:
    assert simulate(plan_of(7, EVENTS)) == simulate(plan_of(7, EVENTS))


def test_nothing_of_a_run_is_left() -> None:
    """A thousand seeds run in one process; what the core holds must not keep a run's stores, tasks and records alive."""
    kept: list[weakref.ref[Simulation]] = []

    class Watched(Simulation):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            kept.append(weakref.ref(self))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "Simulation", Watched)
        for seed in range(1, 5):
            simulate(plan_of(seed, 30))
    gc.collect()
    assert [None] * 4 == [one() for one in kept]


def test_without_faults_nobody_dies() -> None:
    plan = plan_of(3, EVENTS, faults=False)
    # Another version may come by a rolling restart, or make the stages claim anew.
    plan = replace(plan, versions=plan.versions[:1])
    report = simulate(plan)
    assert ([], 1 + plan.partitions) == (report.violations, report.figures["lives"])


def test_the_seeds_reach_what_they_are_for() -> None:
    figures: dict[str, int] = {}
    for seed in range(30, 45):
        for name, count in simulate(plan_of(seed, EVENTS)).figures.items():
            figures[name] = figures.get(name, 0) + count
    for name in ("merged", "zombies", "rebalances", "lost disks", "frozen", "commits taken back", "void slices"):
        assert figures.get(name, 0) > 0, (name, figures)


def test_the_command_names_the_seed_and_how_to_repeat_it() -> None:
    result = CliRunner().invoke(simulate_command, ["--seeds", "3-4", "--events", "40", "--json"])
    assert (0, 2) == (result.exit_code, len(result.output.splitlines()))
    assert '"repeat":"cdp-stream simulate --seed 3 --events 40"' in result.output


@pytest.mark.parametrize("given", [["--seeds", "9-3"], ["--seeds", "all"], ["--seed", "1", "--seeds", "1-2"]])
def test_wrong_seeds_are_refused(given: list[str]) -> None:
    assert 2 == CliRunner().invoke(simulate_command, given).exit_code
