"""`cdp-stream demo`: the whole walk on a real Kafka, from set-up to summary, leaving nothing running."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import orjson
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.structs import TopicPartition
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from cdp_stream.cli.topology import load_compiled
from cdp_stream.errors import BrokerUnavailable, CdpStreamError
from cdp_stream.model.time import Instant, format_instant, parse_instant
from cdp_stream.pipeline import CompiledTopology
from cdp_stream.stages.records import AUDIENCE_CHANGES, DEAD_LETTERS, DESTINATION_PREFIX, LEDGER, TRAIT_CHANGES
from cdp_stream.stream.broker import find_broker
from cdp_stream.stream.consumers import plain_consumer
from cdp_stream.stream.settings import Settings
from cdp_stream.stream.topics import TopicNames

_SOURCE_PARTITIONS = 4
_QUIET_S = 3.0
_LIMIT_S = 90.0
_METRICS_PORT = 16_066
_TIMES = ("timestamp", "originalTimestamp", "sentAt", "receivedAt")


@click.command()
@click.argument("topology", type=click.Path(path_type=Path), default="topologies/ecommerce")
@click.option("--events", "limit", type=click.IntRange(1), help="Produce at most this many events.")
@click.option("--lines", type=click.IntRange(0), default=40, show_default=True, help="Lines to show of each kind.")
def demo(topology: Path, limit: int | None, lines: int) -> None:
    """Find or start a Kafka, run a worker on TOPOLOGY, produce its events, show what happens, sum up.

    Without Kafka (no CDP_STREAM_KAFKA, no Docker, no Java and Maven) the same walk runs in this process.

    \b
    Examples:
      cdp-stream demo topologies/ecommerce
      cdp-stream demo topologies/retail
    """
    compiled = load_compiled(topology)
    # The client complains about every topic that is not there yet.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    events = _until_now((topology / "events.jsonl").read_bytes().splitlines()[:limit])
    console = Console()
    try:
        broker = find_broker()
    except BrokerUnavailable as error:
        console.print(f"No Kafka to be had: {error}\nThe same walk runs in this process instead.", markup=False)
        command = [sys.executable, "-m", "cdp_stream", "replay", str(topology), "--explain"]
        sys.exit(subprocess.run(command, check=False).returncode)  # noqa: S603
    with broker, tempfile.TemporaryDirectory(prefix="cdp-stream-demo-") as folder:
        console.print(f"Kafka: {broker.how} ({broker.bootstrap})", markup=False)
        environment = {
            **os.environ,
            "CDP_STREAM_KAFKA": broker.bootstrap,
            "CDP_STREAM_TOPIC_PREFIX": f"demo-{secrets.token_hex(3)}.",
            "CDP_STREAM_DATA_DIR": folder,
            "CDP_STREAM_METRICS_PORT": str(_METRICS_PORT),
        }
        run = _Demo(console, compiled, topology, events, Settings.from_environ(environment), lines)
        asyncio.run(run.run(environment))


def _until_now(lines: list[bytes]) -> list[bytes]:
    """The same records as if the last of them had been made just now, so that windows of hours hold something."""
    events = [_event(line) for line in lines]
    instants = [instant for event in events for name in _TIMES if (instant := _instant(event.get(name))) is not None]
    by = time.time_ns() // 1_000_000 - max(instants, default=0)

    def moved(event: dict[str, Any]) -> dict[str, str]:
        times = {name: _instant(event.get(name)) for name in _TIMES}
        return {name: format_instant(instant + by) for name, instant in times.items() if instant is not None}

    return [
        orjson.dumps(event | times) if (times := moved(event)) else line
        for event, line in zip(events, lines, strict=True)
    ]


def _event(line: bytes) -> dict[str, Any]:
    """The fields of an event; none where the line is broken."""
    try:
        event = orjson.loads(line)
    except orjson.JSONDecodeError:
        return {}
    return event if isinstance(event, dict) else {}


def _instant(text: object) -> Instant | None:
    try:
        return parse_instant(text) if isinstance(text, str) else None
    except ValueError:
        return None


class _Demo:
    def __init__(
        self,
        console: Console,
        compiled: CompiledTopology,
        folder: Path,
        events: list[bytes],
        settings: Settings,
        lines: int,
    ) -> None:
        self.console = console
        self.folder = folder
        self.events = events
        self.settings = settings
        self.compiled = compiled
        self.names = TopicNames.of(compiled.topology, settings)
        self.lines = lines
        self.seen: Counter[str] = Counter()
        self.decisions: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.members: Counter[str] = Counter()
        self.somebody = ""
        """Whom to look at afterwards: the first user who was seen."""
        self.last = time.monotonic()

    async def run(self, environment: dict[str, str]) -> None:
        """The demo, from topics to summary; removes what it made."""
        await self._create_sources()
        latency = ""
        with _worker(self.folder, environment) as process:
            watching = asyncio.create_task(self._watch())
            try:
                await self._until_ready(process)
                await self._produce()
                await self._until_quiet(process)
                latency = await asyncio.to_thread(_latency, _METRICS_PORT)
            finally:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
        await self._remove_topics()
        self._summary(latency)

    async def _create_sources(self) -> None:
        admin = AIOKafkaAdminClient(**self.settings.aiokafka_options())
        await admin.start()
        try:
            topics = [NewTopic(topic, _SOURCE_PARTITIONS, 1) for topic in self.names.sources]
            await admin.create_topics(topics)
        finally:
            await admin.close()

    async def _produce(self) -> None:
        producer = AIOKafkaProducer(**self.settings.aiokafka_options(), acks="all", linger_ms=5)
        await producer.start()
        topic = self.names.sources[0]
        columns = (TextColumn("producing events"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        try:
            with Progress(*columns, console=self.console) as progress:
                task = progress.add_task("producing", total=len(self.events))
                for number, event in enumerate(self.events):
                    await producer.send(topic, event, partition=number % _SOURCE_PARTITIONS)
                    progress.advance(task)
                    if number % 50 == 49:
                        # At the pace of a busy shop, so that one can watch.
                        await asyncio.sleep(0.05)
                await producer.flush()
        finally:
            await producer.stop()

    async def _watch(self) -> None:
        roles = [LEDGER, TRAIT_CHANGES, AUDIENCE_CHANGES, DEAD_LETTERS]
        roles += [DESTINATION_PREFIX + name for name, _ in self.names.destinations]
        role_of = {self.names.of_role(role): role for role in roles}
        consumer = plain_consumer(self.settings.aiokafka_options())
        await consumer.start()
        try:
            wanted = [
                TopicPartition(name, number)
                for name, role in role_of.items()
                for number in range(1 if role == DEAD_LETTERS else self.names.partitions)
            ]
            while not all(consumer.partitions_for_topic(name) for name in role_of):
                await asyncio.sleep(0.2)
                await consumer._client.force_metadata_update()  # noqa: SLF001 - topics appear with the worker's start
            consumer.assign(wanted)
            await consumer.seek_to_beginning(*wanted)
            while True:
                for where, records in (await consumer.getmany(timeout_ms=200)).items():
                    for record in records:
                        self._show(role_of[where.topic], orjson.loads(record.value))
        finally:
            await consumer.stop()

    def _show(self, role: str, row: dict[str, Any]) -> None:
        if "message_id" not in row or row["message_id"] is not None:
            # What time alone has caused never ends.
            self.last = time.monotonic()
        kind = row["decision"] if role == LEDGER else role
        self.seen[role] += 1
        if role == LEDGER:
            self.decisions[kind] += 1
            users = [known["id"] for known in row.get("identifiers", []) if known["type"] == "user_id"]
            if users and not self.somebody:
                self.somebody = f"user_id:{users[0]}"
        elif role == DEAD_LETTERS:
            self.reasons[row["reason"]] += 1
        elif role == AUDIENCE_CHANGES:
            self.members[row["audience_key"]] += 1 if row["change"] == "entered" else -1
        shown = f"shown {kind}"
        self.seen[shown] += 1
        if self.seen[shown] <= self.lines:
            self.console.print(_line(role, row), markup=False, highlight=False, soft_wrap=True)
        elif self.seen[shown] == self.lines + 1:
            self.console.print(f"  … more of {kind}, not shown", markup=False, highlight=False)

    async def _until_ready(self, process: subprocess.Popen[bytes]) -> None:
        """Until the worker has put the topology in force: from then on latencies are those of a running space."""
        began = time.monotonic()
        while not self.seen[LEDGER]:
            if process.poll() is not None or time.monotonic() - began > _LIMIT_S:
                raise CdpStreamError("the worker did not become ready; its messages stand above")
            await asyncio.sleep(0.1)

    async def _until_quiet(self, process: subprocess.Popen[bytes]) -> None:
        began = time.monotonic()
        while time.monotonic() - self.last < _QUIET_S or not self.seen[LEDGER]:
            if process.poll() is not None:
                raise CdpStreamError("the worker ended before its time; its messages stand above")
            if time.monotonic() - began > _LIMIT_S:
                raise CdpStreamError(f"the worker was not done {_LIMIT_S:.0f} s after the last event")
            await asyncio.sleep(0.1)

    async def _remove_topics(self) -> None:
        admin = AIOKafkaAdminClient(**self.settings.aiokafka_options())
        await admin.start()
        try:
            await admin.delete_topics([*self.names.ours(), *self.names.sources])
        finally:
            await admin.close()

    def _summary(self, latency: str) -> None:
        table = Table(title="What happened", show_header=False)
        created, merged = self.decisions["profile_created"], self.decisions["profiles_merged"]
        rows = {
            "events": str(len(self.events)),
            "profiles": f"{created} created",
            "merges": str(merged),
            "demotions": str(self.decisions["identifier_demoted"]),
            "dead letters": ", ".join(f"{name} {count}" for name, count in sorted(self.reasons.items())) or "none",
            "audiences": ", ".join(f"{name} {count}" for name, count in sorted(self.members.items())) or "none",
            "resolve latency": latency,
        }
        for name, value in rows.items():
            table.add_row(name, value)
        self.console.print(table)
        state = ".cdp-stream/demo"
        self.console.print(
            "Try next:\n"
            f"  .venv/bin/cdp-stream replay {self.folder} --explain\n"
            f"  .venv/bin/cdp-stream replay {self.folder} --state {state}\n"
            f"  .venv/bin/cdp-stream inspect {self.somebody} --state {state} --graph somebody.svg\n"
            "  .venv/bin/cdp-stream kafka up && CDP_STREAM_KAFKA=localhost:9092 "
            f".venv/bin/cdp-stream worker {self.folder}",
            markup=False,
            highlight=False,
            soft_wrap=True,  # to be copied as they stand
        )


def _line(role: str, row: dict[str, Any]) -> str:
    profile = str(row.get("profile_id") or row.get("userId") or row.get("anonymousId") or "")[:14]
    match role:
        case "ledger":
            ids = row.get("demoted") or row.get("identifiers") or []
            what = ", ".join(f"{known['type']} {known['id']}" for known in ids)
            gone = ", ".join(absorbed[:14] for absorbed in row.get("absorbed", []))
            why = f"  [{row['violation']}]" if "violation" in row else ""
            return f"  identity    {row['decision']:20} {profile}  {what}{' absorbed ' + gone if gone else ''}{why}"
        case "trait-changes":
            return f"  trait       {row['trait_key']:20} {profile}  {row['previous']} -> {row['value']}"
        case "audience-changes":
            return f"  audience    {row['audience_key']:20} {profile}  {row['change']} ({row['cause']})"
        case "dead-letters":
            return f"  dead letter {row['reason']:20} {row['field'] or ''}  {row['detail']}"
        case _:
            if row["type"] == "audience":
                changed = f"{row['sync']} +{len(row['add'])} -{len(row['remove'])}"
                return f"  -> {role.removeprefix(DESTINATION_PREFIX):8} {row['name']:20} {changed}  {row['messageId']}"
            name = row.get("event") or row["type"]
            return f"  -> {role.removeprefix(DESTINATION_PREFIX):8} {name:20} {profile}  {row['messageId']}"


@contextlib.contextmanager
def _worker(topology: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A worker process; ended with SIGTERM, which must give exit code 0."""
    command = [sys.executable, "-m", "cdp_stream", "worker", str(topology), "--log-level", "WARNING"]
    process = subprocess.Popen(command, env=environment)  # noqa: S603
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        killer = threading.Timer(15, process.kill)
        killer.start()
        code = process.wait()
        killer.cancel()
    if code:
        raise CdpStreamError(f"the worker ended with exit code {code}")


def _latency(port: int) -> str:
    """P50 and P95 of the resolve latency, read from the worker's metrics page."""
    from urllib.request import urlopen

    from prometheus_client.parser import text_string_to_metric_families

    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    buckets: list[tuple[float, float]] = []
    for family in text_string_to_metric_families(text):
        if family.name == "cdp_resolve_seconds":
            buckets = [
                (float(sample.labels["le"]), sample.value)
                for sample in family.samples
                if sample.name.endswith("_bucket")
            ]
    total = buckets[-1][1] if buckets else 0
    if not total:
        return "no step was measured"
    shown = []
    for share in (0.5, 0.95):
        edge = next(le for le, count in buckets if count >= share * total)
        shown.append(f"P{share * 100:.0f} ≤ {edge * 1000:.0f} ms")
    return ", ".join(shown) + f" a step ({total:.0f} steps)"
