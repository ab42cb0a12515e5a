"""The table of broker trouble in docs/guarantees.md, row by row, on a Kafka that is started here and maltreated."""

from __future__ import annotations

import asyncio
import json
import re
import resource
import secrets
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition
from space import SOURCE_PARTITIONS, Space
from torture.cluster import Cluster, Node

from cdp_stream.errors import BrokerUnavailable
from cdp_stream.model.event import ID_LENGTH_MAX
from cdp_stream.stream.kafka_log import KafkaLog, wall_clock_ms
from cdp_stream.stream.local_kafka import free_port, kafka_jars, new_cluster_id
from cdp_stream.stream.reading import follow
from cdp_stream.testing.people import People

pytestmark = [pytest.mark.wire, pytest.mark.timeout(240)]
SOURCE = "events"
TOPOLOGY = {
    "space": "trouble",
    "partitions": 2,
    "sources": [{"name": "web", "topic": SOURCE}],
    "traits": [{"key": "calls", "definition": "event('Product Viewed').count()", "destinations": ["crm"]}],
    "destinations": [{"name": "crm", "kind": "event", "topic": "crm"}],
}
LINES = list(People(3, 40).lines(4_000))


class Broker:
    """A node with a plain listener, and one that asks for a name and a password."""

    def __init__(self, folder: Path) -> None:
        libs = kafka_jars()
        self.port, self.secure, controller = free_port(), free_port(), free_port()
        self.bootstrap = f"localhost:{self.port}"
        listeners = f"PLAINTEXT://localhost:{self.port},SECURE://localhost:{self.secure}"
        self.node = Node(
            libs,
            folder,
            self.port,
            new_cluster_id(libs),
            {
                "group.min.session.timeout.ms": "1000",
                "listeners": f"{listeners},CONTROLLER://localhost:{controller}",
                "advertised.listeners": listeners,
                "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_PLAINTEXT",
                "controller.quorum.voters": f"1@localhost:{controller}",
                "sasl.enabled.mechanisms": "PLAIN",
                "listener.name.secure.plain.sasl.jaas.config": (
                    'org.apache.kafka.common.security.plain.PlainLoginModule required user_ann="hush-hush";'
                ),
                # Small files, so that a limit of their size is met soon.
                "log.index.size.max.bytes": "4096",
            },
        )


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    try:
        broker = Broker(tmp_path_factory.mktemp("trouble") / "node")
    except BrokerUnavailable as error:
        pytest.skip(f"no Kafka from its jars: {error}")
    broker.node.start()
    yield broker
    broker.node.stop()


class Trouble(Space):
    """A space with pages, and a worker that is always ended."""

    def __init__(self, bootstrap: str, folder: Path, topology: dict[str, object]) -> None:
        super().__init__(bootstrap, f"t{secrets.token_hex(4)}.", folder, topology)
        self.port = free_port(2)
        self.environ |= {"CDP_STREAM_METRICS_PORT": str(self.port), "CDP_STREAM_SESSION_TIMEOUT_S": "4"}
        self.source = self.settings.topic_prefix + SOURCE
        self.workers: list[subprocess.Popen[bytes]] = []
        self.sent = 0

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        self.workers.append(super().start(*arguments))
        return self.workers[-1]

    def end(self) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                worker.terminate()
        for worker in self.workers:
            worker.wait(20)

    def send(self, count: int) -> None:
        self.produce(LINES[self.sent : self.sent + count])
        self.sent += count

    def done(self) -> None:
        self.wait_until_done(self.sent, 90)

    def page(self, path: str, stage: int = 0) -> tuple[int, str]:
        """Status and text; 0 where nobody answers."""
        try:
            with urllib.request.urlopen(f"http://localhost:{self.port + stage}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def metric(self, name: str) -> float:
        found = re.search(rf"^{name}(?:\{{.*\}})? (\S+)$", self.page("/metrics")[1], re.MULTILINE)
        return float(found[1]) if found else 0.0

    def said(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def wait(self, condition: Callable[[], bool], what: str, within_s: float = 90) -> None:
        until = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < until, f"{what}: {self.said()[-3000:]}"
            time.sleep(0.1)

    def ready(self) -> None:
        self.wait(lambda: self.page("/readyz")[0] == self.page("/readyz", 1)[0] == 200, "ready")

    def stops(self, worker: subprocess.Popen[bytes], words: str, code: int = 1) -> None:
        """It ends by itself with this code, saying so; nobody answers on its pages then."""
        assert worker.wait(90) == code, self.said()[-3000:]
        assert words in self.said(), self.said()[-3000:]
        assert self.page("/healthz")[0] == 0

    def command(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "cdp_stream", *arguments],
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def admin(self, act: Callable[[AIOKafkaAdminClient], Awaitable[Any]]) -> Any:
        async def acted() -> Any:
            admin = AIOKafkaAdminClient(bootstrap_servers=self.settings.kafka)
            await admin.start()
            try:
                return await act(admin)
            finally:
                await admin.close()

        return asyncio.run(acted())

    def decisions(self) -> set[str]:
        """Every kind of decision in the ledger."""

        async def read() -> set[str]:
            log = KafkaLog(self.settings.aiokafka_options())
            rows = follow(log, [self.topic("ledger")], from_beginning=True, to_end=True)
            return {json.loads(row.value)["decision"] async for row in rows}

        return asyncio.run(read())

    def topic(self, role: str) -> str:
        return f"{self.settings.topic_prefix}trouble.{role}"

    def make_anew(self, topic: str, partitions: int, **settings: str) -> None:
        self.admin(lambda admin: admin.delete_topics([topic]))
        time.sleep(1)
        made = NewTopic(
            topic, partitions, 1, topic_configs={name.replace("_", "."): at for name, at in settings.items()}
        )
        self.admin(lambda admin: admin.create_topics([made]))


@pytest.fixture
def space(broker: Broker, tmp_path: Path) -> Iterator[Trouble]:
    space = Trouble(broker.bootstrap, tmp_path, TOPOLOGY)
    space.create_sources()
    yield space
    space.end()


@pytest.fixture
def at_work(space: Trouble) -> tuple[Trouble, subprocess.Popen[bytes]]:
    worker = space.start("--restart")
    space.send(100)
    space.done()
    space.ready()
    return space, worker


Running = tuple[Trouble, subprocess.Popen[bytes]]


def test_the_broker_goes_away_and_comes_back(broker: Broker, at_work: Running) -> None:
    space, worker = at_work
    broker.node.kill()
    try:
        time.sleep(6)
        assert worker.poll() is None
    finally:
        broker.node.start()
    space.send(100)
    space.done()
    space.ready()
    assert space.stop(worker)[0] == 0, space.said()[-3000:]


def test_the_broker_is_slow_to_acknowledge(broker: Broker, at_work: Running) -> None:
    space, worker = at_work
    for _ in range(3):
        space.send(100)
        broker.node.freeze()
        time.sleep(1.5)
        assert space.page("/healthz")[0] == 200
        broker.node.thaw()
    space.done()
    assert space.stop(worker)[0] == 0, space.said()[-3000:]


def test_leaders_change(tmp_path: Path) -> None:
    """One of two nodes dies: the other leads everything, but has nobody to copy to until the first is back."""
    try:
        cluster = Cluster(tmp_path / "cluster")
    except BrokerUnavailable as error:
        pytest.skip(f"no Kafka from its jars: {error}")
    with cluster:
        space = Trouble(cluster.bootstrap, tmp_path, TOPOLOGY)
        space.environ["CDP_STREAM_REPLICATION_FACTOR"] = "2"
        space.admin(lambda admin: admin.create_topics([NewTopic(space.source, SOURCE_PARTITIONS, 2)]))
        worker = space.start()
        try:
            space.send(100)
            space.done()
            space.ready()
            before = _leaders(space)
            assert set(before.values()) == {1, 2}
            cluster.second.kill()
            space.wait(lambda: _is_led_by(space, 1), "another leader")
            space.send(100)
            time.sleep(3)
            assert worker.poll() is None, space.said()[-3000:]
            assert space.page("/healthz")[0] == 200
            cluster.second.start()
            space.send(100)
            space.done()
            space.ready()
            sources = space.counts()[2]
            assert len(sources) == len(set(sources))
            assert space.stop(worker)[0] == 0, space.said()[-3000:]
        finally:
            space.end()


def _is_led_by(space: Trouble, node: int) -> bool:
    """Does it lead every partition? The client may ask the dead node first."""
    try:
        return set(_leaders(space).values()) == {node}
    except KafkaError:
        return False


def _leaders(space: Trouble) -> dict[tuple[str, int], int]:
    """The leading node of every partition of the space's topics and sources."""

    async def described(admin: AIOKafkaAdminClient) -> Any:
        ours = [name for name in await admin.list_topics() if name.startswith(space.settings.topic_prefix)]
        return await admin.describe_topics(ours)

    return {
        (topic["topic"], partition["partition"]): partition["leader"]
        for topic in space.admin(described)
        for partition in topic["partitions"]
    }


def test_a_source_is_missing(broker: Broker, tmp_path: Path) -> None:
    space = Trouble(broker.bootstrap, tmp_path, TOPOLOGY)
    space.stops(space.start("--stage", "identity"), f"source topics do not exist: {space.source}")


@pytest.mark.parametrize(
    ("role", "partitions", "settings", "words"),
    [
        ("ledger", 3, {}, "has 3 partitions, the topology needs 2"),
        ("identity-log", 1, {}, "it must be"),
        ("profiles.changelog", 2, {}, "has cleanup.policy=delete, it must be compact"),
    ],
)
def test_a_topic_has_other_settings(
    role: str, partitions: int, settings: dict[str, str], words: str, space: Trouble
) -> None:
    made = NewTopic(space.topic(role), partitions, 1, topic_configs=settings)
    space.admin(lambda admin: admin.create_topics([made]))
    space.stops(space.start("--stage", "identity"), words, 3)


def test_a_compacted_source_is_refused(space: Trouble) -> None:
    space.make_anew(space.source, SOURCE_PARTITIONS, cleanup_policy="compact")
    space.stops(space.start("--stage", "identity"), "has cleanup.policy=compact, it must be delete", 3)


def test_an_output_topic_gains_partitions(at_work: Running) -> None:
    space, worker = at_work
    space.admin(lambda admin: admin.create_partitions({space.topic("ledger"): NewPartitions(3)}))
    space.send(100)
    space.done()
    assert space.stop(worker)[0] == 0
    space.stops(space.start("--stage", "identity"), "has 3 partitions, the topology needs 2", 3)


def test_the_credentials_are_wrong(broker: Broker, space: Trouble) -> None:
    space.environ |= {
        "CDP_STREAM_KAFKA": f"localhost:{broker.secure}",
        "CDP_STREAM_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "CDP_STREAM_SASL_USERNAME": "ann",
        "CDP_STREAM_SASL_PASSWORD": "loud-loud",
    }
    space.stops(space.start("--stage", "identity"), "the broker could not be used")
    assert "loud-loud" not in space.said()


def test_a_message_is_too_large_for_its_topic(broker: Broker, space: Trouble) -> None:
    narrow = NewTopic(f"{space.settings.topic_prefix}crm", 2, 1, topic_configs={"max.message.bytes": "300"})
    space.admin(lambda admin: admin.create_topics([narrow]))
    worker = space.start()
    space.send(200)
    space.stops(worker, "MessageSizeTooLargeError")
    assert "has max.message.bytes=300" in space.said()
    space.make_anew(f"{space.settings.topic_prefix}crm", 2)
    worker = space.start()
    space.done()
    assert space.stop(worker)[0] == 0


def test_retention_removes_source_records_before_they_are_read(space: Trouble) -> None:
    worker = space.start()
    space.send(100)
    space.done()
    assert space.stop(worker)[0] == 0
    space.send(400)
    where = TopicPartition(space.source, 1)
    space.admin(lambda admin: admin.delete_records({where: RecordsToDelete(60)}))
    space.stops(space.start("--stage", "identity"), f"{space.source}/1: retention removed records 25 to 59")
    said = space.command("accept-loss", str(space.folder), "--topic", SOURCE, "--partition", "1")
    assert f"{space.source}/1: offsets 25 to 59 are given up" in said
    said = space.command("accept-loss", str(space.folder), "--topic", SOURCE, "--partition", "1", "--yes")
    assert "the next worker does it" in said or "done" in said
    worker = space.start()
    space.wait(lambda: space.metric("cdp_events_total") + space.metric("cdp_duplicates_total") > 0, "goes on")
    space.wait(lambda: _read_to_end(space), "read to its end")
    assert "loss_accepted" in space.decisions()
    assert space.stop(worker)[0] == 0


def _read_to_end(space: Trouble) -> bool:
    status = json.loads(space.command("status", str(space.folder), "--json"))
    return all(source["lag"] == 0 for source in status["sources"])


def test_a_source_is_deleted_and_made_anew(space: Trouble) -> None:
    worker = space.start()
    space.send(100)
    space.done()
    assert space.stop(worker)[0] == 0
    space.make_anew(space.source, SOURCE_PARTITIONS)
    space.send(200)
    space.stops(space.start("--stage", "identity"), f"{space.source}: the topic was deleted and made anew")
    space.command("source-reset", str(space.folder), "--topic", SOURCE, "--yes")
    worker = space.start()
    space.wait(lambda: _read_to_end(space), "read to its end")
    assert "source_reset" in space.decisions()
    assert space.stop(worker)[0] == 0


def test_a_source_gains_partitions(at_work: Running) -> None:
    space, worker = at_work
    space.admin(lambda admin: admin.create_partitions({space.source: NewPartitions(SOURCE_PARTITIONS + 1)}))

    async def send() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=space.settings.kafka)
        await producer.start()
        for line in LINES[space.sent : space.sent + 20]:
            await producer.send_and_wait(space.source, line, partition=SOURCE_PARTITIONS)
        await producer.stop()

    asyncio.run(send())
    space.sent += 20
    space.done()
    assert f"{space.source} has {SOURCE_PARTITIONS + 1} partitions now" in space.said()
    assert space.stop(worker)[0] == 0


@pytest.mark.parametrize("how", ["truncated", "gone"])
def test_the_identity_log_is_not_what_it_was(how: str, space: Trouble) -> None:
    worker = space.start()
    space.send(100)
    space.done()
    assert space.stop(worker)[0] == 0
    log = space.topic("identity-log")
    if how == "truncated":
        space.make_anew(log, 1, retention_ms="-1", retention_bytes="-1", message_timestamp_type="LogAppendTime")
    else:
        space.admin(lambda admin: admin.delete_topics([log]))
        time.sleep(1)
    space.stops(space.start("--stage", "identity"), "is not there any more")


def test_the_brokers_clock_is_ahead(space: Trouble) -> None:
    """The owner's clock is a day behind the broker's, which comes to the same."""
    script = (
        "import time; from cdp_stream.stream import kafka_log\n"
        "kafka_log.wall_clock_ms = lambda: time.time_ns() // 1_000_000 - 86_400_000\n"
        "from cdp_stream.cli.main import main; main()"
    )
    with space.log.open("ab") as log:
        worker = subprocess.Popen(
            [sys.executable, "-c", script, "worker", str(space.folder), "--stage", "identity"],
            env=space.environ,
            stdout=log,
            stderr=log,
        )
    space.workers.append(worker)
    space.send(100)
    space.wait(lambda: space.metric("cdp_events_total") > 0, "events")
    time.sleep(2)
    behind_s = wall_clock_ms() / 1000 - space.metric("cdp_stream_time_seconds")
    assert 86_400 - 70 < behind_s < 86_400 + 5
    assert space.stop(worker)[0] == 0


def test_the_workers_disk_is_full(space: Trouble) -> None:
    worker = space.start("--stage", "identity")
    space.send(50)
    space.wait(lambda: space.page("/readyz")[0] == 200, "ready")
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
    # The store asks for the disk when a write buffer is full.
    wide = [{"type": "identify", "userId": f"wide-{number}", "messageId": f"wide-{number}"} for number in range(12_000)]
    space.produce(
        [json.dumps({**line, "anonymousId": secrets.token_hex(ID_LENGTH_MAX // 2)}).encode() for line in wide]
    )
    space.sent += len(wide)
    space.stops(worker, "CRITICAL")
    worker = space.start()
    space.done()
    assert space.stop(worker)[0] == 0


def test_the_brokers_disk_is_full(broker: Broker, at_work: Running) -> None:
    """A limit on the size of its files comes to the same: what it would append is refused."""
    space, worker = at_work
    resource.prlimit(broker.node.pid, resource.RLIMIT_FSIZE, (16_384, resource.RLIM_INFINITY))
    try:
        asyncio.run(_send_until_refused(space))
        assert worker.poll() is None
    finally:
        broker.node.kill()
        broker.node.start()
    space.ready()
    space.wait(lambda: _read_to_end(space) and space.counts()[0] == space.recomputed()[0], "everything is done")
    assert space.stop(worker)[0] == 0, space.said()[-3000:]


async def _send_until_refused(space: Trouble) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=space.settings.kafka, request_timeout_ms=3_000)
    await producer.start()
    try:
        for line in LINES[space.sent : space.sent + 2_000]:
            await producer.send_and_wait(space.source, line, partition=0)
    except KafkaError:
        return
    finally:
        await producer.stop()
    raise AssertionError("nothing was refused")
