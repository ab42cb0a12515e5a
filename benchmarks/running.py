"""Workers of a benchmark, and what their metrics pages say."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

PORT = 17_076
"""Of stage identity; stage profiles has the next one."""
_LINE = re.compile(r"(\w+)(?:\{([^}]*)\})? (\S+)$")
_READY_WITHIN_S = 180.0
"""Some seconds on a machine of its own; this long where others have it, too."""

Page = Mapping[tuple[str, str], float]
"""Figures of a metrics page by name and labels."""


@contextmanager
def worker(
    bootstrap: str,
    prefix: str,
    topology: Path,
    state: Path,
    stage: str,
    *,
    port: int = PORT,
    ready_within_s: float = _READY_WITHIN_S,
) -> Iterator[subprocess.Popen[bytes]]:
    """A worker of one stage, from its being ready on; it is ended as an operator ends it. `port`: of stage identity."""
    environ = {
        **os.environ,
        "CDP_STREAM_KAFKA": bootstrap,
        "CDP_STREAM_TOPIC_PREFIX": prefix,
        "CDP_STREAM_DATA_DIR": str(state),
        "CDP_STREAM_METRICS_PORT": str(port),
    }
    command = [sys.executable, "-m", "cdp_stream", "worker", str(topology), "--stage", stage, "--log-level", "ERROR"]
    process = subprocess.Popen(command, env=environ)
    try:
        _wait_ready(port + (stage == "profiles"), process, ready_within_s)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _wait_ready(port: int, process: subprocess.Popen[bytes], within_s: float) -> None:
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        assert process.poll() is None, f"the worker ended with {process.returncode}"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2):
                return
        except OSError:
            time.sleep(0.05)
    raise TimeoutError(f"the worker was not ready within {within_s:.0f} s")


def page(port: int = PORT) -> Page:
    """The metrics page of a worker."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        found = (_LINE.match(line) for line in answer.read().decode().splitlines())
        return {(match[1], match[2] or ""): float(match[3]) for match in found if match}


def total(figures: Page, *names: str) -> float:
    """The sum of metrics over their labels."""
    return sum(value for (name, _), value in figures.items() if name in names)


def decided(figures: Page) -> float:
    """Source records that the worker has dealt with since it started."""
    return total(figures, "cdp_events_total", "cdp_dead_letters_total")


def percentile(before: Page, after: Page, histogram: str, share: float) -> float | None:
    """Seconds that this share of the observations between two pages stayed below, read linearly within a bucket.

    None: nothing was observed. Infinite: beyond the last bucket.
    """
    edges = sorted(
        (float(labels.removeprefix('le="').rstrip('"')), value - before.get((name, labels), 0.0))
        for (name, labels), value in after.items()
        if name == f"{histogram}_bucket"
    )
    if not edges or not edges[-1][1]:
        return None
    wanted, low, below = share * edges[-1][1], 0.0, 0.0
    for edge, count in edges:
        if count >= wanted:
            return edge if edge == float("inf") else low + (edge - low) * (wanted - below) / max(1.0, count - below)
        low, below = edge, count
    raise AssertionError(edges)
