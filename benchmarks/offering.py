"""A generator that offers records at a steady rate, into all partitions alike."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

from aiokafka import AIOKafkaProducer

_EVERY_S = 0.01
LOWEST_PRIORITY = 19
"""Of a process that takes only what others leave of the machine."""


async def offer(
    bootstrap: str,
    topic: str,
    lines: Sequence[Iterable[bytes]],
    rate: int,
    seconds: float,
    *,
    sent: Callable[[bytes], None] | None = None,
) -> float:
    """Send `rate * seconds` records, each with the time at which it is sent; `sent` hears of every one.

    Returns the rate held. What falls behind the plan is made up for at once, as far as the machine lets it.
    """
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, max_batch_size=1024 * 1024, linger_ms=0)
    await producer.start()
    sources = [iter(of_partition) for of_partition in lines]
    planned = round(rate * seconds) // len(sources)
    under_way: list[Any] = []
    count, began = 0, time.perf_counter()
    try:
        while count < planned:
            due = min(planned, int(rate * (time.perf_counter() - began)) // len(sources)) - count
            for partition, source in enumerate(sources):
                batch = producer.create_batch()
                now_ms = time.time_ns() // 1_000_000
                for line in islice(source, due):
                    if batch.append(key=None, value=line, timestamp=now_ms) is None:
                        under_way.append(await producer.send_batch(batch, topic, partition=partition))
                        batch = producer.create_batch()
                        batch.append(key=None, value=line, timestamp=now_ms)
                    if sent is not None:
                        sent(line)
                if batch.record_count():
                    under_way.append(await producer.send_batch(batch, topic, partition=partition))
            count += due
            under_way = [future for future in under_way if not future.done()]
            # Not `_EVERY_S` after a turn, which takes time itself: the bursts would be larger than they need be.
            await asyncio.sleep(_EVERY_S - (time.perf_counter() - began) % _EVERY_S)
        await asyncio.gather(*under_way)
        return count * len(sources) / (time.perf_counter() - began)
    finally:
        await producer.stop()


@contextmanager
def offering_aside(
    bootstrap: str, topic: str, lines: Sequence[Iterable[bytes]], rate: int
) -> Iterator[Callable[[float], Callable[[], float]]]:
    """A process that offers these lines and takes only what others leave of the machine.

    Gives a function that has it offer for so many seconds, and returns another one, which waits for the end and returns the
    rate held. Called again, it goes on where its lines stand if they are iterators.
    """
    # Forked, so that the lines need not be copied; there is no other thread here yet.
    context = multiprocessing.get_context("fork")
    ours, its = context.Pipe()

    def run() -> None:
        os.nice(LOWEST_PRIORITY)
        while seconds := its.recv():
            its.send(asyncio.run(offer(bootstrap, topic, lines, rate, seconds)))

    def begin(seconds: float) -> Callable[[], float]:
        ours.send(seconds)
        return ours.recv

    process = context.Process(target=run)
    process.start()
    try:
        yield begin
    finally:
        ours.send(None)
        process.join()
