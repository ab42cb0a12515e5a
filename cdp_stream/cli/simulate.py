"""`cdp-stream simulate`: seeded runs of the real step loop over a simulated log, with faults, checked throughout."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence

import click
import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cdp_stream.testing.simulation.invariants import INVARIANTS
from cdp_stream.testing.simulation.plan import plan_of
from cdp_stream.testing.simulation.run import Report, simulate

EVENTS = 150
_SAY_EVERY_S = 60.0
_SEEDS = re.compile(r"(\d{1,9})-(\d{1,9})")


def _seeds(_context: click.Context, _parameter: click.Parameter, value: str | None) -> range | None:
    """`1-1000` as a range, both ends included."""
    if value is None:
        return None
    found = _SEEDS.fullmatch(value)
    if found is None or int(found[1]) > int(found[2]):
        raise click.BadParameter(f"{value!r} is not a range of seeds; write 1-1000")
    return range(int(found[1]), int(found[2]) + 1)


@click.command("simulate")
@click.option("--seed", type=click.IntRange(0), help="Run this seed; default: 1.")
@click.option("--seeds", callback=_seeds, metavar="A-B", help="Run every seed from A to B.")
@click.option("--events", type=click.IntRange(1, 1_000_000), default=EVENTS, show_default=True, help="Records a run.")
@click.option("--store", type=click.Choice(["memory", "rocksdb"]), help="Default: RocksDB for every tenth seed.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a run.")
def simulate_command(seed: int | None, seeds: range | None, events: int, store: str | None, as_json: bool) -> None:
    """Run seeded people, faults and all through the real stages and the real step loop, and check the invariants.

    Crashes between any two actions, lost disks, commits that a crash takes back, zombies, redelivery, slow partitions,
    clock jumps, new topologies in mid-stream: a seed decides everything, and the same seed runs the same way each time.
    Each run ends with a recomputation from its own log, with another number of partitions and other steps.

    \b
    Examples:
      cdp-stream simulate --seed 4711
      cdp-stream simulate --seeds 1-1000
    """
    if seed is not None and seeds is not None:
        raise click.UsageError("give --seed or --seeds, not both")
    chosen = seeds or [1 if seed is None else seed]
    began, failed = time.perf_counter(), 0
    for number in _shown(chosen):
        report = simulate(plan_of(number, events, store=store))
        failed += bool(report.violations)
        again = f"cdp-stream simulate --seed {number} --events {events}" + (f" --store {store}" if store else "")
        for line in _lines(report, again, as_json=as_json, brief=len(chosen) > 1):
            click.echo(line)
    if not as_json and len(chosen) > 1:
        click.echo(f"{len(chosen)} seeds, {failed} failed, {time.perf_counter() - began:.0f} s")
    if failed:
        raise click.exceptions.Exit(1)


def _shown(chosen: Sequence[int]) -> Iterator[int]:
    """The seeds, with a progress bar on stderr where that is a terminal, or else a line now and then."""
    console = Console(stderr=True)
    if console.is_terminal and len(chosen) > 1:
        columns = (TextColumn("simulating"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True) as progress:
            yield from progress.track(chosen)
        return
    said = time.monotonic()
    for done, number in enumerate(chosen):
        if time.monotonic() - said > _SAY_EVERY_S:
            said = time.monotonic()
            click.echo(f"{done} of {len(chosen)} seeds done", err=True)
        yield number


def _lines(report: Report, again: str, *, as_json: bool, brief: bool) -> Iterator[str]:
    if as_json:
        violations = [
            {"invariant": one.invariant, "holds": INVARIANTS[one.invariant][1], "where": one.where, "found": one.found}
            for one in report.violations
        ]
        plain = {"seed": report.seed, "digest": report.digest, "violations": violations, "repeat": again}
        yield orjson.dumps(plain | {"figures": report.figures}).decode()
        return
    if report.violations:
        yield f"seed {report.seed} FAILED"
        yield from (f"  {violation}" for violation in report.violations)
        yield f"repeat with: {again}"
    elif not brief:
        yield f"seed {report.seed}: every invariant held"
        yield from (f"{name:22} {figure}" for name, figure in report.figures.items())
        yield f"digest: {report.digest}"
