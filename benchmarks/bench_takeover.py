"""How long is a space without its worker: a restart, a lost disk, a kill -9 with a standby; at a million profiles?

python benchmarks/bench_takeover.py --profiles 1000000
python benchmarks/bench_takeover.py --profiles 1000000 --stage profiles

Every profile is made by one small event, through the stages on a real Kafka. Then, of the stage that is measured:
`warm` stops its worker with SIGTERM and starts it again on its state; `cold` starts it on an empty data folder; `takeover`
kills it with SIGKILL beside a standby that has caught up, while events come. Seconds of a start count from the start of
the process, interpreter and imports included, until /readyz says 200; those of a takeover from the kill until the standby
has decided something.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from about import about
from broker import find_broker
from offering import offer
from running import page, total
from workload import PARTITIONS, produce

from cdp_stream.stream.local_kafka import free_port

SPACE = "takeover"
TOPOLOGY = {"space": SPACE, "sources": [{"name": "web", "topic": "events"}], "partitions": PARTITIONS}
SESSION_S = 10
RATE = 200
STAGES = ("identity", "profiles")
_RESTORED = re.compile(r"changelog/(\d+): restored (\d+) offsets.*?, (\d+\.\d+) MB in (\d+\.\d+) s")


def events(first: int, step: int, until: int) -> Iterator[bytes]:
    """One event of each of these people, who share nothing."""
    for number in range(first, until, step):
        yield b'{"type":"track","event":"View","anonymousId":"a-%d","messageId":"m-%d"}' % (number, number)


class Machine:
    """A data folder, and at most one worker process of each stage on it."""

    def __init__(self, environ: dict[str, str], folder: Path, name: str) -> None:
        self.state = folder / name / "state"
        self.state.mkdir(parents=True)
        self.port = free_port(2)
        self._topology = folder / "topology.yaml"
        self._environ = {
            **environ,
            "CDP_STREAM_DATA_DIR": str(self.state),
            "CDP_STREAM_METRICS_PORT": str(self.port),
        }
        self.log = folder / name / "worker.log"
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, stage: str) -> float:
        """Seconds until it is ready."""
        began = time.perf_counter()
        self.log.write_bytes(b"")
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "cdp_stream", "worker", str(self._topology), "--stage", stage]
            self._running[stage] = subprocess.Popen(command, env=self._environ, stdout=log, stderr=log)
        self.wait(lambda: self._answers(stage), 300)
        return time.perf_counter() - began

    def _answers(self, stage: str) -> bool:
        assert self._running[stage].poll() is None, self.log.read_text()[-3000:]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.page_of(stage)}/readyz", timeout=5):
                return True
        except OSError:
            return False

    def owns_all(self, stage: str) -> bool:
        """Is it ready with every partition of the stage?"""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.page_of(stage)}/readyz", timeout=5) as answer:
                return len(json.load(answer)["partitions"]) == (1 if stage == "identity" else PARTITIONS)
        except OSError:
            return False

    def page_of(self, stage: str) -> int:
        """The port of its pages."""
        return self.port + STAGES.index(stage)

    def figure(self, stage: str, *names: str) -> float:
        """A metric of its page."""
        return total(page(self.page_of(stage)), *names)

    def wait(self, condition: Callable[[], bool], within_s: float) -> None:
        """Until it holds; a page that is too busy to answer says nothing."""
        until = time.monotonic() + within_s
        while True:
            with contextlib.suppress(OSError):
                if condition():
                    return
            assert time.monotonic() < until, self.log.read_text()[-3000:]
            time.sleep(0.02)

    def end(self, stage: str, number: int = signal.SIGTERM) -> None:
        """End its process, and wait for it."""
        process = self._running.pop(stage, None)
        if process is not None:
            process.send_signal(number)
            process.wait(30)

    def end_all(self) -> None:
        """End what is left."""
        for stage in list(self._running):
            self.end(stage, signal.SIGKILL)

    def restored(self) -> dict[str, Any]:
        """What its last start restored, of all partitions; they are restored side by side."""
        found = _RESTORED.findall(self.log.read_text())
        offsets, mb = sum(int(row[1]) for row in found), sum(float(row[2]) for row in found)
        seconds = max((float(row[3]) for row in found), default=0.0)
        return {
            "offsets": offsets,
            "mb": round(mb, 1),
            "seconds": seconds,
            "mb_per_s": round(mb / seconds, 1) if seconds else None,
        }


def rounded(seconds: float) -> float:
    return round(seconds, 2)


def load(machine: Machine, bootstrap: str, topic: str, profiles: int, stage: str) -> float:
    """Everybody's event, decided by both stages where both count; the stage to be measured is left running."""
    began = time.perf_counter()
    lines = [list(events(partition, PARTITIONS, profiles)) for partition in range(PARTITIONS)]
    asyncio.run(produce(bootstrap, topic, lines))
    machine.start("identity")
    machine.wait(lambda: machine.figure("identity", "cdp_events_total") >= profiles, 1_200)
    if stage == "profiles":
        machine.start("profiles")
        machine.wait(lambda: _changes_done(machine), 1_200)
    return time.perf_counter() - began


def _changes_done(machine: Machine) -> bool:
    """A ready partition has done what stood in the log when it became so."""
    return machine.log.read_text().count("ready: partition") >= PARTITIONS


def decided(machine: Machine, stage: str) -> float:
    """How many steps a stage has stored."""
    return machine.figure(
        stage, "cdp_resolve_seconds_count" if stage == "identity" else "cdp_profile_step_seconds_count"
    )


def take_over(first: Machine, second: Machine, bootstrap: str, topic: str, stage: str, profiles: int) -> dict[str, Any]:
    """Kill the first beside the second, which stands by."""
    began = time.perf_counter()
    second.start(stage)
    second.wait(lambda: _stands_by(second, stage), 300)
    followed_s = time.perf_counter() - began

    async def killed() -> float:
        people = [events(profiles + partition, PARTITIONS, 10 * profiles) for partition in range(PARTITIONS)]
        offering = asyncio.create_task(
            offer(bootstrap, topic, people, RATE, 3 * SESSION_S + 10, sent=lambda _line: None)
        )
        await asyncio.sleep(3)
        before = decided(second, stage)
        first.end(stage, signal.SIGKILL)
        at = time.perf_counter()
        while decided(second, stage) <= before or not second.owns_all(stage):
            assert time.perf_counter() - at < 60, second.log.read_text()[-3000:]
            await asyncio.sleep(0.05)
        seconds = time.perf_counter() - at
        offering.cancel()
        return seconds

    return {
        "followed_s": rounded(followed_s),
        "decides_again_s": rounded(asyncio.run(killed())),
        "session_s": SESSION_S,
    }


def _stands_by(machine: Machine, stage: str) -> bool:
    """Does it follow everything that others own, and has it read nearly all of that?"""
    behind = {
        labels: value
        for (name, labels), value in page(machine.page_of(stage)).items()
        if name == "cdp_standby_lag_records"
    }
    wanted = 1 if stage == "identity" else PARTITIONS // 2
    return len([value for value in behind.values() if value < 100]) >= wanted


def measure(bootstrap: str, profiles: int, stage: str, restarts: int) -> dict[str, Any]:
    prefix = f"bench-{secrets.token_hex(3)}."
    topic = prefix + "events"
    environ = {
        **os.environ,
        "CDP_STREAM_KAFKA": bootstrap,
        "CDP_STREAM_TOPIC_PREFIX": prefix,
        "CDP_STREAM_SESSION_TIMEOUT_S": str(SESSION_S),
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "topology.yaml").write_text(json.dumps(TOPOLOGY))
        # A standby, from its start until the group has spoken, would restore beside what is measured.
        first = Machine(environ, folder, "first")
        second = Machine({**environ, "CDP_STREAM_STANDBY": "yes"}, folder, "second")
        try:
            found: dict[str, Any] = {"stage": stage, "profiles": profiles}
            found["loaded_s"] = rounded(load(first, bootstrap, topic, profiles, stage))
            state = first.state / f"{prefix}{SPACE}"
            found["warm_s"] = []
            for _ in range(restarts):
                first.end(stage)
                found["warm_s"].append(rounded(first.start(stage)))
            first.end(stage)
            found["state_mb"] = round(sum(file.stat().st_size for file in state.glob(f"{stage}-*/*")) / 1e6, 1)
            for partition in state.glob(f"{stage}-*"):
                shutil.rmtree(partition)
            found["cold_s"] = rounded(first.start(stage))
            found["restored"] = first.restored()
            found["takeover"] = take_over(first, second, bootstrap, topic, stage, profiles)
            found["takeover"]["restored"] = second.restored()
            return found
        finally:
            first.end_all()
            second.end_all()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profiles", type=int, default=1_000_000)
    parser.add_argument("--stage", choices=STAGES, default="identity")
    parser.add_argument("--restarts", type=int, default=3)
    options = parser.parse_args()
    with find_broker() as broker:
        result: dict[str, Any] = about(broker.how)
        result |= measure(broker.bootstrap, options.profiles, options.stage, options.restarts)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
