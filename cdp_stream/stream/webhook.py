"""The webhook connector: a destination's topic, message by message, to an HTTP receiver.

A consumer group of its own, so that a slow receiver holds up nobody else. What is committed has been delivered or stands
in the dead-letter topic; whatever a crash leaves uncommitted is sent again, with the same id.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import signal
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition
from prometheus_client import start_http_server

from cdp_stream.config.destination import Destination
from cdp_stream.errors import BrokerUnavailable, CdpStreamError, SettingsError
from cdp_stream.metrics import Metrics, WebhookMetrics
from cdp_stream.model.time import format_instant
from cdp_stream.stages.records import DESTINATION_PREFIX
from cdp_stream.stream.kafka_log import KafkaLog, wall_clock_ms
from cdp_stream.stream.settings import Settings
from cdp_stream.stream.topics import MESSAGE_BYTES_MAX, TopicNames, create_topics
from cdp_stream.stream.webhook_delivery import Answer, Delivery, Receiver, Sender, open_session
from cdp_stream.stream.webhook_lanes import Lanes, Message
from cdp_stream.stream.webhook_pace import Pace

_POLL_MS: Final = 200
_POLL_FULL_MS: Final = 20
_COMMIT_EVERY_S: Final = 1.0
_TROUBLES_EVERY_S: Final = 10.0
_DEAD_LETTER_PAYLOAD_MAX: Final = MESSAGE_BYTES_MAX // 2
"""Bytes. A dead letter holds a payload with words around it, or in base64; both must fit in a record."""
_FETCH_BYTES_MAX: Final = 1024 * 1024
_PARALLEL_MAX: Final = 1_000
log = logging.getLogger("cdp_stream.webhook")


@dataclass(frozen=True, slots=True)
class Connector:
    """What one connector process does: which destination, to whom, how many requests at a time."""

    settings: Settings
    names: TopicNames
    destination: Destination
    receiver: Receiver
    parallel: int
    metrics_port: int

    def __post_init__(self) -> None:
        """Refuse a number of requests that cannot be kept under way."""
        if not 1 <= self.parallel <= _PARALLEL_MAX:
            raise SettingsError(f"{self.parallel} requests at a time: must be from 1 to {_PARALLEL_MAX}")


def run_webhook(connector: Connector) -> None:
    """Deliver until SIGTERM or SIGINT; returns when all that was begun is finished and committed."""
    asyncio.run(_run(connector))


async def _run(connector: Connector) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    metrics = Metrics()
    if connector.metrics_port:
        try:
            start_http_server(connector.metrics_port, registry=metrics.registry)
        except OSError as error:
            raise CdpStreamError(
                f"port {connector.metrics_port} for metrics cannot be had ({error.strerror}): name another one with "
                "--metrics-port, or 0 for none"
            ) from error
    await deliver_until(stop, connector, WebhookMetrics(metrics, connector.destination.name))


async def deliver_until(stop: asyncio.Event, connector: Connector, metrics: WebhookMetrics) -> None:
    """Deliver until `stop` is set. Raises BrokerUnavailable when the destination's topic is not there."""
    settings, names, destination = connector.settings, connector.names, connector.destination
    topic = names.of_role(DESTINATION_PREFIX + destination.name)
    if not connector.receiver.secrets:
        log.warning("requests are not signed: CDP_STREAM_WEBHOOK_SECRET is not set")
    await _ensure_topics(settings, names, destination.name, topic)
    options = settings.aiokafka_options()
    consumer = AIOKafkaConsumer(
        **options,
        group_id=names.webhook_group(destination.name),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=int(settings.session_timeout_s * 1000),
        heartbeat_interval_ms=int(settings.session_timeout_s * 250),
        max_partition_fetch_bytes=_FETCH_BYTES_MAX,
    )
    producer = AIOKafkaProducer(**options, acks="all", enable_idempotence=True, max_request_size=MESSAGE_BYTES_MAX * 2)
    pace = Pace(destination.rate_per_second, time.monotonic)
    troubles = Troubles()
    async with open_session(connector.parallel) as session:

        def observe(answer: Answer, seconds: float) -> None:
            metrics.request(answer.reason or answer.verdict, seconds)
            troubles.note(answer)

        sender = Sender(session, connector.receiver, pace, connector.parallel, observe)
        desk = _Desk(connector, sender, producer, metrics)
        delivering = _Delivering(consumer, desk, pace, names.partitions, troubles)
        consumer.subscribe([topic], listener=delivering)
        try:
            await producer.start()
            await consumer.start()
            log.info("delivering %s to %s", topic, connector.receiver.host)
            await delivering.until(stop, metrics)
        finally:
            await delivering.finish()
            await consumer.stop()
            await producer.stop()
    log.info("stopped; everything that was begun is finished")


async def _ensure_topics(settings: Settings, names: TopicNames, destination: str, topic: str) -> None:
    found = await KafkaLog(settings.aiokafka_options()).describe([topic])
    if topic not in found:
        raise BrokerUnavailable(f"there is no topic {topic} yet: a worker makes it when it first runs")
    admin = AIOKafkaAdminClient(**settings.aiokafka_options())
    await admin.start()
    try:
        wanted: dict[str, tuple[int, dict[str, str]]] = {
            names.webhook_dead_letters(destination): (names.partitions, {})
        }
        await create_topics(admin, wanted, settings.replication_factor)
    finally:
        await admin.close()


class Troubles:
    """What the receiver did not take, for the log: one line in a while, however many requests it is."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._tell_at = 0.0

    def note(self, answer: Answer) -> None:
        """An attempt's answer."""
        if answer.verdict == "again":
            # Only where there was no answer is the detail ours.
            cause = f" ({answer.detail})" if answer.status is None and answer.detail else ""
            self._counts[answer.reason + cause] += 1

    def tell(self, now_s: float) -> None:
        """Say what has come together since the last time, if it is long enough ago."""
        if self._counts and now_s >= self._tell_at:
            told = ", ".join(f"{reason}: {count}" for reason, count in self._counts.most_common())
            log.warning("requests that will be tried again: %s", told)
            self._counts.clear()
            self._tell_at = now_s + _TROUBLES_EVERY_S


class _Desk:
    """Deals with one message: to the receiver, or to the dead letters."""

    def __init__(
        self, connector: Connector, sender: Sender, producer: AIOKafkaProducer, metrics: WebhookMetrics
    ) -> None:
        self._sender = sender
        self._producer = producer
        self._metrics = metrics
        self._destination = connector.destination.name
        self._dead_letters = connector.names.webhook_dead_letters(self._destination)

    async def handle(self, message: Message, closing: asyncio.Event) -> None:
        """Done when it returns. Raises Abandoned when the connector closes before, KafkaError if the broker refuses."""
        message_id = message_id_of(message.value)
        if message_id is None:
            await self._bury(message, Delivery(Answer("refused", "no_message_id"), 0))
            return
        delivery = await self._sender.deliver(message_id, message.value, closing)
        if delivery.answer.verdict == "delivered":
            self._metrics.done("delivered")
        else:
            await self._bury(message, delivery)

    async def _bury(self, message: Message, delivery: Delivery) -> None:
        row = dead_letter_row(self._destination, message, delivery, wall_clock_ms())
        headers = [] if message.src is None else [("src", message.src)]
        await self._producer.send_and_wait(
            self._dead_letters,
            value=orjson.dumps(row),
            key=message.key,
            partition=message.where.partition,
            headers=headers,
        )
        self._metrics.done("dead_lettered")
        log.warning("%s/%d: dead-lettered, %s", message.where, message.offset, row["reason"])


def message_id_of(value: bytes) -> str | None:
    """The `messageId` of a payload, or None if it is none of ours."""
    try:
        payload = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    found = payload.get("messageId") if isinstance(payload, dict) else None
    return found if isinstance(found, str) and found.isascii() and found.isprintable() else None


def dead_letter_row(destination: str, message: Message, delivery: Delivery, now_ms: int) -> dict[str, Any]:
    """What is kept of a message that was not delivered: why, after how many attempts, and the message itself.

    Of one that is too large for that, only its size; it stands in its topic, at `source`.
    """
    answer = delivery.answer
    row: dict[str, Any] = {
        "destination": destination,
        "reason": answer.reason if answer.verdict == "refused" else f"retries_exhausted: {answer.reason}",
        "attempts": delivery.attempts,
        "time": format_instant(now_ms),
        "source": {"topic": message.where.topic, "partition": message.where.partition, "offset": message.offset},
    }
    if answer.status is not None:
        row["status"] = answer.status
    if answer.detail:
        row["detail"] = answer.detail
    if len(message.value) > _DEAD_LETTER_PAYLOAD_MAX:
        row["size"] = len(message.value)
        return row
    try:
        row["payload"] = orjson.loads(message.value)
    except orjson.JSONDecodeError:
        row["value_base64"] = base64.b64encode(message.value).decode()
    return row


class _Delivering(ConsumerRebalanceListener):  # type: ignore[misc]
    """Moves messages from the consumer to lanes, and commits what is dealt with."""

    def __init__(
        self, consumer: AIOKafkaConsumer, desk: _Desk, pace: Pace, partitions: int, troubles: Troubles
    ) -> None:
        self._consumer = consumer
        self._troubles = troubles
        self._desk = desk
        self._pace = pace
        self._partitions = partitions
        self._lanes = Lanes(desk.handle)
        self._committed: dict[TopicPartition, int] = {}

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Finish what is under way and commit, before another connector goes on."""
        del revoked
        await self.finish()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Begin anew from what is committed, at our share of the destination's rate."""
        self._lanes = Lanes(self._desk.handle)
        self._committed = {}
        self._pace.share = len(assigned) / self._partitions
        log.info("%d of %d partitions", len(assigned), self._partitions)

    async def until(self, stop: asyncio.Event, metrics: WebhookMetrics) -> None:
        """Move messages until `stop` is set. Raises what a message's handling raised: the process is to end."""
        commit_at = 0.0
        while not stop.is_set():
            lanes = self._lanes
            room = lanes.room()
            assigned = self._consumer.assignment()
            # A consumer that does not poll is put out of its group: without room it polls, for nothing.
            (self._consumer.resume if room else self._consumer.pause)(*assigned)
            wait_ms = _POLL_MS if room else _POLL_FULL_MS
            batches = await self._consumer.getmany(timeout_ms=wait_ms, max_records=room or 1)
            for where, records in batches.items():
                for record in records:
                    src = dict(record.headers).get("src")
                    lanes.put(Message(where, record.offset, record.key, record.value or b"", src))
            if lanes.failure is not None:
                raise lanes.failure
            now = time.monotonic()
            if now >= commit_at:
                commit_at = now + _COMMIT_EVERY_S
                await self._commit(lanes.committable())
                metrics.position(lanes.in_flight, self._lag())
                self._troubles.tell(now)

    async def finish(self) -> None:
        """Close the lanes and commit what they have dealt with."""
        await self._lanes.close()
        await self._commit(self._lanes.committable())

    async def _commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        news = {where: offset for where, offset in offsets.items() if self._committed.get(where) != offset}
        if not news:
            return
        try:
            await self._consumer.commit(news)
        except KafkaError as error:
            # Nothing is lost: what is not committed is delivered again.
            log.warning("not committed: %s", error)
        else:
            self._committed.update(news)

    def _lag(self) -> int:
        lag = 0
        for where in self._consumer.assignment():
            end = self._consumer.highwater(where)
            if end is not None:
                lag += max(0, end - self._lanes.position(where, end))
        return lag
