"""`cdp-stream test`: do a topology's own tests hold."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from cdp_stream.cli.terminal import safe
from cdp_stream.errors import TopologyError, UsageError

if TYPE_CHECKING:
    from cdp_stream.config.case_plan import PlannedCase
    from cdp_stream.config.topology import Topology
    from cdp_stream.testing.cases import FailedStep

_COLORS = {"-": "red", "+": "green", " ": None}


@click.command("test")
@click.argument("topology", type=click.Path(path_type=Path))
@click.argument("files", type=click.Path(path_type=Path, dir_okay=False), nargs=-1)
@click.option("--only", metavar="TEXT", help="Only tests whose name holds this text, in any case.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for a program to read.")
def test(topology: Path, files: tuple[Path, ...], only: str | None, as_json: bool) -> None:
    """Run the tests of TOPOLOGY: all its tests/*.yaml, or the FILES named.

    A test gives events, lets time pass and says what is expected: profiles, traits, audience changes, messages to
    destinations. It runs in this process, on the code that the workers run; docs/config-tests.md shows how to write one.

    Exit code 0 if every test holds, 1 if one fails, 2 if there is none, 3 if the topology or a file is invalid.

    \b
    Examples:
      cdp-stream test topologies/ecommerce
      cdp-stream test topologies/ecommerce --only "big spender"
      cdp-stream test topologies/ecommerce topologies/ecommerce/tests/identity.yaml
      cdp-stream test topologies/ecommerce --json | jq '.tests[] | select(.holds | not)'
    """
    from cdp_stream.testing.cases import run_case

    began = time.perf_counter()
    loaded, cases = _load(topology, files)
    wanted = [case for case in cases if only is None or only.lower() in case.name.lower()]
    if not wanted:
        where = f"{topology}: no tests" if only is None else f"{topology}: no test with {only!r} in its name"
        raise UsageError(f"{where}; docs/config-tests.md shows how to write one")
    results: list[tuple[PlannedCase, FailedStep | None]] = []
    file = ""
    for case in wanted:
        if case.file != file and not as_json:
            file = case.file
            click.echo(file)
        failed = run_case(case, loaded)
        results.append((case, failed))
        if not as_json:
            _say(case, failed)
    seconds = time.perf_counter() - began
    failures = sum(1 for _, failed in results if failed is not None)
    if as_json:
        click.echo(orjson.dumps(_for_programs(results, seconds)))
    else:
        tests = "1 test" if len(results) == 1 else f"{len(results)} tests"
        outcome = f"{failures} failed" if failures else "all hold"
        click.echo(f"{tests}, {outcome}, {seconds * 1000:.0f} ms")
    raise SystemExit(1 if failures else 0)


def _load(folder: Path, files: tuple[Path, ...]) -> tuple[Topology, list[PlannedCase]]:
    """The topology and its tests. Raises TopologyError, after the problems of every other file have been printed."""
    from cdp_stream.cli.topology import load_compiled
    from cdp_stream.config.case_plan import find_case_files, load_cases

    topology = load_compiled(folder).topology
    cases: list[PlannedCase] = []
    wrong: TopologyError | None = None
    for file in files or find_case_files(folder):
        try:
            cases += load_cases(file, topology)
        except TopologyError as error:
            if wrong is not None:
                click.echo(str(wrong), err=True)
            wrong = error
    if wrong is not None:
        raise wrong
    return topology, cases


def _say(case: PlannedCase, failed: FailedStep | None) -> None:
    if failed is None:
        click.echo(f"  {click.style('ok', fg='green')}    {safe(case.name)}")
        return
    click.echo(f"  {click.style('FAIL', fg='red')}  {safe(case.name)}")
    click.echo(f"        {failed.path}, at {failed.at}")
    for difference in failed.differences:
        click.echo(f"        {safe(difference.path)}")
        for mark, text in difference.lines:
            click.echo(click.style(f"          {mark} {safe(text)}", fg=_COLORS[mark]))


def _for_programs(results: list[tuple[PlannedCase, FailedStep | None]], seconds: float) -> dict[str, Any]:
    tests = []
    for case, failed in results:
        entry: dict[str, Any] = {"file": case.file, "name": case.name, "holds": failed is None}
        if failed is not None:
            entry["step"] = failed.path
            entry["at"] = failed.at
            entry["differences"] = [difference.as_json() for difference in failed.differences]
        tests.append(entry)
    return {
        "tests": tests,
        "holding": sum(1 for _, failed in results if failed is None),
        "failing": sum(1 for _, failed in results if failed is not None),
        "seconds": round(seconds, 3),
    }
