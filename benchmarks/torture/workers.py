"""Worker processes, each with a data folder of its own as if on a machine of its own; started again when they end."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil

from cdp_stream.cli.topology import load_compiled
from cdp_stream.stream.settings import Settings

STAGES = ("identity", "profiles")
SESSION_S = 2


def write_topology(folder: Path, topology: dict[str, object]) -> Path:
    """The topology as a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "topology.yaml").write_text(json.dumps(topology), encoding="utf-8")
    return folder


class Worker:
    """One process of one stage. Its folder and log outlive it."""

    def __init__(self, name: str, stage: str, topology: Path, folder: Path, environ: dict[str, str]) -> None:
        self.name = name
        self.stage = stage
        self.folder = folder
        self.log = folder.with_suffix(".log")
        self._environ = {**environ, "CDP_STREAM_DATA_DIR": str(folder)}
        self._topology = topology
        self.process: subprocess.Popen[bytes] | None = None
        self.wanted = False
        self._said_before = 0

    def start(self) -> None:
        """Start it."""
        self.wanted = True
        command = [sys.executable, "-m", "cdp_stream", "worker", str(self._topology), "--stage", self.stage]
        with self.log.open("ab") as log:
            self._said_before = log.tell()
            self.process = subprocess.Popen(command, env=self._environ, stdout=log, stderr=log)

    @property
    def is_alive(self) -> bool:
        """Does the process run?"""
        return self.process is not None and self.process.poll() is None

    def send(self, number: signal.Signals) -> None:
        """A signal, if it runs."""
        if self.process is not None and self.is_alive:
            self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL; it is down when this returns."""
        self.wanted = False
        self.send(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()

    def stop(self, within_s: float = 30) -> int:
        """SIGTERM; returns the exit code, -9 if it had to be killed. One that had not started yet may just end.

        One that was killed before, and is away, has nothing to end: 0.
        """
        away, self.wanted = not self.wanted, False
        if self.process is None or (away and not self.is_alive):
            return 0
        self.send(signal.SIGTERM)
        try:
            code = self.process.wait(within_s)
            return 0 if code == -signal.SIGTERM and not self._has_said_since(b" started") else code
        except subprocess.TimeoutExpired:
            self.kill()
            return -9

    def _has_said_since(self, words: bytes) -> bool:
        with self.log.open("rb") as log:
            log.seek(self._said_before)
            return words in log.read()

    @property
    def is_ready(self) -> bool:
        """Has it owned a partition, caught up, since its start?"""
        return self.is_alive and self._has_said_since(b" ready: ")

    def last_words(self) -> str:
        """The line of its log that says why it ended."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return next((line for line in reversed(lines) if " CRITICAL " in line), "(nothing)")

    def has_said(self, words: str) -> int:
        """How often these words stand in its log."""
        return self.log.read_text(errors="replace").count(words) if self.log.exists() else 0


class Workers:
    """`each` workers a stage on one space."""

    def __init__(
        self, folder: Path, topology: dict[str, object], bootstrap: str, each: int = 2, **settings: str
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        where = write_topology(folder / "topology", topology)
        environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("CDP_STREAM_")},
            "CDP_STREAM_KAFKA": bootstrap,
            "CDP_STREAM_METRICS_PORT": "0",
            "CDP_STREAM_SESSION_TIMEOUT_S": str(SESSION_S),
            "CDP_STREAM_STEP_EVENTS_MAX": "100",  # many steps, so many places to be killed at
            **settings,
        }
        self.environ = environ
        self.settings = Settings.from_environ(environ)
        self.topology = load_compiled(where)
        self.all = [
            Worker(f"{stage}-{number}", stage, where, folder / f"{stage}-{number}", environ)
            for stage in STAGES
            for number in range(each)
        ]
        self.ended: Counter[str] = Counter()
        """Why workers ended of themselves."""

    def of(self, stage: str) -> list[Worker]:
        """The workers of a stage."""
        return [worker for worker in self.all if worker.stage == stage]

    def start(self) -> None:
        """Start all of them."""
        for worker in self.all:
            worker.start()

    def supervise(self, seconds: float) -> None:
        """Let time pass; a worker that ended of itself is started again, and why it ended is counted."""
        until = time.monotonic() + seconds
        while True:
            for worker in self.all:
                if worker.wanted and not worker.is_alive:
                    words = worker.last_words().split(" cdp_stream.app: ")[-1]
                    self.ended[f"{worker.stage}: {words[:110]}"] += 1
                    worker.start()
            if time.monotonic() >= until:
                return
            time.sleep(0.05)

    def wait_until_ready(self, within_s: float) -> None:
        """Until a worker of each stage has caught up since its start, or the time is over."""
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            if all(any(worker.is_ready for worker in self.of(stage)) for stage in STAGES):
                return
            self.supervise(0.1)

    def victim(self, draw: random.Random) -> Worker:
        """One of them that runs."""
        alive = [worker for worker in self.all if worker.is_alive]
        return draw.choice(alive or self.all)

    def stop(self) -> dict[str, int]:
        """End all, identity first, so that profiles finish what there is; exit codes by name."""
        codes = {worker.name: worker.stop() for worker in self.of("identity")}
        self.supervise(3)
        return codes | {worker.name: worker.stop() for worker in self.of("profiles")}

    def end(self) -> None:
        """Nothing of them is left running, whatever happened."""
        for worker in self.all:
            if worker.process is not None and worker.is_alive:
                worker.process.kill()
                worker.process.wait()

    def memory_bytes(self) -> int:
        """Resident memory of all workers together."""
        alive = [worker.process.pid for worker in self.all if worker.process is not None and worker.is_alive]
        return sum(psutil.Process(pid).memory_info().rss for pid in alive)
