"""A generator that offers records at a steady rate, into all partitions alike."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

from aiokafka import AIOKafkaProducer

_EVERY_S = 0.01


async def offer(
    bootstrap: str,
    topic: str,
    lines: list[Iterable[bytes]],
    rate: int,
    seconds: float,
    *,
    sent: Callable[[bytes], None],
) -> float:
    """Send for so long, each record with the time at which it is sent; `sent` hears of every one. Returns the rate held.

    What falls behind the plan is made up for at once, as far as the machine lets it.
    """
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, max_batch_size=1024 * 1024, linger_ms=0)
    await producer.start()
    sources = [iter(of_partition) for of_partition in lines]
    under_way: list[Any] = []
    count, began = 0, time.perf_counter()
    try:
        while (passed := time.perf_counter() - began) < seconds:
            due = int(rate * passed) - count
            for partition, source in enumerate(sources):
                taken = list(islice(source, due // len(sources)))
                if not taken:
                    continue
                batch = producer.create_batch()
                now_ms = time.time_ns() // 1_000_000
                for line in taken:
                    batch.append(key=None, value=line, timestamp=now_ms)
                    sent(line)
                under_way.append(await producer.send_batch(batch, topic, partition=partition))
                count += len(taken)
            under_way = [future for future in under_way if not future.done()]
            await asyncio.sleep(_EVERY_S)
        await asyncio.gather(*under_way)
        return count / (time.perf_counter() - began)
    finally:
        await producer.stop()
