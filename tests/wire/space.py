"""A space on a real broker for the wire tests: its topology on disk, its sources, its worker processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.structs import TopicPartition

from cdp_stream.cli.from_kafka import recompute
from cdp_stream.cli.topology import load_compiled
from cdp_stream.errors import BrokerUnavailable
from cdp_stream.stages.entries import Slice, decode_entry
from cdp_stream.stream.catch_up import read_to_end
from cdp_stream.stream.consumers import plain_consumer
from cdp_stream.stream.recompute import running_digest
from cdp_stream.stream.settings import Settings
from cdp_stream.stream.topics import TopicNames

SOURCE_PARTITIONS = 4


class Space:
    def __init__(self, bootstrap: str, prefix: str, folder: Path, topology: dict[str, object]) -> None:
        self.folder = folder / "topology"
        self.folder.mkdir()
        (self.folder / "topology.yaml").write_text(json.dumps(topology))
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("CDP_STREAM_")},
            "CDP_STREAM_KAFKA": bootstrap,
            "CDP_STREAM_TOPIC_PREFIX": prefix,
            "CDP_STREAM_DATA_DIR": str(folder / "state"),
            "CDP_STREAM_METRICS_PORT": "0",
            "CDP_STREAM_SESSION_TIMEOUT_S": "6",
        }
        self.settings = Settings.from_environ(self.environ)
        self.compiled = load_compiled(self.folder)
        self.log = folder / "worker.log"

    def rewrite(self, topology: dict[str, object]) -> None:
        """Another topology in the file; nothing more."""
        (self.folder / "topology.yaml").write_text(json.dumps(topology))
        self.compiled = load_compiled(self.folder)

    def run_for_json(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`cdp-stream` with these arguments, and JSON asked for, to its end."""
        return subprocess.run(
            [sys.executable, "-m", "cdp_stream", *arguments, "--json"],
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def create_sources(self) -> None:
        asyncio.run(self._create_sources())

    async def _create_sources(self) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.settings.kafka)
        await admin.start()
        prefix = self.settings.topic_prefix
        topics = [NewTopic(prefix + source.topic, SOURCE_PARTITIONS, 1) for source in self.compiled.topology.sources]
        await admin.create_topics(topics)
        await admin.close()

    def produce(self, lines: list[bytes]) -> None:
        asyncio.run(self.produce_async(lines))

    async def produce_async(self, lines: list[bytes], pause_every: int = 0, pause_s: float = 0.0) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=self.settings.kafka, max_batch_size=256 * 1024, linger_ms=5)
        await producer.start()
        topic = self.settings.topic_prefix + self.compiled.topology.sources[0].topic
        try:
            for number, line in enumerate(lines):
                await producer.send(topic, line, partition=number % SOURCE_PARTITIONS)
                if pause_every and number % pause_every == pause_every - 1:
                    await asyncio.sleep(pause_s)
            await producer.flush()
        finally:
            await producer.stop()

    def remove_records(self) -> None:
        """Everything that stands in the first source now, as its retention would."""
        asyncio.run(self._remove_records())

    async def _remove_records(self) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.settings.kafka)
        await admin.start()
        topic = self.settings.topic_prefix + self.compiled.topology.sources[0].topic
        everything = RecordsToDelete(before_offset=-1)
        await admin.delete_records({TopicPartition(topic, number): everything for number in range(SOURCE_PARTITIONS)})
        await admin.close()

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "cdp_stream", "worker", str(self.folder), *arguments],
                env=self.environ,
                stdout=log,
                stderr=log,
            )

    def stop(self, process: subprocess.Popen[bytes]) -> tuple[int, float]:
        """SIGTERM; returns exit code and seconds it took."""
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        return process.wait(timeout=30), time.monotonic() - began

    @contextmanager
    def at_work(self) -> Iterator[subprocess.Popen[bytes]]:
        """A worker; at the end no output stands twice, and it stops in order."""
        worker = self.start()
        try:
            yield worker
            sources = self.counts()[2]
            assert len(sources) == len(set(sources))
            assert self.stop(worker)[0] == 0
        finally:
            worker.kill()
            worker.wait()

    def counts(self) -> tuple[str, dict[str, int], list[tuple[str, str]]]:
        """Digest, records by topic, and (topic, src) of every output record, as a plain consumer sees them."""
        sources: list[tuple[str, str]] = []

        def seen(topic: str, _key: bytes, headers: dict[str, bytes]) -> None:
            sources.append((topic, headers["src"].decode()))

        digest, counts = asyncio.run(running_digest(self.settings, self.compiled, seen))
        return digest, counts, sources

    def recomputed(self) -> tuple[str, dict[str, int]]:
        return asyncio.run(recompute(self.settings, self.compiled))

    def wait_until_done(self, records: int, within_s: float = 180) -> None:
        """Until slices of `records` records stand in the identity log, and the state and topics hold what they say."""
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            try:
                if asyncio.run(self._sliced()) >= records and self.counts()[0] == self.recomputed()[0]:
                    return
            except BrokerUnavailable:
                pass  # the worker has not created its topics yet
            time.sleep(0.5)
        raise AssertionError(f"not done within {within_s} s; {self.log.read_text()[-3000:]}")

    def wait_until_cut(self, records: int, within_s: float = 60) -> None:
        """Until slices of `records` records stand in the identity log."""
        until = time.monotonic() + within_s
        while asyncio.run(self._sliced()) < records:
            assert time.monotonic() < until, self.log.read_text()[-3000:]
            time.sleep(0.2)

    async def groups_behind(self) -> dict[TopicPartition, int]:
        """How many offsets each stage's group has not committed of its input, as lag tools see it; sources too."""
        prefix = f"{self.settings.topic_prefix}{self.compiled.topology.space}."
        admin = AIOKafkaAdminClient(**self.settings.aiokafka_options())
        consumer = plain_consumer(self.settings.aiokafka_options())
        await admin.start()
        await consumer.start()
        try:
            behind = {}
            for group in ("identity", "profiles", "sources"):
                offsets = await admin.list_consumer_group_offsets(prefix + group)
                ends = await consumer.end_offsets(list(offsets))
                behind |= {where: ends[where] - offset.offset for where, offset in offsets.items()}
        finally:
            await admin.close()
            await consumer.stop()
        return behind

    async def _sliced(self) -> int:
        names = TopicNames.of(self.compiled.topology, self.settings)
        consumer = plain_consumer(self.settings.aiokafka_options())
        await consumer.start()
        try:
            if names.identity_log not in await consumer.topics():
                return 0
            starts = {TopicPartition(names.identity_log, 0): 0}
            entries = [decode_entry(record.value) async for _, record in read_to_end(consumer, starts)]
        finally:
            await consumer.stop()
        slices = [entry for entry in entries if isinstance(entry, Slice)]
        return len(
            {
                (part.topic, part.partition, offset)
                for entry in slices
                for part in entry.sources
                for offset in range(part.start, part.end)
            }
        )
