"""The records that the benchmarks send: named workloads with fixed seeds, one list a source partition."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from itertools import count, islice
from random import Random
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from cdp_stream.model.time import DAY_MS, format_instant
from cdp_stream.testing.people import People

PARTITIONS = 8
SENT_AT = 1_767_225_600_000 + 180 * DAY_MS
"""The Kafka timestamp of every record: later than all events, so that no clock of a machine decides anything."""


def typical(events: int, people: int, partitions: int = PARTITIONS) -> list[list[bytes]]:
    """Zipf users who come anonymously and become known, shared devices, 1 % duplicates, 0.5 % malformed.

    Each partition has a town of its own whose people share nothing with other towns: the outcome is the same in
    whatever order the partitions are read.
    """
    return [
        list(People(1 + town, people // partitions, town=f"t{town}-").lines(events // partitions))
        for town in range(partitions)
    ]


def storm(events: int, people: int, partitions: int = PARTITIONS) -> list[list[bytes]]:
    """Merges and demotions all along: cookies that turn out to be somebody's, tablets that everybody uses, addresses that
    two people give. Towns as in `typical`.
    """
    return [
        list(islice(_storm(Random(1 + town), f"t{town}-", people // partitions), events // partitions))
        for town in range(partitions)
    ]


def _storm(draw: Random, town: str, people: int) -> Iterator[bytes]:
    cookies: list[int] = []
    for number in count():
        user, chance = draw.randrange(people), draw.random()
        if chance < 0.35 or not cookies:
            # A profile of its own, until somebody signs in on it.
            cookies.append(number)
            who = f'"anonymousId":"{town}c-{number}"'
        elif chance < 0.65:
            cookie = cookies.pop(draw.randrange(len(cookies)))
            who = f'"userId":"{town}u-{user}","anonymousId":"{town}c-{cookie}"'
        elif chance < 0.8:
            who = f'"userId":"{town}u-{user}","anonymousId":"{town}tablet-{draw.randrange(5)}"'
        else:
            other = user if chance < 0.9 else draw.randrange(people)
            who = f'"userId":"{town}u-{user}","traits":{{"email":"{town}{other}@example.org"}}'
        at = format_instant(SENT_AT - DAY_MS + number * 1_000)
        yield f'{{"type":"identify","messageId":"{town}m-{number}","timestamp":"{at}",{who}}}'.encode()


async def make_topic(bootstrap: str, topic: str, partitions: int) -> None:
    """A topic that keeps what is put into it."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        # The records' timestamps lie in the past: with a retention the broker would remove them under the reader.
        await admin.create_topics([NewTopic(topic, partitions, 1, topic_configs={"retention.ms": "-1"})])
    finally:
        await admin.close()


async def produce(bootstrap: str, topic: str, lines: list[list[bytes]], key: bytes | None = None) -> None:
    """Make the topic and put the lines into its partitions, all under one key."""
    await make_topic(bootstrap, topic, len(lines))
    await put(bootstrap, topic, lines, key)


async def put(
    bootstrap: str, topic: str, lines: list[list[bytes]], key: bytes | None = None, at: int = SENT_AT
) -> None:
    """Put the lines into the partitions of a topic, all under one key and one Kafka timestamp."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, max_batch_size=512 * 1024, linger_ms=5)
    await producer.start()
    try:
        sent: list[Awaitable[Any]] = []
        for partition, of_partition in enumerate(lines):
            batch = producer.create_batch()
            for line in of_partition:
                if batch.append(key=key, value=line, timestamp=at) is None:
                    sent.append(await producer.send_batch(batch, topic, partition=partition))
                    batch = producer.create_batch()
                    batch.append(key=key, value=line, timestamp=at)
            sent.append(await producer.send_batch(batch, topic, partition=partition))
        await asyncio.gather(*sent)
    finally:
        await producer.stop()


async def drop(bootstrap: str, prefix: str) -> None:
    """Remove every topic whose name begins so: what a measurement leaves behind would slow the next one."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.delete_topics([name for name in await admin.list_topics() if name.startswith(prefix)])
    finally:
        await admin.close()
