"""The webhook connector between a real broker and a real HTTP server: nothing lost, profiles in order, also after a kill."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.structs import TopicPartition

from cdp_stream.stream.broker import Broker
from cdp_stream.stream.catch_up import read_to_end
from cdp_stream.stream.consumers import plain_consumer
from cdp_stream.stream.local_kafka import free_port
from cdp_stream.stream.settings import Settings
from cdp_stream.stream.webhook_delivery import signature

pytestmark = [pytest.mark.wire, pytest.mark.timeout(300)]

PARTITIONS = 4
PROFILES = 60
SECRET = "a_shared_word"
TOPOLOGY = {
    "space": "hooked",
    "partitions": PARTITIONS,
    "sources": [{"name": "web", "topic": "events"}],
    "destinations": [
        {"name": "crm", "topic": "dest.crm"},
        {"name": "slow", "topic": "dest.slow", "rate_per_second": 20},
    ],
}


class Receiver:
    """An HTTP server in a thread of its own. Checks signatures, keeps what it took, stumbles now and then."""

    def __init__(self) -> None:
        self.took: list[tuple[str, str]] = []
        """Message ids and the profiles they are about, in order."""
        self.times: list[float] = []
        self.unsigned = 0
        self.stumbles = True
        self.is_away = False
        self.slow_s = 0.002
        self.fails_for = ""
        """A profile whose messages it cannot take."""
        self._tried: Counter[str] = Counter()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self.port = 0
        threading.Thread(target=self._serve, daemon=True).start()
        assert self._ready.wait(10)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._start())
        self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(self._runner.cleanup())
        self._loop.close()

    async def _start(self) -> None:
        app = web.Application()
        app.router.add_post("/hook", self._answer)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _answer(self, request: web.Request) -> web.Response:
        if self.is_away:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        body = await request.read()
        message_id = request.headers["webhook-id"]
        expected = signature(SECRET, message_id, int(request.headers["webhook-timestamp"]), body)
        self.unsigned += request.headers["webhook-signature"] != expected
        payload = json.loads(body)
        self._tried[message_id] += 1
        if payload["number"] % 97 == 13:
            return web.Response(status=400, text="not wanted")
        if self.stumbles and self._tried[message_id] == 1 and payload["number"] % 31 == 7:
            return web.Response(status=503)
        if self.stumbles and self._tried[message_id] == 1 and payload["number"] % 211 == 9:
            return web.Response(status=429, headers={"Retry-After": "1"})
        if payload["userId"] == self.fails_for:
            return web.Response(status=500, text="hush")
        await asyncio.sleep(self.slow_s)
        self.took.append((message_id, payload["userId"]))
        self.times.append(time.monotonic())
        return web.Response()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.stop()


class Hooked:
    """A destination's topic on a broker, and connectors of it."""

    def __init__(self, bootstrap: str, prefix: str, folder: Path, receiver: Receiver) -> None:
        (folder / "topology.yaml").write_text(json.dumps(TOPOLOGY))
        self.folder = folder
        self.prefix = prefix
        self.receiver = receiver
        self.log = folder / "webhook.log"
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("CDP_STREAM_")},
            "CDP_STREAM_KAFKA": bootstrap,
            "CDP_STREAM_TOPIC_PREFIX": prefix,
            "CDP_STREAM_SESSION_TIMEOUT_S": "6",
            "CDP_STREAM_WEBHOOK_SECRET": SECRET,
            "CDP_STREAM_WEBHOOK_URL": f"http://127.0.0.1:{receiver.port}/hook?token=hush",
        }
        self.settings = Settings.from_environ(self.environ)
        asyncio.run(self._create())

    async def _create(self) -> None:
        admin = AIOKafkaAdminClient(**self.settings.aiokafka_options())
        await admin.start()
        topics = [NewTopic(self.prefix + found["topic"], PARTITIONS, 1) for found in TOPOLOGY["destinations"]]
        await admin.create_topics(topics)
        await admin.close()

    def fill(self, topic: str, count: int) -> list[tuple[str, str]]:
        """Message ids and profiles in the order of the topic's partitions."""
        payloads = [{"messageId": f"personas_{n}", "userId": f"u{n * 7 % PROFILES}", "number": n} for n in range(count)]
        asyncio.run(self._fill(self.prefix + topic, payloads))
        return [(payload["messageId"], payload["userId"]) for payload in payloads]

    async def _fill(self, topic: str, payloads: list[dict[str, Any]]) -> None:
        producer = AIOKafkaProducer(**self.settings.aiokafka_options(), linger_ms=5)
        await producer.start()
        for payload in payloads:
            key = payload["userId"].encode()
            partition = int(payload["userId"][1:]) % PARTITIONS
            src = [("src", b"profiles/0/%d" % payload["number"])]
            await producer.send(topic, json.dumps(payload).encode(), key, partition=partition, headers=src)
        await producer.stop()

    def start(self, destination: str = "crm", *more: str, metrics_port: int = 0) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "cdp_stream", "webhook", str(self.folder), destination, *more]
        command += ["--metrics-port", str(metrics_port)]
        with self.log.open("ab") as log:
            return subprocess.Popen(command, env=self.environ, stdout=log, stderr=log)

    def stop(self, process: subprocess.Popen[bytes]) -> int:
        process.send_signal(signal.SIGTERM)
        return process.wait(timeout=30)

    def read(self, topic: str) -> list[Any]:
        return asyncio.run(self._read(self.prefix + topic))

    async def _read(self, topic: str) -> list[Any]:
        consumer = plain_consumer(self.settings.aiokafka_options())
        await consumer.start()
        try:
            places = {TopicPartition(topic, number): 0 for number in range(PARTITIONS)}
            return [record async for _, record in read_to_end(consumer, places)]
        finally:
            await consumer.stop()

    def wait_for(self, count: int, within_s: float = 60) -> None:
        until = time.monotonic() + within_s
        while len({message_id for message_id, _ in self.receiver.took}) < count:
            assert time.monotonic() < until, f"{len(self.receiver.took)} taken; {self.log.read_text()[-3000:]}"
            time.sleep(0.05)


@pytest.fixture
def hooked(kafka: Broker, topic_prefix: str, tmp_path: Path, receiver: Receiver) -> Hooked:
    return Hooked(kafka.bootstrap, topic_prefix, tmp_path, receiver)


def of_each_profile(messages: list[tuple[str, str]]) -> dict[str, list[str]]:
    """Message ids by profile in order, each as of its first time."""
    found: dict[str, list[str]] = {}
    for message_id, profile in dict.fromkeys(messages):
        found.setdefault(profile, []).append(message_id)
    return found


def test_everything_is_taken_or_dead_lettered_in_each_profile_s_order(hooked: Hooked):
    told = hooked.fill("dest.crm", 2_000)
    refused = {f"personas_{n}" for n in range(2_000) if n % 97 == 13}
    connector = hooked.start()
    try:
        hooked.wait_for(2_000 - len(refused))
        assert hooked.stop(connector) == 0, hooked.log.read_text()[-3000:]
    finally:
        connector.kill()
    took = hooked.receiver.took
    assert hooked.receiver.unsigned == 0
    assert len(took) == len(set(took)) == 2_000 - len(refused)
    assert of_each_profile(took) == of_each_profile([one for one in told if one[0] not in refused])
    letters = hooked.read("hooked.webhook.crm.dead-letters")
    rows = [json.loads(record.value) for record in letters]
    assert {row["payload"]["messageId"] for row in rows} == refused
    assert len(rows) == len(refused)
    assert {(row["reason"], row["status"], row["detail"], row["attempts"]) for row in rows} == {
        ("http_400", 400, "not wanted", 1)
    }
    assert all(record.key == json.loads(record.value)["payload"]["userId"].encode() for record in letters)
    assert all(dict(record.headers)["src"].startswith(b"profiles/0/") for record in letters)
    assert "hush" not in hooked.log.read_text()
    # A stop commits all that was done: the next connector has nothing to repeat.
    more = hooked.fill("dest.crm", 10)
    connector = hooked.start()
    hooked.receiver.took.clear()
    try:
        hooked.wait_for(10)
    finally:
        hooked.stop(connector)
    assert sorted(hooked.receiver.took) == sorted(more)


def test_a_killed_connector_s_work_is_taken_up_and_shared_without_a_loss(hooked: Hooked):
    told = hooked.fill("dest.crm", 3_000)
    refused = {f"personas_{n}" for n in range(3_000) if n % 97 == 13}
    first = hooked.start()
    try:
        hooked.wait_for(400)
    finally:
        first.kill()
        first.wait()
    second, third = hooked.start(), hooked.start()
    try:
        hooked.wait_for(3_000 - len(refused), within_s=120)
        assert [hooked.stop(second), hooked.stop(third)] == [0, 0], hooked.log.read_text()[-3000:]
    finally:
        second.kill()
        third.kill()
    took = hooked.receiver.took
    assert of_each_profile(took) == of_each_profile([one for one in told if one[0] not in refused])
    assert len(took) < 2 * 3_000
    letters = [
        json.loads(record.value)["payload"]["messageId"] for record in hooked.read("hooked.webhook.crm.dead-letters")
    ]
    assert set(letters) == refused


def test_a_receiver_that_is_away_for_a_while_gets_everything_in_order(hooked: Hooked):
    hooked.receiver.stumbles, hooked.receiver.is_away = False, True
    told = [one for one in hooked.fill("dest.crm", 300) if int(one[0][9:]) % 97 != 13]
    connector = hooked.start("crm", "--log-level", "DEBUG")
    try:
        until = time.monotonic() + 30
        while "requests that will be tried again: connection" not in hooked.log.read_text():
            assert time.monotonic() < until, hooked.log.read_text()[-3000:]
            time.sleep(0.1)
        hooked.receiver.is_away = False
        hooked.wait_for(len(told))
        assert hooked.stop(connector) == 0, hooked.log.read_text()[-3000:]
    finally:
        connector.kill()
    assert of_each_profile(hooked.receiver.took) == of_each_profile(told)
    assert len(hooked.receiver.took) == len(told)
    assert not {"hush", SECRET} & set(re.findall(r"\w+", hooked.log.read_text()))


def test_a_profile_that_is_not_taken_holds_up_no_other(hooked: Hooked):
    port = free_port()
    hooked.receiver.stumbles, hooked.receiver.fails_for = False, "u7"
    told = [one for one in hooked.fill("dest.crm", 600) if int(one[0][9:]) % 97 != 13]
    others = [one for one in told if one[1] != "u7"]
    connector = hooked.start(metrics_port=port)
    try:
        hooked.wait_for(len(others))
        time.sleep(1.5)  # commits, and the figures with them, come once a second
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
            figures = page.read().decode()
        second = hooked.start(metrics_port=port)
        assert second.wait(30) == 1
        assert hooked.stop(connector) == 0, hooked.log.read_text()[-3000:]
    finally:
        connector.kill()
    assert of_each_profile(hooked.receiver.took) == of_each_profile(others)
    assert f'cdp_webhook_messages_total{{destination="crm",outcome="delivered"}} {len(others)}.0' in figures
    assert 'cdp_webhook_requests_total{destination="crm",outcome="http_500"}' in figures
    assert f'cdp_webhook_in_flight{{destination="crm"}} {len(told) - len(others)}.0' in figures
    said = hooked.log.read_text()
    assert f"port {port} for metrics cannot be had" in said
    assert "requests that will be tried again: http_500" in said
    assert "hush" not in said
    # What was not taken is what the next connector begins with; the ids are the same.
    hooked.receiver.fails_for = ""
    connector = hooked.start()
    try:
        hooked.wait_for(len(told))
    finally:
        hooked.stop(connector)
    assert of_each_profile(hooked.receiver.took) == of_each_profile(told)


def test_a_stop_lets_requests_finish_and_leaves_the_rest_to_the_next(hooked: Hooked):
    hooked.receiver.stumbles, hooked.receiver.slow_s = False, 1.0
    told = [one for one in hooked.fill("dest.crm", 200) if int(one[0][9:]) % 97 != 13]
    connector = hooked.start("crm", "--parallel", "8")
    try:
        hooked.wait_for(8)
        assert hooked.stop(connector) == 0, hooked.log.read_text()[-3000:]
    finally:
        connector.kill()
    begun = len(hooked.receiver.took)
    assert 8 < begun <= 24
    hooked.receiver.slow_s = 0.002
    connector = hooked.start()
    try:
        hooked.wait_for(len(told))
    finally:
        hooked.stop(connector)
    # Nothing is lost. What lay in a partition behind a message that was not begun is sent once more.
    assert len(hooked.receiver.took) <= len(told) + begun
    assert of_each_profile(hooked.receiver.took) == of_each_profile(told)


def test_the_rate_of_a_destination_holds(hooked: Hooked):
    hooked.receiver.stumbles = False
    hooked.fill("dest.slow", 60)
    connector = hooked.start("slow")
    try:
        hooked.wait_for(50)
    finally:
        hooked.stop(connector)
    times = hooked.receiver.times
    assert times[40] - times[0] >= 1.9


def test_a_destination_without_a_topic_is_said_to_have_none(hooked: Hooked):
    hooked.environ["CDP_STREAM_TOPIC_PREFIX"] = hooked.prefix + "other."
    connector = hooked.start()
    assert connector.wait(30) == 1
    assert "there is no topic" in hooked.log.read_text()
    assert "not signed" not in hooked.log.read_text()


def test_a_connector_without_a_secret_says_so(hooked: Hooked):
    hooked.environ["CDP_STREAM_TOPIC_PREFIX"] = hooked.prefix + "other."
    del hooked.environ["CDP_STREAM_WEBHOOK_SECRET"]
    connector = hooked.start()
    assert connector.wait(30) == 1
    assert "requests are not signed: CDP_STREAM_WEBHOOK_SECRET is not set" in hooked.log.read_text()
