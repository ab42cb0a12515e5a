"""What the benchmarks found, as the report has it: figures beside their targets, a table, plots."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from plots import bars, lines

Found = Mapping[str, Any]
"""What each benchmark printed, by its name; those that did not run are not there."""
Spread = dict[str, float]
LARGEST: Final = 10_000_000
TARGETS: Final[dict[str, tuple[str, float]]] = {
    "drain_per_s": ("1/s", 100_000),
    "drain_share_of_client_limit": ("share", 0),
    "storm_per_s": ("1/s", 0),
    "resolve_p95_ms_at_5k": ("ms", 0),
    "resolve_p95_ms_at_20k": ("ms", 0),
    "resolve_p95_ms_at_50k": ("ms", 5),
    "end_to_end_p95_ms_at_50k": ("ms", 25),
    "pipeline_per_s": ("1/s", 25_000),
    "entered_p95_ms_at_5k": ("ms", 50),
    "time_exit_p99_ms": ("ms", 1_000),
    "noisy_p99_ratio": ("×", 1.2),
    "crowd_p99_ratio": ("×", 0),
    "speed_at_1m_profiles_share": ("share", 0),
    "resident_mb_at_1m_profiles": ("MB", 0),
    "disk_mb_at_1m_profiles": ("MB", 0),
    "restore_s_at_1m_profiles": ("s", 0),
    "speed_at_10m_profiles_share": ("share", 0.8),
    "resident_mb_at_10m_profiles": ("MB", 2_000),
    "disk_mb_at_10m_profiles": ("MB", 0),
    "restore_s_at_10m_profiles": ("s", 0),
    "warm_restart_s": ("s", 2),
    "replay_identity_per_s": ("1/s", 150_000),
    "replay_whole_per_s": ("1/s", 40_000),
    "store_known_us": ("µs", 0),
    "store_missing_us": ("µs", 0),
}
"""Unit and target on two cores with broker and generator on the same machine; a target of 0: told without one."""
IDLE_LOAD: Final = 2.0
"""A load average above it was made by others: each benchmark reads it before it begins, and the one before leaves some."""
_AT_LEAST: Final = ("1/s", "share")


def values(found: Found) -> Iterator[tuple[str, Spread | None]]:
    """The figures of the summary; None for one of which there is none: an offered rate that was not held."""
    if "drain" in found:
        drain = found["drain"]["drain_per_s"]["here"]
        yield "drain_per_s", drain
        if "client" in found:
            limit = found["client"]["client_limit_per_s"]["median"]
            yield "drain_share_of_client_limit", _one(round(drain["median"] / limit, 3))
    if "storm" in found:
        yield "storm_per_s", found["storm"]["drain_per_s"]["here"]
    yield from _latency(found)
    if "pipeline" in found:
        yield "pipeline_per_s", found["pipeline"]["pipeline_per_s"]
        yield "entered_p95_ms_at_5k", found["pipeline"]["entered_ms"]["p95"]
    yield from _tails(found)
    yield from _growth(found)
    if "replay" in found:
        for name in ("replay_identity_per_s", "replay_whole_per_s"):
            yield name, found["replay"][name]
    if "store" in found:
        for name in ("known_us", "missing_us"):
            yield f"store_{name}", found["store"]["store"][name]


def _tails(found: Found) -> Iterator[tuple[str, Spread | None]]:
    if "time_exit" in found:
        yield "time_exit_p99_ms", found["time_exit"]["time_exit_ms"]["p99"]
    if "noisy" in found:
        yield "noisy_p99_ratio", _one(found["noisy"]["p99_ratio"])
        if "crowd_p99_ratio" in found["noisy"]:
            yield "crowd_p99_ratio", _one(found["noisy"]["crowd_p99_ratio"])


def _latency(found: Found) -> Iterator[tuple[str, Spread | None]]:
    for rate in _rates(found):
        name = f"p95_ms_at_{rate['offered_per_s'] // 1_000}k"
        for kind in ("resolve", "end_to_end"):
            # A rate that was not held has no latency but that of its growing backlog.
            yield f"{kind}_{name}", rate[f"{kind}_ms"].get("p95") if rate["held"] else None


def _rates(found: Found) -> list[dict[str, Any]]:
    """All offered rates, which are measured a few at a time."""
    rates = [rate for name, one in found.items() if name.startswith("latency") for rate in one["rates"]]
    return sorted(rates, key=lambda rate: int(rate["offered_per_s"]))


def _growth(found: Found) -> Iterator[tuple[str, Spread | None]]:
    restarts: dict[int, Spread] = {}
    for benchmark, profiles in (("growth", 1_000_000), ("growth_10m", LARGEST)):
        for size in found.get(benchmark, {"sizes": ()})["sizes"]:
            restarts[size["profiles"]] = size["warm_restart_s"]
            if size["profiles"] == profiles:
                at = f"{profiles // 1_000_000}m_profiles"
                yield f"speed_at_{at}_share", _one(size["speed_share"])
                yield f"resident_mb_at_{at}", _one(size["resident_mb"])
                yield f"disk_mb_at_{at}", _one(size["disk_mb"])
                yield f"restore_s_at_{at}", _one(size["restore_s"])
    if restarts:
        yield "warm_restart_s", restarts[max(restarts)]


def _one(value: float) -> Spread:
    return {"median": value}


def summary(found: Found) -> dict[str, Any]:
    """Value, unit, target, whether it is met, the ratio to each peer, and the load that others put on the machine.

    A rate that was not held meets no target.
    """
    rows: dict[str, Any] = {}
    loads = {name: one["load_average_before"] for key, one in found.items() for name, _ in values({key: one})}
    for name, of_runs in values(found):
        if name not in TARGETS:
            continue
        unit, target = TARGETS[name]
        value = None if of_runs is None else of_runs["median"]
        row: dict[str, Any] = {"value": value, "unit": unit}
        if of_runs is not None and "min" in of_runs:
            row |= {"min": of_runs["min"], "max": of_runs["max"]}
        if target:
            met = value is not None and (value >= target if unit in _AT_LEAST else value <= target)
            row |= {"target": target, "met": met}
        # The share is of two benchmarks, the drain and its limit.
        row["load_average_before"] = loads.get(name, loads.get("drain_per_s"))
        rows[name] = {**row, "ratio": _ratios(found) if name == "drain_per_s" else {}}
    return {name: rows[name] for name in TARGETS if name in rows}


def _ratios(found: Found) -> dict[str, float]:
    peers = found.get("peers", {"peers": {}})["peers"]
    return {name: peer["ours_to_it"] for name, peer in peers.items() if name != "cdp_stream"}


def table(found: Found) -> str:
    """The summary, the peers and how each was measured, in Markdown."""
    text = ["# Benchmarks", ""]
    load = max((one["load_average_before"] for one in found.values()), default=0)
    if load > IDLE_LOAD:
        text += [
            f"Taken beside other work, load average up to {load:g}: rates are lower bounds, latencies upper ones.",
            "",
        ]
    text += ["| figure | value | lowest to highest | unit | target | met |", "|---|---|---|---|---|---|"]
    for name, row in summary(found).items():
        value = "rate not held" if row["value"] is None else _shown(row["value"])
        between = f"{_shown(row['min'])} to {_shown(row['max'])}" if "min" in row else "–"
        target = _shown(row["target"]) if "target" in row else "–"
        met = {True: "yes", False: "no", None: "–"}[row.get("met")]
        text.append(f"| `{name}` | {value} | {between} | {row['unit']} | {target} | {met} |")
    if "peers" in found:
        text += ["", "## The same job side by side", "", _PEERS_HEAD, "|---|---|---|---|---|"]
        for name, peer in found["peers"]["peers"].items():
            rate = peer["per_s"]
            shown = f"{_shown(rate['median'])} ({_shown(rate['min'])} to {_shown(rate['max'])})"
            row = (f"`{name}`", shown, f"{peer['ours_to_it']}", f"{peer['events']:,}", peer["guarantees"])
            text.append("| " + " | ".join(row) + " |")
    text += ["", "## How each was measured", "", _HOW_HEAD, "|---|---|---|---|---|---|"]
    for name, one in found.items():
        broker = one.get("broker", "none")
        row = (
            f"`{name}`",
            one["machine"],
            one["commit"],
            f"{one['load_average_before']}",
            f"{one.get('copied_gb_per_s_before', '–')}",
            f"{broker}, {one['python']}",
        )
        text.append("| " + " | ".join(row) + " |")
    return "\n".join(text) + "\n"


_PEERS_HEAD: Final = "| | events/s, median (lowest to highest) | ours to it | events | guarantees |"
_HOW_HEAD: Final = (
    "| benchmark | machine | commit | load average before | memory copied before, GB/s | broker, Python |"
)


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 1_000 else f"{value:g}"


def plots(found: Found) -> dict[str, str]:
    """File names and SVG."""
    drawn: dict[str, str] = {}
    if rates := _rates(found):
        shown = {
            name: [rate[f"{key}_ms"]["p95"]["median"] if rate["held"] else None for rate in rates]
            for name, key in (("resolve", "resolve"), ("produced to stored", "end_to_end"))
        }
        places = [f"{rate['offered_per_s'] // 1_000}k/s" for rate in rates]
        title = "P95 in milliseconds at offered rates; a rate without a point was not held"
        drawn["latency.svg"] = lines(title, places, shown, None)
    if "peers" in found:
        peers = found["peers"]["peers"].items()
        drawn["peers.svg"] = bars(
            "The same resolution job, events a second",
            [(name, peer["per_s"]["median"], peer["guarantees"]) for name, peer in peers],
        )
    sizes = {
        size["profiles"]: size for name in ("growth", "growth_10m") for size in found.get(name, {"sizes": ()})["sizes"]
    }
    if sizes:
        places = [f"{profiles:,}" for profiles in sorted(sizes)]
        ordered = [sizes[profiles] for profiles in sorted(sizes)]
        for name, title, key in (
            ("growth_speed.svg", "Speed by number of profiles, as a share of that at 10,000", "speed_share"),
            ("growth_memory.svg", "Resident memory by number of profiles, MB", "resident_mb"),
        ):
            target = 0.8 if key == "speed_share" else None
            drawn[name] = lines(title, places, {key.replace("_", " "): [size[key] for size in ordered]}, target)
    return drawn
