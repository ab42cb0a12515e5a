"""What stands beside every figure: the machine, the versions, the commit; and figures of several runs, summed up."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
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
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "commit": commit,
    }
    return found if broker is None else {**found, "broker": broker}


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=HERE, capture_output=True, text=True, check=False).stdout.strip()


def spread(values: Sequence[float]) -> dict[str, float]:
    """Lowest, median and highest."""
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}
