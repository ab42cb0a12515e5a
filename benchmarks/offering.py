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

from aiokafka.structs import TopicPartition

from cdp_stream.stream.batches import WrittenBy, record_batch
from cdp_stream.stream.kafka_log import wall_clock_ms
from cdp_stream.stream.producing import Producing
from cdp_stream.stream.topics import MESSAGE_BYTES_MAX

_NOBODY = WrittenBy(-1, -1, -1)
"""As a producer writes that is not idempotent."""
LINGER_S = 0.005
"""As long as a Java producer waits for more records before it sends what it has, since Apache Kafka 4.0."""
_EVERY_S = 0.01
_BATCH_RECORDS = 1_000
_ANSWERED_WITHIN_S = 5.0
LOWEST_PRIORITY = 19
"""Of a process that takes only what others leave of the machine."""


async def offer(
    bootstrap: str,
    topic: str,
    lines: Sequence[Iterable[bytes]],
    rate: int,
    seconds: float,
    *,
    every_s: float = _EVERY_S,
    sent: Callable[[bytes], None] | None = None,
) -> float:
    """Send `rate * seconds` records, each with the time at which it is sent; `sent` hears of every one. `every_s`: how long
    records are gathered before a batch goes to each partition.

    Returns the rate held. What falls behind the plan is made up for at once, as far as the machine lets it. Batches are made and
    sent as a worker does it, which leaves it and the broker more of the machine than a client's producer would.
    """
    producing, sender = Producing({"bootstrap_servers": bootstrap}), object()
    await producing.join()
    sources = [iter(of_partition) for of_partition in lines]
    planned = round(rate * seconds) // len(sources)
    under_way: list[Any] = []
    count, began = 0, time.perf_counter()
    try:
        while count < planned:
            due = min(planned, int(rate * (time.perf_counter() - began)) // len(sources)) - count
            now_ms = wall_clock_ms()
            for partition, source in enumerate(sources):
                where = TopicPartition(topic, partition)
                burst = list(islice(source, due))
                for begin in range(0, len(burst), _BATCH_RECORDS):
                    some = burst[begin : begin + _BATCH_RECORDS]
                    raw = record_batch([(None, line, None) for line in some], MESSAGE_BYTES_MAX, now_ms, _NOBODY)
                    assert raw is not None, "a burst's records are larger than a message may be"
                    under_way.append(producing.put(where, raw, sender))
                    if sent is not None:
                        for line in some:
                            sent(line)
            count += due
            under_way = [answer for answer in under_way if not answer.done()]
            # Not `every_s` after a turn, which takes time itself: the bursts would be larger than they need be.
            await asyncio.sleep(every_s - (time.perf_counter() - began) % every_s)
        await asyncio.gather(*under_way)
        return count * len(sources) / (time.perf_counter() - began)
    finally:
        await producing.leave(sender, _ANSWERED_WITHIN_S)


@contextmanager
def offering_aside(
    bootstrap: str, topic: str, lines: Sequence[Iterable[bytes]], rate: int, every_s: float = _EVERY_S
) -> Iterator[Callable[[float], Callable[[], float]]]:
    """A process that offers these lines and takes only what others leave of the machine.

    Gives a function that has it offer for so many seconds, and returns another one, which waits for the end and returns the
    rate held. Called again, it goes on where its lines stand if they are iterators.
    """
    # Forked, so that iterators can go along; there is no other thread here yet.
    context = multiprocessing.get_context("fork")
    ours, its = context.Pipe()

    def run() -> None:
        os.nice(LOWEST_PRIORITY)
        # To count a reference is to write: the system would copy a page for every dozen of lines while they are sent.
        held = [list(each) if isinstance(each, Sequence) else each for each in lines]
        its.send("ready")
        while seconds := its.recv():
            its.send(asyncio.run(offer(bootstrap, topic, held, rate, seconds, every_s=every_s)))

    def begin(seconds: float) -> Callable[[], float]:
        ours.send(seconds)
        return ours.recv

    process = context.Process(target=run)
    process.start()
    try:
        ours.recv()
        yield begin
    finally:
        ours.send(None)
        process.join()
