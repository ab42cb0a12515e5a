"""What stands beside every figure: the machine, the versions, the commit; and figures of several runs, summed up."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent.parent
PACKAGES = ("aiokafka", "faust-streaming", "rocksdict", "msgspec", "orjson")


def about(broker: str | None = None) -> dict[str, Any]:
    """To be asked before the measurement: it tells the load that others put on the machine."""
    commit = _git("describe", "--always")
    # What the benchmarks before this one have written into the report changes nothing that is measured.
    if _git("status", "--porcelain", "--", ":/", ":(exclude,top)benchmarks/report"):
        commit += "-dirty"
    found: dict[str, Any] = {
        "machine": f"{os.cpu_count()} cores {platform.machine()}",
        "load_average_before": round(os.getloadavg()[0], 2),
        "copied_gb_per_s_before": _copied_gb_per_s(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "commit": commit,
    }
    return found if broker is None else {**found, "broker": broker}


def _copied_gb_per_s() -> float:
    """How fast memory is copied now. Neighbours on a shared host are in no load average, but they take of its memory's
    bandwidth, and everything here depends on that: figures are comparable where this one is.
    """
    block = bytes(50_000_000)
    took = []
    for _ in range(5):
        began = time.perf_counter()
        bytearray(block)
        took.append(time.perf_counter() - began)
    return round(len(block) / statistics.median(took) / 1e9, 2)


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=HERE, capture_output=True, text=True, check=False).stdout.strip()


def spread(values: Sequence[float]) -> dict[str, float]:
    """Lowest, median and highest."""
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}
