"""`cdp-stream check-state`: the invariants of a stopped worker's state, read from its folder."""

from __future__ import annotations

import contextlib
from collections import Counter
from pathlib import Path

import click
import orjson

from cdp_stream.errors import UsageError
from cdp_stream.store.rocks import RocksStore
from cdp_stream.testing.simulation.invariants import Violations
from cdp_stream.testing.simulation.state_checks import (
    check_both,
    check_graph,
    check_partition,
    identity_barrier,
    versions_of,
)


@click.command("check-state")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print counts and violations as JSON.")
def check_state(folder: Path, as_json: bool) -> None:
    """Check the invariants of the state in FOLDER, read-only; every violation is printed with its key.

    FOLDER holds `identity-0`, `profiles-0`, …: that of `replay --state`, or a space's folder below a worker's data
    folder. Partitions that lie on other machines are left out. What compares the stages is looked at only when all
    partitions are here and at rest. The invariants by number: docs/invariants.md.

    \b
    Exit codes: 0 all held, 1 a violation.
    """
    violations = Violations()
    counts, notes = _check(folder, violations)
    if as_json:
        found = [{"invariant": one.invariant, "where": one.where, "found": one.found} for one in violations.found]
        plain = {"counts": dict(sorted(counts.items())), "notes": notes}
        click.echo(orjson.dumps(plain | {"violations": found, "violations_count": violations.count}))
    else:
        for name, count in sorted(counts.items()):
            click.echo(f"{name:22} {count}")
        for note in notes:
            click.echo(note, err=True)
        for violation in violations.found:
            click.echo(str(violation))
        click.echo(f"{'violations':22} {violations.count}")
    if violations.count:
        raise click.exceptions.Exit(1)


def _check(folder: Path, violations: Violations) -> tuple[Counter[str], list[str]]:
    here = {int(path.name.removeprefix("profiles-")): path for path in folder.glob("profiles-*") if path.is_dir()}
    counts: Counter[str] = Counter()
    notes = []
    with contextlib.ExitStack() as stack:

        def opened(path: Path) -> RocksStore:
            store = RocksStore(path, read_only=True)
            stack.callback(store.close)
            return store

        identity = opened(folder / "identity-0") if (folder / "identity-0").is_dir() else None
        stores = {number: opened(path) for number, path in sorted(here.items())}
        if identity is None and not stores:
            raise UsageError(f"{folder}: no state here (no identity-0, no profiles-…); name a space's own folder")
        partitions = _partitions(identity, stores)
        if identity is not None:
            counts += check_graph(identity, violations)
        for number, store in stores.items():
            counts += check_partition(store, number, partitions, violations)
        if identity is None or len(stores) != partitions:
            notes.append(f"not compared: {len(stores)} of {partitions} partitions and the graph would have to be here")
        elif not check_both(identity, list(stores.values()), violations):
            notes.append("not compared: the profile stage is behind the identity stage, or something is parked")
    return counts, notes


def _partitions(identity: RocksStore | None, stores: dict[int, RocksStore]) -> int:
    """How many partitions the space has: as many as `replay --state` made, or as its topology says."""
    if identity is not None and (sent := len(identity_barrier(identity).previous)):
        return sent
    for store in stores.values():
        for version in versions_of(store).values():
            return version.partitions
    return max(len(stores), 1)
