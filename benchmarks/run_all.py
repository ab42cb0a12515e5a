"""All benchmarks one after the other; a summary and a table into benchmarks/report/.

Targets are those of the product's design on two cores, with broker and generator on the same machine. A figure that was
not measured is not in the summary.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from about import about

HERE = Path(__file__).resolve().parent
REPORT = HERE / "report"
RUNS: Final = (
    ("drain", "bench_drain.py", "--events", "400000", "--runs", "5"),
    ("client", "bench_client.py", "--events", "400000", "--runs", "5"),
    ("latency", "bench_latency.py"),
    ("pipeline", "bench_pipeline.py", "--runs", "5"),
    ("replay", "bench_replay.py", "--runs", "5"),
)
TARGETS: Final[dict[str, tuple[str, float]]] = {
    "drain_per_s": ("1/s", 100_000),
    "drain_share_of_client_limit": ("share", 0),
    "resolve_p95_ms_at_5k": ("ms", 0),
    "resolve_p95_ms_at_50k": ("ms", 5),
    "end_to_end_p95_ms_at_50k": ("ms", 25),
    "pipeline_per_s": ("1/s", 25_000),
    "entered_p95_ms_at_5k": ("ms", 50),
    "replay_identity_per_s": ("1/s", 150_000),
    "replay_whole_per_s": ("1/s", 40_000),
}
"""Unit and target; a target of 0: told without one."""


def values(found: dict[str, Any]) -> dict[str, float | None]:
    """The figures of the summary, from what the benchmarks printed."""
    drain = found["drain"]["drain_per_s"]["here"]["median"]
    rates = {rate["offered_per_s"]: rate for rate in found["latency"]["rates"]}
    # A rate that was not held has no latency but that of its growing backlog.
    at_5k, at_50k = rates[5_000], rates[50_000]
    return {
        "drain_per_s": drain,
        "drain_share_of_client_limit": round(drain / found["client"]["client_limit_per_s"]["median"], 3),
        "resolve_p95_ms_at_5k": at_5k["resolve_ms"]["p95"] if at_5k["held"] else None,
        "resolve_p95_ms_at_50k": at_50k["resolve_ms"]["p95"] if at_50k["held"] else None,
        "end_to_end_p95_ms_at_50k": at_50k["end_to_end_ms"]["p95"] if at_50k["held"] else None,
        "pipeline_per_s": found["pipeline"]["pipeline_per_s"]["median"],
        "entered_p95_ms_at_5k": found["pipeline"]["entered_ms"]["p95"],
        "replay_identity_per_s": found["replay"]["replay_identity_per_s"]["median"],
        "replay_whole_per_s": found["replay"]["replay_whole_per_s"]["median"],
    }


def summary(found: dict[str, Any]) -> dict[str, Any]:
    """As the report has it: value, unit, target, and whether it is met; an offered rate that was not held meets none."""
    rows: dict[str, Any] = {}
    for name, value in values(found).items():
        unit, target = TARGETS[name]
        row: dict[str, Any] = {"value": value, "unit": unit}
        if target:
            met = value is not None and (value >= target if unit == "1/s" else value <= target)
            row |= {"target": target, "met": met, "ratio": {}}
        rows[name] = row
    return rows


def table(rows: dict[str, Any], of: dict[str, Any]) -> str:
    lines = [
        "# Benchmarks",
        "",
        f"{of['machine']}, Python {of['python']}, commit {of['commit']}, load average before: {of['load_average_before']}.",
        "",
        "| figure | value | unit | target | met |",
        "|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        value = "rate not held" if row["value"] is None else f"{row['value']:,}"
        met = {True: "yes", False: "no", None: "–"}[row.get("met")]
        lines.append(f"| `{name}` | {value} | {row['unit']} | {row.get('target', '–')} | {met} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    REPORT.mkdir(exist_ok=True)
    of, found = about(), {}
    for name, script, *arguments in RUNS:
        print(f"{name} …", file=sys.stderr)
        done = subprocess.run([sys.executable, HERE / script, *arguments], stdout=subprocess.PIPE, check=True)
        found[name] = json.loads(done.stdout)
        (REPORT / f"{name}.json").write_bytes(done.stdout)
    rows = summary(found)
    (REPORT / "summary.json").write_text(json.dumps(rows, indent=1) + "\n")
    (REPORT / "table.md").write_text(table(rows, of))
    print(table(rows, of))


if __name__ == "__main__":
    main()
