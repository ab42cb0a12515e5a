"""What can the client itself do: the drain's records consumed and produced again, with no work between?

Records are read as the worker reads them, 2,000 at a time, written to the same partitions of another topic as one record
batch each, and every batch is acknowledged before the next records are read.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import time
from typing import Any

from about import about, spread
from aiokafka import AIOKafkaProducer
from aiokafka.structs import TopicPartition
from workload import PARTITIONS, SENT_AT, produce, typical

from cdp_stream.stream.broker import find_broker
from cdp_stream.stream.kafka_log import plain_consumer

STEP = 2_000


async def copy(bootstrap: str, lines: list[list[bytes]]) -> float:
    """Records a second."""
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
        return every / (time.perf_counter() - began)
    finally:
        await consumer.stop()
        await producer.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--people", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    lines = typical(options.events, options.people)
    with find_broker() as broker:
        result: dict[str, Any] = about(broker.how)
        rates = [round(asyncio.run(copy(broker.bootstrap, lines))) for _ in range(options.runs)]
    result["client_limit_per_s"] = spread(rates)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
