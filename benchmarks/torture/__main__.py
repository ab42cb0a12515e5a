"""`make torture KILLS=100 EVENTS=500000 SEED=1`: a table, then one line of JSON; exit 1 if anything is wrong."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from torture.run import Outcome, torture


def main() -> int:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(prog="torture", description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--rebalances", type=int, default=0, help="instead of kills: workers join, leave, stand still")
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    # So that nodes and workers end with a run that is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    folder = Path(tempfile.mkdtemp(prefix="cdp-stream-torture-"))
    what = f"REBALANCES={options.rebalances}" if options.rebalances else f"KILLS={options.kills}"
    again = f"make torture {what} EVENTS={options.events} SEED={options.seed}"
    try:
        kills = 0 if options.rebalances else options.kills
        outcome = torture(folder, kills, options.events, options.seed, options.rebalances)
    except BaseException:
        sys.stderr.write(f"\nlogs: {folder}\nagain: {again}\n")
        raise
    _print(outcome)
    if outcome.is_good:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        print(f"logs: {folder}")
    print(f"again: {again}")
    return 0 if outcome.is_good else 1


def _print(outcome: Outcome) -> None:
    rows = {f"workers: {what}": count for what, count in sorted(outcome.kills.items())}
    rows |= {"second node frozen": outcome.frozen, "workers that ended of themselves": outcome.ended.total()}
    rows |= outcome.verdict.counts
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f"{name:{width}} {value:>10}")
    for finding in outcome.verdict.findings:
        print(f"WRONG: {finding}")
    same = "equal to" if outcome.digest == outcome.recomputed else "NOT EQUAL TO"
    print(f"digest {outcome.digest}, {same} the recomputation's {outcome.recomputed}")
    print("nothing lost, nothing doubled" if outcome.is_good else "NOT GOOD")
    print(json.dumps(outcome.row()))


if __name__ == "__main__":
    sys.exit(main())
