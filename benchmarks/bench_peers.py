"""The same resolution job side by side, in one run: this product, PostgreSQL, Redis, Quix Streams and a Faust Table.

Each takes the same records from the same broker and tells a profile for each. The peers do the plainest form of the job
(benchmarks/peers/job.py); this product also keeps limits, priorities, dedupe, a ledger and its order log, and here has
limits so wide that the outcome must be the same: the hash tells which identifiers ended together. Peers that would take
minutes get fewer events, the beginning of the same workload.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bench_drain
from about import about, spread
from broker import find_broker
from peers.job import outcome
from workload import drop, make_topic, produce, typical

from cdp_stream.config.fields import BUILT_IN_IDENTIFIER_TYPES
from cdp_stream.stages.graph import GraphDraft

HERE = Path(__file__).parent
WIDE = 1_000_000
_PEER_WITHIN_S = 300
TOPOLOGY = {
    "space": "drain",
    "sources": [{"name": "web", "topic": "events"}],
    "partitions": 8,
    "identity": {
        "identifiers": [
            *({"type": type_, "limit": WIDE} for type_ in ("user_id", "email", "anonymous_id")),
            *(
                {"type": type_, "enabled": False}
                for type_ in BUILT_IN_IDENTIFIER_TYPES
                if type_ not in ("user_id", "email", "anonymous_id", "group_id")
            ),
        ],
        "blocked_values": "none",
        "merges_max": WIDE,
        "mappings_max": WIDE,
    },
}
"""No limit that this workload meets, so that the outcome is that of the plain job."""


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL of its own, with its default durability."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    with tempfile.TemporaryDirectory() as folder:
        # initdb refuses to run as root.
        user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        if user:
            shutil.chown(folder, "postgres")
            Path(folder).chmod(0o755)
        port, data, quiet = _free_port(), f"{folder}/data", subprocess.DEVNULL
        subprocess.run(
            [*user, str(binaries[-1] / "initdb"), "-D", data, "-U", "peer", "--auth=trust"], check=True, stdout=quiet
        )
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1"
        control = [*user, str(binaries[-1] / "pg_ctl"), "-D", data, "-w"]
        subprocess.run([*control, "-o", options, "-l", f"{folder}/log", "start"], check=True, stdout=quiet)
        try:
            yield f"postgresql://peer@127.0.0.1:{port}/postgres"
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], check=True, stdout=quiet)


@contextlib.contextmanager
def redis() -> Iterator[str]:
    """A Redis of its own, with an append-only file that is synced once a second."""
    with tempfile.TemporaryDirectory() as folder:
        port = _free_port()
        command = [
            "redis-server",
            "--port",
            str(port),
            "--dir",
            folder,
            "--appendonly",
            "yes",
            "--appendfsync",
            "everysec",
        ]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            _wait_for(port)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()
            process.wait()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _wait_for(port: int) -> None:
    until = time.monotonic() + 10
    while time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"nothing listens on port {port}")


@contextlib.contextmanager
def nothing() -> Iterator[str]:
    """No server: the peer keeps its state itself."""
    yield ""


@dataclass(frozen=True, slots=True)
class Peer:
    """How the same job is done otherwise."""

    program: str
    server: Callable[[], AbstractContextManager[str]]
    option: str
    guarantees: str
    slow: bool = False


PEERS = {
    "postgres_batch": Peer(
        "postgres", postgres, "at-least-once", "at least once; a transaction each 500 events, synced to disk"
    ),
    "postgres_event": Peer(
        "postgres",
        postgres,
        "transaction an event",
        "at least once; a transaction each event, synced to disk",
        slow=True,
    ),
    "redis_lua": Peer("redis_lua", redis, "at-least-once", "at least once; Redis may lose its last second"),
    "quix_at_least_once": Peer(
        "quix", nothing, "at-least-once", "at least once; a checkpoint each 5 s, effects since then are repeated"
    ),
    "quix_exactly_once": Peer(
        "quix", nothing, "exactly-once", "exactly once for readers of committed records; a transaction each 5 s"
    ),
    "faust_table": Peer(
        "faust_table",
        nothing,
        "at-least-once",
        "at least once; after a crash the table is ahead of the offset",
        slow=True,
    ),
}
OURS = "each output once for every reader, order on record, explained in a ledger"


def is_installed(peer: Peer) -> bool:
    """Is the server there that it needs?"""
    if peer.server is postgres:
        return any(Path("/usr/lib/postgresql").glob("*/bin"))
    return peer.server is nothing or shutil.which("redis-server") is not None


def run_peer(peer: Peer, python: str, bootstrap: str, lines: list[list[bytes]]) -> dict[str, Any]:
    """One run of a peer over these records."""
    prefix = f"peer-{secrets.token_hex(3)}."
    asyncio.run(produce(bootstrap, f"{prefix}events", lines, key=b"all"))
    asyncio.run(make_topic(bootstrap, f"{prefix}out", len(lines)))
    with peer.server() as address:
        command = [python, "-m", f"peers.{peer.program}", "--kafka", bootstrap, "--source", f"{prefix}events"]
        command += ["--out", f"{prefix}out", "--events", str(sum(map(len, lines))), "--guarantee", peer.option]
        command += ["--address", address]
        done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False, timeout=_PEER_WITHIN_S)
    asyncio.run(drop(bootstrap, prefix))
    # Faust writes control characters for a terminal before and after.
    found = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not found:
        raise RuntimeError(f"{peer.program}: {done.stderr[-2_000:]}")
    result: dict[str, Any] = json.loads(found[-1])
    return result


def together(graph: GraphDraft) -> tuple[str, int]:
    """The plain job's hash of our profiles, and how many there are."""
    users = [profile for profile in graph.all_profiles() if profile.collection == "users"]
    named = ((f"{mapping.type}:{mapping.value}", profile.id) for profile in users for mapping in profile.mappings)
    return outcome(named), len(users)


def run_ours(bootstrap: str, lines: list[list[bytes]]) -> dict[str, Any]:
    """One drain by stage identity."""
    return bench_drain.run(bootstrap, lines, HERE.parent, TOPOLOGY, together)


def set_up() -> str:
    """The peers' own environment, made once, and again when its list changes. Returns its Python."""
    folder = HERE.parent / ".cdp-stream" / "peers"
    python, wanted, stamp = folder / "bin" / "python", HERE / "peers" / "requirements.txt", folder / "installed"
    if not stamp.exists() or stamp.read_text() != wanted.read_text():
        print("installing the peers …", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "-r", str(wanted)], check=True)
        stamp.write_text(wanted.read_text())
    return str(python)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--slow-events", type=int, default=8_000, help="for peers that would take minutes")
    parser.add_argument("--people", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=sorted(PEERS), default=list(PEERS))
    options = parser.parse_args()
    missing = [name for name in options.only if not is_installed(PEERS[name])]
    if missing:
        print(f"left out, since their server is not installed: {', '.join(missing)}", file=sys.stderr)
    python, lines = set_up(), typical(options.events, options.people)
    few = [of_partition[: options.slow_events // len(lines)] for of_partition in lines]
    chosen = {name: PEERS[name] for name in options.only if name not in missing}
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in ["cdp_stream", *chosen]}
    with find_broker() as broker:
        of = about(broker.how)
        for number in range(options.runs):
            runs["cdp_stream"].append(run_ours(broker.bootstrap, lines))
            for name, peer in chosen.items():
                runs[name].append(run_peer(peer, python, broker.bootstrap, few if peer.slow else lines))
            print({name: results[number]["per_s"] for name, results in runs.items()}, file=sys.stderr)
        hashes = {"all": {runs["cdp_stream"][0]["outcome"]}, "few": set()}
        if any(peer.slow for peer in chosen.values()):
            hashes["few"].add(run_ours(broker.bootstrap, few)["outcome"])
    for name, results in runs.items():
        hashes["few" if name in chosen and chosen[name].slow else "all"].update(one["outcome"] for one in results)
    assert all(len(found) <= 1 for found in hashes.values()), f"not the same outcome: {hashes}"
    rates = {name: spread([one["per_s"] for one in results]) for name, results in runs.items()}
    peers = {
        name: {
            "per_s": rate,
            "ours_to_it": round(rates["cdp_stream"]["median"] / rate["median"], 2),
            "guarantees": chosen[name].guarantees if name in chosen else OURS,
            "events": options.slow_events if name in chosen and chosen[name].slow else options.events,
        }
        for name, rate in rates.items()
    }
    outcome_of_all = hashes["all"].pop()
    print(json.dumps({**of, "events": options.events, "outcome": outcome_of_all, "peers": peers}, indent=1))


if __name__ == "__main__":
    main()
