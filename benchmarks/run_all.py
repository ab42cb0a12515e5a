"""All benchmarks one after the other, or some of them; summary, table and plots into benchmarks/report/.

python benchmarks/run_all.py                        all but the largest size of growth: `make bench`
python benchmarks/run_all.py --only drain client    these; the others stand in the report as they were found last
python benchmarks/run_all.py --only growth_10m      ten million profiles, once: half an hour and 30 GB of disk
python benchmarks/run_all.py --only growth_stage    the same without a broker
python benchmarks/run_all.py --only                 none: the report anew from what was found

All that need a broker share one, which is warmed up before the first. Figures of one report may come from several
runs: the table says of each benchmark by which commit and under which load.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from broker import find_broker
from summary import plots, summary, table

from cdp_stream.stream.broker import Broker

HERE = Path(__file__).resolve().parent
REPORT = HERE / "report"
RUNS: Final = {
    "drain": ("bench_drain.py", "--events", "400000", "--runs", "5"),
    "storm": ("bench_drain.py", "--workload", "storm", "--events", "160000", "--runs", "5"),
    "client": ("bench_client.py", "--events", "400000", "--runs", "5"),
    "latency_to_20k": ("bench_latency.py", "--rates", "5000", "10000", "20000"),
    "latency_to_50k": ("bench_latency.py", "--rates", "30000", "50000"),
    "latency_75k": ("bench_latency.py", "--rates", "75000"),
    "latency_100k": ("bench_latency.py", "--rates", "100000"),
    "pipeline": ("bench_pipeline.py",),
    "replay": ("bench_replay.py",),
    "store": ("bench_store.py",),
    "growth": ("bench_growth.py",),
    "time_exit": ("bench_time_exit.py",),
    "noisy": ("bench_noisy.py",),
    "peers": ("bench_peers.py", "--events", "64000"),
    "growth_10m": ("bench_growth.py", "--profiles", "10000", "10000000", "--events", "200000"),
    "growth_stage": ("bench_growth_stage.py",),
}
LARGEST: Final = ("growth_10m", "growth_stage")
WITHOUT_BROKER: Final = {"replay", "store", "growth_stage"}


def measure(name: str, broker: Broker | None) -> bool:
    """Run one, and write what it found. What did not end well leaves its former figures, and the others their chance."""
    print(f"{name} …", file=sys.stderr)
    began = time.perf_counter()
    script, *arguments = RUNS[name]
    environ = os.environ if broker is None else {**os.environ, "CDP_STREAM_KAFKA": broker.bootstrap}
    done = subprocess.run([sys.executable, HERE / script, *arguments], stdout=subprocess.PIPE, env=environ, check=False)
    print(f"{name}: exit code {done.returncode} after {time.perf_counter() - began:.0f} s", file=sys.stderr)
    if done.returncode:
        return False
    found = json.loads(done.stdout)
    if broker is not None and "broker" in found:
        found["broker"] = broker.how
    (REPORT / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=list(RUNS), default=[name for name in RUNS if name not in LARGEST])
    chosen = parser.parse_args().only
    REPORT.mkdir(exist_ok=True)
    with ExitStack() as stack:
        broker = None if set(chosen) <= WITHOUT_BROKER else stack.enter_context(find_broker())
        failed = [name for name in chosen if not measure(name, broker)]
    found: dict[str, Any] = {
        name: json.loads((REPORT / f"{name}.json").read_text()) for name in RUNS if (REPORT / f"{name}.json").exists()
    }
    (REPORT / "summary.json").write_text(json.dumps(summary(found), indent=1) + "\n")
    (REPORT / "table.md").write_text(table(found))
    for file, svg in plots(found).items():
        (REPORT / file).write_text(svg)
    print(table(found))
    if failed:
        sys.exit(f"not measured: {', '.join(failed)}")


if __name__ == "__main__":
    main()
