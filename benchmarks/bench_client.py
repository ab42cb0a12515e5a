"""What can the client itself do: the drain's records consumed and produced again, with no work between?

Records are read as the worker reads them, 2,000 at a time, written to the same partitions of another topic as one
record batch each, and every batch is acknowledged before the next records are read.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import time
from hashlib import blake2b
from typing import Any

from about import about, spread
from aiokafka import AIOKafkaProducer
from aiokafka.structs import TopicPartition
from broker import find_broker
from workload import PARTITIONS, SENT_AT, drop, produce, typical

from cdp_stream.stream.consumers import plain_consumer

STEP = 2_000


async def copy(bootstrap: str, lines: list[list[bytes]]) -> tuple[float, str]:
    """Records a second, and a hash of the copies."""
    name = f"bench-{secrets.token_hex(3)}"
    source, target = f"{name}.events", f"{name}.copy"
    await produce(bootstrap, source, lines)
    await produce(bootstrap, target, [[b"{}"]] * PARTITIONS)
    consumer = plain_consumer({"bootstrap_servers": bootstrap}, bare=True, isolation_level="read_committed")
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, max_batch_size=4 * 1024 * 1024, linger_ms=0
    )
    await consumer.start()
    await producer.start()
    try:
        consumer.assign([TopicPartition(source, partition) for partition in range(PARTITIONS)])
        await consumer.seek_to_beginning()
        left = every = sum(map(len, lines))
        began = time.perf_counter()
        while left:
            sent = []
            for where, records in (await consumer.getmany(timeout_ms=1_000, max_records=STEP)).items():
                batch = producer.create_batch()
                for record in records:
                    batch.append(key=None, value=record.value, timestamp=SENT_AT)
                sent.append(await producer.send_batch(batch, target, partition=where.partition))
                left -= len(records)
            await asyncio.gather(*sent)
        rate = every / (time.perf_counter() - began)
        return rate, await hash_of(consumer, target, every)
    finally:
        await consumer.stop()
        await producer.stop()
        await drop(bootstrap, name)


async def hash_of(consumer: Any, topic: str, records: int) -> str:
    """A hash of all records of a topic, partition by partition; its first record in each is not counted."""
    consumer.assign([TopicPartition(topic, partition) for partition in range(PARTITIONS)])
    await consumer.seek_to_beginning()
    hashes = {where: blake2b(digest_size=8) for where in consumer.assignment()}
    left = records + PARTITIONS
    while left:
        for where, found in (await consumer.getmany(timeout_ms=1_000)).items():
            left -= len(found)
            for record in found:
                hashes[where].update(record.value)
    return blake2b(b"".join(hashes[where].digest() for where in sorted(hashes)), digest_size=8).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--people", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    lines = typical(options.events, options.people)
    with find_broker() as broker:
        result: dict[str, Any] = about(broker.how)
        runs = [asyncio.run(copy(broker.bootstrap, lines)) for _ in range(options.runs)]
    outcomes = {outcome for _, outcome in runs}
    assert len(outcomes) == 1, outcomes
    result["client_limit_per_s"] = spread([round(rate) for rate, _ in runs])
    result["outcome"] = outcomes.pop()
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
